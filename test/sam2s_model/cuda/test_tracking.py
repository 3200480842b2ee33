"""Tracking on the stand-in of a CUDA device: graphs, streams and buffers, and what happens when one fails."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from stand_in import SMALL, cuda, joined, on_cuda
from work import Graph

from sam2s_model.acceleration import graphs, kernels
from sam2s_model.acceleration.constants import constant
from sam2s_model.acceleration.folding import Folding
from sam2s_model.acceleration.graphs import CudaCapture, as_cuda_graphs
from sam2s_model.config import TrackerConfig
from sam2s_model.device import use_deterministic_algorithms
from sam2s_model.network.layers import LayerNorm2d, norm_gelu
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.tracking import graphed_step
from sam2s_model.tracking.memory.evidence import boxes
from sam2s_model.tracking.tracker import Tracker

BOX = np.array([20, 30, 60, 60], np.float32)


@pytest.fixture(params=[pytest.param(True, id="old torch"), pytest.param(False, id="new torch")])
def device(request, monkeypatch):
    monkeypatch.setattr(graphs, "_free_streams", {})
    monkeypatch.setattr(CudaCapture, "refused", "")
    with cuda(request.param) as device:
        yield device
        assert not device.faults


once = pytest.mark.parametrize(
    "device", [pytest.param(True, id="old torch")], indirect=True
)  # where the allocator does not matter


@pytest.fixture
def network(device) -> Sam2Model:
    torch.manual_seed(0)
    return on_cuda(Sam2Model(SMALL, 64).eval().requires_grad_(False))


def images(height: int = 72, width: int = 96, count: int = 3) -> list[np.ndarray]:
    return [np.random.default_rng(i).integers(0, 255, (height, width, 3), dtype=np.uint8) for i in range(count)]


def run(tracker: Tracker, frames: list[np.ndarray], steps: int, first: int = 1, queued: bool = False) -> list:
    """Track through frames, again and again, with a prompt on the very first; returns the logits."""
    found = []
    for i in range(steps):
        following = frames[(i + 1) % len(frames)] if queued else None
        tracker.step(first + i, frames[i % len(frames)], following)
        if first == 1 and i == 0:
            tracker.prompt(0, [Prompt(box=BOX)])
        found.append(tracker.outputs.logits.cpu())
    return found


@pytest.mark.parametrize("change", ["image size", "policy"])
def test_captures_go_on_after_all_graphs_of_a_pool_are_gone(network, change):
    """C1: a warm-up at the model's size and a camera of another one; another policy."""
    tracker = Tracker(network, "fifo")
    if change == "image size":
        tracker.warm_up(64, 64)
        tracker.warm_up(80, 80)
    run(tracker, images(), 4)
    if change == "policy":
        tracker.set_policy("efp")
        run(tracker, images(), 3, first=10)
    assert not tracker.refused and tracker.captured == 2


def failing(part: str, monkeypatch) -> list[bool]:
    """Let one half ask the device for a value while it is captured; the list says whether."""
    own, asks = getattr(Sam2Model, part), [True]

    def asking(self, *arguments, **options):
        made = own(self, *arguments, **options)
        if asks[0] and torch.cuda.is_current_stream_capturing():
            next(iter(vars(made).values())).sum().item()
        return made

    monkeypatch.setattr(Sam2Model, part, asking)
    return asks


@pytest.mark.parametrize("half", ["encode_image", "decode"])
def test_a_capture_that_fails_changes_nothing_of_the_step(device, network, half, monkeypatch, caplog):
    """C2: the stream is as before, the frame is tracked as without graphs, and the process captures nothing else."""
    expected = run(Tracker(network, "fifo", TrackerConfig(cuda_graphs=False)), images(), 5)
    failing(half, monkeypatch)
    before = torch.cuda.current_stream()
    tracker = Tracker(network, "fifo")
    got = run(tracker, images(), 5)
    assert torch.cuda.current_stream() is before
    for i, (mine, theirs) in enumerate(zip(got, expected, strict=True)):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4, msg=lambda m, i=i: f"frame {i}: {m}")
    assert "the host waits" in tracker.refused and "kernel by kernel" in caplog.text
    other = Tracker(network, "fifo")
    run(other, images(), 3)
    assert "an earlier capture failed" in other.refused and other.captured == 0
    assert device.stuck == device.old


