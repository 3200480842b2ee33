"""The stand-in notices what CUDA would refuse, and what it would compute with wrong values without a word."""

from __future__ import annotations

import gc
from functools import partial

import pytest
import torch
from stand_in import cuda, joined
from work import Fault

from sam2s_model.acceleration.constants import constant


@pytest.fixture
def device():
    with cuda(old=False) as device:
        yield device


def test_devices_do_not_mix(device):
    ours = torch.ones(3, device="cuda:0")
    assert (ours.device.type, (ours * 2 + 1).tolist()) == ("cuda", [3.0, 3.0, 3.0])
    for mixes in (
        lambda: ours + torch.ones(3),
        lambda: torch.where(torch.ones(3) > 0, ours, 0),
        lambda: torch.cat((ours, torch.ones(3))),
    ):
        with pytest.raises(RuntimeError, match="same device.*cuda:0 and cpu"):
            mixes()
    with pytest.raises(TypeError, match="Use Tensor.cpu"):
        ours.numpy()
    assert not device.faults


def test_what_the_host_asks_for_is_a_wait(device):
    x = torch.arange(4.0, device="cuda:0")
    asks = (
        lambda: x.sum().item(),
        lambda: bool((x > 1).any()),
        lambda: x.nonzero(),
        lambda: x[x > 1],
        lambda: x.cpu(),
        lambda: x[[0, 1]],
    )
    for waits in (
        *asks,
        lambda: torch.tensor([1.0], device="cuda:0"),
        lambda: torch.ones(2).to("cuda:0"),
        lambda: x[0].__setitem__((), 5),
    ):
        before = device.counts.copy()
        waits()
        assert (device.counts - before)["waits"] == 1, device.waited
    before, waited = device.counts.copy(), len(device.waited)
    x[:2] = 5
    x[x > 3] = 0
    x.copy_(torch.empty(4, pin_memory=True), non_blocking=True)
    assert (device.waited[waited:], (device.counts - before)["copies"]) == ([], 1), device.copied


def test_a_view_is_no_kernel(device):
    x = torch.zeros(4, 4, device="cuda:0")
    before = device.counts.copy()
    view = x[1:, None].transpose(0, 1).unflatten(2, (2, 2))
    assert not device.counts - before and view.memory_ is x.memory_
    view.add_(1)
    assert (device.counts - before)["kernels"] == 1 and x.sum().item() == 12


def test_streams_that_nothing_orders_race(device):
    x, side = torch.ones(3, device="cuda:0"), torch.cuda.Stream()
    with torch.cuda.stream(side), pytest.raises(Fault, match="add_.* races with the work of another stream"):
        x.add_(1)
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        x.add_(1)
        done = side.record_event()
    with pytest.raises(Fault, match="races"):
        x + 1
    done.synchronize()
    assert (x + 1).shape == (3,)


def test_memory_that_is_reused_while_another_stream_reads_it_is_a_fault(device):
    x, side = torch.ones(3, device="cuda:0"), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        x + 1
    del x
    with pytest.raises(Fault, match="freed while another stream used it"):
        torch.zeros(3, device="cuda:0")


def test_a_pinned_buffer_that_is_being_copied_is_not_touched(device):
    x, buffer = torch.ones(3, device="cuda:0"), torch.empty(3, pin_memory=True)
    buffer.copy_(x, non_blocking=True)
    with pytest.raises(Fault, match="the host reads a buffer that is being copied"):
        buffer.numpy()
    torch.cuda.current_stream().synchronize()
    assert buffer.numpy().tolist() == [1.0, 1.0, 1.0]
    x.copy_(buffer, non_blocking=True)
    with pytest.raises(Fault, match="the host writes to a buffer that is being copied"):
        buffer.copy_(torch.zeros(3))


def captured(function, pool=None, stream=None):
    graph, box = torch.cuda.CUDAGraph(), []
    with torch.cuda.graph(graph, pool, stream or torch.cuda.Stream(), capture_error_mode="thread_local"):
        box.append(function())
    return graph, box[0]


def test_a_graph_repeats_what_was_captured_which_itself_does_nothing(device):
    x, total = torch.ones(3, device="cuda:0"), torch.zeros(3, device="cuda:0")

    def step():
        total.add_(x)
        return total * 2

    graph, result = captured(step)
    assert total.tolist() == [0, 0, 0] and result.isnan().all().item()
    for i in (1, 2):
        graph.replay()
        assert result.tolist() == [2.0 * i] * 3
    x.fill_(10)
    before = device.counts.copy()
    graph.replay()
    assert dict(device.counts - before) == {"launches": 1, "kernels": 2, "bytes": 5 * 12}
    assert result.tolist() == [24.0] * 3


