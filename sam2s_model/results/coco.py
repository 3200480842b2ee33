"""Tracked masks as COCO: images, categories, and annotations with run lengths, boxes and track ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from sam2s_model.semantics import LabelSet
from sam2s_model.tracks import Tracks


class CocoTracks:
    """Collect frames and write them as one JSON file that pycocotools and annotation tools read.

    An annotation has `track_id`, the object's id, beside COCO's own fields; its mask is compressed run lengths. A frame
    without masks is an image without annotations.
    """

    def __init__(self, label_set: LabelSet):
        self._categories = [dict(id=label.id, name=label.name) for label in label_set.classes]
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, file_name: str, tracks: Tracks) -> None:
        """Add a frame. file_name: of its image, as it will be found beside the JSON file."""
        height, width = tracks.size
        image_id = len(self._images) + 1
        self._images.append(dict(id=image_id, file_name=file_name, height=height, width=width, stamp_ns=tracks.stamp))
        for i in np.flatnonzero(tracks.areas > 0):
            runs = coco_mask.encode(np.asfortranarray(tracks.label_map == tracks.labels[i], dtype=np.uint8))
            x0, y0, x1, y1 = (int(v) for v in tracks.boxes[i])
            self._annotations.append(
                dict(
                    id=len(self._annotations) + 1,
                    image_id=image_id,
                    category_id=int(tracks.class_ids[i]),
                    track_id=int(tracks.object_ids[i]),
                    segmentation=dict(size=[height, width], counts=runs["counts"].decode("ascii")),
                    area=int(tracks.areas[i]),
                    bbox=[x0, y0, x1 - x0, y1 - y0],
                    iscrowd=0,
                    score=round(float(tracks.scores[i]), 6),
                )
            )

    def write(self, path: Path) -> None:
        """Write the file. Raises OSError."""
        found = dict(images=self._images, categories=self._categories, annotations=self._annotations)
        path.write_text(json.dumps(found))
