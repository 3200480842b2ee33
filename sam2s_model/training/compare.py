"""All memory policies side by side, on recordings and on scenes in which instruments leave for long and return.

    sam2s compare CHECKPOINT --recordings FOLDER --recordings ANOTHER --long-term

prints a table for each folder and one for the scenes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sam2s_model.checkpoint import default_checkpoint, load_model
from sam2s_model.config import NANO_CLASSES, POLICY_NAMES, TrackerConfig
from sam2s_model.errors import ConfigError
from sam2s_model.evaluation.follow import follow
from sam2s_model.evaluation.identities import FOUND, GONE
from sam2s_model.evaluation.protocol import EvaluationProtocol
from sam2s_model.files.json_text import json_text
from sam2s_model.metrics import boundary_f, iou, j_and_f
from sam2s_model.network.model import Sam2Model
from sam2s_model.paths import write_result
from sam2s_model.recordings.recording import Truth
from sam2s_model.recordings.scene import SceneConfig
from sam2s_model.tracker_options import tracker_options
from sam2s_model.tracking.policy_plugins import check_policy_name, installed_policies
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.training.data_config import SourceConfig
from sam2s_model.training.datasets import Still, TrainingRecording, open_source, scene_recording
from sam2s_model.training.evaluate import left_out_lines

ABSENCES = (30, 100, 300)  # frames that instruments stay away in the long-term scenes, about
BY_ITSELF = 30  # frames that they stay away with an absence of 0, about
CROSSING, CROSSINGS, CROSSING_FRAMES = 4, 4, 60  # instruments, how often two of them cross, frames of each time


@dataclass(frozen=True)
class Figures:
    """Figures of one policy on some recordings.

    jf: mean over objects and frames of (J + F) / 2, 0..1; switches: how often a mask went over to another object
    returns: of objects after `GONE` frames or more; found: how many of them were followed again
    recovery: frames until then, mean over the returns; one that was not found counts until the object leaves or the end
    ms: median of the step; keys: of an object's memory attention, median over frames; object_bytes: of its bank's row
    """

    policy: str
    jf: float
    switches: int
    returns: int
    found: int
    recovery: float
    ms: float
    keys: int
    object_bytes: int


class Ledger:
    """Counts of one object's masks, frame by frame."""

    def __init__(self) -> None:
        self.jf: list[float] = []
        self.switches = 0
        self.recoveries: list[tuple[int, bool]] = []  # frames, whether it was found
        self._on_another = False
        self._absent = 0
        self._waiting: int | None = None  # frames since the return

    def add(self, predicted: np.ndarray, truth: Truth, label: int) -> None:
        """Count a frame, unless nothing is known of the object there.

        predicted: (H, W) bool, of the object that is `label` in the ground truth
        """
        height, width = predicted.shape
        own = truth.mask(label, (height, width))
        if own is None:
            return
        j = iou(predicted, own, truth.void)
        self.jf.append(j_and_f(j, boundary_f(predicted, own, truth.void)))
        others = [mask for other, mask in truth.masks.items() if other != label]
        on_another = bool(predicted.any()) and any(iou(predicted, mask, truth.void) > FOUND for mask in others)
        self.switches += on_another and not self._on_another
        self._on_another = on_another
        if not own.any():
            self.close()
            self._absent += 1
            return
        if self._absent >= GONE:
            self._waiting = 0
        self._absent = 0
        if self._waiting is not None:
            if j >= FOUND:
                self._settle(True)
            else:
                self._waiting += 1

    def close(self) -> None:
        """Say that the object leaves, or that the recording ends."""
        self._settle(False)

    def _settle(self, found: bool) -> None:
        if self._waiting is not None:
            self.recoveries.append((self._waiting, found))
        self._waiting = None


def measure_policy(
    model: Sam2Model,
    recordings: Sequence[TrainingRecording | Still],
    policy: str,
    config: TrackerConfig | None = None,
    frames: int = 0,
) -> Figures:
    """Follow every object of every recording from its mask on the first frame that shows it. frames: at most, 0: all.

    Raises ConfigError when the checkpoint cannot run the policy.
    """
    ledgers: list[Ledger] = []
    seconds, keys, row = [], [], 0
    for recording in recordings:
        tracker = Tracker(model, policy, config or TrackerConfig())
        own: dict[int, Ledger] = {}
        for step in follow(tracker, recording.frames(), EvaluationProtocol(prompt="mask", frames=frames)):
            truth = step.frame.truth
            tracked = [label for label in step.ids if label not in step.prompted]
            if not tracked:
                continue
            seconds.append(step.seconds)
            keys.append(tracker.keys_attended)
            for label in tracked:
                if truth is not None:
                    own.setdefault(label, Ledger()).add(step.mask(label), truth, label)
        for ledger in own.values():
            ledger.close()
        ledgers += own.values()
        row = tracker.bytes_per_object()
    recoveries = [recovery for ledger in ledgers for recovery in ledger.recoveries]
    return Figures(
        policy=policy,
        jf=float(np.mean([np.mean(ledger.jf) for ledger in ledgers])) if ledgers else float("nan"),
        switches=sum(ledger.switches for ledger in ledgers),
        returns=len(recoveries),
        found=sum(found for _, found in recoveries),
        recovery=float(np.mean([count for count, _ in recoveries])) if recoveries else float("nan"),
        ms=1e3 * float(np.median(seconds)) if seconds else float("nan"),
        keys=int(np.median(keys)) if keys else 0,
        object_bytes=row,
    )


