"""The page's side of an annotation, over a real WebSocket: the same messages, on the smallest model."""

from __future__ import annotations

import asyncio
import shlex
import sys
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import aiohttp
import cv2
import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'sam2s_ros[console]'")
sys.path[:0] = [str(Path(__file__).parents[2] / "ros"), str(Path(__file__).parents[1] / "console")]
from console_page import Page  # noqa: E402
from wild_messages import bombard, wild  # noqa: E402

from sam2s_model.annotation.project import AnnotationEngine, AnnotationProject  # noqa: E402
from sam2s_model.checkpoint import load_model  # noqa: E402
from sam2s_model.published.catalog import resolve_checkpoint  # noqa: E402
from sam2s_model.recordings.open import open_recording  # noqa: E402
from sam2s_model.semantics import GENERIC  # noqa: E402
from sam2s_model.training.config import load_config  # noqa: E402
from sam2s_model.training.holdout import with_own_data  # noqa: E402
from sam2s_ros.annotate.serving import AnnotationServer  # noqa: E402
from sam2s_ros.console.safety import Access, Limits  # noqa: E402
from sam2s_ros.console.server import listen  # noqa: E402

SCENE = "scene:?width=160&height=128&frames=6&seed=0"


@contextmanager
def opened(folder: Path, scene: str, image_size: int):
    model = load_model(resolve_checkpoint("sam2s_pico"), image_size=image_size, device="cpu", precision="fp32")
    made = AnnotationProject(folder / "annotation", open_recording(scene), AnnotationEngine(model), GENERIC)
    yield made
    made.close()


@pytest.fixture
def project(tmp_path):
    with opened(tmp_path, SCENE, 128) as made:
        yield made


@pytest.fixture
def tiny_project(tmp_path):
    """One whose model takes little time: what is asked is what matters."""
    with opened(tmp_path, "scene:?width=80&height=64&frames=4&seed=0", 64) as made:
        yield made


@asynccontextmanager
async def served(project, access: Access | None = None, limits: Limits | None = None):
    log: list[dict] = []
    serving = AnnotationServer(project, access=access or Access(), limits=limits, log=log.append)
    bound = listen("127.0.0.1", 0)
    task = asyncio.create_task(serving.server.serve(bound))
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}", log
    finally:
        while not task.done():
            serving.server.stop()
            await asyncio.sleep(0.01)
        await task
        serving.link.close()


def all_tracked(page) -> bool:
    found = page.states[-1]["annotate"]
    return bool(found["review"]) and not (found["to_track"] or found["tracking"])


def mask_at(page, number: int) -> np.ndarray:
    return page.frames[-1][2] == number


