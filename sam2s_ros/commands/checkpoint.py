"""`sam2s checkpoint`: what is published, download it, look into a file, convert it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sam2s_ros.commands.arguments import FAILED, INTERRUPTED, line_printer
from sam2s_ros.commands.groups import CommandGroup

if TYPE_CHECKING:  # loads torch
    from sam2s_model.checkpoint.describe import CheckpointDescription

app = typer.Typer(cls=CommandGroup, no_args_is_help=True, help="Look into checkpoint files, download and convert them.")

File = Annotated[str, typer.Argument(help="a .pt or .safetensors file, or a name of `sam2s checkpoint list`")]
AllowExtra = Annotated[
    bool, typer.Option("--allow-extra", help="leave out parts that the model does not have, and say which they are")
]
WIDE = 132  # columns of a terminal on which the whole list has its place


@app.command("list")
def list_() -> None:
    """List the checkpoints that are published, and which of them are here. Uses no network."""
    from rich.console import Console
    from rich.table import Column, Table

    from sam2s_model.config import MODELS
    from sam2s_model.published.catalog import CATALOG, cache_folder, how_to_get, packaged_checkpoints

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    names = ("name", "for", "trained at", "size", "licence", "where", "sha256")
    kept = len(names) if console.width >= WIDE else len(names) - 1  # on a narrow terminal the digests are left out
    table = Table(
        *(Column(name, no_wrap=name in ("name", "size", "sha256")) for name in names[:kept]),
        title=f"checkpoints, in {cache_folder()}",
    )
    for name, file in packaged_checkpoints().items():
        row = (name, "", "", _megabytes(file.stat().st_size), "Apache-2.0", "in the package", "")
        table.add_row(*row[:kept])
    for entry in CATALOG.values():
        place = cache_folder() / entry.file
        where = place.name if place.is_file() else "not here" if entry.url else "by hand"
        size = entry.size or (place.stat().st_size if place.is_file() else None)
        trained = f"{entry.image_size or MODELS[entry.model].image_size} px" + f", {entry.policy}" * bool(entry.policy)
        digest = _trust(entry.sha256, place)
        row = (entry.name, entry.purpose, trained, _megabytes(size), entry.licence, where, digest)
        table.add_row(*row[:kept])
    console.print(table)
    for entry in CATALOG.values():
        if not entry.url:
            print(f"{entry.name}: {entry.note}; {how_to_get(entry)}")


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:.1f} MB"


def _trust(known: str | None, place: Path) -> str:
    from sam2s_model.published.sha256 import stored_sha256

    digest = known or stored_sha256(place)
    return "not known" if digest is None else f"{'known' if known else 'stored'} {digest[:8]}"


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="of `sam2s checkpoint list`")],
    output: Annotated[
        Path | None,
        typer.Option(help="folder; default: $XDG_CACHE_HOME/sam2s or ~/.cache/sam2s, where the name finds it"),
    ] = None,
    mirror: Annotated[
        str,
        typer.Option(
            envvar="SAM2S_MIRROR",
            metavar="URL",
            help="folder that has the files under the same names: https, http, file",
        ),
    ] = "",
) -> None:
    """Download a published checkpoint, or finish a download that was cut, and check it.

    The exit code is 2 when the file is not the one that was published, 1 when it did not arrive.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from sam2s_model.errors import DownloadError
    from sam2s_model.published.catalog import published
    from sam2s_model.published.download import download as fetch

    entry = published(name)
    console = Console()
    columns = (TextColumn(entry.name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        bar = bars.add_task("", total=entry.size)
        try:
            path = fetch(
                entry,
                output,
                mirror=mirror,
                check=lambda path: _must_be(entry.model, path),
                progress=lambda done, total: bars.update(bar, completed=done, total=total),
                say=line_printer(console),
            )
        except DownloadError as error:
            bars.stop()
            print(error, file=sys.stderr)
            raise typer.Exit(FAILED) from error
        except KeyboardInterrupt:
            bars.stop()
            print("interrupted: what has arrived is kept, and the same command goes on from there", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
    use = f"; --checkpoint {entry.name} uses it" if output is None else ""
    console.print(
        f"{path}: {entry.model}, licence: {entry.licence}{use}", markup=False, highlight=False, soft_wrap=True
    )


def _must_be(model: str, path: Path) -> None:
    """Raise CheckpointError unless a file is a complete checkpoint of a model."""
    from sam2s_model.checkpoint.describe import describe
    from sam2s_model.errors import CheckpointError

    found = describe(path)
    if found.model != model or found.missing:
        half = f", without {len(found.missing)} tensors" if found.missing else ""
        raise CheckpointError(f"it is a checkpoint of {found.model}{half}, and {model} was expected")


@app.command()
def inspect(
    file: File,
    as_json: Annotated[
        bool, typer.Option("--json", help="print everything as JSON, also all names of missing tensors")
    ] = False,
    allow_extra: AllowExtra = False,
) -> None:
    """Say which model a file is a checkpoint of, what it holds and what it lacks."""
    from sam2s_model.checkpoint.describe import describe
    from sam2s_model.published.catalog import resolve_checkpoint

    found = describe(resolve_checkpoint(file), allow_extra)
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
        return
    memory = "yes" if found.memory else f"no, {len(found.missing)} tensors are missing: {_some(found.missing)}"
    wrapped = [f"under {name!r}" for name in found.wrappers] + [f"with the prefix {name!r}" for name in found.prefixes]
    rows = {
        "model": found.model,
        "that is": found.meaning,
        "file": f"{found.path}, {found.format}, {_megabytes(found.size)}",
        "sha256": found.sha256,
        "tensors": f"{found.tensors} ({', '.join(f'{count} {name}' for name, count in found.dtypes.items())})",
        "8-bit weights": _eight_bit(found) if found.in_eight_bits else "none",
        "parameters": f"{found.parameters:,}",
        "memory": memory,
        "long-term embedding": "yes" if found.long_term_embedding else "no",
        "classes": str(found.classes) if found.classes else "no class token",
        "input": f"{found.image_size} px",
        "stored": ", ".join(wrapped) or "as bare tensors",
        "not used": _some(found.beside) or "nothing",
        "not read": "; ".join(found.not_read) or "nothing",
        "left out": "; ".join(found.left_out) or "nothing",
        "adapter": found.adapter or "none",
        "metadata": ", ".join(f"{key}: {value}" for key, value in found.metadata.items()) or "none",
    }
    for name, value in rows.items():  # no table of rich, which cuts long values
        print(f"{name:<21}{value}")


def _eight_bit(found: CheckpointDescription) -> str:
    share = f"{found.in_eight_bits} of {found.tensors} tensors, one scale per output channel"
    source = found.metadata.get("source")
    return f"{share}; made from {source}, sha256 {found.metadata.get('source_sha256', 'not said')}" if source else share


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:4])} and {len(names) - 4} more"


