"""Read the tensors of a file. Never unpickles code."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from sam2s_model.checkpoint import eight_bit
from sam2s_model.errors import CheckpointError

WRAPPERS = ("model", "state_dict", "model_state_dict", "model_state")
"""Under these a training loop stores the model's tensors, beside those of the optimizer and the like."""

PREFIXES = ("module.", "model.", "_orig_mod.")
"""What DistributedDataParallel, a module around the model and torch.compile put before every name."""

CLASSES = "classes"  # in the metadata of our checkpoints: the names of the class table's rows, separated by commas
IMAGE_SIZE = "image_size"  # there, too: side of the input that the file is to be used at, px, where that is not its model's
METADATA = "metadata"  # beside a state dict: what a .safetensors file would have there
MAX_DEPTH = 3  # of wrappers in wrappers


@dataclass(frozen=True)
class StoredTensors:
    """What a file holds.

    state: {name: tensor on the CPU}, names as the model has them; format: "pt" or "safetensors"
    wrappers, prefixes: what was taken off to get there, outermost first
    beside: names of what else is in the file, which is not used; metadata: words for words
    eight_bit: names of the tensors that the file has in 8 bits, and `state` in fp32
    image_size: side of the input that the file says it is to be used at, px; 0: it does not say
    """

    state: dict[str, Tensor]
    format: str
    wrappers: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    eight_bit: tuple[str, ...] = ()
    image_size: int = 0

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the class table's rows, as far as the file says them."""
        return tuple(filter(None, self.metadata.get(CLASSES, "").split(",")))


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, on the CPU, see `read_checkpoint`."""
    return read_checkpoint(path).state


def read_checkpoint(path: str | Path) -> StoredTensors:
    """Read a ``.pt`` or ``.safetensors`` file: a state dict, bare or under one of `WRAPPERS`.

    A prefix of `PREFIXES` is taken off when every name has it, and 8-bit weights become fp32, see `eight_bit`. Raises
    CheckpointError when the file cannot be read with weights only, holds no state dict or more than one, or has 8-bit
    weights whose scales do not fit.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"checkpoint {str(path)!r} is a folder: give the path of a .pt or .safetensors file")
    if not path.is_file():
        raise CheckpointError(f"checkpoint {str(path)!r} does not exist: give the path of a .pt or .safetensors file")
    kind, metadata = "pt", {}
    try:
        if _is_safetensors(path):
            kind = "safetensors"
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                content = {name: file.get_tensor(name) for name in file.keys()}
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of pickles that torch did not write: the error says it, too
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # junk makes the readers raise anything: IndexError, struct.error, UnpicklingError, ...
        raise CheckpointError(
            f"{path} is not a .{kind} checkpoint that loads with weights only: {_reason(error)}"
        ) from error
    if kind == "pt" and isinstance(content, dict) and _is_metadata(content.get(METADATA)):
        metadata = content.pop(METADATA)
    content, wrappers, beside = _unwrap(content, path)
    stored, prefixes = _without_prefixes(content)
    state, in_eight_bits = eight_bit.restore(stored, path)
    return StoredTensors(state, kind, wrappers, prefixes, beside, metadata, in_eight_bits, _image_size(metadata, path))


def _is_metadata(content: Any) -> bool:
    return isinstance(content, dict) and all(isinstance(word, str) for pair in content.items() for word in pair)


def _image_size(metadata: dict[str, str], path: Path) -> int:
    text = metadata.get(IMAGE_SIZE, "0")
    if not re.fullmatch(r"\d{1,5}", text) or int(text) % 32:
        raise CheckpointError(f"{path} is broken: its metadata says that image_size is {text!r}, expected a multiple of 32, px")
    return int(text)


def _is_safetensors(path: Path) -> bool:
    """By its name, or by its first bytes: the length of a header, and a header that is JSON."""
    if path.suffix == ".safetensors":
        return True
    with open(path, "rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size


def _reason(error: Exception) -> str:
    """What is wrong, without torch's advice to run the code in the file."""
    text = str(error).strip()
    code = re.search(r"Unsupported (?:global|class|function): (?:GLOBAL )?(\S+)", text)
    if code:
        return f"it names {code[1]}, and what a file names is never run: store the state dict alone"
    unpickler = re.search(r"WeightsUnpickler error:\s*(.+)", text)
    if unpickler:
        return f"it was not written by torch.save ({unpickler[1].strip()})"
    return text.splitlines()[0].split(". ")[0] if text else type(error).__name__


def _unwrap(content: Any, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...], tuple[str, ...]]:
    wrappers: list[str] = []
    beside: list[str] = []
    while not _is_state_dict(content):
        found = [name for name in WRAPPERS if isinstance(content, dict) and isinstance(content.get(name), dict)]
        if len(found) > 1:
            raise CheckpointError(
                f"{path} holds more than one state dict, under {' and '.join(map(repr, found))}: "
                "which one is meant is not said; store the right one alone"
            )
        if not found or len(wrappers) == MAX_DEPTH:
            raise CheckpointError(
                f"{path} holds no state dict: expected {{'model': {{name: tensor}}}} or {{name: tensor}}"
            )
        beside += [str(name) for name in content if name != found[0]]
        wrappers += found
        content = content[found[0]]
    return content, tuple(wrappers), tuple(beside)


def _is_state_dict(content: Any) -> bool:
    if not isinstance(content, dict) or not content:
        return False
    return all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())


def _without_prefixes(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    prefixes: list[str] = []
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
        prefixes.append(prefix)
    return state, tuple(prefixes)