def test_click_track_on_correct_undo_and_export(project):
    truth = next(iter(open_recording(SCENE))).truth.masks[1]
    rows, columns = np.nonzero(truth)
    x, y = int(columns[len(columns) // 2]), int(rows[len(rows) // 2])

    async def play():
        async with served(project) as (address, log), Page(address) as page:
            await page.until(lambda own: own.states and own.frames, what="the first frame")
            state = page.states[-1]
            assert state["annotate"]["frames"] == 6 and state["annotate"]["timeline"] == {}
            assert [own["name"] for own in state["classes"]] == ["instrument", "object"]
            refused = await page.ask("learn")
            assert not refused["ok"] and "has no masks: expected masks/ beside frames/" in refused["message"]
            refused = await page.ask("track")
            assert not refused["ok"] and "no objects" in refused["message"]
            answer = await page.ask("prompt", stamp="1", object=0, **{"class": "object"}, points=[[x, y, 1]], box=[])
            assert answer["ok"] and answer["objects"] == [1], answer
            await page.until(lambda own: mask_at(own, 1).any(), what="the mask")
            assert page.header["objects"][0]["class"] == "object"
            assert (await page.ask("track"))["ok"]
            await page.until(all_tracked, timeout=60, what="the end of tracking")
            assert page.states[-1]["annotate"]["timeline"]["1"][0] == [0, 1, 5]
            assert len(page.states[-1]["annotate"]["review"]) == 5
            assert page.header["stamp"] == "6"  # it follows what is tracked
            await page.send(type="show", stamp="4")
            await page.until(lambda own: own.header["stamp"] == "4", what="frame 4")
            before = mask_at(page, 1)
            answer = await page.ask("prompt", stamp="4", object=1, points=[], box=[4, 4, 60, 60], **{"class": ""})
            assert answer["ok"], answer
            await page.until(lambda own: not np.array_equal(mask_at(own, 1), before), what="the correction")
            await page.until(lambda own: own.states[-1]["annotate"]["to_track"] == 2, what="what is stale")
            assert "correction" in page.states[-1]["undo"]
            assert (await page.ask("undo"))["ok"]
            await page.until(lambda own: np.array_equal(mask_at(own, 1), before), what="the mask of before")
            found = await page.ask("discover", stamp="4", **{"class": ""})
            assert found["ok"] and found["stamp"] == "4" and found["proposals"], found
            first = found["proposals"][0]
            assert len(first["outline"][0]) >= 3
            other = await page.ask("prompt", stamp="3", object=0, proposal=first["id"], **{"class": ""})
            assert not other["ok"] and other["error"] == "UNKNOWN_PROPOSAL"
            accepted = await page.ask("prompt", stamp="4", object=0, proposal=first["id"], **{"class": ""})
            assert accepted["ok"] and accepted["objects"] == [2]
            drawn = np.zeros((128, 160), np.uint8)
            cv2.fillPoly(drawn, [np.array(part) for part in first["outline"]], 1)
            mask = project.masks(3)[2].mask
            assert (mask & (drawn > 0)).sum() > 0.8 * (mask | (drawn > 0)).sum()
            again = await page.ask("discover", stamp="4", **{"class": ""})
            assert len(again["proposals"]) < len(found["proposals"])  # what is an object now is none
            assert (await page.ask("undo"))["ok"] and list(project.objects) == [1]
            assert (await page.ask("describe", object=1, name="left", color="#ff0000"))["ok"]
            await page.until(lambda own: own.states[-1]["names"]["1"]["name"] == "left", what="the name")
            assert (await page.ask("export", name="coco"))["ok"]
            assert (project.folder / "export" / "coco" / "annotations.json").is_file()
            wrong = await page.ask("export", name="../../etc")
            assert not wrong["ok"] and "expected one of coco" in wrong["message"]
            assert (await page.ask("track"))["ok"]  # what the prompt and its undo have left stale
            await page.until(all_tracked, timeout=60, what="the end of tracking")
            learnt = await page.ask("learn")
            assert learnt["ok"] and "held out: frames 3 to 5 of annotation" in learnt["message"], learnt
            words = shlex.split(learnt["command"])
            assert words[:2] == ["sam2s", "train"] and words[words.index("--data") + 1] == str(project.folder)
            asked = load_config(words[2], [words[i + 1] for i, word in enumerate(words) if word == "--set"])
            assert with_own_data(asked, project.folder)[1] == learnt["message"] and Path(asked.init).is_file()
            for kind, fields in (("reset", {}), ("enable", {"on": False}), ("remove", {"objects": [9]})):
                assert not (await page.ask(kind, **fields))["ok"]
            async with aiohttp.ClientSession() as session:
                async with session.get(f"{address}/thumbnail/3") as small:
                    assert small.status == 200 and (await small.read())[:2] == b"\xff\xd8"
                for path in ("/thumbnail/99", "/thumbnail/..%2f..%2fannotation.sqlite", "/annotation.sqlite"):
                    async with session.get(f"{address}{path}") as answer:
                        assert answer.status == 404
            assert {own["action"] for own in log} >= {"prompt", "track", "export", "undo"}

    asyncio.run(play())


def test_who_may_only_look_changes_nothing(project):
    async def play():
        access = Access(operator="o" * 20, viewer="v" * 20)
        async with served(project, access) as (address, _):
            async with aiohttp.ClientSession() as session, session.get(f"{address}/thumbnail/0") as answer:
                assert answer.status == 403
            cookie = f"sam2s_console_{address.rpartition(':')[2]}=" + "v" * 20
            async with Page(address, headers={"Cookie": cookie}) as page:
                await page.until(lambda own: own.states, what="the state")
                answer = await page.ask("prompt", stamp="1", object=0, points=[[9, 9, 1]], box=[], **{"class": ""})
                assert not answer["ok"] and "may only look" in answer["message"]
        assert not project.objects

    asyncio.run(play())


# "annotation" is the camera's name, that of the folder. Discovery takes long here: the test above asks for it.
MESSAGES = wild("annotation", ["coco", "cocoa", "3", "6", "7", "object"], without=["discover"])


def test_any_messages_at_all(tiny_project, caplog):
    bombard(partial(served, tiny_project), MESSAGES, caplog, batches=2, size=30, patience=120.0)


@pytest.mark.full
def test_ten_thousand_messages(tiny_project, caplog):
    everything = wild("annotation", ["coco", "3", "6", "7", "object"])
    serve = partial(served, tiny_project)
    bombard(serve, everything, caplog, batches=50, size=100, patience=600.0)
