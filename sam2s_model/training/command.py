"""The command `train`. torch is imported when it runs, so that --help is fast."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

DATA_HELP = "recordings with masks, as `sam2s annotate` writes; some are held out, and scored before and after"


def train(
    config: Annotated[Path, typer.Argument(help="a YAML file, such as those in config/train")],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="change the configuration, such as optimizer.lr=1e-4; repeatable"
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="FOLDER", help=DATA_HELP)] = None,
    output: Annotated[Path | None, typer.Option(help="folder of the run; a run in it is resumed")] = None,
) -> None:
    """Train a model on recordings: writes state.pt, model.safetensors, log.jsonl and training.png.

    With --data it keeps the best in best.safetensors, too, and says at the end whether it is better than before. A run
    that was stopped or killed goes on when the same command is given again.
    """
    from sam2s_model.training.config import load_config
    from sam2s_model.training.holdout import with_own_data
    from sam2s_model.training.loop import run_training
    from sam2s_model.training.summary import closing_lines

    first = os.environ.get("RANK", "0") == "0"  # of the processes of `torchrun`, one talks
    asked = load_config(config, set_ or (), output or "")
    if data is not None:
        asked, said = with_own_data(asked, data)
        if first:
            print(said)
    outcome = run_training(asked)
    if first:
        print(f"{outcome.checkpoint}: {outcome.steps} steps")
        if outcome.steps == asked.steps:
            print("\n".join(closing_lines(asked)))
