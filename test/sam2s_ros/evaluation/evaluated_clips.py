"""`sam2s eval` with a small model, and a clip to evaluate on."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from sam2s_ros.commands.cli import main

SMALL = ("--checkpoint", "sam2s_pico", "--image-size", "64", "--device", "cpu")


def evaluated(output: Path, *arguments: str) -> int:
    return main(["eval", *SMALL, *arguments, "--output", str(output)])


def report(output: Path) -> dict:
    return json.loads((output / "report.json").read_text())


def folder(root: Path, count: int = 6, broken_frames=()) -> Path:
    """A bright square that moves, with binary masks."""
    for kind in ("frames", "masks"):
        (root / kind).mkdir(parents=True)
    for i in range(count):
        image, mask = np.full((80, 96, 3), 60, np.uint8), np.zeros((80, 96), np.uint8)
        image[20:50, 10 + 4 * i : 40 + 4 * i], mask[20:50, 10 + 4 * i : 40 + 4 * i] = 220, 255
        cv2.imwrite(str(root / "frames" / f"{i:05d}.png"), image)
        cv2.imwrite(str(root / "masks" / f"{i:05d}.png"), mask)
    for i in broken_frames:
        (root / "frames" / f"{i:05d}.png").write_bytes(b"no image")
    return root
