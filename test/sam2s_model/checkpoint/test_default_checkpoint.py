"""The checkpoints in the package: they load, are small, and their memory tracks scenes they were not trained on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sam2s_model.bench.flops import count
from sam2s_model.checkpoint import default_checkpoint, load_model, read_checkpoint
from sam2s_model.checkpoint.describe import describe
from sam2s_model.config import NANO_CLASSES
from sam2s_model.metrics import iou
from sam2s_model.prompts import Prompt
from sam2s_model.published.catalog import packaged_checkpoints
from sam2s_model.published.sha256 import file_sha256
from sam2s_model.recordings.scene import Scene, SceneConfig
from sam2s_model.tracking.tracker import Tracker

HALF = Path(__file__).resolve().parents[4] / "shared" / "weights" / "sam2_hiera_tiny_image_part.fp16.pt"
SOURCE = "05b10f0cda6c9d8f8623abe0d92a5f2b2b323a7ff28de3699ce7548ca013d568"  # sha256 of it


def mean_iou(model, policy: str) -> float:
    """Of both instruments of one scene over 40 frames, in which they cross, prompted with their boxes on the first."""
    scene = Scene(SceneConfig(width=320, height=256, frames=40, seed=2))
    tracker = Tracker(model, policy)
    scores = []
    for frame in scene:
        tracks = tracker.step(frame.stamp_ns + 1, np.ascontiguousarray(frame.image))
        if frame.index == 0:
            tracker.prompt(0, [Prompt(box=np.array(state.box)) for state in frame.objects])
        else:
            scores += [iou(tracks.mask(row.object_id), frame.labels == row.label) for row in scene.objects]
    return float(np.mean(scores))


@pytest.mark.parametrize("name, size", [("sam2s_nano", 512), ("sam2s_pico", 192)])
def test_they_are_complete_and_small(name, size):
    path = packaged_checkpoints()[name]
    assert path.stat().st_size < 25e6
    model = load_model(path, device="cpu")
    assert model.name == name and model.has_memory and not model.missing and model.image_size == size


def test_tiny_is_the_image_half_of_sam2_tiny_in_8_bits_at_512_px():
    found = describe(packaged_checkpoints()["sam2s_tiny"])
    assert found.size < 36e6 and found.image_size == 512 and found.model == "sam2_hiera_tiny" and not found.memory
    assert found.in_eight_bits == 35 and found.parameters > 31e6 and set(found.dtypes) == {"int8", "float16"}
    assert found.metadata["source_sha256"] == SOURCE
    model = load_model("sam2s_tiny", device="cpu")
    assert model.image_size == 512 and set(model.missing) == set(found.missing) and not model.has_memory


def test_tiny_is_close_to_the_file_that_it_was_made_from():
    if not HALF.is_file():
        pytest.skip(reason=f"no weights at {HALF}")
    before, after = read_checkpoint(HALF), read_checkpoint(packaged_checkpoints()["sam2s_tiny"])
    assert file_sha256(HALF) == SOURCE and before.state.keys() == after.state.keys()
    worst = 0.0
    for name, value in before.state.items():
        if name in after.eight_bit:
            worst = max(worst, float((after.state[name] - value.float()).norm() / value.float().norm()))
        else:
            assert torch.equal(after.state[name], value), name
    print(f"largest relative error of a tensor: {worst:.4f}")
    assert worst < 0.015


def test_tiny_segments_what_a_box_shows():
    """Instruments of the procedural scene, at half of its size: a broken weight shows."""
    scene = Scene(SceneConfig(width=320, height=256, frames=1, seed=2))
    tracker = Tracker(load_model("sam2s_tiny", image_size=256, device="cpu"), "none")
    frame = scene[0]
    tracker.step(1, np.ascontiguousarray(frame.image))
    answer = tracker.prompt(0, [Prompt(box=np.array(state.box)) for state in frame.objects])
    scores = [iou(answer.tracks.mask(row.object_id), frame.labels == row.label) for row in scene.objects]
    print(f"IoU of sam2s_tiny from boxes: {scores}")
    assert min(scores) > 0.8


def test_nano_is_the_default_on_a_cpu_and_within_its_budget():
    assert default_checkpoint("cpu") == packaged_checkpoints()["sam2s_nano"]
    model = load_model("sam2s_nano", device="cpu")
    operations = count(model.config, memories=11)
    assert sum(p.numel() for p in model.parameters()) < 12e6 and operations.total < 12e9
    assert model.config.long_term_embedding and model.config.num_classes == len(NANO_CLASSES)


def test_the_memory_of_pico_tracks_and_beats_the_baseline():
    model = load_model(packaged_checkpoints()["sam2s_pico"], image_size=192, device="cpu")
    fifo, none = mean_iou(model, "fifo"), mean_iou(model, "none")
    print(f"mean IoU of sam2s_pico at 192 px: fifo {fifo:.3f}, none {none:.3f}")
    assert fifo > 0.55 and fifo > none


def test_nano_follows_best_with_its_default_and_well_with_its_memory():
    """Correspondences need no training, and beat the trained memory on the scene that it was trained on."""
    model = load_model(packaged_checkpoints()["sam2s_nano"], image_size=256, device="cpu")
    assert Tracker(model).policy_name == "match"
    match, fifo = (mean_iou(model, policy) for policy in ("match", "fifo"))
    print(f"mean IoU of sam2s_nano at 256 px: match {match:.3f}, fifo {fifo:.3f}")
    assert match > fifo > 0.6


@pytest.mark.full
def test_nano_follows_best_with_its_default_at_384_px():
    model = load_model(packaged_checkpoints()["sam2s_nano"], image_size=384, device="cpu")
    match, fifo = mean_iou(model, "match"), mean_iou(model, "fifo")
    print(f"mean IoU of sam2s_nano at 384 px: match {match:.3f}, fifo {fifo:.3f}")
    assert match > 0.8 and match > fifo


def test_loading_imports_no_compiler():
    """It would take 120 MB and a second of every process."""
    program = (
        "import sys; from sam2s_model.checkpoint import load_model; "
        "[load_model(name, device='cpu') for name in ('sam2s_nano', 'sam2s_pico', 'sam2s_tiny')]; "
        "print([one for one in ('torch._dynamo', 'torch._inductor', 'triton') if one in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout
