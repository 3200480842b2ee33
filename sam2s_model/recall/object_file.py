"""Saved objects as one safetensors file, for the model alone that has remembered them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sam2s_model.discovery.prototype_file import ModelIdentity
from sam2s_model.errors import ObjectMemoryError, RequestError
from sam2s_model.files.whole_files import with_usual_mode
from sam2s_model.network.model import Sam2Model
from sam2s_model.paths import expanded, part_of
from sam2s_model.recall.memories import MATCHED, TRAINED, ObjectMemory, SavedObjects
from sam2s_model.tracking.propagation import FINER
from sam2s_model.tracks import MAX_LABEL

FORMAT = "sam2s objects 1"  # in the metadata
MOST_FRAMES = 32  # of an object, as the option max_conditioning may be
MAKE = "make them with `sam2s track --save-objects` or ~/save_objects"


class RecallingTracker(Protocol):
    """`Tracker`, or what wraps one."""

    @property
    def model(self) -> Sam2Model: ...

    def saved_objects(self, object_ids: Sequence[int] = ()) -> SavedObjects: ...

    def restore_objects(self, saved: SavedObjects) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class MadeWith:
    """The model that has remembered objects.

    sha256: of its checkpoint and adapter when they were loaded, "" where no file is known
    """

    identity: ModelIdentity
    sha256: tuple[str, str] = ("", "")

    @classmethod
    def of(cls, model: Sam2Model) -> MadeWith:
        """Encode one picture with a model. Its files may be others by now, or gone: they are not looked at."""
        return cls(ModelIdentity.of(model), (model.source_sha256, model.adapter_sha256))

    def difference(self, other: MadeWith) -> str:
        """Say what tells another model from this one, with both values; "" where nothing does."""
        if differs := self.identity.difference(other.identity):
            return differs
        for kind, own, others in zip(("checkpoint", "adapter"), self.sha256, other.sha256, strict=True):
            known = self.sha256[0] and other.sha256[0]  # an adapter may be none
            if known and own != others:
                return f"its {kind} has sha256 {own or 'of no file'} instead of {others or 'of no file'}"
        return ""


def save_objects(tracker: RecallingTracker, path: str | Path, object_ids: Sequence[int] = ()) -> SavedObjects:
    """Write what a tracker remembers of some objects, (): all, to a file: there is the old one or the new one.

    Raises RequestError and ObjectMemoryError as `Tracker.saved_objects`, and the latter where it cannot be written.
    """
    saved = tracker.saved_objects(object_ids)
    write_objects(saved, MadeWith.of(tracker.model), path)
    return saved


def check_can_save(tracker: RecallingTracker) -> None:
    """Raise ObjectMemoryError where a policy remembers nothing to save. To be asked before anything is tracked."""
    with suppress(RequestError):  # that there are no objects yet
        tracker.saved_objects()


def load_objects(tracker: RecallingTracker, path: str | Path) -> tuple[int, ...]:
    """Go on with the objects in a file. Returns their ids, in its order.

    Raises ObjectMemoryError for a file that is none, or of another model, and what `Tracker.restore_objects` raises.
    """
    return tracker.restore_objects(read_for(tracker.model, path))


def read_for(model: Sam2Model, path: str | Path) -> SavedObjects:
    """Read the objects in a file, for a model. Raises ObjectMemoryError for one that is none, or of another model."""
    saved, made_with = read_objects(path)
    if difference := made_with.difference(MadeWith.of(model)):
        raise ObjectMemoryError(f"{path} was made with another model: {difference}; {MAKE}")
    _check_shapes(saved, model, path)
    return saved


def write_objects(saved: SavedObjects, made_with: MadeWith, path: str | Path) -> None:
    """Replace a file. Raises ObjectMemoryError where it cannot be written."""
    path = expanded(path)
    tensors = {"probe": made_with.identity.probe.contiguous()}
    for number, one in enumerate(saved.objects):
        tensors |= {f"objects.{number}.{name}": value.contiguous() for name, value in one.tensors.items()}
    tensors |= {f"tokens.{frame}": value.contiguous() for frame, value in saved.tokens.items()}
    table = dict(
        model=made_with.identity.model,
        image_size=made_with.identity.image_size,
        sha256=list(made_with.sha256),
        policy=saved.policy,
        objects=[
            dict(class_name=one.class_name, frames=list(one.frames), prototype_frames=one.prototype_frames)
            for one in saved.objects
        ],
    )
    part = part_of(path)
    try:
        with with_usual_mode(part, path):
            save_file(tensors, part, metadata={"format": FORMAT, "table": json.dumps(table)})
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        raise ObjectMemoryError(f"objects cannot be written to {path}: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def read_objects(path: str | Path) -> tuple[SavedObjects, MadeWith]:
    """Read a file: the objects, and the model that has remembered them. Raises ObjectMemoryError for one that is none.

    What is read is bounded: by `MAX_LABEL` objects of `MOST_FRAMES` frames, whose numbers are in the file's table.
    """
    path = expanded(path)
    if not path.is_file():
        raise ObjectMemoryError(f"objects {str(path)!r} do not exist: {MAKE}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ObjectMemoryError(
                    f"{path} holds no objects: its format is {metadata.get('format', 'not said')!r}, expected "
                    f"{FORMAT!r}; {MAKE}"
                )
            return _read(file, json.loads(metadata["table"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, ObjectMemoryError):
            raise
        raise ObjectMemoryError(f"{path} is no file of objects ({type(error).__name__}: {error}): {MAKE}") from error


def _read(file: Any, table: dict[str, Any]) -> tuple[SavedObjects, MadeWith]:
    rows = table["objects"]
    if not 1 <= len(rows) <= MAX_LABEL:
        raise ValueError(f"{len(rows)} objects: expected 1 to {MAX_LABEL}")
    names, objects = set(file.keys()), []
    for number, row in enumerate(rows):
        frames = tuple(int(frame) for frame in row["frames"])
        if not 1 <= len(frames) <= MOST_FRAMES or list(frames) != sorted(set(frames)):
            raise ValueError(f"object {number} has frames {frames}: expected 1 to {MOST_FRAMES}, ascending")
        prefix = f"objects.{number}."
        own = {
            name: _finite(file, prefix + name) for name in (*TRAINED, *MATCHED, "prototype") if prefix + name in names
        }
        counts = {name: len(own[name]) for name in (*TRAINED, *MATCHED) if name in own}
        if any(count != len(frames) for count in counts.values()):
            raise ValueError(f"object {number} has {len(frames)} frames, and memories of {counts}")
        objects.append(
            ObjectMemory(frames, str(row["class_name"]), prototype_frames=int(row["prototype_frames"]), **own)
        )
    used = sorted({frame for one in objects for frame in one.frames})
    tokens = {frame: _finite(file, f"tokens.{frame}") for frame in used if f"tokens.{frame}" in names}
    checkpoint, adapter = (str(digest) for digest in table["sha256"])
    identity = ModelIdentity(str(table["model"]), int(table["image_size"]), _finite(file, "probe").float())
    return SavedObjects(str(table["policy"]), tuple(objects), tokens), MadeWith(identity, (checkpoint, adapter))


def _finite(file: Any, name: str) -> Tensor:
    value: Tensor = file.get_tensor(name)
    if not torch.isfinite(value.float()).all():
        raise ValueError(f"{name} has numbers that are not finite")
    return value


def _check_shapes(saved: SavedObjects, model: Sam2Model, path: str | Path) -> None:
    """Raise ObjectMemoryError for memories that are not of a model's shapes. What is there has as many as frames."""
    places, config = model.grid[0] * model.grid[1], model.config
    one_frame = dict(
        spatial=(model.memory_tokens, config.memory_dim), pointers=(config.dim,), trust=(), labels=(places, FINER**2)
    )
    expected = [(name, value[0], one_frame[name]) for one in saved.objects for name, value in one.tensors.items()
                if name != "prototype"]  # fmt: skip
    expected += [("prototype", one.prototype, (config.dim,)) for one in saved.objects if one.prototype is not None]
    expected += [("tokens", value, (places, config.dim)) for value in saved.tokens.values()]
    for name, value, shape in expected:
        if tuple(value.shape) != shape:
            raise ObjectMemoryError(
                f"{path} is no file of objects: {name} of a frame has shape {tuple(value.shape)}, expected {shape}; "
                f"{MAKE}"
            )
