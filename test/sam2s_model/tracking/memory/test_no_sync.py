"""A step asks the device nothing: no number, no truth value and no shape of it depends on what a tensor holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sam2s_model.config import PICO, POLICY_NAMES, TrackerConfig
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.history import ProcessedFrame
from sam2s_model.tracking.segmenter import Segmenter

WAITS = {torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.masked_select, torch.ops.aten.equal}
INDEXING = {torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_}


class NoWaiting(TorchDispatchMode):
    """Raises AssertionError for an operation that, on a GPU, would wait for what was computed."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.overloadpacket not in WAITS, f"{func} waits for the device"
        if func.overloadpacket in INDEXING:
            masks = [t for t in tree_leaves(args[1]) if isinstance(t, torch.Tensor) and t.dtype == torch.bool]
            assert not masks, f"{func} with a mask has a result of unknown size"
        return func(*args, **(kwargs or {}))


def test_the_test_notices():
    tensor = torch.arange(4)
    for waiting in (
        lambda: tensor[1].item(),
        lambda: bool(tensor[0] > 0),
        lambda: tensor[tensor > 1],
        lambda: tensor.nonzero(),
    ):
        with pytest.raises(AssertionError), NoWaiting():
            waiting()


@pytest.mark.parametrize("name", POLICY_NAMES)
def test_a_step_asks_the_device_nothing(frames, name):
    torch.manual_seed(0)
    model = Sam2Model(replace(PICO, short_attention=name == "slm"), image_size=64).eval().requires_grad_(False)
    segmenter = Segmenter(model, name, TrackerConfig())
    for i in range(9):
        features = model.encode_image(model.prepare_image(torch.from_numpy(frames[i])))
        frame = ProcessedFrame(i, (i + 1) * 10**9, frames[i].shape[:2], features)
        if segmenter.bank.ids:
            with NoWaiting():
                segmenter.track(frame, list(segmenter.bank.ids))
        if i in (0, 4):  # of different ages
            segmenter.bank.add(i + 1)
            segmenter.prompt(frame, i + 1, Prompt(box=np.array([20, 30, 60, 60], np.float32)))
