"""What tracks: the options that the commands share, each written once, for the command line and what is behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam2s_model.config import POLICY_NAMES
from sam2s_ros.commands.checkpoints import checkpoint_or_default

if TYPE_CHECKING:  # loads torch
    from sam2s_model.network.model import Sam2Model

CHECKPOINT_HELP = "a file, or a name of `sam2s checkpoint list`; default: sam2s_tiny on a GPU, sam2s_nano on a CPU"

Checkpoint = Annotated[Path | None, typer.Option(help=CHECKPOINT_HELP)]
ModelName = Annotated[str, typer.Option(help="name of the model; auto recognises it from the checkpoint")]
Policy = Annotated[str, typer.Option(help=f"memory policy: auto, {', '.join(POLICY_NAMES)}")]
SIZE_HELP = "side of the square the network sees, px, a multiple of 32, 14 or 16 by model; 0: the checkpoint's"
ImageSize = Annotated[int, typer.Option(min=0, max=4096, help=SIZE_HELP)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")]
Precision = Annotated[str, typer.Option(help="auto (bf16 on CUDA, fp32 on CPU), fp32, bf16, fp16 or int8 (CPU)")]


@dataclass(frozen=True)
class EngineOptions:
    """A model and its memory policy. Fields as of `load_model`; no checkpoint: the package's default for the device."""

    checkpoint: Checkpoint = None
    model: ModelName = "auto"
    policy: Policy = "auto"
    image_size: ImageSize = 0
    device: Device = "auto"
    precision: Precision = "auto"

    def with_checkpoint(self, source_kind: str, say: Callable[[str], Any]) -> EngineOptions:
        """Put the path of the checkpoint in, of a name or of the default. Arguments as of `checkpoint_or_default`."""
        return replace(self, checkpoint=checkpoint_or_default(self.checkpoint, source_kind, self.device, say))

    def load(self) -> Sam2Model:
        """Load the model. Raises CheckpointError and ConfigError as `load_model` does."""
        from sam2s_model.checkpoint import default_checkpoint, load_model

        checkpoint = self.checkpoint or default_checkpoint(self.device)
        return load_model(checkpoint, self.model, self.image_size, self.device, self.precision)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of a tracker node that runs it, on a CPU as well."""
        return dict(
            checkpoint=str(self.checkpoint or ""), model=self.model, policy=self.policy, image_size=self.image_size,
            device=self.device, precision=self.precision, allow_cpu=True,
        )  # fmt: skip
