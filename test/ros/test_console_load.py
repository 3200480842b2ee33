"""What the console costs: 1280x720 at 30 Hz, a step that sleeps 5 ms, three pages, one of them stopped."""

from __future__ import annotations

import asyncio
import os
import sys
import time

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'sam2s_ros[console]'")
from console_page import Console, stopped_page  # noqa: E402
from std_srvs.srv import SetBool  # noqa: E402

from sam2s_model.recordings.scene import Scene, SceneConfig  # noqa: E402
from sam2s_ros.interfaces import messages  # noqa: E402
from sam2s_ros.msg import TrackedMasks, TrackerStatus  # noqa: E402
from sam2s_ros.processes.dds import environment  # noqa: E402

pytestmark = pytest.mark.full
NAME, SECONDS, RATE = "/loaded/tracker", 40.0, 30.0
ALLOWED = 1.0  # ms that the tracker's added latency may rise by
MODULE = [sys.executable, "-m"]


def ros_args(namespace: str = "/loaded", **parameters) -> list[str]:
    rules = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    return ["--ros-args", "-r", f"__ns:={namespace}", *rules]


def cpu(pid: int) -> float:
    """Seconds of a processor that a process has used."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def added_latency(masks: list[TrackedMasks]) -> np.ndarray:
    """ms from an image's arrival at the node until its masks were ready, of each."""
    return np.array([messages.to_ns(m.finished) - messages.to_ns(m.received) for m in masks]) / 1e6


def test_a_stopped_browser_does_not_slow_the_tracker(graph, start, tmp_path):
    scene = Scene(SceneConfig.from_uri("scene:?width=1280&height=720&frames=8&seed=0"))
    np.save(tmp_path / "pictures.npy", np.stack([scene[i].image[..., ::-1] for i in range(8)]))
    own = {name: value for name, value in environment().items() if os.environ.get(name) != value}
    tracker = [*MODULE, "sam2s_ros.soak.timed_tracker", *ros_args(model_time=0.005, max_output_age=0.0)]
    start(tracker, **own)
    statuses = graph.collect(TrackerStatus, f"{NAME}/status")
    masks = graph.collect(TrackedMasks, f"{NAME}/masks")
    graph.wait_until(lambda: statuses and statuses[-1].state == TrackerStatus.STATE_WAITING, 60)
    pictures = tmp_path / "pictures.npy"
    start([*MODULE, "sam2s_ros.soak.camera", *ros_args(pictures=pictures, rate=RATE)], **own)
    graph.call(SetBool, "/loaded/camera/run", SetBool.Request(data=True), 60)
    graph.wait_until(lambda: masks, 60)

    def run() -> np.ndarray:
        masks.clear()
        time.sleep(SECONDS)
        return added_latency(list(masks))

    alone = run()
    console = Console(lambda command: start(command, **own), trackers=NAME)

    async def look() -> tuple[np.ndarray, float, float, list[float]]:
        async with console.page() as first, console.page() as second:
            for page in (first, second):
                await page.until(lambda p: p.frames, 60)
            stopped_page(start, console.address)
            used, sent = cpu(console.process.popen.pid), first.bytes
            first.ages.clear()
            loaded = await asyncio.get_running_loop().run_in_executor(None, run)
            pid = console.process.popen.pid
            return loaded, (cpu(pid) - used) / SECONDS, (first.bytes - sent) / SECONDS, first.ages

    loaded, share, rate, ages = asyncio.run(look())
    p50, p99 = ([np.percentile(values, q) for values in (alone, loaded)] for q in (50, 99))
    print(
        f"added latency alone p50 {p50[0]:.1f} p99 {p99[0]:.1f} ms, with the console {p50[1]:.1f} and {p99[1]:.1f} ms"
    )
    print(
        f"console: {100 * share:.0f} % of a core, {rate / 1024:.0f} KiB/s to a page, {len(ages) / SECONDS:.1f} frames/s"
    )
    print(f"age of a picture when it was sent: p50 {np.percentile(ages, 50):.0f}, p95 {np.percentile(ages, 95):.0f} ms")
    print(f"masks in {SECONDS:g} s: {len(alone)} alone, {len(loaded)} with the console")
    assert len(loaded) > 0.95 * len(alone), "as many masks as without it"
    assert p99[1] - p99[0] < ALLOWED
