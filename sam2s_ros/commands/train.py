"""`sam2s train`: train a model, and evaluate checkpoints on what training draws from."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import typer

from sam2s_model.errors import ConfigError
from sam2s_model.paths import claimed_file, expanded
from sam2s_model.similar import meant
from sam2s_model.tracking.policies import POLICY_HELP
from sam2s_model.training.command import train
from sam2s_ros.commands.compare import CheckpointArgument, FiguresFile, MostFrames, OnlyNamed, RecordingFolders
from sam2s_ros.commands.engine import Device, ImageSize
from sam2s_ros.commands.groups import DEFAULT, DefaultGroup
from sam2s_ros.processes.dds import share_directory

app = typer.Typer(cls=DefaultGroup, help="Train a model; evaluate what was trained; compare it with before.")


@app.command(DEFAULT, epilog="Further: sam2s train evaluate, sam2s train compare")
@functools.wraps(train)
def train_here(config: Path, **others) -> None:
    train(installed_config(config), **others)


def installed_config(given: Path) -> Path:
    """Return the path that was given, or that of the package's configuration of this name, which is said.

    given: a file, or `finetune`, or `config/train/finetune.yaml` in a folder that has none
    Raises ConfigError for others.
    """
    if expanded(given).is_file():
        return given
    folder = share_directory() / "config" / "train"
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if given.stem in names and given.parent in (Path("."), Path("config", "train")):
        found = folder / f"{given.stem}.yaml"
        print(f"{given} is not here: using the package's, {found}")
        return found
    wrong = "is a folder" if given.expanduser().is_dir() else f"does not exist{meant(given.stem, names)}"
    raise ConfigError(f"{given} {wrong}: expected a YAML file, or one of the package's: {', '.join(names)}")


@app.command("evaluate")
def evaluate_training(
    checkpoint: CheckpointArgument = None,
    recordings: RecordingFolders = None,
    only: OnlyNamed = None,
    scene: Annotated[list[int] | None, typer.Option(help="seed of a procedural scene; repeatable")] = None,
    scene_frames: Annotated[int, typer.Option(min=1, help="length of a scene")] = 120,
    prompt: Annotated[str, typer.Option(help="mask or box")] = "mask",
    policy: Annotated[list[str] | None, typer.Option(help=f"{POLICY_HELP}; repeatable; default: auto")] = None,
    beside: Annotated[Path | None, typer.Option(help="checkpoint to compare with, at policy none")] = None,
    image_size: ImageSize = 0,
    beside_size: Annotated[int, typer.Option(min=0, max=4096, help="the same for the other checkpoint")] = 512,
    frames: MostFrames = 0,
    device: Device = "auto",
    out: FiguresFile = None,
) -> None:
    """Evaluate checkpoints: print a table of J&F, from a prompt on each object's first frame.

    `sam2s eval` reports more, of recordings in the layouts of data sets; this table is for many policies at once.
    """
    from sam2s_model.training.evaluate import evaluate_policies

    with claimed_file(out, overwrite=True):
        evaluate_policies(
            checkpoint, recordings or [], only=only or [], scene=scene or [], scene_frames=scene_frames, prompt=prompt,
            policy=policy or ["auto"], beside=beside, image_size=image_size, beside_size=beside_size, frames=frames,
            device=device, out=out,
        )  # fmt: skip


@app.command("compare")
def compare_training(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run, as `sam2s train --data` writes it")],
    policy: Annotated[list[str] | None, typer.Option(help=f"{POLICY_HELP}; repeatable; default: the run's")] = None,
    prompt: Annotated[str, typer.Option(help="mask or box; default: the run's")] = "",
    frames: MostFrames = 0,
    device: Device = "auto",
    out: FiguresFile = None,
) -> None:
    """Compare what a run made with what it began with: print a table of J&F on the recordings that it held out."""
    from sam2s_model.training.evaluate import score_table, write_figures
    from sam2s_model.training.summary import compare_run, run_config

    with claimed_file(out, overwrite=True):
        columns = compare_run(run, policies=policy or [], prompt=prompt, frames=frames, device=device)
        print(score_table(columns))
        if out:
            write_figures(out, prompt or run_config(run).evaluation.prompt, columns)