def test_a_graph_that_does_not_fit_leaves_nothing_in_its_pool(device, network, monkeypatch):
    """The frame is tracked as without graphs, and other trackers capture on."""
    expected = run(Tracker(network, "fifo", TrackerConfig(cuda_graphs=False)), images(), 5)
    own = Sam2Model.decode

    def lacking(self, *arguments, **options):
        made = own(self, *arguments, **options)
        if torch.cuda.is_current_stream_capturing():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return made

    monkeypatch.setattr(Sam2Model, "decode", lacking)
    tracker = Tracker(network, "fifo")
    for mine, theirs in zip(run(tracker, images(), 5), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    assert tracker.refused == "CUDA out of memory" and tracker.captured == 1 and not CudaCapture.refused
    assert [pool.users for pool in device.pools.values()] == [2, 0], "of the image: its graph and the anchor"


@once
def test_an_encoder_that_cannot_be_captured_is_launched_and_the_rest_is_captured(network):
    expected = run(Tracker(network, "fifo", TrackerConfig(cuda_graphs=False)), images(), 5)

    def encode(model, image):
        assert not torch.cuda.is_current_stream_capturing()
        return Sam2Model._encode(model, image)

    network.encode_with(encode, capturable=False)
    for queued in (False, True):
        tracker = Tracker(network, "fifo")
        for mine, theirs in zip(run(tracker, images(), 5, queued=queued), expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
        tracker.prepare()
        assert tracker.captured == 1 and not tracker.refused


def test_no_garbage_is_collected_while_a_graph_is_captured(device):
    """L2: a graph in a cycle, which a collection would end in the middle of the capture of another."""
    capture, x = as_cuda_graphs(torch.device("cuda:0")), torch.ones(3, device="cuda:0")
    held = [capture(lambda: x + 1)]

    def function():
        cycle: list = [held.pop()]
        cycle.append(cycle)
        del cycle
        return [[] for _ in range(1000)] and x * 2

    thresholds = gc.get_threshold()
    gc.set_threshold(10)
    try:
        graph = capture(function)
    finally:
        gc.set_threshold(*thresholds)
    graph.replay()
    assert graph.result.tolist() == [2.0] * 3 and gc.isenabled()


def test_a_capture_that_fails_leaves_no_cycle_behind(device):
    """L2: what was half captured goes at once, and not in a collection later."""
    capture, x = as_cuda_graphs(torch.device("cuda:0")), torch.ones(3, device="cuda:0")
    capture(lambda: x)
    gc.collect()
    gc.disable()
    try:
        try:
            capture(lambda: x.sum().item())
        except RuntimeError as problem:
            said = str(problem)
        assert "the host waits" in said
        assert sum(type(known) is Graph for known in gc.get_objects()) == 1, "the anchor alone"
    finally:
        gc.enable()


@once
def test_no_two_trackers_capture_in_one_stream(device):
    """L5: torch gives the same 32 streams again and again; those of trackers that ended are given first."""
    captures = [as_cuda_graphs(torch.device("cuda:0")) for _ in range(6)]
    assert len({capture._stream for capture in captures}) == 6
    for _ in range(40):
        captures[0] = None  # it ends, and the next takes its place
        captures[0] = as_cuda_graphs(torch.device("cuda:0"))
        assert len({capture._stream for capture in captures}) == 6


@pytest.fixture
def deterministic(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that what follows is undone
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    use_deterministic_algorithms(True)
    yield
    use_deterministic_algorithms(False)


@once
@pytest.mark.parametrize("policy", ["fifo", "distractor", "match"])
def test_the_same_bits_are_had_every_time(deterministic, device, network, policy):
    """C3, C4: the tracking half, which no capture permits then, is launched kernel by kernel; the rest is a graph."""
    both = []
    for _ in range(2):
        tracker = Tracker(network, policy)
        both.append(run(tracker, images(), 6))
        assert not tracker.refused and tracker.captured == 1
    assert all(torch.equal(a, b) for a, b in zip(*both, strict=True))


@once
@pytest.mark.parametrize("half", ["encode_image", "decode"])
def test_two_trackers_of_one_model_neither_race_nor_wait_for_each_other(device, network, half, monkeypatch):
    """L3, L4: while one is in the middle of its first step, another, in a thread of its own, does all of one."""
    own, met = getattr(Sam2Model, half), []
    first, second = Tracker(network, "fifo"), Tracker(network, "fifo")
    with ThreadPoolExecutor(1) as thread:

        def other() -> tuple[dict, list]:
            with joined():
                found = run(second, images(), 1)  # a capture would wait for all
                return dict(device.host), found

        def meeting(self, *arguments, **options):
            made = own(self, *arguments, **options)
            if not met:
                stream = torch.cuda.current_stream()
                met.extend((stream, stream.knows[stream]))
                met.extend(thread.submit(other).result())
            return made

        monkeypatch.setattr(Sam2Model, half, meeting)
        expected = run(first, images(), 1)
        stream, launched, known, found = met
    assert first.stream is not second.stream
    assert second.stream in known and known.get(stream, 0) < launched, "it waited for the other's work"
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@once
def test_what_a_caller_does_with_the_outputs_comes_after_the_tracker_and_before_its_next_work(device, network):
    """L4: the tracker's stream is not the caller's, whose work it neither overtakes nor lets overtake."""
    tracker = Tracker(network, "fifo")
    for i in range(4):
        tracker.step(i + 1, images()[0])
        tracker.prompt(0, [Prompt(box=BOX)])
        with torch.inference_mode():
            tracker.outputs.logits.mul_(1)
        tracker.remove([tracker.object_ids[0]])
    assert torch.cuda.current_stream() is not tracker.stream


@once
def test_what_is_made_while_it_is_captured_is_of_that_graph_alone(device):
    """L3: and not kept for others, who would read it before the graph has run."""
    made = []

    @constant
    def ones(n, device=None):
        made.append(n)
        return torch.ones(n, device=device)

    double = Folding(lambda weight: weight * 2)
    capture, weight = as_cuda_graphs(torch.device("cuda:0")), torch.ones(3, device="cuda:0")
    graph = capture(lambda: ones(3, device=weight.device) + double(weight))
    assert ones(3, device=weight.device).tolist() == [1.0] * 3 and double(weight).tolist() == [2.0] * 3
    assert made == [3, 3]
    graph.replay()
    assert graph.result.tolist() == [3.0] * 3
    for _ in range(2):
        assert capture(lambda: ones(3, device=weight.device) + double(weight)) and made == [3, 3]


@once
def test_captures_are_made_between_steps_where_somebody_is_idle(network):
    """L6: steps go on one by one until `prepare` is called, which leaves everything as it was but for the graphs."""
    for policy in ("match", "fifo"):
        expected = run(Tracker(network, policy, TrackerConfig(cuda_graphs=False)), images(), 12)
        tracker, found, captured = Tracker(network, policy), [], []
        for i in range(12):
            tracker.step(i + 1, images()[i % 3])
            if i == 0:
                tracker.prompt(0, [Prompt(box=BOX)])
            found.append(tracker.outputs.logits.cpu())
            if i in (0, 1, 6, 7):
                tracker.prepare()
            captured.append(tracker.captured)
        assert captured == [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2] and len(tracker.capture_seconds) == 2
        for i, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
            torch.testing.assert_close(
                mine, theirs, rtol=1e-4, atol=1e-4, msg=lambda m, at=f"{policy}, frame {i}": f"{at}: {m}"
            )


@once
def test_a_step_captures_by_itself_where_nobody_is_idle(network, monkeypatch):
    monkeypatch.setattr(graphed_step, "PATIENCE", 3)
    tracker = Tracker(network, "fifo")
    run(tracker, images(), 1)
    tracker.prepare()  # the image's; the tracking was not run yet
    captured = []
    for i in range(2, 8):
        tracker.step(i, images()[0])
        captured.append(tracker.captured)
    assert captured == [1, 1, 1, 2, 2, 2]


@once
def test_kernels_are_tried_with_numbers_that_they_compute_with(device, monkeypatch):
    """Those of masks, which are bool, with fp32: all kernels would be made for bool."""
    tried = []
    monkeypatch.setattr(kernels, "_tried", lambda device, dtype: bool(tried.append(dtype)))
    with torch.inference_mode():
        boxes(torch.ones(2, 4, 4, dtype=torch.bool, device="cuda:0"))
        norm_gelu(torch.ones(1, 16, 4, 4, dtype=torch.bfloat16, device="cuda:0"), on_cuda(LayerNorm2d(16)).bfloat16())
    assert tried[:2] == [torch.float32, torch.bfloat16]
