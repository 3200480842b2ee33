"""The command `train`. torch is imported when it runs, so that --help is fast."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(help="a YAML file, such as those in config/train")],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="change the configuration, such as optimizer.lr=1e-4; repeatable"
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="folder of the run; a run in it is resumed")] = None,
) -> None:
    """Train a model on recordings: writes state.pt, model.safetensors, log.jsonl and training.png.

    A run that was stopped or killed goes on when the same command is given again.
    """
    from sam2s_model.training.config import load_config
    from sam2s_model.training.loop import run_training

    overrides = [*(set_ or ()), *([f"output={output}"] if output else ())]
    outcome = run_training(load_config(config, overrides))
    if os.environ.get("RANK", "0") == "0":  # of the processes of `torchrun`, one talks
        print(f"{outcome.checkpoint}: {outcome.steps} steps")
