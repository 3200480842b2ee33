"""From tracked frames to figures: of an object on a frame, of an object, a recording, a data set, and all of them.

| figure | of a recording or data set | convention |
|---|---|---|
| J, F, J&F, Dice | mean over its objects of their means over scored frames | as davis2017-evaluation |
| challenge IoU | mean over its frames of the mean IoU of the classes present there | EndoVis 2018, SurgSAM2's CIoU |
| mcIoU, mIoU | over its classes, see `metrics` | |
| presence, id switches, recovery | sums over its objects | |
| overall | mean over data sets of each figure | as SAM2S averages |

Classes are those of the objects on the frame that are scored. Where a recording has no classes each object is one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sam2s_model import metrics
from sam2s_model.evaluation.follow import Step
from sam2s_model.evaluation.protocol import EvaluationProtocol
from sam2s_model.recordings.recording import Frame

SINGLE = "#"  # begins the name of a class that is a single object
OF_OBJECTS = ("j", "f", "jf", "dice")
OF_CLASSES = ("ciou", "mciou", "miou")
OF_TRACKS = (
    "presence_precision",
    "presence_recall",
    "presence_f1",
    "false_presence",
    "id_switches",
    "frames_to_recover",
)
FIGURES = (*OF_OBJECTS, *OF_CLASSES, *OF_TRACKS)


@dataclass(frozen=True)
class Row:
    """One object on one annotated frame.

    frame, name: of the frame; object: of the ground truth
    present, found: whether the object, and its mask, has any pixel
    track: id of the tracker's object that is on it (IoU above 0.5), 0 for none
    scored: whether the protocol counts this frame for this object
    """

    frame: int
    name: str
    object: int
    j: float
    f: float
    dice: float
    present: bool
    found: bool
    track: int
    scored: bool

    @property
    def jf(self) -> float:
        return metrics.j_and_f(self.j, self.f)


class Scorer:
    """Takes the frames of one recording in, one after the other.

    rows: of all annotated frames since each object's prompt. With protocol davis those of the last annotated frame turn
    out not to be scored at the end: `finish` says so.
    """

    def __init__(self, protocol: EvaluationProtocol, classes: dict[int, str]):
        self._protocol, self._classes = protocol, classes
        self.rows: list[Row] = []
        self.ids: dict[int, int] = {}
        self._areas: dict[int, dict[str, list[int]]] = {}  # frame -> class -> intersection, union, truth
        self._seen: set[int] = set()
        self.annotated: list[int] = []

    def add(self, step: Step) -> list[Row]:
        """Score a frame. Returns its rows; none where it is not annotated or no object was prompted yet."""
        frame, truth = step.frame, step.frame.truth
        self.ids = step.ids
        if truth is None:
            return []
        self.note_annotated(frame)
        masks = ((label, truth.mask(label, step.tracks.size)) for label in step.ids)
        expected = {label: mask for label, mask in masks if mask is not None}
        if not expected:
            return []
        on = _tracks_on(step, list(expected.values()), truth.void)
        rows = []
        for (label, mask), track in zip(expected.items(), on, strict=True):
            predicted = step.mask(label)
            valid = ~truth.void if truth.void is not None else np.ones_like(mask)
            rows.append(Row(
                frame.index, frame.name, label,
                j=metrics.iou(predicted, mask, truth.void),
                f=metrics.boundary_f(predicted, mask, truth.void),
                dice=metrics.dice(predicted, mask, truth.void),
                present=bool((mask & valid).any()), found=bool((predicted & valid).any()), track=track,
                scored=self._protocol.scored == "all" or label not in step.prompted,
            ))  # fmt: skip
        self.rows += rows
        scored = {row.object for row in rows if row.scored}
        self._areas[frame.index] = self._class_areas(step, {label: expected[label] for label in scored}, truth.void)
        return rows

    def note_annotated(self, frame: Frame) -> None:
        """Say that a frame passed, also one without masks: an annotated one counts as such though it has no rows."""
        if frame.truth is not None:
            self.annotated.append(frame.index)
            self._seen |= {label for label, mask in frame.truth.masks.items() if mask.any()}

    def finish(self) -> None:
        """Close the recording: there are no more frames."""
        if self._protocol.scored == "davis":
            kept = set(metrics.davis_scored(self.annotated))
            self.rows = [row if row.frame in kept else replace(row, scored=False) for row in self.rows]
            self._areas = {frame: areas for frame, areas in self._areas.items() if frame in kept}

    def result(self) -> dict:
        """Report the figures of the recording and its objects, and all rows, as values that JSON has."""
        return dict(
            figures=figures(self.rows, list(self._areas.values()), self.ids),
            objects=[
                dict(
                    object=label, class_name=self._classes.get(label, ""), object_id=object_id, **self._of_object(label)
                )
                for label, object_id in self.ids.items()
            ],
            unprompted=sorted(self._seen - set(self.ids)),
            annotated=len(self.annotated),
            scored_frames=len({row.frame for row in self.rows if row.scored}),
            rows=[asdict(row) for row in self.rows],
            areas={str(frame): areas for frame, areas in self._areas.items() if areas},
        )

    def _of_object(self, label: int) -> dict:
        rows = [row for row in self.rows if row.object == label]
        found = figures(rows, [], {label: self.ids[label]})
        return dict(frames=sum(row.scored for row in rows), **{name: found[name] for name in (*OF_OBJECTS, *OF_TRACKS)})

    def _class_areas(
        self, step: Step, expected: dict[int, np.ndarray], void: np.ndarray | None
    ) -> dict[str, list[int]]:
        names: dict[str, list[int]] = {}
        for label in expected:
            names.setdefault(self._classes.get(label, f"{SINGLE}{label}"), []).append(label)
        out = {}
        for name, labels in names.items():
            predicted = np.any([step.mask(label) for label in labels], axis=0)
            out[name] = metrics.areas(predicted, np.any([expected[label] for label in labels], axis=0), void).tolist()
        return out


def figures(rows: Sequence[Row], areas: Sequence[dict[str, list[int]]], ids: dict[int, int]) -> dict[str, Any]:
    """Compute the figures of one recording, 0..1; None where there is nothing to divide by."""
    rows = [row for row in rows if row.scored]
    by_object = {label: [row for row in rows if row.object == label] for label in ids}
    by_object = {label: own for label, own in by_object.items() if own}
    out = {name: _mean(_mean(getattr(row, name) for row in own) for own in by_object.values()) for name in OF_OBJECTS}
    out |= class_figures(areas)
    counted = sum((_presence(own) for own in by_object.values()), metrics.Presence(0, 0, 0, 0))
    losses = [_losses(own) for own in by_object.values()]
    lengths = [length for found, _ in losses for length in found]
    return {
        **out,
        **presence_figures(counted),
        "presence": asdict(counted),
        "id_switches": sum(
            metrics.id_switches([ids[label], *(r.track or -1 for r in own)]) for label, own in by_object.items()
        ),
        "frames_to_recover": _mean(lengths),
        "recoveries": lengths,
        "never_recovered": sum(still for _, still in losses),
    }


def class_figures(areas: Sequence[dict[str, list[int]]]) -> dict[str, float | None]:
    """Compute challenge IoU, mcIoU and mIoU of some frames, each with the areas of its classes."""
    names = sorted({name for of_frame in areas for name in of_frame})
    table = np.array([[of_frame.get(name, [0, 0, 0]) for name in names] for of_frame in areas], np.int64)
    table = table.reshape(len(areas), len(names), 3)
    found = dict(
        ciou=_mean(metrics.challenge_iou(table).tolist()),
        mciou=metrics.mean_class_iou(table),
        miou=metrics.mean_iou(table),
    )
    return {name: None if value is None or math.isnan(value) else value for name, value in found.items()}


def presence_figures(counted: metrics.Presence) -> dict[str, float | None]:
    shares = dict(
        presence_precision=counted.precision, presence_recall=counted.recall, presence_f1=counted.f1,
        false_presence=counted.false_presence,
    )  # fmt: skip
    return {name: None if math.isnan(value) else value for name, value in shares.items()}


def data_set_figures(results: Sequence[dict], names: Sequence[str]) -> dict[str, float | None]:
    """Compute the figures of a data set from its recordings' results.

    names: of the recordings; classes that are single objects stay apart by it
    """
    objects = [own for result in results for own in result["objects"]]
    out = {name: _mean(own[name] for own in objects) for name in OF_OBJECTS}
    areas = [
        {(cls if not cls.startswith(SINGLE) else f"{name}/{cls}"): values for cls, values in of_frame.items()}
        for result, name in zip(results, names, strict=True)
        for of_frame in result["areas"].values()
    ]
    found = [result["figures"] for result in results]
    counted = sum((metrics.Presence(**own["presence"]) for own in found), metrics.Presence(0, 0, 0, 0))
    lengths = [length for own in found for length in own["recoveries"]]
    return {
        **out,
        **class_figures(areas),
        **presence_figures(counted),
        "id_switches": sum(own["id_switches"] for own in found),
        "frames_to_recover": _mean(lengths),
        "never_recovered": sum(own["never_recovered"] for own in found),
    }


def overall_figures(data_sets: Sequence[dict]) -> dict[str, float | None]:
    """Average each figure over data sets, as SAM2S does; id switches and losses are summed."""
    out = {name: _mean(own[name] for own in data_sets) for name in FIGURES if name != "id_switches"}
    return {**out, **{name: sum(own[name] for own in data_sets) for name in ("id_switches", "never_recovered")}}


def _tracks_on(step: Step, expected: list[np.ndarray], void: np.ndarray | None) -> list[int]:
    """Find for each mask of the truth the id of the object that is on it, 0 for none."""
    labels, object_ids = step.tracks.labels, step.tracks.object_ids
    label_map = step.tracks.label_map if void is None else np.where(void, 0, step.tracks.label_map)
    totals = np.bincount(label_map.ravel(), minlength=256)[labels]
    ious = np.zeros((len(expected), len(labels)))
    for row, mask in zip(ious, expected, strict=True):
        inside = np.bincount(label_map[mask], minlength=256)[labels]
        size = np.count_nonzero(mask if void is None else mask & ~void)
        row[:] = inside / np.maximum(totals + size - inside, 1)
    return [int(object_ids[at]) if at >= 0 else 0 for at in metrics.matches(ious)]


def _presence(rows: Sequence[Row]) -> metrics.Presence:
    return metrics.presence(np.array([row.found for row in rows], bool), np.array([row.present for row in rows], bool))


def _losses(rows: Sequence[Row]) -> tuple[list[int], int]:
    return metrics.frames_to_recover([r.j for r in rows], [r.present for r in rows], [r.frame for r in rows])


def _mean(values: Iterable[float | None]) -> float | None:
    """Average the values without None and NaN; None when nothing is left."""
    kept = [value for value in values if value is not None and not math.isnan(value)]
    return float(np.mean(kept)) if kept else None