@pytest.mark.parametrize(
    "asks",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.to("cpu"),
        lambda x: torch.tensor([1.0], device="cuda:0") + x,
        lambda x: x[[0]],
    ],
)
def test_a_capture_refuses_what_waits(asks):
    with cuda(old=True) as device:
        x = torch.ones(3, device="cuda:0")
        before = torch.cuda.current_stream()
        with pytest.raises(RuntimeError, match="previous error during capture"):
            captured(lambda: asks(x))
        assert torch.cuda.current_stream() is not before, "torch leaves the thread in the capture's stream"
        with pytest.raises(RuntimeError, match="INTERNAL ASSERT"):
            torch.cuda.empty_cache()
        assert device.stuck


def test_a_pool_whose_graphs_are_gone_cannot_be_captured_into_on_old_torch():
    for old in (True, False):
        with cuda(old):
            x, pool = torch.ones(3, 3, device="cuda:0"), torch.cuda.graph_pool_handle()
            product = partial(torch.matmul, x, x)
            graph, _ = captured(product, pool)
            captured(product, pool)  # gone at once
            del graph
            if not old:
                captured(product, pool)
                continue
            with pytest.raises(RuntimeError, match="use_count > 0 INTERNAL ASSERT"):
                captured(product, pool)


def test_a_graph_that_dies_while_another_is_captured_breaks_it(device):
    x = torch.ones(3, device="cuda:0")
    old = [captured(lambda: x + 1)]
    with pytest.raises(RuntimeError, match="previous error"):
        captured(lambda: old.pop() and x + 1)


def test_results_of_a_pool_do_not_outlive_the_next_replay(device):
    x, pool = torch.ones(3, device="cuda:0"), torch.cuda.graph_pool_handle()
    (one, first), (two, _) = captured(lambda: x + 1, pool), captured(lambda: x + 2, pool)
    one.replay()
    assert first.tolist() == [2.0] * 3
    two.replay()
    assert first.isnan().all().item()


def test_a_graph_does_not_keep_what_it_reads(device):
    x = torch.ones(3, device="cuda:0")
    graph, _ = captured(lambda: x + 1)  # noqa: F821 (deleted below)
    del x
    gc.collect()
    with pytest.raises(Fault, match="memory that was freed"):
        graph.replay()


def test_deterministic_mode_refuses_as_cuda_does(device, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    x, other, rows = (
        torch.ones(3, 2, device="cuda:0"),
        torch.ones(1, 2, device="cuda:0"),
        torch.tensor([1], device="cuda:0"),
    )
    torch.use_deterministic_algorithms(True)
    try:
        x.index_copy_(0, rows, other)
        with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
            x.nanmedian(1)
        with pytest.raises(RuntimeError, match="previous error"):
            captured(lambda: x.index_copy_(0, rows, other))
    finally:
        torch.use_deterministic_algorithms(False)


def test_memory_is_counted_and_can_be_scarce(device):
    begin = torch.cuda.memory_allocated()
    x = torch.zeros(1 << 20, device="cuda:0")
    assert torch.cuda.memory_allocated() - begin == 4 << 20
    torch.cuda.set_per_process_memory_fraction(1e-6)
    with pytest.raises(torch.OutOfMemoryError):
        x + 1
    torch.cuda.set_per_process_memory_fraction(1.0)
    del x
    assert torch.cuda.memory_allocated() == begin


def test_a_thread_of_its_own_has_its_own_stream(device):
    from concurrent.futures import ThreadPoolExecutor

    def work():
        with joined():
            torch.cuda.set_stream(torch.cuda.Stream())
            return torch.cuda.current_stream()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() is not torch.cuda.current_stream()


def test_constants_of_the_device_before_are_forgotten():
    """Also after the collector was told to look at nothing that is there, as a node does."""
    ones, made = constant(lambda device: torch.ones(3, device=device)), []
    try:
        for _ in range(2):
            with cuda():
                made += [ones(device="cuda:0"), ones(device="cuda:0")]
                gc.freeze()
    finally:
        gc.unfreeze()
    assert made[0] is made[1] and made[2] is made[3] and made[1] is not made[2]
