"""bf16 and int8 against fp32 on real video with the real image half of SAM2-tiny."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sam2s_model.checkpoint import load_model
from sam2s_model.config import TrackerConfig
from sam2s_model.metrics import iou
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.tracker import Tracker

SHARED = Path(__file__).resolve().parents[4] / "shared"
WEIGHTS = SHARED / "weights" / "sam2_hiera_tiny_image_part.fp16.pt"
SOAPBOX = SHARED / "data" / "davis" / "soapbox"


def box_of(path: Path) -> np.ndarray:
    ys, xs = np.nonzero(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float32)


def read_rgb(path: Path) -> np.ndarray:
    return np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])


@pytest.fixture
def soapbox() -> tuple[list[Path], list[Path]]:
    """Images and masks."""
    if not WEIGHTS.is_file() or not SOAPBOX.is_dir():
        pytest.skip(f"needs {WEIGHTS.name} and davis/soapbox in {SHARED}")
    return tuple(sorted(SOAPBOX.joinpath(kind).iterdir()) for kind in ("frames", "masks"))


def trackers(*precisions: str, **options) -> list[Tracker]:
    models = (load_model(WEIGHTS, image_size=512, device="cpu", precision=p) for p in precisions)
    return [Tracker(model, "none", TrackerConfig(**options)) for model in models]


def test_other_precisions_give_the_masks_of_fp32_for_the_same_prompts(soapbox):
    """Without the choice between candidates: where two are as good, another precision may take the other one."""
    least, scores = {"bf16": 0.98, "int8": 0.96}, []
    group = trackers("fp32", *least, stability=False)
    for image, mask in list(zip(*soapbox, strict=True))[:60:40]:
        masks = []
        for tracker in group:
            tracker.reset()
            tracker.step(1, read_rgb(image))
            masks.append(tracker.prompt(0, [Prompt(box=box_of(mask))]).tracks.label_map == 1)
        scores.append([iou(masks[0], other) for other in masks[1:]])
    means, worst = np.mean(scores, axis=0), np.min(scores, axis=0)
    for precision, mean, low in zip(least, means, worst, strict=True):
        print(f"{precision} against fp32, {len(scores)} frames at 512 px: mean IoU {mean:.4f}, worst {low:.4f}")
        assert mean >= least[precision]


@pytest.mark.full
def test_bf16_follows_what_fp32_follows(soapbox):
    """Each mask is the next frame's prompt, so that differences could grow."""
    images, masks = soapbox
    pair, scores = trackers("fp32", "bf16"), []
    for i, path in enumerate(images):
        tracks = [tracker.step(i + 1, read_rgb(path)) for tracker in pair]
        if i == 0:
            tracks = [tracker.prompt(0, [Prompt(box=box_of(masks[0]))]).tracks for tracker in pair]
        scores.append(iou(*(t.mask(1) for t in tracks)))
    print(f"bf16 against fp32, {len(scores)} frames at 512 px: mean IoU {np.mean(scores):.4f}, worst {min(scores):.4f}")
    assert np.mean(scores) >= 0.98
