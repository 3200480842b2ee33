"""The tree of commands: every one has help, -h is --help, and a name that is none gets the nearest one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from sam2s_model.config import check_options, option
from sam2s_model.errors import ConfigError
from sam2s_model.training.store import TeacherStore
from sam2s_ros.commands.cli import app, main
from sam2s_ros.commands.groups import MainGroup
from sam2s_ros.commands.spread import spread

COMMANDS = (
    "demo", "track", "soak", "doctor", "console", "parameters", "compare", "node", "replay", "prompt", "status",
    "eval", "eval run", "eval live", "eval compare", "eval granularity", "train", "train evaluate", "train compare",
    "teacher pack", "teacher store",
    "bench", "bench memory", "bench codecs", "bench discovery", "bench console", "bench page",
    "export encoder", "checkpoint list", "checkpoint inspect",
    "checkpoint convert", "checkpoint download",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert main([*command.split(), "-h"]) == 0
    short = capsys.readouterr().out
    assert main([*command.split(), "--help"]) == 0
    assert capsys.readouterr().out == short and "Usage" in short and "--help" in short


def all_commands(group, path=()):
    """The words of each command and group of the tree."""
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from all_commands(command, (*path, name))


def test_no_help_shows_a_type_for_a_flag_or_a_list(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # so that no type is broken
    paths = list(all_commands(typer.main.get_command(app)))
    assert len(paths) > len(COMMANDS) and () in paths and ("eval", "run") in paths and ("prototypes", "build") in paths
    for path in paths:
        assert main([*path, "--help"]) == 0
        shown = capsys.readouterr().out
        assert not any(odd in shown for odd in ("<bool>", "BOOLEAN", "list[", "...}", "}......")), (path, shown)
    assert main(["track", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "{SOURCE}..." in shown and "<int range>" in shown  # what has a value still says of which type


def test_help_begins_with_what_most_people_want(capsys):
    assert main(["-h"]) == 0
    shown = capsys.readouterr().out.split("Commands")[1]
    places = [shown.index(f" {name} ") for name in MainGroup.FIRST]
    assert places == sorted(places) and places[-1] < min(shown.index(f" {n} ") for n in ("bench", "soak", "teacher"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("trak clip.mp4", "trak (did you mean track?): expected one of annotate, "),
        ("checkpoint dowload sam2s_tiny", "checkpoint dowload (did you mean download?): expected one of convert, "),
        ("teacher stor", "(did you mean store?)"),
        ("xyzzy", "xyzzy: expected one of annotate, "),
    ],
)
def test_a_command_that_is_none_gets_the_nearest(given, said, capsys):
    assert main(given.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("there is no command ") and said in error and error.count("\n") == 1


def test_an_option_that_is_none_gets_the_nearest(capsys):
    assert main(["track", "scene:", "--polcy", "fifo"]) == 2
    assert "--policy" in capsys.readouterr().err


@dataclass(frozen=True)
class _Speed:
    gear: Annotated[int, typer.Option(min=0, help="the gear")] = 1
    limit: float = option(2.5, "the limit", low=1.0)
    stop: Annotated[tuple[str, ...], typer.Option(help="repeatable")] = ()

    def __post_init__(self):
        check_options(self)


def test_the_fields_of_a_dataclass_are_options():
    app, taken = typer.Typer(), []

    @app.command()
    @spread
    def drive(speed: _Speed, road: Annotated[str, typer.Argument()], lights: bool = False) -> None:
        taken.append((speed, road, lights))

    run = CliRunner()
    assert run.invoke(app, ["A1"]).exit_code == run.invoke(app, ["A2", "--gear", "3", "--limit", "4"]).exit_code == 0
    assert run.invoke(app, ["A3", "--stop", "x", "--stop", "y"]).exit_code == 0
    assert taken == [(_Speed(), "A1", False), (_Speed(3, 4.0), "A2", False), (_Speed(stop=("x", "y")), "A3", False)]
    shown = run.invoke(app, ["--help"]).output
    assert "the gear" in shown and "the limit" in shown and "2.5" in shown
    assert run.invoke(app, ["A1", "--gear", "-1"]).exit_code == 2
    refused = run.invoke(app, ["A1", "--limit", "0.5"]).exception
    assert isinstance(refused, ConfigError) and str(refused) == "limit is 0.5: expected at least 1.0"


def test_what_memory_costs(capsys):
    assert main(["bench", "memory", "sam2s_pico", "--size", "64", "--policy", "fifo", "--policy", "none"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| policy | keys at 64 px | MB an object |"
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| fifo", "| none"]
    assert main(["bench", "memory", "sam2s_pica"]) == 2
    assert "'sam2s_pica'" in capsys.readouterr().err


def test_the_page_of_benchmarks(capsys):
    folder = Path(__file__).parents[3] / "docs" / "benchmarks"
    assert main(["bench", "page", str(folder)]) == 0
    assert capsys.readouterr().out == folder.with_suffix(".md").read_text()


def test_a_pack_and_a_store_of_a_teacher(tmp_path, capsys):
    import cv2
    import numpy as np

    images = tmp_path / "images"
    images.mkdir()
    for index in range(2):
        cv2.imwrite(str(images / f"{index}.png"), np.random.default_rng(index).integers(0, 255, (48, 64, 3), np.uint8))
    pack = tmp_path / "teacher.npz"
    small = ["--size", "64", "--device", "cpu", "--channels", "4"]
    assert main(["teacher", "pack", "sam2s_pico", str(pack), "--images", str(images), *small]) == 0
    assert f"{pack}: 2 images, " in capsys.readouterr().out.replace("\n", "") and pack.is_file()
    config = tmp_path / "teach.yaml"
    config.write_text(
        json.dumps(
            dict(
                checkpoint="sam2s_pico",
                size=64,
                device="cpu",
                coarse=1,
                fine=2,
                sources=[dict(kind="images", path=str(images))],
            )
        )
    )
    assert main(["teacher", "store", str(config), str(tmp_path / "store")]) == 0
    assert len(TeacherStore(tmp_path / "store")) == 2
    assert main(["teacher", "store", str(config), str(tmp_path / "other"), "--set", "sise=64"]) == 2
    assert "sise is not known" in capsys.readouterr().err
