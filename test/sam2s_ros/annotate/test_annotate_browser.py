"""The page over a recording in a real Chromium: click, track on, go to a frame, correct.

Chromium is the system's (Debian: `apt-get install chromium`), driven by playwright. SAM2S_SCREENSHOTS names a folder
that the screenshots are kept in.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("there is no Chromium: install it (Debian: apt-get install chromium)", allow_module_level=True)
pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'sam2s_ros[console]'")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install 'sam2s_ros[browser]'"
)

from sam2s_model.annotation.project import AnnotationEngine, AnnotationProject  # noqa: E402
from sam2s_model.checkpoint import load_model  # noqa: E402
from sam2s_model.published.catalog import resolve_checkpoint  # noqa: E402
from sam2s_model.recordings.open import open_recording  # noqa: E402
from sam2s_model.semantics import GENERIC  # noqa: E402
from sam2s_ros.annotate.serving import AnnotationServer  # noqa: E402
from sam2s_ros.console.safety import Access  # noqa: E402
from sam2s_ros.console.server import listen  # noqa: E402

SCENE = "scene:?width=320&height=256&frames=8&seed=0"
WAIT = 60.0  # s
PLACE = """([x, y]) => {
  const [scale, left, top] = sam2s.view.fit();
  const stage = document.getElementById("stage").getBoundingClientRect();
  return [stage.left + left + (x + 0.5) * scale, stage.top + top + (y + 0.5) * scale];
}"""
SHOWN = "sam2s.view.frame?.header"
STATE = "sam2s.state?.annotate"


@pytest.fixture
def project(tmp_path):
    model = load_model(resolve_checkpoint("sam2s_nano"), image_size=256, device="cpu")
    made = AnnotationProject(tmp_path / "annotation", open_recording(SCENE), AnnotationEngine(model), GENERIC)
    yield made
    made.close()


@pytest.fixture
def address(project):
    serving = AnnotationServer(project, access=Access(), log=lambda record: None)
    bound = listen("127.0.0.1", 0)
    thread = threading.Thread(target=lambda: asyncio.run(serving.server.serve(bound)))
    thread.start()
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    while thread.is_alive():
        serving.server.stop()
        thread.join(0.05)
    serving.link.close()


def test_a_person_annotates(project, address):
    truth = next(iter(open_recording(SCENE))).truth.masks[1]
    rows, columns = np.nonzero(truth)
    inside = float(columns[len(columns) // 2]), float(rows[len(rows) // 2])
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)

        def until(condition: str) -> None:
            deadline = time.monotonic() + WAIT
            while not page.evaluate(condition):
                assert time.monotonic() < deadline, (condition, page.evaluate(f"[{SHOWN}, {STATE}]"), errors)
                page.wait_for_timeout(20)

        page.goto(address)
        until(f"{SHOWN} && {STATE}?.frames === 8")
        page.mouse.click(*page.evaluate(PLACE, inside))
        until(f"{SHOWN}.objects.some((own) => own.area > 0)")
        assert project.masks(0)[1].mask[round(inside[1]), round(inside[0])]
        until("sam2s.chosen === 1")
        page.keyboard.press("g")
        until(f"{STATE}.review.length === 7 && {STATE}.to_track === 0 && !{STATE}.tracking")
        until(f"{SHOWN}.stamp === '8'")  # the page has followed
        until("[...document.querySelectorAll('#review img')].some((own) => own.naturalWidth > 0)")
        page.keyboard.press("l")
        until("document.getElementById('learning').open")
        command = page.evaluate("document.getElementById('learn_command').textContent")
        assert command.startswith("sam2s train ") and f"--data {project.folder} " in command
        page.keyboard.press("Escape")
        page.keyboard.press(",")
        page.keyboard.press(",")
        until(f"{SHOWN}.stamp === '6'")
        page.keyboard.press("b")
        corner, other = page.evaluate(PLACE, [10, 10]), page.evaluate(PLACE, [200, 150])
        page.mouse.move(*corner)
        page.mouse.down()
        page.mouse.move(*other, steps=4)
        page.mouse.up()
        until(f"{STATE}.to_track === 2")  # the two frames after it
        assert [own.frame for _, _, own in project.store.entries()] == [0, 5]
        page.keyboard.press("u")
        until("sam2s.state.undo.startsWith('start')")
        page.keyboard.press("d")
        until("sam2s.view.shownProposals().length > 0")
        if folder := os.environ.get("SAM2S_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / "annotate_proposals.png")
        place = page.evaluate("""() => {
          const part = sam2s.view.shownProposals()[0].outline[0];
          const ys = part.map((point) => point[1]);
          for (let y = Math.min(...ys); y <= Math.max(...ys); y++) {
            const xs = part.map((point) => point[0]);
            for (let x = Math.min(...xs); x <= Math.max(...xs); x++) {
              if (sam2s.discovery.at([x, y]) === sam2s.view.shownProposals()[0]) return [x, y];
            }
          }
          return null;
        }""")
        page.keyboard.press("p")
        page.mouse.click(*page.evaluate(PLACE, place))
        until("sam2s.chosen === 2")
        page.keyboard.press("u")
        until("sam2s.state.undo.startsWith('start of object 1')")
        page.keyboard.press("Escape")
        assert page.evaluate("sam2s.view.proposals") is None
        timeline = page.locator("#timeline").bounding_box()
        page.mouse.click(timeline["x"] + 40, timeline["y"] + 10)
        until(f"{SHOWN}.stamp === '1'")
        if folder := os.environ.get("SAM2S_SCREENSHOTS"):
            for width, height in ((1280, 800), (390, 844)):
                page.set_viewport_size({"width": width, "height": height})
                page.wait_for_timeout(300)
                page.screenshot(path=Path(folder) / f"annotate_{width}.png")
        browser.close()
        assert errors == []
