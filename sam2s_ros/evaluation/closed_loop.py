"""Discovery while objects are tracked, measured: what is found again, mixed up, and started for nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from sam2s_model.config import TrackerConfig
from sam2s_model.discovery.prototype_file import load_prototypes
from sam2s_model.files.json_text import json_text
from sam2s_model.network.model import Sam2Model
from sam2s_model.paths import write_result
from sam2s_model.semantics import GENERIC
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.training.compare import progress_bar
from sam2s_model.training.datasets import Still, TrainingRecording
from sam2s_model.training.evaluate import left_out_lines
from sam2s_ros.evaluation.empty_start import GOOD, STEP, FollowedRecording, follow_from_nothing, labels_of
from sam2s_ros.interfaces.parameters import NodeConfig

COLUMNS = (
    "", "frames with J over 0.5", "mean J", "returns found", "frames until then", "id switches", "masks by discovery",
    "false starts", "a minute",
)  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """A way to run. from_mask: the first frame's objects are prompted; otherwise nobody says anything."""

    from_mask: bool
    prototypes: bool
    refind: bool = False
    recondition: bool = False

    @property
    def name(self) -> str:
        parts = ["first mask" if self.from_mask else "no click"]
        parts += [name for name in ("prototypes", "refind", "recondition") if getattr(self, name)]
        return ", ".join(parts)


VARIANTS = (
    Variant(from_mask=True, prototypes=False),
    Variant(from_mask=True, prototypes=False, refind=True),
    Variant(from_mask=True, prototypes=False, refind=True, recondition=True),
    Variant(from_mask=True, prototypes=True, refind=True),
    Variant(from_mask=True, prototypes=True, refind=True, recondition=True),
    Variant(from_mask=False, prototypes=True),
    Variant(from_mask=False, prototypes=True, refind=True),
    Variant(from_mask=False, prototypes=True, refind=True, recondition=True),
)


@dataclass(frozen=True)
class LoopFigures:
    """Figures of one variant on some recordings.

    good: share of frames with J of all tracked pixels over 0.5; mean_j: of them
    returns, found, recovery: as of `training.compare.Figures`; switches: None where the truth has one object alone
    starts: masks that discovery has made; false_starts: of them those on nothing, or on another object
    minutes: of video, at 25 frames a second, frames that were left out among them
    """

    name: str
    good: float
    mean_j: float
    returns: int
    found: int
    recovery: float
    switches: int | None
    starts: int
    false_starts: int
    minutes: float

    @classmethod
    def of(cls, name: str, told: Sequence[FollowedRecording], minutes: float) -> LoopFigures:
        overlaps = np.array([j for one in told for j in one.overlaps])
        counted = [one.identities for one in told]
        returns = [back for one in counted for back in one.returns]
        return cls(
            name,
            float((overlaps > GOOD).mean()),
            float(overlaps.mean()),
            len(returns),
            sum(found for _, found in returns),
            float(np.mean([frames for frames, _ in returns])) if returns else float("nan"),
            sum(one.switches for one in counted) if any(one.several for one in counted) else None,
            sum(one.starts for one in counted),
            sum(one.false_starts for one in counted),
            minutes,
        )

    @property
    def row(self) -> tuple[str, ...]:
        """What the table says, in the order of `COLUMNS`."""
        return (
            self.name, f"{self.good:.2f}", f"{self.mean_j:.2f}",
            f"{self.found} of {self.returns}" if self.returns else "", f"{self.recovery:.1f}" if self.returns else "",
            "" if self.switches is None else str(self.switches), str(self.starts), str(self.false_starts),
            f"{self.false_starts / self.minutes:.1f}",
        )  # fmt: skip


def compare_closed_loop(
    model: Sam2Model,
    groups: Mapping[str, Sequence[TrainingRecording | Still]],
    *,
    prototypes: Path | None,
    policy: str = "auto",
    config: TrackerConfig | None = None,
    discovery_every: int = 10,
    auto_prompt_score: float = 0.7,
    every: int = 1,
    frames: int = 0,
    out: Path | None = None,
) -> dict[str, list[LoopFigures]]:
    """Print a table for each group of recordings, with a row for each of `VARIANTS`.

    prototypes: their file; None: those variants that need some are left out
    every: one frame of a recording in so many; frames: most of a recording, before that, 0: all
    Raises PrototypeError for a file of another model.
    """
    chosen = [one for one in VARIANTS if prototypes or not one.prototypes]
    found: dict[str, list[LoopFigures]] = {}
    with progress_bar() as progress:
        task = progress.add_task("", total=len(chosen) * len(groups))
        for title, recordings in groups.items():
            found[title] = []
            for variant in chosen:
                progress.update(task, description=f"{title}, {variant.name}")
                config_of_node = NodeConfig(
                    auto_prompt="off" if variant.from_mask else "track", auto_prompt_score=auto_prompt_score,
                    refind=variant.refind, recondition=variant.recondition, discovery_every=discovery_every,
                )  # fmt: skip
                told = []
                for recording in recordings:
                    tracker = _tracker(model, policy, config, prototypes if variant.prototypes else None)
                    told.append(
                        follow_from_nothing(
                            tracker,
                            recording.name,
                            islice(recording.frames(), frames or None),
                            config_of_node,
                            every=every,
                            from_mask=variant.from_mask,
                        )  # fmt: skip
                    )
                tracked = sum(one.frames for one in told)
                found[title].append(LoopFigures.of(variant.name, told, tracked * every * STEP / 60e9))
                progress.advance(task)
            for line in left_out_lines(recordings):
                print(line)
            print(f"\n{title}: {', '.join(r.name for r in recordings)}\n\n{loop_table(found[title])}", flush=True)
            if out:
                rows = {group: [asdict(row) for row in figures] for group, figures in found.items()}
                write_result(out, json_text(rows))
    return found


def loop_table(rows: Sequence[LoopFigures]) -> str:
    """Write a Markdown table with a row for each variant."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    return "\n".join([*lines, *(f"| {' | '.join(row.row)} |" for row in rows)])


def _tracker(model: Sam2Model, policy: str, config: TrackerConfig | None, prototypes: Path | None) -> Tracker:
    """Make a tracker without objects. Prototypes are read anew: a tracker learns."""
    bank = load_prototypes(prototypes, model) if prototypes else None
    tracker = Tracker(model, policy, config or TrackerConfig(), labels_of(bank) if bank is not None else GENERIC)
    if bank is not None:
        tracker.discovery.use(bank)
    return tracker
