"""When images are tried no more: a table of steps, and what is said."""

import gc
import weakref

import pytest
import torch

from sam2s_ros.tracker.quarantine import Quarantine, free_memory, lacks_memory

BOOM, OOM = RuntimeError("boom"), torch.OutOfMemoryError("CUDA out of memory.")
LOST = RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with `TORCH_USE_CUDA_DSA`")


@pytest.mark.parametrize(
    "steps, said, lost",
    [
        ([BOOM, BOOM], "", False),
        ([BOOM, BOOM, BOOM], "3 steps in a row failed (max_step_errors is 3), the last with RuntimeError: boom", False),
        ([BOOM, BOOM, None, BOOM, BOOM], "", False),
        ([OOM], "", False),
        ([OOM, None, OOM], "", False),
        ([OOM, BOOM, OOM], "3 steps in a row failed", False),
        ([OOM, OOM], "two images in a row lacked memory", True),
        ([OOM, MemoryError()], "two images in a row lacked memory", True),
        ([BOOM, BOOM, OOM], "3 steps in a row failed", False),
    ],
)
def test_p26_p27_what_follows_from_steps_that_raise(steps, said, lost):
    quarantine = Quarantine()
    for error in steps:
        if error is None:
            quarantine.over()
        else:
            assert str(error) in quarantine.failed(error, limit=3)
    assert (said in quarantine.reason, bool(quarantine.reason), quarantine.lost) == (True, bool(said), lost)
    quarantine.over()  # as by ~/reset
    assert bool(quarantine.reason) == lost, "only another tracker helps when memory does not suffice"


@pytest.mark.parametrize("steps", [[LOST], [BOOM, LOST], [LOST, BOOM], [OOM, LOST]])
def test_p27_where_only_another_process_helps_nothing_is_tried_from_the_first_such_error_on(steps):
    quarantine = Quarantine()
    for error in steps:
        quarantine.failed(error, limit=10)
    said = "cannot use the GPU any more (RuntimeError: CUDA error: an illegal memory access was encountered), another"
    assert said in quarantine.broken == quarantine.reason and "\n" not in said and not quarantine.lost
    quarantine.over()  # as by ~/reset
    assert quarantine.broken == quarantine.reason != ""


def test_what_lacks_memory():
    assert lacks_memory(OOM) and lacks_memory(MemoryError()) and not lacks_memory(BOOM)


def test_p26_what_the_failed_functions_held_is_freed_before_the_next_image():
    class Held:
        pass

    held = []

    def step():
        local = Held()
        held.append(weakref.ref(local))
        raise OOM

    with pytest.raises(torch.OutOfMemoryError) as caught:
        step()
    gc.collect()
    assert held[0]() is not None, "the traceback has it"
    free_memory(caught.value)
    assert held[0]() is None


def test_a_cache_that_cannot_be_emptied_is_said_and_fails_nothing(monkeypatch, caplog):
    import torch

    from sam2s_model.acceleration import graphs

    def refuses():
        assert graphs._capturing._is_owned(), "no capture goes on meanwhile"
        raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")

    monkeypatch.setattr(torch.cuda, "empty_cache", refuses)
    quarantine = Quarantine()
    assert "lacked memory" not in quarantine.failed(torch.OutOfMemoryError("CUDA out of memory"), 5)
    assert "cannot be given back: captures_underway" in caplog.text
    assert "lacked memory" in quarantine.failed(torch.OutOfMemoryError("CUDA out of memory"), 5) and quarantine.lost
