"""What a run leaves in its folder: the state it goes on from, and the checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sam2s_model.errors import ConfigError, TrainingError
from sam2s_model.files.whole_files import replacing, with_usual_mode
from sam2s_model.training.claim import claimed
from sam2s_model.training.config import TrainConfig, as_table, build

STATE, CHECKPOINT, ADAPTER, CLASS_PROMPTS, BEST, LOG, PLOT, RECIPE = (
    "state.pt",
    "model.safetensors",
    "adapter.safetensors",
    "class_prompts.safetensors",
    "best.safetensors",
    "log.jsonl",
    "training.png",
    "config.yaml",
)
FREE = (
    "output", "device", "precision", "save_every", "log_every", "max_minutes", "half", "evaluation", "data.workers",
    "data.cache_mb", "optimizer.accumulate",
)  # fmt: skip
"""What may differ between a run and its resumption: the weights do not depend on it, but for rounding."""


def begin_folder(config: TrainConfig) -> Path:
    """Make the folder of a run, if it is not there. Raises TrainingError."""
    folder = Path(config.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"{folder} cannot be made ({error.strerror}): expected a folder that can be written to as output"
        ) from error
    return folder


@contextmanager
def claimed_run(config: TrainConfig) -> Iterator[None]:
    """Keep the folder of a run for this process. Raises TrainingError, also while another process is at it."""
    folder = begin_folder(config)
    try:
        file = claimed(folder)
    except OSError as error:
        raise TrainingError(f"{folder} cannot be written to ({error.strerror}): give another output") from error
    with file:
        yield


def save_recipe(folder: Path, config: TrainConfig) -> None:
    """Write the configuration of a run. Raises TrainingError."""
    with replacing(folder / RECIPE, TrainingError) as temporary:
        temporary.write_text(yaml.safe_dump(as_table(config), sort_keys=False))


def save_state(folder: Path, state: Mapping[str, Any], config: TrainConfig) -> None:
    """Write through a second file, so that a kill leaves the old state or the new one. Raises TrainingError."""
    path = folder / STATE
    kept = ""
    if path.is_file():
        kept = "; the state before is kept, and the same command goes on from there"
    with replacing(path, TrainingError, kept) as temporary:
        torch.save({**state, "config": as_table(config)}, temporary)


def load_state(folder: Path, config: TrainConfig) -> dict[str, Any] | None:
    """Load the state in a folder to the CPU; None where there is none.

    A state that is older than a setting has the setting's default.
    Raises TrainingError when it cannot be read, and ConfigError when it is of a run with other settings.
    """
    path = folder / STATE
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        before, now = _flat(as_table(build(TrainConfig, state["config"], ""))), _flat(as_table(config))
    except Exception as error:  # what was not written by `save_state` makes the reader raise anything
        raise TrainingError(
            f"{path} is not the state of a run ({type(error).__name__}): give another output folder"
        ) from error
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key) and not any(key == free or key.startswith(f"{free}.") for free in FREE):
            was, new = before.get(key), now.get(key)
            raise ConfigError(f"{folder} holds a run with {key} = {was!r}, not {new!r}: give another output folder")
    return state


def _flat(table: Any, where: str = "") -> dict[str, Any]:
    members = table.items() if isinstance(table, dict) else enumerate(table) if isinstance(table, list) else None
    if members is None:
        return {where: table}
    out: dict[str, Any] = {}
    for key, value in members:
        out.update(_flat(value, f"{where}.{key}" if where else str(key)))
    return out


def result_path(config: TrainConfig) -> Path:
    """Return the file of a run to use: its best weights where it keeps them and has some, else the newest."""
    folder = Path(config.output)
    if config.evaluation.best and (folder / BEST).is_file():
        return folder / BEST
    return folder / (ADAPTER if config.adapter.kind else CHECKPOINT)


def keep_other_best(folder: Path, compares: Callable[[int], bool]) -> str:
    """Rename best weights whose figure does not compare with those of now, so that no others take their place.

    compares: tells of weights after so many steps whether their figure does
    Returns a sentence, "" where nothing is renamed. Raises TrainingError.
    """
    path = folder / BEST
    if not path.is_file():
        return ""
    try:
        with safe_open(path, "pt") as file:
            steps = int((file.metadata() or {}).get("steps", -1))
    except (OSError, SafetensorError, ValueError):
        steps = -1
    if compares(steps):
        return ""
    kept = next(other for n in count(1) if not (other := folder / f"best_{n}.safetensors").exists())
    try:
        path.rename(kept)
    except OSError as error:
        raise TrainingError(f"{path} cannot be renamed to {kept.name}: {error.strerror}") from error
    return f"the weights after {steps} steps, the best with other options of the evaluation, are in {kept.name} now"


def save_checkpoint(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str], half: bool) -> None:
    """Write weights as safetensors, complete or not at all.

    half: as fp16, but for numbers that it cannot hold
    Raises CheckpointError.
    """
    tensors = {name: _stored(value, half).cpu().contiguous() for name, value in state.items()}
    with replacing(path) as temporary, with_usual_mode(temporary, path):
        save_file(tensors, temporary, metadata={"format": "pt", **metadata})


def _stored(value: Tensor, half: bool) -> Tensor:
    if not half or value.dtype != torch.float32:
        return value
    small = value.half()
    return small if small.isfinite().all() else value
