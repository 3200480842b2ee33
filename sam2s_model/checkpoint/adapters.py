"""LoRA and its relatives: layers beside the weights that they change, which have to be merged first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from sam2s_model.errors import CheckpointError

PARTS = re.compile(
    r"(^|\.)(lora_\w+|ia3_l|vera_\w+|hada_\w+|lokr_\w+|oft_\w+|boft_\w+|linear_[ab]_[qkv]|w_[ab]_\d+|w_[ab]_linear\w*)(\.|$)"
)
"""Names of LoRA, DoRA, (IA)3, VeRA, LoHa, LoKr and OFT as PEFT writes them, and of LoRA as it was written for SAM."""

AROUND = (".base_layer", ".modules_to_save.default", ".original_module", ".parametrizations")
"""What PEFT puts into the names of the weights that are changed or stored beside them."""

MERGE = (
    "merge them into the weights first, with PEFT: model = model.merge_and_unload(), or from the adapter's folder "
    "PeftModel.from_pretrained(model, folder).merge_and_unload(); "
    "then torch.save({'model': model.state_dict()}, 'merged.pt')"
)


def is_adapter(name: str) -> bool:
    return bool(PARTS.search(name))


def refuse_adapters(state: Mapping[str, Tensor], path: Path, name_of) -> None:
    """Raise CheckpointError for a state dict with such layers: what they change, how many there are, how to merge them.

    name_of: the name of the model that a state dict without them is of; may raise CheckpointError
    """
    found = [name for name in state if is_adapter(name)]
    if not found:
        return
    places = sorted({re.sub(r"\.\d+(?=\.)", ".N", PARTS.split(name)[0]) for name in found})
    under = ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")
    layers = f"LoRA layers ({len(found)} tensors under {under})"
    rest = {_without_wrapping(name): value for name, value in state.items() if name not in found}
    if not rest:
        raise CheckpointError(f"{path} has {layers} alone, without the model that they change: {MERGE}")
    try:
        raise CheckpointError(f"{path} is {name_of(rest)} with {layers}: {MERGE}")
    except CheckpointError as error:
        if MERGE in str(error):
            raise
        raise CheckpointError(f"{path} has {layers} beside {len(rest)} other tensors: {MERGE}") from error


def _without_wrapping(name: str) -> str:
    for part in AROUND:
        name = name.replace(part, "")
    return name
