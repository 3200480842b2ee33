"""Which adapter a run trains."""

from __future__ import annotations

from dataclasses import dataclass

from sam2s_model.config import check_options, option


@dataclass(frozen=True)
class AdapterConfig:
    """With a kind, all weights of `init` are frozen, and the run writes a file with the adapter alone."""

    kind: str = option(
        "", "dilated: DD-SAM2's, after blocks of Hiera; lora; empty: none", choices=("", "dilated", "lora")
    )
    blocks: int = option(6, "dilated: after the first so many blocks; published with 6 and with 12", low=1, high=64)
    rank: int = option(4, "lora: of the two matrices beside each weight", low=1, high=256)
    alpha: float = option(16.0, "lora: their product counts alpha / rank times", low=0.001, high=4096.0)
    projections: tuple[str, ...] = option(
        ("attn.qkv",), "lora: ends of the names of linear layers, such as attn.qkv, q_proj, v_proj"
    )

    def __post_init__(self):
        check_options(self)
