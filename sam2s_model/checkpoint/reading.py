"""Read the tensors of a file. Never unpickles code."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from sam2s_model.adapters import names as adapter_names
from sam2s_model.checkpoint import eight_bit
from sam2s_model.checkpoint.adapters import refuse_adapters
from sam2s_model.checkpoint.data_classes import data_classes
from sam2s_model.checkpoint.file_kind import ZIP, what_is_wrong
from sam2s_model.checkpoint.one_by_one import take_over
from sam2s_model.checkpoint.recognition import recognise
from sam2s_model.checkpoint.sam3_names import from_sam3, is_of_multiplex, is_of_sam3, left_out
from sam2s_model.checkpoint.transformers_names import from_transformers, is_of_transformers
from sam2s_model.checkpoint.wrapping import unwrap, without_prefixes
from sam2s_model.config import POLICY_NAMES
from sam2s_model.errors import CheckpointError
from sam2s_model.paths import expanded, reading_checkpoint
from sam2s_model.published.sha256 import file_sha256
from sam2s_model.published.shards import IF_WHOLE, files_of

CLASSES = "classes"  # in the metadata of our checkpoints: the names of the class table's rows, separated by commas
IMAGE_SIZE = (
    "image_size"  # there, too: side of the input that the file is to be used at, px, where that is not its model's
)
POLICY = "memory_policy"  # there, too: the one that the file is to be used with, where that is not its model's
SAFETENSORS = ".safetensors"
METADATA = "metadata"  # beside a state dict: what a .safetensors file would have there
SIZE_STEPS = (32, 16, 14)  # of some model's input, px
ATTEMPTS = 2  # a file that is replaced while it is read, as training does at its end, is not replaced again so soon


@dataclass(frozen=True)
class StoredTensors:
    """What a file holds.

    state: {name: tensor on the CPU}, names as the model has them; format: "pt" or "safetensors"
    wrappers, prefixes: what was taken off to get there, outermost first
    beside: names of what else is in the file, which is not used; metadata: words for words
    extra: names of tensors beside the model's, under the same key, also in `beside`
    eight_bit: names of the tensors that the file has in 8 bits, and `state` in fp32
    image_size: side of the input that the file says it is to be used at, px; 0: it does not say
    not_read: groups of tensors of other networks in the same file, with their numbers, that were never read
    adapter: tensors of adapters that are known, see `adapters.names`, where they were asked for
    policy: of memory, that the file says it is to be used with; "": it does not say
    sha256: of the files that were read, where it was asked for
    """

    state: dict[str, Tensor]
    format: str
    wrappers: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    eight_bit: tuple[str, ...] = ()
    image_size: int = 0
    not_read: tuple[str, ...] = ()
    adapter: dict[str, Tensor] = field(default_factory=dict)
    policy: str = ""
    sha256: str = ""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the class table's rows, as far as the file says them."""
        return tuple(filter(None, self.metadata.get(CLASSES, "").split(",")))


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a file, on the CPU, see `read_checkpoint`."""
    return read_checkpoint(path).state


def read_checkpoint(
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    adapters: bool = False,
    digest: bool = False,
) -> StoredTensors:
    """Read a ``.pt`` or ``.safetensors`` file, or one in several files: a state dict, as it is or wrapped.

    What training loops put around it is taken off, see `wrapping`; 8-bit weights become fp32, see `eight_bit`; names
    that transformers gives become those of the known models. Of a file of SAM 3 only the tracker and its tower are
    read. Tensors are taken over one by one, see `one_by_one`.
    dtype: of numbers with a fraction, None: as stored; device: None: the CPU
    adapters: take adapters whose names are known apart, into `StoredTensors.adapter`; else they are refused, as others
    digest: also compute `StoredTensors.sha256`, of the files that the tensors come from, whatever they are later
    Raises CheckpointError when the file cannot be read, or not with weights only, holds no state dict or more than one,
    layers that must be merged first, 8-bit weights whose scales do not fit, or values that are not finite, and when it
    was written to meanwhile each time that it was read, where its digest is asked for.
    """
    path = expanded(path)
    with reading_checkpoint(path):
        if not path.exists():
            raise CheckpointError(
                f"checkpoint {str(path)!r} does not exist: give the path of a .pt or .safetensors file"
            )
    if not digest:
        return _read(path, dtype, device, adapters)
    for _ in range(ATTEMPTS):
        with reading_checkpoint(path):
            before = _versions(path)
        stored = _read(path, dtype, device, adapters)
        with reading_checkpoint(path):
            found = file_sha256(path)
            if _versions(path) == before:
                return replace(stored, sha256=found)
        del stored  # before as much is read again
    raise CheckpointError(f"{path} was written to while it was read, {ATTEMPTS} times: read it when it is complete")


def _versions(path: Path) -> list[tuple[Path, int, int]]:
    """Return sizes and times, by which a change is seen; no inodes: some mounts, as of cifs, give new ones at will."""
    found = [(file, file.stat()) for file in files_of(path)]
    return [(file, status.st_size, status.st_mtime_ns) for file, status in found]


def _read(path: Path, dtype: torch.dtype | None, device: torch.device | None, adapters: bool) -> StoredTensors:
    """Read a file that is there, without its digest. Arguments and errors: of `read_checkpoint`."""
    with reading_checkpoint(path):
        files = files_of(path)
        contents = [_content(file) for file in files]
    if len(contents) == 1:
        ((content, kind, metadata),) = contents
    else:
        content, kind, metadata = _together(contents, files), contents[0][1], {}
    del contents
    content, wrappers, beside = unwrap(content, path)
    not_read: tuple[str, ...] = ()
    if is_of_multiplex(content):
        raise CheckpointError(
            f"{path} is SAM 3.1, whose tracker is another network, in which 16 objects share a memory: give a file of "
            "SAM 3"
        )
    if is_of_sam3(content):
        not_read, content = left_out(content), from_sam3(content)
    stored, prefixes, others = without_prefixes(content, path)
    adapter: dict[str, Tensor] = {}
    if adapters:
        stored, adapter = adapter_names.split(stored)
        adapter = take_over(dict(adapter), path)
    refuse_adapters(stored, path, lambda rest: recognise(_published_names(rest), path).name)
    lazily = all(_is_safetensors(file) or _begins_with(file, ZIP) for file in files)
    dense = (value for value in stored.values() if value.layout == torch.strided)
    mapped = {value.data_ptr() for value in dense} if lazily else set()
    state, in_eight_bits = eight_bit.restore(stored, path)
    del content, stored
    state = take_over(state, path, mapped, dtype, device)
    return StoredTensors(
        _published_names(state), kind, wrappers, prefixes, (*beside, *others), metadata, others, in_eight_bits,
        _image_size(metadata, path), not_read, adapter, _policy(metadata, path),
    )  # fmt: skip


def _published_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return from_transformers(state) if is_of_transformers(state) else state


def _together(contents: list[tuple[Any, str, dict[str, str]]], files: tuple[Path, ...]) -> dict[str, Any]:
    """Join the tensors of several files.

    Raises CheckpointError for a file that holds something else, and for a name that two of them have: these are no
    parts, but checkpoints with names like those of parts, such as of the folds of a cross-validation.
    """
    out: dict[str, Any] = {}
    of: dict[Any, Path] = {}
    for (content, _, _), file in zip(contents, files, strict=True):
        if not isinstance(content, dict):
            raise CheckpointError(f"{file} is a part of a checkpoint, and holds no tensors by name")
        twice = next((name for name in content if name in of), None)
        if twice is not None:
            raise CheckpointError(
                f"{file} and {of[twice].name} both have {twice!r}, and parts of a checkpoint share no name: {IF_WHOLE}"
            )
        out |= content
        of |= dict.fromkeys(content, file)
    return out


def _content(path: Path) -> tuple[Any, str, dict[str, str]]:
    """Read what a file holds, its format, and the metadata of safetensors. Raises CheckpointError."""
    kind = "pt"
    metadata: dict[str, str] = {}
    try:
        if _is_safetensors(path):
            kind = "safetensors"
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of pickles that torch did not write: the error says it, too
                with data_classes():
                    content = _loaded(path)
    except Exception as error:  # junk makes the readers raise anything: IndexError, struct.error, UnpicklingError, ...
        wrong = what_is_wrong(path)
        raise CheckpointError(
            f"{path} is not a .{kind} checkpoint that loads with weights only: {_reason(error)}"
            + f"; it {wrong}" * bool(wrong)
        ) from error
    if kind == "pt" and isinstance(content, dict) and _is_metadata(content.get(METADATA)):
        metadata = content.pop(METADATA)
    return content, kind, metadata


def _loaded(path: Path) -> Any:
    if path.suffix == SAFETENSORS:  # which a reader of torch's own would take it for
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=_begins_with(path, ZIP))


def _is_metadata(content: Any) -> bool:
    return isinstance(content, dict) and all(isinstance(word, str) for pair in content.items() for word in pair)


def _image_size(metadata: dict[str, str], path: Path) -> int:
    text = metadata.get(IMAGE_SIZE, "0")
    if not re.fullmatch(r"\d{1,5}", text) or all(int(text) % step for step in SIZE_STEPS):
        steps = " or ".join(map(str, SIZE_STEPS))
        raise CheckpointError(
            f"{path} is broken: its metadata says that image_size is {text!r}, expected a multiple of {steps}, px"
        )
    return int(text)


def _policy(metadata: dict[str, str], path: Path) -> str:
    policy = metadata.get(POLICY, "")
    if policy not in ("", *POLICY_NAMES):
        known = ", ".join(POLICY_NAMES)
        raise CheckpointError(
            f"{path} is broken: its metadata says that {POLICY} is {policy!r}, expected one of {known}"
        )
    return policy


def _begins_with(path: Path, magic: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def _is_safetensors(path: Path) -> bool:
    """Tell by its name, unless torch.save wrote it, or by its first bytes: a header's length, and a header of JSON."""
    if path.suffix == SAFETENSORS:
        return not _begins_with(path, ZIP)
    with open(path, "rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size


def _reason(error: Exception) -> str:
    """Say what is wrong, without torch's advice to run the code in the file."""
    text = str(error).strip()
    code = re.search(r"Unsupported (?:global|class|function): (?:GLOBAL )?(\S+)", text)
    if code:
        return f"it names {code[1]}, and what a file names is never run: store the state dict alone"
    unpickler = re.search(r"WeightsUnpickler error:\s*(.+)", text)
    if unpickler:
        return f"it was not written by torch.save ({unpickler[1].strip()})"
    return text.splitlines()[0].split(". ")[0] if text else type(error).__name__
