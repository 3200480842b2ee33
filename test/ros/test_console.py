"""The console in a real graph: a tracker node, the console's process, and pages over real WebSockets."""

from __future__ import annotations

import asyncio
import json
import signal

import cv2
import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'sam2s_ros[console]'")
from console_page import Console, stopped_page  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from sam2s_ros.msg import TrackedMasks, TrackerStatus  # noqa: E402

NAMESPACE = "/looked_at"
NAME = f"{NAMESPACE}/tracker"
REMAP = (f"__ns:={NAMESPACE}", "image:=/image")


def start_nano(start_tracker):
    """A tracker that has learnt something: a click on a bright square gives a mask."""
    return start_tracker(remap=REMAP, prompt_history=8, checkpoint="sam2s_nano", model="auto", image_size=128)


@pytest.fixture(scope="module")
def console(start, tmp_path_factory) -> Console:
    log = tmp_path_factory.mktemp("console") / "actions.jsonl"
    made = Console(start, trackers=NAME, action_log=str(log))
    made.log = log
    return made


@pytest.fixture(scope="module")
def tracker(graph, start_tracker, camera):
    process = start_nano(start_tracker)
    masks = graph.collect(TrackedMasks, f"{NAME}/masks")
    statuses = graph.collect(TrackerStatus, f"{NAME}/status")
    graph.wait_until(lambda: statuses and statuses[-1].state == TrackerStatus.STATE_WAITING, 60)
    camera.first(lambda: masks)
    process.masks = masks
    return process


@pytest.fixture
def seen(graph, tracker, console, camera) -> list[int]:
    """Three images that the tracker and the console have just seen; there are no objects."""
    assert graph.call(Trigger, f"{NAME}/reset").success

    async def send() -> list[int]:
        sent = []
        async with console.page() as page:
            for number in range(3):
                sent.append(camera.send(camera.picture(number)))
                for _ in range(20):  # the console may have found the images a moment ago
                    try:
                        await page.until(lambda p: p.header.get("stamp") == str(sent[-1]), 5)
                        break
                    except AssertionError:
                        sent[-1] = camera.send(camera.picture(number))
            await page.until(lambda p: [s for s in p.state["history"] if int(s) in sent] == [str(s) for s in sent])
        return sent

    return asyncio.run(send())


def test_the_page_shows_the_newest_image_with_its_own_masks(seen, console, camera):
    async def look():
        async with console.page() as page:
            await page.until(lambda p: p.frames and p.state)
            header, jpeg, label_map = page.frames[-1]
            assert (header["camera"], header["stamp"], header["frozen"]) == (NAME, str(seen[-1]), False)
            assert (header["width"], header["height"], header["mask"], header["tracked"]) == (64, 48, [64, 48], True)
            assert header["objects"] == [] and 0 < header["age"] < 60_000 and not label_map.any()
            image = cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
            square = (slice(14, 34), slice(8, 28))
            assert np.abs(image[square].mean((0, 1)) - (230, 210, 190)).max() < 6, "the input, with its colours"
            assert np.corrcoef(image.ravel(), camera.picture(2).ravel())[0, 1] > 0.95
            state = page.state
            assert state["node"]["device"].startswith("cpu") and state["node"]["received"] >= 3
            assert [c["name"] for c in state["classes"]] == ["instrument", "object"]
            assert state["cameras"] == [[NAME, True]] and state["may"] == "operator"

    asyncio.run(look())


def test_click_correct_rename_undo_remove(seen, console, camera):
    async def work():
        async with console.page() as page:
            await page.until(lambda p: p.state)
            await page.send(type="hello", name="Ada")
            stamp = str(seen[-1])
            answer = await page.ask("prompt", stamp=stamp, object=0, points=[[20, 24, 1]])
            assert answer["ok"], answer
            [first] = answer["objects"]
            await page.until(
                lambda p: [o["id"] for o in p.header.get("objects", [])] == [first], what="its masks at once"
            )
            assert page.header["stamp"] == stamp, "though no other image has come"
            before = page.frames[-1][2].copy()
            assert page.label_at(20, 24), "the mask contains the click"

            assert (await page.ask("prompt", stamp=stamp, object=first, box=[6, 2, 60, 46]))["ok"]
            await page.until(lambda p: not np.array_equal(p.frames[-1][2], before), what="the corrected mask")
            await page.until(lambda p: p.state["undo"] == f"correction of object {first}")
            answer = await page.ask("undo")
            assert answer["ok"], answer
            same = lambda p: (p.frames[-1][2] != before).mean() < 0.05  # noqa: E731
            await page.until(same, what="the mask of before, as well as the model gives it back")

            assert (await page.ask("prompt", stamp="0", object=first, **{"class": "object"}))["ok"]
            await page.until(lambda p: p.header["objects"][0]["class"] == "object")
            assert (await page.ask("undo"))["ok"]
            await page.until(lambda p: p.header["objects"][0]["class"] == "instrument")

            assert (await page.ask("describe", object=first, name="left grasper", color="#112233"))["ok"]
            await page.until(lambda p: p.state["names"] == {str(first): {"name": "left grasper", "color": "#112233"}})

            assert (await page.ask("remove", objects=[first]))["ok"]
            await page.until(lambda p: p.header["objects"] == [], what="a picture without it, though no image came")
            assert (await page.ask("undo"))["message"] == f"taken back: removal of object {first}, under a new id"
            await page.until(lambda p: [o["id"] > first for o in p.header["objects"]] == [True])
            answer = await page.ask("undo")
            assert answer["ok"] and "start of object" in answer["message"], answer
            await page.until(lambda p: p.header["objects"] == [])
            answer = await page.ask("undo")
            assert (answer["ok"], answer["error"]) == (False, "EMPTY_REQUEST"), answer

    asyncio.run(work())
    done = [(a["action"], a["ok"]) for a in console.actions()[-11:]]
    assert ("describe", True) in done and done[-1] == ("undo", False)
    assert all(a["who"].startswith("operator Ada at 127.0.0.1") for a in console.actions()[-8:])
    assert json.loads(console.log.read_text().splitlines()[-2])["action"] == "undo"


