"""The tracker's answer for one frame: equal-length arrays and one label map."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import cv2
import numpy as np

LABEL_NONE, LABEL_OUTSIDE, MAX_LABEL = 0, 255, 254


class Return(IntEnum):
    """What was decided when something appeared of an object that was LOST, or when discovery looked again."""

    NOT_ASKED = 0
    ACCEPTED = 1
    REJECTED = 2
    FOUND = 3
    RECONDITIONED = 4


class State(IntEnum):
    """What a controller may rely on. The same numbers as ``TrackedObject.STATE_*``."""

    TRACKED = 1
    OCCLUDED = 2
    LOST = 3
    SUSPECT = 4


@dataclass(frozen=True)
class Tracks:
    """All objects of one frame, sorted by object id. N objects, image of H x W pixels.

    stamp: ns, the frame's
    label_map: (H, W) uint8, 0 none, 255 outside the endoscope's field, otherwise one of `labels`
    object_ids: (N,) int64, 1..2^32-1, unique, ascending
    labels: (N,) uint8, 1..254, unique
    class_ids: (N,) uint8, 1..254
    class_names: N strings
    states: (N,) uint8, a State
    scores: (N,) float32, 0..1, probability that the object is visible
    predicted_ious: (N,) float32, 0..1, the model's estimate
    boxes: (N, 4) int32, x0 y0 x1 y1 of the mask's pixels, x1 and y1 exclusive; zero when empty
    areas: (N,) int64, px
    centroids: (N, 2) float32, x y, px, the centre of the first pixel is (0, 0); NaN when empty
    revision: number of prompt, remove and reset calls in effect
    returns: (N,) uint8, a Return; REJECTED: something else appeared, and its mask is withheld; FOUND: it was LOST, and
        discovery found it; RECONDITIONED: discovery gave it a better mask; None: nothing was asked
    similarities: (N,) float32, -1..1, what that was decided from; NaN, or None for all, where nothing was asked
    class_scores: (N,) float32, 0..1, how sure the class is; 1 from a prompt; NaN, or None for all, where it is only the
        default

    Raises ValueError when arrays disagree in length, range or order.
    """

    stamp: int
    label_map: np.ndarray
    object_ids: np.ndarray
    labels: np.ndarray
    class_ids: np.ndarray
    class_names: tuple[str, ...]
    states: np.ndarray
    scores: np.ndarray
    predicted_ious: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    centroids: np.ndarray
    revision: int = 0
    returns: np.ndarray | None = None
    similarities: np.ndarray | None = None
    class_scores: np.ndarray | None = None

    def __post_init__(self):
        n = len(self.object_ids)
        if self.returns is None:
            object.__setattr__(self, "returns", np.full(n, Return.NOT_ASKED, np.uint8))
        if self.similarities is None:
            object.__setattr__(self, "similarities", np.full(n, np.nan, np.float32))
        if self.class_scores is None:
            object.__setattr__(self, "class_scores", np.full(n, np.nan, np.float32))
        shapes = dict(
            labels=(n,), class_ids=(n,), states=(n,), scores=(n,), predicted_ious=(n,), boxes=(n, 4), areas=(n,),
            centroids=(n, 2), returns=(n,), similarities=(n,), class_scores=(n,),
        )  # fmt: skip
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"Tracks.{name} has shape {getattr(self, name).shape}: expected {shape}")
        for name in ("scores", "predicted_ious"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"Tracks.{name} {getattr(self, name)} are not finite")
        if len(self.class_names) != n:
            raise ValueError(f"Tracks.class_names has {len(self.class_names)} entries: expected {n}")
        if self.label_map.ndim != 2 or self.label_map.dtype != np.uint8:
            raise ValueError(
                f"Tracks.label_map is {self.label_map.dtype} {self.label_map.shape}: expected uint8 (H, W)"
            )
        if np.any(np.diff(self.object_ids) <= 0) or np.any(self.object_ids < 1):
            raise ValueError(f"Tracks.object_ids {self.object_ids} are not ascending from 1")
        if len(set(self.labels.tolist())) != n or np.any((self.labels < 1) | (self.labels > MAX_LABEL)):
            raise ValueError(f"Tracks.labels {self.labels} are not unique in 1..{MAX_LABEL}")

    def __len__(self) -> int:
        return len(self.object_ids)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image."""
        return self.label_map.shape

    def mask(self, object_id: int) -> np.ndarray:
        """(H, W) bool: the pixels of one object. Raises KeyError for an id that is not here."""
        return self.label_map == self.labels[self.index(object_id)]

    def index(self, object_id: int) -> int:
        """Position of an object in the arrays. Raises KeyError for an id that is not here."""
        found = np.flatnonzero(self.object_ids == object_id)
        if not len(found):
            raise KeyError(object_id)
        return int(found[0])

    def semantic_map(self) -> np.ndarray:
        """(H, W) uint8: class ids instead of labels; 0 and 255 stay."""
        table = np.zeros(256, np.uint8)
        table[self.labels] = self.class_ids
        table[LABEL_OUTSIDE] = LABEL_OUTSIDE
        return cv2.LUT(self.label_map, table)

    def with_revision(self, revision: int) -> Tracks:
        return replace(self, revision=revision)

    @classmethod
    def empty(cls, stamp: int, height: int, width: int, revision: int = 0) -> Tracks:
        """No objects on an image of this size."""
        return cls(
            stamp=stamp,
            label_map=np.zeros((height, width), np.uint8),
            object_ids=np.zeros(0, np.int64),
            labels=np.zeros(0, np.uint8),
            class_ids=np.zeros(0, np.uint8),
            class_names=(),
            states=np.zeros(0, np.uint8),
            scores=np.zeros(0, np.float32),
            predicted_ious=np.zeros(0, np.float32),
            boxes=np.zeros((0, 4), np.int32),
            areas=np.zeros(0, np.int64),
            centroids=np.zeros((0, 2), np.float32),
            revision=revision,
        )
