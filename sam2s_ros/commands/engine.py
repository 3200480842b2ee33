"""What tracks: the options that the commands share, each written once, for the command line and what is behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam2s_model.config import POLICY_NAMES, TrackerConfig
from sam2s_model.tracker_options import tracker_options
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

COMPILE_HELP = "compile the image encoder first, on a GPU that Triton knows: for a minute the first time"
Compile = Annotated[bool, typer.Option("--compile/--no-compile", help=COMPILE_HELP)]
ENCODER_HELP = "file that `sam2s export encoder` made of the checkpoint's image encoder, for this device"
EncoderFile = Annotated[Path | None, typer.Option(help=ENCODER_HELP)]
ADAPTER_HELP = "an adapter over the checkpoint, such as `sam2s train config/train/adapters.yaml` writes"
AdapterFile = Annotated[Path | None, typer.Option(metavar="FILE", help=ADAPTER_HELP)]
OPTION_HELP = "parameter of the tracker, see docs/parameters.md, such as max_objects=4; repeatable"
TrackerOptions = Annotated[tuple[str, ...], typer.Option(metavar="NAME=VALUE", help=OPTION_HELP)]


@dataclass(frozen=True)
class EngineOptions:
    """A model and how it tracks. Fields as of `load_model`; no checkpoint: the package's default for the device.

    option: NAME=VALUE of `TrackerConfig`
    Raises ConfigError for an option that there is not, or that is out of its range.
    """

    checkpoint: Checkpoint = None
    model: ModelName = "auto"
    policy: Policy = "auto"
    image_size: ImageSize = 0
    device: Device = "auto"
    precision: Precision = "auto"
    compile: Compile = True
    encoder: EncoderFile = None
    adapter: AdapterFile = None
    option: TrackerOptions = ()

    def __post_init__(self):
        self.tracker_config()  # so that a wrong option is refused before anything is loaded

    def tracker_config(self, **defaults: Any) -> TrackerConfig:
        """Return the tracker's configuration with the options. defaults: of those that are not given"""
        return replace(TrackerConfig(**defaults), **tracker_options(self.option))

    def with_checkpoint(self, source_kind: str, say: Callable[[str], Any]) -> EngineOptions:
        """Put the path of the checkpoint in, of a name or of the default. Arguments as of `checkpoint_or_default`."""
        return replace(self, checkpoint=checkpoint_or_default(self.checkpoint, source_kind, self.device, say))

    def load(self) -> Sam2Model:
        """Load the model. Raises CheckpointError and ConfigError as `load_model` does."""
        from sam2s_model.checkpoint import default_checkpoint, load_model

        checkpoint = self.checkpoint or default_checkpoint(self.device)
        return load_model(
            checkpoint, self.model, self.image_size, self.device, self.precision, None if self.compile else False,
            self.encoder or "", adapter=self.adapter or "",
        )  # fmt: skip

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of a tracker node that runs it, on a CPU as well."""
        return dict(
            checkpoint=str(self.checkpoint or ""), model=self.model, policy=self.policy, image_size=self.image_size,
            device=self.device, precision=self.precision, allow_cpu=True, compile=self.compile,
            encoder=str(self.encoder or ""), adapter=str(self.adapter or ""), **tracker_options(self.option),
        )  # fmt: skip
