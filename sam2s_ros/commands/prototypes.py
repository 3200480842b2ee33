"""`sam2s prototypes`: what classes look like, from frames a person confirmed. torch is imported when a command runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sam2s_model.errors import ConfigError
from sam2s_ros.commands.groups import CommandGroup

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    help="Make files of prototypes, by which classes are found, and look into them.",
)


@app.command()
def build(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="recordings or data sets with masks, or folders with frames/ and boxes/ (YOLO's lines)",
        ),
    ],
    output: Annotated[Path, typer.Option(help="file to write")] = Path("prototypes.safetensors"),
    class_name: Annotated[
        str, typer.Option("--class", help="class of all objects; default: what the source says of each")
    ] = "",
    label_set: Annotated[
        str, typer.Option(help="table of classes of boxes: a file, or a name of config/labels such as m2cai16")
    ] = "",
    frames: Annotated[int, typer.Option(min=1, help="of each recording, evenly spread")] = 12,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="whose features they are: a file, or a name; default: sam2s_tiny on a GPU, sam2s_nano on a CPU"
        ),
    ] = None,
    image_size: Annotated[int, typer.Option(min=0, max=4096, help="as of the tracker; 0: the checkpoint's")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, fp16 or int8")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the file")] = False,
) -> None:
    """Learn what classes look like from recordings with ground truth, for one checkpoint at one size."""
    from sam2s_model.checkpoint import load_model
    from sam2s_model.discovery.build import build_bank, open_confirmed
    from sam2s_model.discovery.prototype_file import ModelIdentity, save_prototypes
    from sam2s_model.paths import claimed_file
    from sam2s_ros.commands.checkpoints import checkpoint_or_default

    confirmed = [one for source in sources for one in open_confirmed(source)]
    box_classes = _box_classes(label_set)
    model = load_model(
        checkpoint_or_default(checkpoint, confirmed[0].recording.kind, device, print),
        "auto",
        image_size,
        device,
        precision,
    )
    with claimed_file(output, overwrite=overwrite):
        built = build_bank(
            model, confirmed, frames=frames, class_name=class_name, box_classes=box_classes,
            on_recording=lambda name: print(f"reading {name}"),
        )  # fmt: skip
        save_prototypes(built.bank, ModelIdentity.of(model), output)
    counts = ", ".join(f"{count} of {name}" for name, count in built.regions.most_common())
    skipped = f"; {built.skipped} regions were too small" * bool(built.skipped)
    print(f"{output}: {len(built.bank)} prototypes from {built.frames} frames: {counts}{skipped}")


@app.command()
def train(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE", help="recordings or data sets with masks or boxes, as of build")
    ],
    output: Annotated[Path, typer.Option(help="file to write")] = Path("class_prompts.safetensors"),
    class_name: Annotated[str, typer.Option("--class", help="class of all objects, as of build")] = "",
    label_set: Annotated[str, typer.Option(help="table of classes of boxes, as of build")] = "",
    frames: Annotated[int, typer.Option(min=1, help="of each recording, evenly spread; all are kept in memory")] = 12,
    steps: Annotated[int, typer.Option(min=1, help="of the optimizer")] = 300,
    learning_rate: Annotated[float, typer.Option(min=1e-7, max=1.0, help="of Adam")] = 1e-3,
    seed: Annotated[int, typer.Option(min=0, help="of initial weights and samples")] = 0,
    checkpoint: Annotated[Path | None, typer.Option(help="that they are trained for")] = None,
    image_size: Annotated[int, typer.Option(min=0, max=4096, help="as of the tracker; 0: the checkpoint's")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the file")] = False,
) -> None:
    """Train class prompts (SurgicalSAM) on a frozen checkpoint: Dice and NT-Xent, in fp32."""
    from sam2s_model.checkpoint import load_model
    from sam2s_model.discovery.build import open_confirmed
    from sam2s_model.discovery.learnt import save_learnt
    from sam2s_model.discovery.prototype_file import ModelIdentity
    from sam2s_model.discovery.train import class_samples, train_class_prompts
    from sam2s_model.paths import claimed_file
    from sam2s_ros.commands.checkpoints import checkpoint_or_default

    confirmed = [one for source in sources for one in open_confirmed(source)]
    path = checkpoint_or_default(checkpoint, confirmed[0].recording.kind, device, print)
    model = load_model(path, "auto", image_size, device, "fp32")
    with claimed_file(output, overwrite=overwrite):
        samples, names = class_samples(
            model, confirmed, frames=frames, class_name=class_name, box_classes=_box_classes(label_set)
        )
        print(f"{len(samples)} images of {', '.join(names)}")

        def say(step: int, loss: float) -> None:
            if (step + 1) % max(1, steps // 10) == 0:
                print(f"step {step + 1}: loss {loss:.3f}")

        learnt = train_class_prompts(
            model, samples, names, steps=steps, learning_rate=learning_rate, seed=seed, on_step=say
        )
        save_learnt(learnt, ModelIdentity.of(model), output)
    print(f"{output}: class prompts of {', '.join(names)}")


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="of prototypes")],
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE", help="recordings or data sets with masks or boxes, as of build")
    ],
    class_name: Annotated[str, typer.Option("--class", help="ask for a class alone, which all objects are of")] = "",
    label_set: Annotated[str, typer.Option(help="table of classes of boxes, as of build")] = "",
    frames: Annotated[int, typer.Option(min=1, help="of each recording, evenly spread")] = 12,
    margin: Annotated[float, typer.Option(min=-1.0, max=1.0, help="discovery_min_margin")] = 0.5,
    fine_grid: Annotated[int, typer.Option(min=0, max=64, help="discovery_fine_grid")] = 0,
    checkpoint: Annotated[Path | None, typer.Option(help="that the prototypes are of")] = None,
    image_size: Annotated[int, typer.Option(min=0, max=4096, help="as of build")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, fp16 or int8")] = "auto",
) -> None:
    """Count what prototypes find in recordings with ground truth, image by image: recall and precision at IoU 0.5."""
    from sam2s_model.checkpoint import load_model
    from sam2s_model.config import TrackerConfig
    from sam2s_model.discovery.build import open_confirmed
    from sam2s_model.discovery.learnt import is_learnt, load_learnt
    from sam2s_model.discovery.prototype_file import load_prototypes
    from sam2s_model.discovery.prototypes import PrototypeBank
    from sam2s_model.discovery.score import score_prototypes
    from sam2s_ros.commands.checkpoints import checkpoint_or_default

    confirmed = [one for source in sources for one in open_confirmed(source)]
    path = checkpoint_or_default(checkpoint, confirmed[0].recording.kind, device, print)
    model = load_model(path, "auto", image_size, device, precision)
    learnt = load_learnt(file, model) if is_learnt(file) else None
    if learnt and not class_name:
        raise ConfigError(f"{file} has class prompts, which find one class each: give one of them as --class")
    told = score_prototypes(
        model,
        PrototypeBank(model.config.dim) if learnt else load_prototypes(file, model),
        confirmed,
        learnt=learnt,
        config=TrackerConfig(discovery_min_margin=margin, discovery_fine_grid=fine_grid),
        frames=frames,
        class_name=class_name,
        box_classes=_box_classes(label_set),
    )
    print(
        f"{told.frames} images, {told.objects} objects, {told.found} found: recall {told.recall:.3f}, "
        f"precision {told.precision:.3f}, class accuracy {told.class_accuracy:.3f}"
    )


@app.command()
def follow(
    file: Annotated[Path, typer.Argument(help="of prototypes")],
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE", help="recordings or data sets with masks")],
    discovery_every: Annotated[int, typer.Option(min=1, help="as the node's parameter, in frames")] = 10,
    auto_prompt_score: Annotated[float, typer.Option(min=0.0, max=1.0, help="as the node's parameter")] = 0.7,
    refind: Annotated[bool, typer.Option("--refind", help="as the node's parameter")] = False,
    recondition: Annotated[bool, typer.Option("--recondition", help="as the node's parameter")] = False,
    from_mask: Annotated[
        bool, typer.Option("--from-mask", help="start from the first frame's masks instead, to compare with")
    ] = False,
    every: Annotated[int, typer.Option(min=1, help="one frame in so many")] = 1,
    policy: Annotated[str, typer.Option(help="memory policy, as of `sam2s track`")] = "auto",
    checkpoint: Annotated[Path | None, typer.Option(help="that the prototypes are of")] = None,
    image_size: Annotated[int, typer.Option(min=0, max=4096, help="as of build")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, fp16 or int8")] = "auto",
) -> None:
    """Track recordings from an empty start, as the node with `auto_prompt: track`: share of frames with J over 0.5."""
    from sam2s_model.checkpoint import load_model
    from sam2s_model.discovery.build import open_confirmed
    from sam2s_model.discovery.prototype_file import load_prototypes
    from sam2s_model.tracking.tracker import Tracker
    from sam2s_ros.commands.checkpoints import checkpoint_or_default
    from sam2s_ros.evaluation.empty_start import follow_from_nothing, labels_of
    from sam2s_ros.interfaces.parameters import NodeConfig

    recordings = [one.recording for source in sources for one in open_confirmed(source) if one.boxes is None]
    if not recordings:
        raise ConfigError(f"{', '.join(sources)} has boxes alone: expected recordings with masks")
    model = load_model(
        checkpoint_or_default(checkpoint, recordings[0].kind, device, print), "auto", image_size, device, precision
    )
    bank = load_prototypes(file, model)
    config = NodeConfig(
        auto_prompt="off" if from_mask else "track",
        auto_prompt_score=auto_prompt_score,
        discovery_every=discovery_every,
        refind=refind,
        recondition=recondition,
    )
    for recording in recordings:
        tracker = Tracker(model, policy, label_set=labels_of(bank))
        tracker.discovery.use(bank)
        told = follow_from_nothing(tracker, recording.name, recording, config, every=every, from_mask=from_mask)
        print(
            f"{told.name}: {len(told.overlaps)} frames, J over 0.5 on {told.share_good:.1%}, mean J {told.mean:.3f}, "
            f"{told.objects} objects, {len(told.events)} events"
        )


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="of `sam2s prototypes build` or the node's ~/save_prototypes")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Say what a file of prototypes holds: the model, the classes, and how far apart they are."""
    from sam2s_model.discovery.describe import describe_prototypes

    described = describe_prototypes(file)
    if as_json:
        print(json.dumps(described, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{file}: prototypes of {described['model']} at {described['image_size']} px")
    for name in ("class", "prototypes", "regions", "to the background", "to the nearest class"):
        table.add_column(name)
    for row in described["classes"]:
        near = row["nearest_class"]
        table.add_row(
            row["name"] or "(background)",
            str(row["prototypes"]),
            f"{row['regions']:g}",
            _cosine(row["background_cosine"]),
            f"{near}, {_cosine(row['nearest_cosine'])}" if near else "",
        )
    Console().print(table)


def _box_classes(label_set: str) -> dict[int, str]:
    """Name of each value of boxes, by a table of classes: a file, or a name of config/labels; "": none."""
    if not label_set:
        return {}
    from sam2s_model.semantics import LabelSet
    from sam2s_ros.processes.dds import label_set_path

    table = LabelSet.from_yaml(label_set if Path(label_set).suffix else label_set_path(label_set))
    return {label.id: label.name for label in table.classes}


def _cosine(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
