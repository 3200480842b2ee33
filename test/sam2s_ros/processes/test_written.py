"""Paths on a terminal can be copied whole, whatever its width."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console, Group
from rich.table import Table

from sam2s_ros.processes.written import written_files

FOLDER = Path("/home/somebody/operations") / ("long" * 20) / "output [3]"


def test_a_path_wider_than_the_terminal_is_one_line():
    console = Console(width=60, file=io.StringIO())
    files = [(FOLDER / "overlay.mp4", "the masks on the images"), (FOLDER / "logs", "of each process")]
    console.print(Group(Table(title="before it"), written_files(files)), crop=False)
    lines = console.file.getvalue().splitlines()
    for path, what in files:
        assert [line.split(what)[0].strip() for line in lines if what in line] == [str(path)]
