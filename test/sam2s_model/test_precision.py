"""bf16 against fp32 on real video with the real image half of SAM2-tiny."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sam2s_model.checkpoint import load_model
from sam2s_model.metrics import iou
from sam2s_model.prompts import Prompt
from sam2s_model.tracker import Tracker

SHARED = Path(__file__).resolve().parents[3] / "shared"
WEIGHTS = SHARED / "weights" / "sam2_hiera_tiny_image_part.fp16.pt"
SOAPBOX = SHARED / "data" / "davis" / "soapbox"


@pytest.mark.parametrize(
    "frames, size", [pytest.param(12, 256), pytest.param(None, 512, marks=pytest.mark.full)], ids=["12 frames", "all"]
)
def test_bf16_gives_the_masks_of_fp32(frames, size):
    if not WEIGHTS.is_file() or not SOAPBOX.is_dir():
        pytest.skip(f"needs {WEIGHTS.name} and davis/soapbox in {SHARED}")
    images = sorted(SOAPBOX.joinpath("frames").iterdir())[:frames]
    ys, xs = np.nonzero(cv2.imread(str(sorted(SOAPBOX.joinpath("masks").iterdir())[0]), cv2.IMREAD_GRAYSCALE))
    box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float32)
    trackers = [Tracker(load_model(WEIGHTS, image_size=size, device="cpu", precision=p), "none") for p in ("fp32", "bf16")]
    scores = []
    for i, path in enumerate(images):
        image = np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
        masks = [tracker.step(i + 1, image).label_map for tracker in trackers]
        if i == 0:
            masks = [tracker.prompt(0, [Prompt(box=box)]).tracks.label_map for tracker in trackers]
        scores.append(iou(*(mask == 1 for mask in masks)))
    print(f"bf16 against fp32, {len(scores)} frames at {size} px: mean IoU {np.mean(scores):.4f}, worst {min(scores):.4f}")
    assert np.mean(scores) >= 0.98
