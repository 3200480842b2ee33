"""The floor against figures that were worked out by hand, on two machines, from the same savings."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import pytest
import torch

from sam2s_model.bench.floor import ATTENTION, ENCODER, MATCHES, PARTS, Shape, floor_seconds, least_work, work_done
from sam2s_model.config import MODELS
from sam2s_model.network.model import Sam2Model

GPU, CPU = (
    (790e12, 4.3e12),
    (780e9, 30e9),
)  # operations and bytes a second: of an H200, and of two cores with AVX512-BF16
TINY, BASE, LARGE, EDGETAM = "sam2.1_hiera_tiny", "sam2.1_hiera_base_plus", "sam2.1_hiera_large", "edgetam"
FPS = {
    (TINY, 512): (7872, 5988, 3825, 2220),
    ("sam2.1_hiera_small", 512): (6829, 5358, 3557, 2128),
    (BASE, 512): (4301, 3710, 2747, 1809),
    (LARGE, 512): (1676, 1553, 1355, 1079),
    (TINY, 1024): (1107, 701, 404, 219),
    (BASE, 1024): (754, 541, 345, 200),
    (LARGE, 1024): (351, 297, 226, 154),
    (EDGETAM, 512): (29442, 18707, 10818, 5869),
    (EDGETAM, 1024): (5977, 3840, 2239, 1221),
}  # with 1, 2, 4 and 8 objects
SECONDS = {
    (TINY, 512): (0.12, 0.26, 0.46),
    ("sam2.1_hiera_small", 512): (0.14, 0.28, 0.48),
    (BASE, 512): (0.23, 0.37, 0.56),
    (LARGE, 512): (0.60, 0.75, 0.94),
    (TINY, 1024): (0.91, 2.50, 4.62),
    (BASE, 1024): (1.34, 2.93, 5.05),
    (LARGE, 1024): (2.88, 4.47, 6.59),
    (EDGETAM, 512): (0.034, 0.094, 0.173),
    (EDGETAM, 1024): (0.169, 0.452, 0.830),
}  # with 1, 4 and 8 objects


@lru_cache
def network(name: str) -> Sam2Model:
    with torch.device("meta"):
        return Sam2Model(MODELS[name])


def seconds(name: str, size: int, objects: int, machine: tuple[float, float]) -> float:
    return floor_seconds(least_work(network(name), Shape(size, objects, 7, 16, 2)), *machine)


@pytest.mark.parametrize("name, size", FPS)
def test_floors_are_those_worked_out_by_hand(name: str, size: int):
    """Those count some operations less and some bytes more; two digits are known of the seconds."""
    for objects, fps in zip((1, 2, 4, 8), FPS[name, size], strict=True):
        assert 1 / seconds(name, size, objects, GPU) == pytest.approx(fps, rel=0.08)
    for objects, expected in zip((1, 4, 8), SECONDS[name, size], strict=True):
        assert seconds(name, size, objects, CPU) == pytest.approx(expected, rel=0.06, abs=0.005)


@pytest.mark.parametrize("name", ["sam2s_pico", "sam2s_nano", TINY, EDGETAM, "efficienttam_s"])
def test_the_least_is_less_than_what_is_done(name: str):
    """And not by an order: a part is at most a third cheaper, the memory attention of small memories two thirds."""
    shape = Shape(512, 2, 7, 16, 2, matched=9)
    least, done = least_work(network(name), shape), work_done(MODELS[name], shape)
    assert tuple(least) == PARTS and set(done) == set(PARTS)
    for part, work in least.items():
        assert (0.33 if part == ATTENTION else 0.66) * done[part] < work.flops <= done[part], part


def test_bytes_are_the_weights_and_the_memories():
    """At 512 px in bf16 an object has 14.8 MB of rotated keys and 0.9 MB of values; the encoder has 27 M weights."""
    one, two = (least_work(network(TINY), Shape(512, n, 7, 16, 2))[ATTENTION].bytes for n in (1, 2))
    assert two - one == (7 * 1024 + 64) * (4 * 256 + 64) * 2
    assert least_work(network(TINY), Shape(512, 1, 7, 16, 2))[ENCODER].bytes == pytest.approx(2 * 27e6, rel=0.1)


def test_without_a_memory_there_are_two_parts():
    shape = Shape(512, 1, 0, 0, 4)
    assert len(least_work(network(TINY), shape)) == len(work_done(MODELS[TINY], shape)) == 2
    full = least_work(network(TINY), replace(shape, memories=7, pointers=16))
    assert least_work(network(TINY), shape)[ENCODER] == full[ENCODER]


def test_correspondences_are_the_same_for_any_number_of_objects():
    """9 frames of 1024 places of 256 numbers: 4.8 GFLOP and 5.3 MB in bf16; an object's label maps are 82 kB more."""
    one, eight = (least_work(network(TINY), Shape(512, n, 0, 0, 2, matched=9))[MATCHES] for n in (1, 8))
    assert one.flops == eight.flops == 2 * 1024 * 9 * 1024 * 256
    assert one.bytes == pytest.approx(9 * 1024 * 256 * 2, rel=0.15)
    assert eight.bytes - one.bytes == 7 * 10 * 1024 * 4 * 2
