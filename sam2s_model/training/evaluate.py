"""How well a checkpoint tracks: J and F on recordings, from a prompt on each object's first frame.

sam2s train evaluate CHECKPOINT --recordings FOLDER --scene 1 --scene 2
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from sam2s_model.checkpoint import default_checkpoint, load_model
from sam2s_model.config import NANO_CLASSES, TrackerConfig
from sam2s_model.errors import ConfigError
from sam2s_model.evaluation.follow import follow
from sam2s_model.evaluation.protocol import EvaluationProtocol
from sam2s_model.evaluation.scores import Scorer
from sam2s_model.files.json_text import json_text
from sam2s_model.network.model import Sam2Model
from sam2s_model.paths import write_result
from sam2s_model.recordings.scene import SceneConfig
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.training.data_config import SourceConfig
from sam2s_model.training.datasets import Still, TrainingRecording, numbered_scene, open_source, scene_recording

PROMPTS = ("mask", "box")
SCENE_HEIGHT = 256  # px, of a scene whose source says none


@dataclass(frozen=True)
class Score:
    """Means over the objects of a recording of their means over frames, 0..1.

    j, f: region and boundary (DAVIS); frames: scored; objects: prompted
    class_accuracy: share of tracked frames on which the class token predicts the right class; None where none is known
    predicted: name or row of a class -> share of tracked frames with that class token; empty without a class token
    """

    name: str
    frames: int
    objects: int
    j: float
    f: float
    class_accuracy: float | None = None
    predicted: dict[str, float] = field(default_factory=dict)

    @property
    def jf(self) -> float:
        return (self.j + self.f) / 2


def score_recordings(
    model: Sam2Model,
    recordings: Sequence[TrainingRecording | Still],
    prompt: str = "mask",
    policy: str = "auto",
    config: TrackerConfig | None = None,
    classes: Sequence[str] = NANO_CLASSES,
    max_frames: int = 0,
) -> list[Score]:
    """Track every object of every recording from a prompt on the first annotated frame that shows it.

    prompt: "mask" or "box", from the ground truth; policy: see `Tracker`
    classes: names of the rows that the recordings' classes are, and of the model's class table where it names none
    max_frames: of each recording, 0: all
    Scored are the frames with ground truth after an object's prompt, but for the last of them, as in DAVIS.
    Raises ConfigError for another prompt, and when the checkpoint cannot run the policy.
    """
    if prompt not in PROMPTS:
        raise ConfigError(f"prompt is {prompt!r}: expected {' or '.join(PROMPTS)}")
    protocol = EvaluationProtocol(prompt=prompt, frames=max_frames)
    return [_score(Tracker(model, policy, config or TrackerConfig()), r, protocol, classes) for r in recordings]


def open_annotated(
    sources: Sequence[SourceConfig], classes: tuple[str, ...] = NANO_CLASSES, limit: int = 0
) -> list[TrainingRecording | Still]:
    """Open what can be evaluated: recordings with masks, and the numbered scenes that training draws from.

    limit: recordings of each source, 0: all; a scene without a number of scenes counts as one
    Raises ConfigError and SourceError as `open_source` does.
    """
    found: list[tuple[str, TrainingRecording | Still]] = []
    own: list[TrainingRecording | Still]
    for source in sources:
        if source.kind == "scene":
            count = source.scenes or 1
            own = [
                numbered_scene(source, number, SCENE_HEIGHT, classes) for number in range(min(count, limit or count))
            ]
        else:
            own = [r for r in open_source(source, classes) if r.has_masks]
        found += [(source.path, r) for r in own[: limit or len(own)]]
    return told_apart(found)


def left_out_lines(recordings: Iterable[TrainingRecording | Still]) -> list[str]:
    """Name the files that evaluations have left out, a line for each."""
    return [f"left out: {problem}" for recording in recordings for problem in recording.left_out]


def told_apart(found: Sequence[tuple[str, TrainingRecording | Still]]) -> list[TrainingRecording | Still]:
    """Return recordings, those of equal names called FOLDER/NAME. found: each with its folder, "" for a scene"""
    names = Counter(recording.name for _, recording in found)
    for folder, recording in found:
        if names[recording.name] > 1 and folder and isinstance(recording, TrainingRecording):
            recording.name = f"{folder.rstrip('/')}/{recording.name}"
    return [recording for _, recording in found]


def _score(
    tracker: Tracker, recording: TrainingRecording | Still, protocol: EvaluationProtocol, classes: Sequence[str]
) -> Score:
    scorer = Scorer(protocol, {})
    predicted: list[tuple[int, str]] = []  # label, name of the class or its row
    table = tracker.model.class_names or tuple(classes)
    for step in follow(tracker, recording.frames(), protocol):
        scorer.add(step)
        outputs = tracker.outputs
        if outputs is None or not outputs.class_logits.shape[1]:
            continue
        rows, told = outputs.class_logits.argmax(1).tolist(), (outputs.present & outputs.classified).tolist()
        labels = {object_id: label for label, object_id in step.ids.items() if label not in step.prompted}
        predicted += [
            (labels[object_id], table[row] if row < len(table) else str(row))
            for object_id, row, classified in zip(outputs.object_ids, rows, told, strict=True)
            if classified and object_id in labels
        ]
    scorer.finish()
    result = scorer.result()
    truths = {label: classes[row] for label, row in recording.classes.items() if row >= 0}
    right = [truths[label] == name for label, name in predicted if label in truths]
    names = [name for _, name in predicted]
    j, f = (result["figures"][name] for name in ("j", "f"))
    return Score(
        name=recording.name,
        frames=result["scored_frames"],
        objects=len(scorer.ids),
        j=float("nan") if j is None else j,
        f=float("nan") if f is None else f,
        class_accuracy=float(np.mean(right)) if right else None,
        predicted={name: names.count(name) / len(names) for name in sorted(set(names), key=names.count, reverse=True)},
    )


def score_table(columns: Mapping[str, Sequence[Score]]) -> str:
    """Write a Markdown table of J&F: a row for each recording and one for the mean, a column for each run."""
    found = {title: _by_place(scores) for title, scores in columns.items()}
    places = list(dict.fromkeys(place for by_place in found.values() for place in by_place))
    lines = [f"| recording | frames | {' | '.join(columns)} |", "|" + "---|" * (2 + len(columns))]
    for name, more in places:
        rows = [by_place.get((name, more)) for by_place in found.values()]
        frames = next(score.frames for score in rows if score)
        cells = [f"{100 * s.jf:.1f} (J {100 * s.j:.1f}, F {100 * s.f:.1f})" if s else "" for s in rows]
        lines.append(f"| {name}{f' ({more + 1})' * bool(more)} | {frames} | {' | '.join(cells)} |")
    means = [
        f"**{100 * np.nanmean([s.jf for s in scores]):.1f}**" if len(scores) else "" for scores in columns.values()
    ]
    lines.append(f"| mean | | {' | '.join(means)} |")
    accuracy = [[s.class_accuracy for s in scores if s.class_accuracy is not None] for scores in columns.values()]
    if any(accuracy):
        cells = [f"{100 * np.mean(values):.1f} %" if values else "" for values in accuracy]
        lines.append(f"| class right | | {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_place(scores: Sequence[Score]) -> dict[tuple[str, int], Score]:
    """Find scores by their name, and how many of the name come before them."""
    seen: Counter[str] = Counter()
    found = {}
    for score in scores:
        found[score.name, seen[score.name]] = score
        seen[score.name] += 1
    return found


def evaluate_policies(
    checkpoint: Path | None,
    recordings: Sequence[Path],
    *,
    only: Sequence[str],
    scene: Sequence[int],
    scene_frames: int,
    prompt: str,
    policy: Sequence[str],
    beside: Path | None,
    image_size: int,
    beside_size: int,
    frames: int,
    device: str,
    out: Path | None,
) -> None:
    """Print a table of J&F, from the ground truth of the first frame.

    Arguments are those of `sam2s train evaluate`. Raises ConfigError when there is nothing to evaluate on.
    """
    opened: list[tuple[str, TrainingRecording | Still]] = []
    for path in recordings:
        own = open_source(SourceConfig("davis", str(path)), NANO_CLASSES)
        opened += [(str(path), r) for r in own if not only or r.name in only]
    opened += [("", scene_recording(SceneConfig(frames=scene_frames, seed=seed), NANO_CLASSES)) for seed in scene]
    found = told_apart(opened)
    if not found:
        raise ConfigError("there is nothing to evaluate on: give --recordings or --scene")
    model = load_model(checkpoint or default_checkpoint(device), image_size=image_size, device=device)
    columns = {}
    for name in policy:
        columns[f"{model.name}/{name}"] = score_recordings(model, found, prompt, name, max_frames=frames)
    if beside:
        other = load_model(beside, image_size=beside_size, device=device)
        title = f"{other.name}/none"
        if title in columns:  # of a file with the name of the first, or of the same at another size
            title = f"{beside}/none, {other.image_size} px"
        columns[title] = score_recordings(other, found, prompt, "none", max_frames=frames)
    print("\n".join([*left_out_lines(found), score_table(columns)]))
    if out:
        write_figures(out, prompt, columns)


def write_figures(out: Path, prompt: str, columns: Mapping[str, Sequence[Score]]) -> None:
    """Write scores as JSON: run -> a table for each recording, null for what was not scored.

    Raises ConfigError when that cannot be written.
    """
    figures = {title: [{**asdict(s), "jf": s.jf} for s in scores] for title, scores in columns.items()}
    write_result(out, json_text({"prompt": prompt, "runs": figures}))
