"""Files of labelme and COCO as tests write them, and the masks in them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco

H, W = 40, 60
BOX = [[10, 8], [30, 8], [30, 24], [10, 24]]


def box_mask(x: int = 0) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[8:24, 10 + x : 30 + x] = True
    return mask


def shifted(x: int) -> list[list[int]]:
    return [[px + x, py] for px, py in BOX]


def images(folder: Path, count: int = 4) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        assert cv2.imwrite(str(folder / f"{i:05d}.png"), np.zeros((H, W, 3), np.uint8))


def labelme(path: Path, *shapes: dict, **more) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(
            {"version": "5.4.1", "shapes": list(shapes), "imageHeight": H, "imageWidth": W, "imageData": None, **more}
        )
    )


def shape(label: str, points=BOX, kind: str = "polygon", **more) -> dict:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, **more}


def agree(mask: np.ndarray, expected: np.ndarray) -> bool:
    """But for the pixels of the line around it, of which half are inside."""
    if not expected.any():
        return not mask.any()
    return np.count_nonzero(mask & expected) / np.count_nonzero(mask | expected) > 0.9


def rle(mask: np.ndarray, compressed: bool) -> dict:
    found = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    if compressed:
        return {"size": [H, W], "counts": found["counts"].decode()}
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1  # counts begin with those of 0
    return {"size": [H, W], "counts": np.diff([0, *edges, flat.size]).tolist()}


def coco_file(path: Path, annotations: list[dict], count: int = 4, prefix: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "info": {}, "categories": [{"id": 1, "name": "scissors"}, {"id": 7, "name": "forceps"}],
        "images": [{"id": 10 + i, "file_name": f"{prefix}{i:05d}.png", "height": H, "width": W} for i in range(count)],
        "annotations": [{"id": n, "category_id": 1, "iscrowd": 0, **own} for n, own in enumerate(annotations)],
    }  # fmt: skip
    path.write_text(json.dumps(content))
    return path
