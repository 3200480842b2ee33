"""The Triton kernels against torch's operators: on a GPU, or in Triton's interpreter, which runs on a CPU."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import lru_cache
from unittest import mock

import pytest
import torch
import torch.nn.functional as F

from sam2s_model import acceleration, device
from sam2s_model.acceleration import kernels
from sam2s_model.config import TrackerConfig
from sam2s_model.network.image_encoder.hiera import Hiera, partition, whole
from sam2s_model.network.layers import LayerNorm2d, add_norm, norm_gelu, norm_place
from sam2s_model.network.memory_attention import rotary_table, rotate_
from sam2s_model.network.memory_keys import CachedKeys, time_keys, turned_time
from sam2s_model.tracking.holes import fill_holes
from sam2s_model.tracking.memory import BankLayout, BankView, MemoryBank
from sam2s_model.tracking.memory.evidence import boxes
from sam2s_model.tracking.memory.matching import Matching
from sam2s_model.tracking.outputs import compose
from sam2s_model.tracking.propagation import Propagated, agreement
from sam2s_model.tracking.reidentification import Reidentification, appearance

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
with mock.patch.dict(
    os.environ, {} if ON_GPU else {"TRITON_INTERPRET": "1"}
):  # asked for when Triton's own functions are imported
    pytest.importorskip(
        "triton", reason="needs Triton, which comes with torch for CUDA (for the interpreter: pip install triton)"
    )
    from sam2s_model.acceleration import triton_kernels  # noqa: F401


@pytest.fixture(autouse=True)
def on_the_device(monkeypatch):
    if not ON_GPU:
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    with torch.device(DEVICE), torch.no_grad():
        yield


def spaced(values: torch.Tensor) -> torch.Tensor:
    """Return the same values with others between them, as those of a column of a table have."""
    return values.repeat_interleave(2, 0)[::2]


@pytest.fixture
def ours(monkeypatch):
    """Torch's operators; when it is called, the kernels from there on."""
    monkeypatch.setattr(kernels, "serves", lambda x: False)
    return lambda: monkeypatch.setattr(kernels, "serves", lambda x: True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("parts, before, after", [(1, 0, 0), (2, 0, 5), (3, 2, 5)])
def test_rotate(dtype, parts, before, after, ours):
    torch.manual_seed(0)
    table = rotary_table(3, 4, 24)  # 12 pairs, which are no power of two
    x = torch.randn(2, 2 * (before + 12) + after, parts * 24 + 8).to(dtype)[..., : parts * 24]  # part of a wider tensor
    expected = rotate_(x.clone(), table, before, after)
    kernels.rotate_(x, spaced(table), before, after)
    torch.testing.assert_close(
        x, expected, atol=1e-6, rtol=1e-6 if dtype == torch.float32 else 0.008
    )  # see `test_add_norm`


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("parts, before, others", [(1, 0, 0), (3, 2, 5)])
def test_read_keys(dtype, parts, before, others):
    """Of two of three rows, some of whose keys have no place; of some layers of more, and of more numbers in a slot."""
    torch.manual_seed(0)
    table, tokens = rotary_table(3, 4, 24), before + 12
    kept = torch.randn(3, 5, tokens, 7 + 4 * 24).to(dtype)[..., 7:]
    rows = spaced(torch.tensor([2, 0]))
    columns, codes = torch.randint(0, 5, (2, 4)), torch.randint(0, 3, (1, 4)).expand(2, -1)
    weights = torch.randn(3, 1, 1, 8).to(dtype), *(torch.randn(24, 8).to(dtype) for _ in range(4))
    cached = CachedKeys(kept, rows, columns, codes, weights[:1])
    part, after = slice(24, 24 * (1 + parts)), torch.randn(2, others, parts * 24).to(dtype)
    expected = cached.read(part, turned_time(table, *weights, tables=1, before=before), after)
    made = cached.read_by_kernel(part, time_keys(*weights, tables=1), spaced(table), before, after)
    assert made.shape == (2, 4 * tokens + others, parts * 24)
    rounding = (
        1e-5 if dtype == torch.float32 else 0.02
    )  # the codes of ages are rounded before, or after they are turned
    torch.testing.assert_close(made, expected, atol=4 * rounding, rtol=rounding)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shared", [1, 3])
def test_add_norm(dtype, shared):
    torch.manual_seed(0)
    x, y = torch.randn(shared, 7, 24).to(dtype), torch.randn(3, 7, 24).to(dtype)
    weight, bias = torch.randn(24).to(dtype), torch.randn(24).to(dtype)
    total, normed = kernels.add_norm(x, y, weight, bias, 1e-5)
    rounding = 1e-6 if dtype == torch.float32 else 0.008  # the interpreter cuts off where a GPU rounds
    torch.testing.assert_close(total, x + y, atol=0.0, rtol=rounding)
    expected = F.layer_norm(x + y, (24,), weight, bias, 1e-5)
    torch.testing.assert_close(normed, expected, atol=10 * rounding, rtol=rounding)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("added", [False, True])
def test_norm_place(dtype, added, ours):
    torch.manual_seed(0)
    x, y, place = (torch.randn(3, 7, 24).to(dtype) for _ in range(3))
    norm = torch.nn.LayerNorm(24).to(dtype).requires_grad_(False)
    norm.weight.normal_(), norm.bias.normal_()
    expected = norm_place(x if added else None, y, norm, place)
    assert torch.equal(expected[1], expected[0] + place)
    ours()
    rounding = 1e-6 if dtype == torch.float32 else 0.008  # see `test_add_norm`
    for made, plain in zip(norm_place(x if added else None, y, norm, place), expected, strict=True):
        torch.testing.assert_close(made, plain, atol=20 * rounding, rtol=rounding)


def test_add_norm_of_a_part(ours):
    torch.manual_seed(0)
    x, y, norm = torch.randn(1, 7, 24), torch.randn(1, 7, 24), torch.nn.LayerNorm(24).requires_grad_(False)
    expected = add_norm(x, y, norm, alpha=0.1)
    torch.testing.assert_close(expected[0], x + 0.1 * y)
    ours()
    for made, plain in zip(add_norm(x, y, norm, alpha=0.1), expected, strict=True):
        torch.testing.assert_close(made, plain, atol=1e-5, rtol=1e-5)


def test_what_is_of_no_batch_is_shared_by_one(ours):
    """A batch of images that a frozen encoder learns nothing of: each is encoded, though all have one position."""
    torch.manual_seed(0)
    trunk = Hiera(8, 1, (1, 1, 1, 1), (4, 4, 2, 1), (3,), (4, 4)).requires_grad_(False)
    trunk.pos_embed.normal_(), trunk.pos_embed_window.normal_()
    images = torch.randn(3, 3, 32, 64)
    expected = trunk(images)
    ours()
    for made, plain in zip(trunk(images), expected, strict=True):
        torch.testing.assert_close(made, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("x, y", [((3, 7, 24), (1, 7, 24)), ((2, 7, 24), (3, 7, 24)), ((7, 24), (3, 7, 24))])
def test_what_a_kernel_would_read_beyond_is_refused(x, y):
    x, y, one = torch.zeros(x), torch.zeros(y), torch.ones(24)
    with pytest.raises(ValueError, match="expected x like y, or one for all of its batch"):
        kernels.add_norm(x, y, one, one, 1e-5)
    for added, place in ((None, x), (x, y)):
        with pytest.raises(ValueError, match="expected the same shape"):
            kernels.norm_place(added, y, place, one, one, 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size, side", [((8, 12), 4), ((7, 10), 4), ((3, 2), 7)])
@pytest.mark.parametrize("parts, filled", [(3, True), (2, True), (1, False)])
def test_windows_and_back(dtype, size, side, parts, filled, ours):
    """Copies, bit for bit: of grids that are whole windows and of others, of parts of wider tensors, of two images."""
    torch.manual_seed(0)
    x = torch.randn(2, *size, parts * 300 + 8).to(dtype)[..., 8:]  # 300 channels: more than a program takes
    filling = torch.randn(parts * 300).to(dtype) if filled else None
    expected, padded = partition(x, side, 5, parts, filling)
    ours()
    made, same = partition(x, side, 5, parts, filling)
    assert torch.equal(made, expected) and same == padded
    as_attention_leaves_it = made[0].transpose(1, 2).contiguous().transpose(1, 2)
    for windows in (made[0], as_attention_leaves_it):
        back = whole(windows, side, padded, size)
        assert torch.equal(back, x[..., :300]) and back.is_contiguous()


@pytest.mark.parametrize("size", [(5, 7), (64, 48)])
def test_boxes(size, ours):
    """Of noise, of a dot in a corner, and of nothing."""
    torch.manual_seed(0)
    masks = torch.rand(3, 4, *size) > 0.98
    masks[0], masks[1, 0], masks[2, 1:] = False, True, False
    masks[0, 1, -1, -1] = masks[0, 2, 0, 0] = True
    expected = boxes(masks)
    ours()
    assert torch.equal(boxes(masks), expected)


def test_agreement(ours):
    torch.manual_seed(0)
    logits, soft = torch.randn(3, 4, 40, 60), torch.rand(3, 1, 40, 60)
    logits[0, 0], soft[1] = -1, 0
    found = Propagated(soft, soft, soft, soft[:, 0] > 0.5)
    expected = agreement(found, logits, Matching())
    ours()
    torch.testing.assert_close(agreement(found, logits, Matching()), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("channels", [4, 20])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_norm_gelu(channels, layout, ours):
    torch.manual_seed(0)
    x = torch.randn(2, channels, 5, 6).to(memory_format=layout)
    norm = LayerNorm2d(channels).requires_grad_(False)
    norm.weight.normal_(), norm.bias.normal_()
    expected = F.layer_norm(x.permute(0, 2, 3, 1), (channels,), norm.weight, norm.bias, norm.eps).permute(0, 3, 1, 2)
    ours()
    torch.testing.assert_close(norm(x), expected, atol=1e-5, rtol=1e-5)
    made = norm_gelu(x, norm)
    torch.testing.assert_close(made, F.gelu(expected), atol=1e-5, rtol=1e-5)
    assert made.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("area", [1, 4, 8])
def test_fill_holes(area, ours):
    """Random masks have regions of every size and shape, at the border, too."""
    torch.manual_seed(area)
    logits = F.interpolate(torch.randn(3, 1, 30, 41), scale_factor=(1, 1)) + 0.4
    expected = fill_holes(logits, area)
    assert (expected != logits).any()
    ours()
    assert torch.equal(fill_holes(logits, area), expected)


@pytest.mark.parametrize("size", [(33, 50), (12, 16), (7, 9)])
def test_compose(size, ours):
    torch.manual_seed(0)
    logits, present = torch.randn(4, 1, 12, 16), spaced(torch.tensor([True, True, False, True]))
    labels = spaced(torch.tensor([3, 7, 9, 200], dtype=torch.uint8))
    expected = compose(logits, present, labels, size)
    ours()
    made = compose(logits, present, labels, size)
    assert (made != expected).sum() <= 1 and set(made.unique().tolist()) == {
        0,
        3,
        7,
        200,
    }  # two may be equal but for rounding


@pytest.mark.parametrize("binarise", [False, True])
def test_mask_to_remember(binarise):
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 12, 16) * 5
    full = F.interpolate(logits, size=(30, 33), mode="bilinear")
    expected = (full > 0).float() if binarise else full.sigmoid()
    made = kernels.mask_to_remember(logits, 30, 33, binarise, torch.float32)
    torch.testing.assert_close(made, expected * 20 - 10, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("cell", [1, 4])
def test_judge_and_learn(cell, ours, monkeypatch):
    """Twelve objects: some lost, some absent, some never seen, and one that is what it was; rows in another order."""
    torch.manual_seed(0)
    judge, rows = Reidentification(TrackerConfig(), 20), torch.randperm(12).tolist()
    features, logits = torch.randn(1, 20, 6, 5), torch.randn(12, 1, 6 * cell, 5 * cell) - 0.5
    logits[3] = -1
    present, iou = spaced(torch.rand(12) > 0.2), spaced(torch.rand(12))
    results = []
    for served in (False, True):
        bank = MemoryBank(
            BankLayout(0, 0, 0, 1, 1, 1, 20, (2, 2), states=judge.states), torch.device(DEVICE), torch.float32
        )
        for object_id in range(12):
            bank.add(object_id)
        torch.manual_seed(1)
        bank.states["prototype"][:12] = F.normalize(torch.randn(12, 20), dim=1)
        bank.states["prototype"][rows[0]] = appearance(features, logits)[0]
        bank.states["prototype_frames"][:12] = torch.randint(0, 300, (12,)) * (torch.rand(12) > 0.2)
        bank.states["prototype_frames"][rows[0]], present[0] = 7, True
        bank.states["stamps"][:12, 0] = torch.randint(0, 10**10, (12,))
        bank.states["stamps"][:12, 1] = 10**10
        bank.states["stamps"][rows[1], 0] = 10**10  # seen on the frame before
        bank.states["stamps"][rows[0], 0] = 0
        monkeypatch.setattr(kernels, "serves", lambda x, served=served: served)
        view = BankView(bank, rows)
        verdict = judge.judge(view, features, logits, present)
        judge.learn(view, 40, spaced(verdict.appearances), logits, iou, spaced(verdict.present), 2 * 10**10)
        told = (
            verdict.asked,
            verdict.rejected,
            verdict.accepted,
            verdict.present,
            verdict.similarity,
            verdict.appearances,
        )
        results.append([*told, *(bank.states[state.name].clone() for state in judge.states)])
        monkeypatch.setattr(kernels, "serves", lambda x: False)
    for own, plain in zip(*results[::-1], strict=True):
        torch.testing.assert_close(own, plain, atol=1e-5, rtol=1e-5, equal_nan=True)
    assert results[0][0].any() and results[0][1].any() and results[0][2].any() and not results[0][3].all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_kernel_is_tried_as_it_is_called(dtype, caplog):
    """One that is not turns all of them off, everywhere."""
    assert kernels._tried.__wrapped__(torch.device(DEVICE), dtype), caplog.text


class Launches:
    """Kernels that are not run; it is noted on which device they would be."""

    def __init__(self, current: list[torch.device]):
        self.on, self._current = [], current

    def __getattr__(self, name):
        return self

    def __getitem__(self, grid):
        return lambda *_, **__: self.on.append(self._current[-1])


@pytest.fixture
def launches(monkeypatch):
    """What is launched, while no device is the current one but for those that are made it."""
    current: list = [None]

    @contextmanager
    def as_current(wanted):
        current.append(wanted)
        yield
        current.pop()

    made = Launches(current)
    monkeypatch.setattr(device, "as_current", as_current)
    for name in ("triton_kernels", "triton_masks", "triton_windows"):
        monkeypatch.setattr(acceleration, name, made, raising=False)
    monkeypatch.setattr(kernels, "_tried", lru_cache(kernels._tried.__wrapped__))
    return made


def test_every_kernel_is_launched_on_the_gpu_of_its_tensors(launches):
    """Triton launches on the current one."""
    assert kernels._tried(torch.device(DEVICE), torch.float32)
    assert [on and on.type for on in launches.on] == [DEVICE] * 14


def test_want_of_memory_does_not_turn_the_kernels_off(launches, monkeypatch):
    tried = []

    def lacks(*arguments):
        tried.append(arguments)
        if len(tried) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(kernels, "rotate_", lacks)
    with pytest.raises(torch.OutOfMemoryError):
        kernels._tried(torch.device(DEVICE), torch.float32)
    assert [kernels._tried(torch.device(DEVICE), torch.float32) for _ in range(2)] == [True, True] and len(tried) == 2
