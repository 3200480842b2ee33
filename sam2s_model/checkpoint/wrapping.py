"""What training loops and tools put around a state dict: dictionaries, prefixes, tensors of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from sam2s_model.checkpoint.adapters import is_adapter
from sam2s_model.checkpoint.recognition import FOREIGN
from sam2s_model.checkpoint.transformers_names import ROOTS as OF_TRANSFORMERS
from sam2s_model.errors import CheckpointError
from sam2s_model.network.model import MEMORY_PARTS

WRAPPERS = ("model", "state_dict", "model_state_dict", "model_state")
"""Under these a training loop stores the model's tensors, beside those of the optimizer and the like."""

PREFIXES = ("module.", "model.", "_orig_mod.")
"""What DistributedDataParallel, a module around the model and torch.compile put before every name."""

TRANSPARENT = (
    "module",
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
    "base_model",
)
"""Parts of names that wrappers of modules put in, wherever they stand; no model here has one."""

IMAGE_HALF = ("image_encoder", "sam_prompt_encoder", "sam_mask_decoder", "decoder_proj", "no_mem_embed")
ROOTS = {*IMAGE_HALF, *(part.split(".")[0] for part in MEMORY_PARTS), *OF_TRANSFORMERS}
"""What the names of a known model begin with."""

AVERAGE = re.compile(r"ema|average|avg|averaged|shadow|teacher|momentum|target|swa", re.IGNORECASE)
COUNTERS = ("total_ops", "total_params", "n_averaged")  # of profilers and of torch's AveragedModel
OWN_TENSORS = re.compile(r"(criterion|loss|losses|loss_fn|metric|metrics|total_ops|total_params|n_averaged)(\.|$)")
"""Of a training loop, whatever the prefix of the model."""

MAX_DEPTH = 3  # of wrappers in wrappers
NAMED = 8  # keys that a refusal lists


def unwrap(content: Any, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...], tuple[str, ...]]:
    """Find the state dict in what a file holds, the keys that it was under, and the names of what is beside it.

    It is under a key of `WRAPPERS`, or under any key if it has names of a known model; of several, the one that is no
    average is taken.
    Raises CheckpointError when there is none, or more than one.
    """
    wrappers: list[str] = []
    beside: list[str] = []
    while not _is_state_dict(content):
        if not isinstance(content, dict) or len(wrappers) == MAX_DEPTH:
            raise _no_state_dict(content, path)
        if parts := _components(content):
            beside += [str(name) for name in content if name not in parts and not isinstance(content[name], Tensor)]
            return parts, tuple(wrappers), tuple(beside)
        name = _one(content, path)
        beside += [str(other) for other in content if other != name]
        wrappers.append(name)
        content = content[name]
    return content, tuple(wrappers), tuple(beside)


def _one(content: dict, path: Path) -> str:
    found = [name for name in WRAPPERS if isinstance(content.get(name), dict)]
    if len(found) > 1:
        found = [name for name in found if _holds_tensors(content[name])] or found
    if not found:
        found = [name for name, value in content.items() if isinstance(name, str) and _has_model(value)]
        if len(found) > 1:
            found = [name for name in found if not AVERAGE.search(name)] or found
    if len(found) > 1:
        raise CheckpointError(
            f"{path} holds more than one state dict, under {' and '.join(map(repr, found))}: "
            "which one is meant is not said; store the right one alone"
        )
    if not found:
        raise _no_state_dict(content, path)
    return found[0]


def _components(content: dict) -> dict[str, Tensor]:
    """Collect tensors with names of a known model among other values, also from one dictionary per part of it."""
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    for root in ROOTS:
        own = content.get(root)
        if isinstance(own, dict) and _is_state_dict(own):
            tensors |= {f"{root}.{name}": value for name, value in own.items()}
    return tensors if any(_place(name) for name in tensors) else {}


def _has_model(value: Any, depth: int = MAX_DEPTH) -> bool:
    if not isinstance(value, dict) or not depth:
        return False
    if any(isinstance(name, str) and isinstance(own, Tensor) and _place(name) for name, own in value.items()):
        return True
    return bool(_components(value)) or any(_has_model(own, depth - 1) for own in value.values())