def test_a_click_is_for_the_picture_that_was_seen(graph, seen, console, camera, tracker):
    async def work():
        async with console.page() as page:
            await page.until(lambda p: p.state)
            await page.send(type="show", stamp=str(seen[0]))
            await page.until(lambda p: p.header.get("stamp") == str(seen[0]) and p.header["frozen"])
            newer = camera.send(camera.picture(7))
            await page.until(lambda p: p.state["history"][-1] == str(newer))
            assert page.header["stamp"] == str(seen[0]), "frozen: what is newer is not shown"
            answer = await page.ask("prompt", stamp=page.header["stamp"], object=0, points=[[20, 24, 1], [60, 2, 0]])
            assert answer["ok"], answer
            await page.until(lambda p: p.header["objects"] and p.header["stamp"] == str(seen[0]), what="masks on it")
            await page.send(type="show", stamp="0")
            newest = camera.send(camera.picture(8))
            await page.until(lambda p: p.header["stamp"] == str(newest), what="the newest")
            assert [o["id"] for o in page.header["objects"]] == answer["objects"], "it was carried to the newest"

            answer = await page.ask("prompt", stamp="1", object=0, points=[[20, 24, 1]])
            assert (answer["ok"], answer["error"]) == (False, "TOO_OLD") and "prompt_history is 8" in answer["message"]
            answer = await page.ask("prompt", stamp=str(newest), object=0, points=[[64, 5, 1]])
            assert (answer["ok"], answer["error"]) == (False, "INVALID_PROMPT")
            assert "point (64, 5) is outside the image" in answer["message"]
            answer = await page.ask("remove", objects=[4000])
            assert (answer["ok"], answer["error"]) == (False, "UNKNOWN_OBJECT")

    asyncio.run(work())


def test_what_the_tracker_proposes_is_accepted(seen, console):
    async def work():
        async with console.page() as page:
            await page.until(lambda p: p.state and p.frames)
            found = await page.ask("discover", timeout=90, stamp="0")
            assert found["ok"] and found["stamp"] == str(seen[-1]) and found["proposals"], found
            own = next(each for each in found["proposals"] if each["outline"])
            answer = await page.ask("prompt", stamp=found["stamp"], object=0, proposal=own["id"])
            assert answer["ok"], answer
            await page.until(lambda p: [o["id"] for o in p.header["objects"]] == answer["objects"])
            x, y = np.array(own["outline"][0])[0]
            assert page.frames[-1][2][y, x], "an outline runs along the mask's own pixels"
            unknown = await page.ask("prompt", stamp=found["stamp"], object=0, proposal=2**31)
            assert not unknown["ok"] and unknown["error"] == "UNKNOWN_PROPOSAL", unknown

    asyncio.run(work())


def test_off_on_and_reset(seen, console, camera):
    async def work():
        async with console.page() as page:
            await page.until(lambda p: p.state)
            assert (await page.ask("enable", on=False))["ok"]
            await page.until(lambda p: p.state["node"]["state"] == "DISABLED")
            deadline = asyncio.get_running_loop().time() + 20
            while page.header["tracked"] and asyncio.get_running_loop().time() < deadline:
                camera.send()  # once no masks come for a second, the input is shown without any
                await asyncio.sleep(0.2)
            assert not page.header["tracked"] and page.header["objects"] == []
            assert (await page.ask("enable", on=True))["ok"]
            assert (await page.ask("reset"))["message"] == "all objects were dropped"
            await page.until(lambda p: p.state["history"] == [])

    asyncio.run(work())


