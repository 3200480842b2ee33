"""What happens in a parity test: 24 frames, two instruments, a prompt of every kind, a correction, a late object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from oracle import Answer, Click, Oracle, Settings

from sam2s_model.config import TrackerConfig
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.recordings.scene import Scene, SceneConfig
from sam2s_model.tracking.tracker import Tracker

FRAMES = 24  # at frame 22 the first object has its full memory: 6 frames and 15 pointers besides the prompted ones
FIRST, SECOND = 1, 2


def scenario(
    image_size: int, first: str, frames: int = FRAMES
) -> tuple[list[np.ndarray], Mapping[int, tuple[int, Click]]]:
    """The first object by a point or a mask at frame 0 and corrected at 6, the second by a box at 9 and again at 12.

    first: "point" or "mask"; the second object's second prompt is of the other kind
    frames: with up to 12, all that happens does so at frames 0, 1 and 2
    Returns the images, (S, S, 3) uint8 RGB, and frame -> object id and prompt there.
    """
    scene = Scene(SceneConfig(width=image_size, height=image_size, frames=frames, fps=12.5, field="full", seed=3))
    shown = [scene[i] for i in range(frames)]

    def inside(frame: int, label: int) -> Click:
        return Click(points=_centre(shown[frame].labels == label), labels=np.array([1]))

    def mask(frame: int, label: int) -> Click:
        return Click(mask=shown[frame].labels == label)

    def box(frame: int, label: int) -> Click:
        return Click(box=np.array(next(o.box for o in shown[frame].objects if o.label == label), np.float32))

    kinds = (inside, mask) if first == "point" else (mask, inside)
    clicks = {0: (FIRST, kinds[0](0, FIRST))}
    if frames > 12:
        on, off = (_centre(shown[6].labels == label) for label in (FIRST, SECOND))
        clicks[6] = (FIRST, Click(points=np.concatenate((on, off)), labels=np.array([1, 0])))
        clicks[9] = (SECOND, box(9, SECOND))
        clicks[12] = (SECOND, kinds[1](12, SECOND))
    else:
        clicks[1] = (SECOND, box(1, SECOND))
        clicks[2] = (FIRST, inside(2, FIRST))
    return [frame.image for frame in shown], clicks


def _centre(mask: np.ndarray) -> np.ndarray:
    """(1, 2) x y: the mask's pixel nearest to its centroid."""
    ys, xs = np.nonzero(mask)
    nearest = np.argmin((xs - xs.mean()) ** 2 + (ys - ys.mean()) ** 2)
    return np.array([[xs[nearest], ys[nearest]]], np.float32)


class Ours:
    """The tracker of this project, asked like an oracle, but with images as they come from a camera."""

    def __init__(self, model: Sam2Model, settings: Settings):
        options = dict(stability=settings.stability, binarise_prompted=settings.binarise, fill_holes=0)
        self.tracker = Tracker(model, "fifo", TrackerConfig(**options))
        self._stamp = 0

    def step(self, image: np.ndarray) -> dict[int, Answer]:
        """image: (S, S, 3) uint8 RGB, of the model's own size."""
        self._stamp += 1
        self.tracker.step(self._stamp, image)
        return self._answers()

    def prompt(self, object_id: int, click: Click) -> Answer:
        known = object_id in self.tracker.object_ids
        given = Prompt(
            object_id=object_id if known else 0,
            points=click.points,
            point_labels=click.labels,
            box=click.box,
            mask=click.mask,
        )
        (answered,) = self.tracker.prompt(0, [given]).object_ids
        assert answered == object_id
        return self._answers()[object_id]

    def _answers(self) -> dict[int, Answer]:
        outputs = self.tracker.outputs
        if outputs is None:
            return {}
        rows = zip(outputs.logits[:, 0], outputs.iou, outputs.object_logit, outputs.pointers, strict=True)
        return {
            object_id: Answer(logits.clone(), iou.item(), score.item(), pointer.clone())
            for object_id, (logits, iou, score, pointer) in zip(outputs.object_ids, rows, strict=True)
        }


def play(
    implementation: Ours | Oracle, images: Iterable, clicks: Mapping[int, tuple[int, Click]]
) -> Iterator[tuple[int, str, dict[int, Answer]]]:
    """Frame, "step" or "prompt", and the answers: of every object once a frame, of a prompted one once more.

    images: as the implementation takes them; clicks: frame -> object id and prompt
    """
    for frame, image in enumerate(images):
        if answers := implementation.step(image):
            yield frame, "step", answers
        if frame in clicks:
            object_id, click = clicks[frame]
            yield frame, "prompt", {object_id: implementation.prompt(object_id, click)}
