"""`sam2s bench console`: what the console costs, and how old a picture is on the screen, in a real Chromium."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sam2s_model.errors import ConfigError
from sam2s_ros.processes.graph import Graph
from sam2s_ros.processes.local_graph import local_graph
from sam2s_ros.soak.run import SoakOptions, draw_frames, start_camera_node, start_tracker

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
WAIT = 60.0  # s for the console to be there, and for the page to show a frame
SETTLE = 2.0  # s of frames that do not count: the page, and the browser's compiler, warm up
TRACKER = "/tracker"


def measure_page(options: SoakOptions, seconds: float) -> dict[str, Any]:
    """Run camera, tracker, console and a browser that looks for some seconds. Returns the figures.

    age_p50, age_p95: ms, of the image when it was sent, and from its arrival in the page until it was drawn
    pictures, bytes: a second, to the page; console_cpu: s of a processor a second; load: of the machine, over a minute
    Raises ConfigError without playwright or Chromium, ChildDied and TimeoutError as `run_soak`.
    """
    play, chromium = find_browser()
    with tempfile.TemporaryDirectory(prefix="sam2s_page_") as folder, local_graph(Path(folder)) as graph:
        from sam2s_ros.soak.client import SoakClient, cpu_seconds

        start_tracker(graph, options)
        frames = draw_frames(options)
        start_camera_node(graph, Path(folder), options, frames)
        graph.start("console", "sam2s_ros.console.node", dict(port=0, trackers=TRACKER))
        pids = {name: graph.pid(name) for name in ("camera", "tracker", "console")}
        with SoakClient(graph, pids) as client:
            client.activated(options.say)
            client.start_camera()
            client.wait_for_masks()
            client.prompt(options.rate, [next(s.box for s in frame.objects if s.box) for frame in frames])
            with open_page(play, chromium, page_address(graph, Path(folder))) as page:
                options.say(f"measuring for {seconds:g} s")
                client.wait(SETTLE)
                page.evaluate("() => { sam2s.ages = []; }")
                before, used, began = _counts(page), cpu_seconds(pids["console"]), time.monotonic()
                client.wait(seconds)
                after, passed = _counts(page), time.monotonic() - began
                share = (cpu_seconds(pids["console"]) - used) / passed
                ages = page.evaluate("sam2s.ages")
            client.stop_watching()
    if not ages:
        raise ConfigError(f"no picture was drawn in {seconds:g} s: expected some; this machine may be too busy")
    pictures, sent = ((b - a) / passed for a, b in zip(before, after, strict=True))
    p50, p95 = np.percentile(ages, (50, 95))
    return dict(
        age_p50=float(p50), age_p95=float(p95), pictures=pictures, bytes=sent, console_cpu=share,
        load=os.getloadavg()[0], cores=os.cpu_count(),
    )  # fmt: skip


def find_browser() -> tuple[Any, str]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise ConfigError("the page is measured by playwright: pip install 'sam2s_ros[browser]'") from error
    chromium = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if chromium is None:
        raise ConfigError(f"there is no {' or '.join(CHROMIUMS)}: install it (Debian: apt-get install chromium)")
    return sync_playwright, chromium


def page_address(graph: Graph, folder: Path) -> str:
    """Return where the console says that its page is."""
    deadline = time.monotonic() + WAIT
    while not (found := re.search(r"console: (http://\S+)", (folder / "console.log").read_text(errors="replace"))):
        graph.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"the console has not said its address within {WAIT:g} s")
        time.sleep(0.1)
    return found[1]


@contextmanager
def open_page(play: Any, chromium: str, address: str, wait: float = WAIT) -> Iterator[Any]:
    """Open the page in a browser of 1280x800, and wait until it shows a live frame, `wait` s at most."""
    with play() as playing:
        browser = playing.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(address)
            deadline = time.monotonic() + wait
            while not page.evaluate("globalThis.sam2s?.ages.length"):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the page has shown no picture within {wait:g} s")
                page.wait_for_timeout(100)
            yield page
        finally:
            browser.close()


def _counts(page: Any) -> list[float]:
    return page.evaluate("[sam2s.frames, sam2s.bytes]")