def test_who_may_only_look_changes_nothing(seen, console):
    async def work():
        async with console.page(query="?look") as page:
            await page.until(lambda p: p.frames and p.state)
            assert page.state["may"] == "viewer"
            answer = await page.ask("prompt", stamp=str(seen[-1]), object=0, points=[[20, 24, 1]])
            assert not answer["ok"] and "may only look" in answer["message"]
            assert page.state["node"]["objects"] == 0

    asyncio.run(work())


def test_a_page_that_reads_nothing_holds_up_nobody(seen, console, camera, tracker, graph):
    """One page never answers, and one does not even read; a third and the tracker do not notice."""

    async def work():
        async with console.page(acks=False) as stopped, console.page() as page:
            await stopped.until(lambda p: p.frames)
            unread = console.page()
            async with unread:
                unread._reader.cancel()
                await page.until(lambda p: p.state)
                for number in range(40):
                    stamp = camera.send(camera.picture(number))
                    await page.until(lambda p, s=str(stamp): p.header.get("stamp") == s, 20, "each picture")
                    graph.wait_until(lambda s=stamp: tracker.masks.of(s), 20)
                assert len(stopped.frames) == 1, "one frame in flight, whatever has come since"
                newest = str(stamp)
                await stopped.send(type="ack", count=stopped.header["count"], shown=1.0)
                await stopped.until(lambda p: len(p.frames) == 2)
                assert stopped.header["stamp"] == newest, "the newest, and nothing in between"

    asyncio.run(work())


def test_a_browser_that_is_stopped_holds_up_nobody(start, seen, console, camera, tracker, graph):
    stopped = stopped_page(start, console.address)

    async def work():
        async with console.page() as first, console.page() as second:
            for number in range(30):
                stamp = camera.send(camera.picture(number))
                for page in (first, second):
                    await page.until(lambda p, s=str(stamp): p.header.get("stamp") == s, 20, "each picture")

    before = len(tracker.masks)
    asyncio.run(work())
    graph.wait_until(lambda: len(tracker.masks) >= before + 30, 20, lambda: "masks of each picture")
    assert stopped.running()
    stopped.popen.kill()


def test_the_page_goes_on_when_the_node_was_killed_and_started_again(
    graph, seen, console, camera, tracker, start_tracker
):
    async def work():
        async with console.page() as page:
            await page.until(lambda p: p.state)
            [first] = (await page.ask("prompt", stamp=str(seen[-1]), object=0, points=[[20, 24, 1]]))["objects"]
            await page.ask("describe", object=first, name="mine", color="")
            tracker.stop(signal.SIGKILL)
            await page.until(lambda p: p.state["node"]["state"] == "GONE", 20)
            assert "has not been heard of" in page.state["node"]["message"] and page.state["cameras"] == [[NAME, False]]
            answer = await page.ask("remove", objects=[first], timeout=30)
            assert not answer["ok"] and answer["error"] in ("NOT_ACTIVE", "TIMEOUT"), answer

            start_nano(start_tracker)
            await page.until(lambda p: p.state["node"]["state"] in ("WAITING", "RUNNING"), 90)
            for _ in range(100):
                stamp = camera.send()
                try:
                    await page.until(lambda p, s=str(stamp): p.header.get("stamp") == s and p.header["tracked"], 1)
                    break
                except AssertionError:
                    continue
            old = {str(s) for s in seen}
            await page.until(
                lambda p: p.state["history"] and not old & set(p.state["history"]), what="no picture of the one before"
            )
            assert page.state["names"] == {} and page.state["undo"] == "", "ids may be other objects' now"
            deadline = asyncio.get_running_loop().time() + 30
            while not (answer := await page.ask("prompt", stamp=str(stamp), object=0, points=[[20, 24, 1]]))["ok"]:
                assert asyncio.get_running_loop().time() < deadline, answer
                await asyncio.sleep(0.3)

    asyncio.run(work())


def test_a_signal_ends_it_at_once_with_pages_open(start, console):
    own = Console(start, trackers=NAME)

    async def work():
        async with own.page() as page:
            await page.until(lambda p: p.state)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(None, own.process.stop, signal.SIGINT)

    code, seconds = asyncio.run(work())
    assert code == 0 and seconds < own.process.out_within, own.process.output
    assert "Traceback" not in own.process.output
    assert "Traceback" not in console.process.output


@pytest.mark.parametrize("given, said", [
    (dict(host="203.0.113.7"), "the console cannot listen on 203.0.113.7:0"),
    (dict(token="short"), "a token is too weak: expected at least 16"),
    (dict(key="/nowhere.pem"), "a key is given without a certificate"),
    (dict(certificate="/nowhere.pem"), "certificate '/nowhere.pem' with key '' cannot be used"),
    (dict(clients=0), "parameter clients: expected int from 1 to 100"),
])  # fmt: skip
def test_a_bad_parameter_is_one_sentence_and_exit_code_2(start, given, said):
    process = start(Console.command(**given))
    assert process.wait(60) == 2
    assert said in process.output and "Traceback" not in process.output, process.output