@app.command()
def convert(
    source: File,
    target: Annotated[Path, typer.Argument(help="the file to write, .pt, .pth or .safetensors")],
    half: Annotated[bool, typer.Option("--half", help="store numbers as fp16: half the size")] = False,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="store weights in 8 bits, with a scale per output channel: a quarter of the size"),
    ] = False,
    int8_from: Annotated[
        int,
        typer.Option(
            min=1, help="numbers from which a weight is stored in 8 bits; more: a larger file, closer to its source"
        ),
    ] = 4096,
    image_size: Annotated[
        int, typer.Option(min=0, max=4096, help="side of the input that the file is to be used at, px; 0: the source's")
    ] = 0,
    force: Annotated[bool, typer.Option("--force", help="write over a file that is there")] = False,
    base: Annotated[
        str, typer.Option(help="checkpoint of the whole model, for a file with a part of it, such as a decoder or LoRA")
    ] = "",
    to: Annotated[
        str,
        typer.Option(help="transformers: under the names of Sam2VideoModel, EdgeTamVideoModel, Sam3TrackerVideoModel"),
    ] = "",
    adapter: Annotated[str, typer.Option(metavar="FILE", help="LoRA over the source, merged into its weights")] = "",
    mean_with: Annotated[
        str, typer.Option(help="checkpoint that the source was trained from: the mean of both forgets less (WiSE-FT)")
    ] = "",
    allow_extra: AllowExtra = False,
) -> None:
    """Check a checkpoint strictly, and write its tensors, without anything else, in another format."""
    from sam2s_model.checkpoint.convert import convert as write
    from sam2s_model.published.catalog import resolve_checkpoint

    done = write(
        resolve_checkpoint(source), target, half=half, int8=int8, int8_from=int8_from, image_size=image_size,
        force=force, base=resolve_checkpoint(base) if base else None, to=to, allow_extra=allow_extra,
        adapter=adapter or None, mean_with=resolve_checkpoint(mean_with) if mean_with else None,
    )  # fmt: skip
    rounded = f", {done.in_eight_bits} of them in 8 bits" if done.in_eight_bits else ""
    lacking = f", without the {len(done.missing)} tensors that its source lacks" if done.missing else ""
    print(f"{target}: {done.model}, {done.tensors} tensors{rounded}, {_megabytes(done.size)}{lacking}")
    if done.left_out:
        print(f"left out, since {done.model} has no such parts: {'; '.join(done.left_out)}")