def long_term_scenes(
    seeds: Sequence[int], width: int = 320, height: int = 256, absences: Sequence[int] = ABSENCES
) -> Iterator[TrainingRecording]:
    """Yield scenes with two instruments of one class and much smoke.

    One of the two leaves, twice, for about as many frames as `absences` says, at least 30.
    """
    for seed in seeds:
        for absence in absences:
            extra = max(0, absence - BY_ITSELF) / SceneConfig.fps
            period = round((SceneConfig.event_period + extra) * SceneConfig.fps)
            config = SceneConfig(
                width=width,
                height=height,
                frames=2 * period,
                seed=seed,
                classes="forceps,forceps",
                smoke=0.9,
                absence=extra,
            )
            recording = scene_recording(config, NANO_CLASSES)
            recording.name = f"{recording.name}, {absence} frames away"
            yield recording


def crossing_scenes(seeds: Sequence[int], width: int = 320, height: int = 256) -> Iterator[TrainingRecording]:
    """Yield scenes with many look-alike instruments, of which two cross and hide one another every 60 frames."""
    for seed in seeds:
        config = SceneConfig(
            width=width,
            height=height,
            frames=CROSSINGS * CROSSING_FRAMES,
            seed=seed,
            instruments=CROSSING,
            classes=",".join(["forceps"] * CROSSING),
            event_period=CROSSING_FRAMES / SceneConfig.fps,
        )
        recording = scene_recording(config, NANO_CLASSES)
        recording.name = f"{recording.name}, {CROSSING} instruments cross"
        yield recording


def policy_table(rows: Sequence[Figures], default: str) -> str:
    """Write a Markdown table with a row for each policy."""
    lines = [
        "| policy | J&F | id switches | returns found | frames until then | ms a frame | keys | MB an object |",
        "|" + "---|" * 8,
    ]
    for r in rows:
        name = f"**{r.policy}**" if r.policy == default else r.policy
        recovery = f"{r.recovery:.1f}" if r.returns else ""
        lines.append(
            f"| {name} | {100 * r.jf:.1f} | {r.switches} | {r.found} of {r.returns} | {recovery} | {r.ms:.1f} "
            f"| {r.keys} | {r.object_bytes / 1e6:.2f} |"
        )
    return "\n".join(lines)


def compare_policies(
    checkpoint: Path | None,
    recordings: Sequence[Path],
    *,
    only: Sequence[str],
    long_term: bool,
    crossing: bool,
    absence: Sequence[int],
    seed: Sequence[int],
    policy: Sequence[str],
    option: Sequence[str],
    frames: int,
    image_size: int,
    device: str,
    precision: str,
    out: Path | None,
) -> None:
    """Print tables of all memory policies, from the ground truth of each object's first frame.

    Arguments are those of `sam2s compare`; empty lists: all. Raises ConfigError when there is nothing to compare on.
    """
    for name in policy:
        check_policy_name(name)
    groups = compared_groups(recordings, only=only, long_term=long_term, crossing=crossing, absence=absence, seed=seed)
    model = load_model(
        checkpoint or default_checkpoint(device), image_size=image_size, device=device, precision=precision
    )
    config = TrackerConfig(**tracker_options(option))
    names = policy or [name for name in (*POLICY_NAMES, *installed_policies()) if can_run(model, name, config)]
    print(f"{model.name} at {model.image_size} px, {Tracker(model).device_description()}, {str(model.dtype)[6:]}")
    print(", ".join([*option, "a step is from an image on the host to its label map, all objects"]))
    compared: dict[str, dict[str, object]] = {}
    report = dict(model=model.name, image_size=model.image_size, options=list(option), groups=compared)
    with progress_bar() as progress:
        task = progress.add_task("", total=len(names) * sum(len(group) for group in groups.values()))
        for title, group in groups.items():
            rows = []
            for name in names:
                progress.update(task, description=f"{title}, {name}")
                rows.append(measure_policy(model, group, name, config, frames))
                progress.advance(task, len(group))
            for line in left_out_lines(group):
                print(line)
            print(
                f"\n{title}: {', '.join(r.name for r in group)}\n\n{policy_table(rows, Tracker(model).policy_name)}",
                flush=True,
            )
            compared[title] = dict(recordings=[r.name for r in group], policies=[asdict(row) for row in rows])
            if out:
                write_result(out, json_text(report))


def compared_groups(
    recordings: Sequence[Path],
    *,
    only: Sequence[str],
    long_term: bool,
    crossing: bool,
    absence: Sequence[int],
    seed: Sequence[int],
) -> dict[str, list[TrainingRecording | Still]]:
    """Open what is compared on, by the titles of its tables. Raises ConfigError when there is nothing."""
    groups: dict[str, list[TrainingRecording | Still]] = {}
    names = Counter(path.name for path in recordings)
    for path in recordings:
        if not path.is_dir() or (path / "metadata.yaml").is_file():
            raise ConfigError(
                f"--recordings {path}: expected a folder with frames/ and masks/, or one of such; for videos, bags and "
                "scenes run `sam2s eval` with each --policy, then `sam2s eval compare`"
            )
        found = [r for r in open_source(SourceConfig("davis", str(path)), NANO_CLASSES) if not only or r.name in only]
        if not found:
            raise ConfigError(f"--only is {', '.join(only)}: there is no such recording in {path}")
        groups[path.name if path.name and names[path.name] == 1 else str(path)] = found
    if long_term:
        groups["long-term scenes"] = list(long_term_scenes(seed, absences=absence))
    if crossing:
        groups["crossing scenes"] = list(crossing_scenes(seed))
    if not groups:
        raise ConfigError("there is nothing to compare on: give --recordings, --long-term or --crossing")
    return groups


def progress_bar() -> Progress:
    """Make a bar on standard error, so that the tables can be redirected."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True))


def can_run(model: Sam2Model, policy: str, config: TrackerConfig | None = None) -> bool:
    try:
        Tracker(model, policy, config)
    except ConfigError:
        return False
    return True
