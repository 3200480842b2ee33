"""A checkpoint that is a folder or several files, as transformers and others save it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from sam2s_model.errors import CheckpointError

INDEX = ".index.json"
WHOLE = ("model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}")
"""Names of the one file, or of the index of several, in a folder that transformers saved to."""
SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<count>\d+)(?P<suffix>\.\w+)$")
IF_WHOLE = "a file that is a whole checkpoint by itself needs a name without -N-of-M: rename it"
ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
MERGE = (
    "merge it with its model first: PeftModel.from_pretrained(model, folder).merge_and_unload(), then torch.save of "
    "its state_dict()"
)
DEEPSPEED = "DeepSpeed: give the file mp_rank_00_model_states.pt in it, or run its zero_to_fp32.py"
FOREIGN_FOLDERS = {
    "*.distcp": "torch.distributed.checkpoint: "
    "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER model.pt",
    "mp_rank_*_model_states.pt": DEEPSPEED,
    "*/mp_rank_*_model_states.pt": DEEPSPEED,
    "data.pkl": "an unpacked .pt file: pack it again with zip -0 -r model.pt FOLDER",
}
"""What other folders of checkpoints hold, and what to do about them."""


def file_in(folder: Path) -> Path:
    """Find the file that stands for a folder: the model, or the index of its parts.

    Raises CheckpointError that says what is there instead.
    """
    found = next((folder / name for name in WHOLE if (folder / name).is_file()), None)
    if found is not None:
        return found
    shard = next((path for path in sorted(folder.glob("*-of-*")) if SHARD.match(path.name)), None)
    if shard is not None:
        return shard
    if any((folder / name).is_file() for name in ADAPTER):
        raise CheckpointError(
            f"checkpoint {str(folder)!r} is a folder with LoRA layers alone, as PEFT saves them: {MERGE}"
        )
    for pattern, advice in FOREIGN_FOLDERS.items():
        if any(folder.glob(pattern)):
            raise CheckpointError(f"checkpoint {str(folder)!r} is a folder of {advice}")
    raise CheckpointError(f"checkpoint {str(folder)!r} is a folder: give the path of a .pt or .safetensors file")


def files_of(path: Path) -> tuple[Path, ...]:
    """List the files that hold a checkpoint's tensors: itself, or all parts if it is one of them or their index.

    Raises CheckpointError that names the first part that is not there.
    """
    if path.is_dir():
        path = file_in(path)
    if path.name.endswith(INDEX):
        try:
            names = sorted(set(json.loads(path.read_text())["weight_map"].values()))
            files = tuple(path.with_name(name) for name in names)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{path} is not an index of a checkpoint's parts ({type(error).__name__}: {error})"
            ) from error
    elif shard := SHARD.match(path.name):
        count, digits = int(shard["count"]), len(shard["number"])
        names = [f"{shard['stem']}-{i:0{digits}}-of-{shard['count']}{shard['suffix']}" for i in range(count + 1)]
        first = 0 if path.with_name(names[0]).is_file() else 1  # some count from 0
        files = tuple(path.with_name(name) for name in names[first : first + count])
    else:
        return (path,)
    lost = [file.name for file in files if not file.is_file()]
    if lost:
        named = "" if path.name.endswith(INDEX) else f"; {IF_WHOLE}"
        raise CheckpointError(
            f"{path} is a part of a checkpoint of {len(files)} files, and {len(lost)} are not there: {lost[0]} is the "
            f"first{named}"
        )
    return files
