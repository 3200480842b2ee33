"""SAM 3's files: which of their tensors the tracker is made of, and under which names this project has them.

A published file has the detector with the vision tower in it, the text encoder and the tracker; transformers keeps the
tracker in files with the detector, too. All but the tracker and the tower that it shares is never read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

Value = TypeVar("Value")

TOWER = "detector.backbone.vision_backbone."
RENAMED = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # as Meta publishes it
        (r"^detector\.backbone\.vision_backbone\.trunk\.(.*)\.mlp\.fc1\.", r"image_encoder.trunk.\1.mlp.layers.0."),
        (r"^detector\.backbone\.vision_backbone\.trunk\.(.*)\.mlp\.fc2\.", r"image_encoder.trunk.\1.mlp.layers.1."),
        (r"^detector\.backbone\.vision_backbone\.trunk\.", "image_encoder.trunk."),
        (r"^detector\.backbone\.vision_backbone\.sam2_convs\.", "image_encoder.neck.convs."),
        (r"^tracker\.transformer\.encoder\.", "memory_attention."),
        (r"^tracker\.maskmem_backbone\.", "memory_encoder."),
        (
            r"^tracker\.(sam_mask_decoder\.transformer\.layers\.\d\.mlp)\.lin(\d)\.",
            lambda match: f"{match[1]}.layers.{int(match[2]) - 1}.",
        ),
        (r"^tracker\.", ""),
        # as transformers save it
        (r"^detector_model\.vision_encoder\.backbone\.", "vision_encoder.backbone."),
        (r"^tracker_neck\.", "vision_encoder.neck."),
        (r"^tracker_model\.", ""),
    )
]
NOT_READ = re.compile(
    r"^detector\.backbone\.vision_backbone\.trunk\.blocks\.\d+\.attn\.freqs_cis$"  # made anew, for any size
    r"|^detector\.backbone\.vision_backbone\.convs\.|^detector\.(?!backbone\.vision_backbone\.)"
    r"|^detector_model\.(?!vision_encoder\.backbone\.)"
)
TRACKERS = ("tracker.maskmem_tpos_enc", "tracker_model.memory_temporal_positional_encoding")
MULTIPLEX = "tracker.model."
"""What SAM 3.1's tracker begins with: sixteen objects share a memory there, of another shape."""


def is_of_sam3(names: Iterable[str]) -> bool:
    """Whether a file with these names has SAM 3's tracker, with the tower or without."""
    return any(name in TRACKERS for name in names)


def is_of_multiplex(names: Iterable[str]) -> bool:
    """Whether it is one of SAM 3.1, whose tracker is another network."""
    return any(name.startswith(MULTIPLEX) for name in names)


def wanted(name: str) -> bool:
    """Whether the tracker needs this tensor of a file of SAM 3."""
    return not NOT_READ.match(name)


def from_sam3(state: Mapping[str, Value]) -> dict[str, Value]:
    """Rename the tracker and its tower, to this project's names or transformers', and leave out what is not needed."""
    return {_renamed(name): value for name, value in state.items() if wanted(name)}


def left_out(names: Iterable[str]) -> tuple[str, ...]:
    """Name the groups of tensors that are not read, each as a name with its number of tensors."""
    counts: dict[str, int] = {}
    for name in names:
        if not wanted(name):
            group = re.match(r"detector\.backbone\.\w+(?:\.\w+)?|[^.]+\.[^.]+", name)
            key = group[0] if group else name
            counts[key] = counts.get(key, 0) + 1
    return tuple(f"{group}.* ({count})" for group, count in counts.items())


def _renamed(name: str) -> str:
    for pattern, replacement in RENAMED:
        new, count = pattern.subn(replacement, name)
        if count:
            return new
    return name
