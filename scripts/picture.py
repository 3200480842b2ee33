"""Make the moving picture of README: the procedural scene, tracked from the first frame's boxes, as an animated WebP.

python scripts/picture.py docs/images/scene.webp [SOURCE]     # Pillow, of requirements/docs.txt
"""

from __future__ import annotations

import sys
from itertools import islice

import cv2
from PIL import Image

from sam2s_model.checkpoint import load_model
from sam2s_model.prompts import Prompt
from sam2s_model.recordings.open import open_recording
from sam2s_model.semantics import GENERIC
from sam2s_model.tracker import Tracker
from sam2s_ros.overlay import draw_overlay

SCENE = "scene:?width=640&height=512&frames=120&seed=0"
FRAMES, EVERY = 120, 2  # every second one is shown, at half the rate
WIDTH, QUALITY, MS = 480, 60, 80


def pictures(source: str) -> list[Image.Image]:
    """Return the overlays of every second frame, each WIDTH px wide."""
    tracker, shown = Tracker(load_model("sam2s_tiny")), []
    for frame in islice(open_recording(source), FRAMES):
        tracks = tracker.step(frame.stamp_ns, frame.image)
        if frame.index == 0:
            boxes = [cv2.boundingRect(mask.astype("uint8")) for mask in frame.truth.masks.values()]
            prompts = [Prompt(box=(x, y, x + w, y + h)) for x, y, w, h in boxes]
            tracks = tracker.prompt(0, prompts).tracks
        if frame.index % EVERY == 0:
            drawn = draw_overlay(frame.image, tracks, GENERIC)
            height = round(drawn.shape[0] * WIDTH / drawn.shape[1])
            shown.append(Image.fromarray(cv2.resize(drawn, (WIDTH, height), interpolation=cv2.INTER_AREA)))
    return shown


def main(path: str, source: str = SCENE) -> None:
    first, *others = pictures(source)
    first.save(path, save_all=True, append_images=others, duration=MS, loop=0, quality=QUALITY, method=6)


if __name__ == "__main__":
    main(*sys.argv[1:3])