def _holds_tensors(value: dict, depth: int = MAX_DEPTH) -> bool:
    return depth > 0 and any(
        isinstance(v, Tensor) or isinstance(v, dict) and _holds_tensors(v, depth - 1) for v in value.values()
    )


def _is_state_dict(content: Any) -> bool:
    if not isinstance(content, dict) or not content:
        return False
    return all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())


def _no_state_dict(content: Any, path: Path) -> CheckpointError:
    there = f"a {type(content).__name__}"
    if isinstance(content, dict):
        names = [repr(name) for name in content]
        there = (
            f"the keys {', '.join(names[:NAMED])}" + f" and {len(names) - NAMED} more" * (len(names) > NAMED)
            if names
            else "nothing"
        )
    return CheckpointError(
        f"{path} holds no state dict: expected {{'model': {{name: tensor}}}} or {{name: tensor}}, and it has {there}"
    )


def without_prefixes(
    state: dict[str, Tensor], path: Path
) -> tuple[dict[str, Tensor], tuple[str, ...], tuple[str, ...]]:
    """Take off what stands before the names of a known model; return it, too, and the names of other tensors.

    Parts that others add to such a model are kept, so that they are named and refused. So are tensors at its own level
    that do not come from a training loop. Where no name is that of a known model, only a prefix of `PREFIXES` that all
    names share is taken off.
    Raises CheckpointError when the model is there more than once.
    """
    prefixes: list[str] = []
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
        prefixes.append(prefix)
    places = {name: _place(name) for name in state}
    copies: dict[str, dict[str, Tensor]] = {}
    for name, place in places.items():
        if place:
            copies.setdefault(place[0], {})[place[1]] = state[name]
    if not copies:
        return state, tuple(prefixes), ()
    main = _main_copy(copies, path)
    out, beside = dict(copies[main]), []
    for prefix, own in copies.items():
        twice = prefix != main and any(name in out for name in own)
        beside += [prefix + name for name in own] if twice else []
        out |= {} if twice else own
    for name in (name for name, place in places.items() if not place):
        # what has no such prefix is beside the model; what lies at the model's own level would be a part of it
        if _is_foreign(name) or not (main or OWN_TENSORS.match(name)):
            out[name] = state[name]
        else:
            beside.append(name)
    seen = {f"{part}." for name, place in places.items() if place for part in name.split(".") if part in TRANSPARENT}
    prefixes += [main] * bool(main) + sorted(part for part in seen if part not in main)
    counters = [name for name in out if name.rsplit(".", 1)[-1] in COUNTERS]
    for name in counters:
        del out[name]
    return out, tuple(prefixes), (*beside, *counters)


def _main_copy(copies: dict[str, dict[str, Tensor]], path: Path) -> str:
    """Choose the prefix of the copy that is meant: the only whole one, or the only one that is no average."""
    most = max(map(len, copies.values()))
    whole = [prefix for prefix, own in copies.items() if 2 * len(own) > most]
    first = max(whole, key=lambda prefix: len(copies[prefix]))
    whole = [
        p for p in whole if p == first or any(name in copies[first] for name in copies[p])
    ]  # others are other parts of it
    if len(whole) > 1:
        whole = [prefix for prefix in whole if not AVERAGE.search(prefix)] or whole
    if len(whole) > 1:
        raise CheckpointError(
            f"{path} holds the model {len(whole)} times, with the prefixes {' and '.join(map(repr, whole))}: "
            "which one is meant is not said; store the right one alone"
        )
    return whole[0]


def _place(name: str) -> tuple[str, str] | None:
    """Split a name into what stands before the name of a known model's tensor, and that name; None if it has none."""
    parts = name.split(".")
    at = next((i for i, part in enumerate(parts) if part in ROOTS), None)
    if at is None:
        return None
    return ".".join(parts[:at]) + "." * bool(at), ".".join(part for part in parts[at:] if part not in TRANSPARENT)


def _is_foreign(name: str) -> bool:
    return is_adapter(name) or any(pattern.search(name) for pattern, _ in FOREIGN)


def some(names: Iterable[str]) -> str:
    """List the first of some names, and say how many more there are."""
    names = list(names)
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
