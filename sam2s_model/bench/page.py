"""Write docs/benchmarks.md out of docs/benchmarks: `sam2s bench page docs/benchmarks > docs/benchmarks.md`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sam2s_model.bench.report import machine_line, read, sheets, timed_lines

INTRODUCTION = """\
# Benchmarks

Written by `make benchmarks`, which runs the command above each section's tables and keeps its figures in
`docs/benchmarks/`; a test holds this page equal to those files.

A step is timed when the memory is full: 7 memories and 16 pointers of each object, with the policies that keep more
also those. Weights are random where no checkpoint is named: the time of a step does not depend on them. *Each
more*: what each further object adds, as a share of the step with one. *Floor*: the operations that no program for
the same answers can do without (`sam2s_model/bench/floor.py`), at the rate at which this machine multiplies large
matrices in the same precision (int8: in fp32), or the bytes at the rate at which it copies, whichever takes longer;
*reached* is the floor's share of the median, in brackets for each part. *GFLOP*: of a step as it is done, and the
least. *Peak*: of the whole process on a CPU, of torch's allocations on a GPU, without the peer. A peer has the same
weights, image, objects and full memory, and takes turns with ours step by step; *ratio*: its median over ours.
With `--steps 0` nothing is timed: operations and floors alone, of what takes minutes a step.
"""


def benchmarks_page(folder: Path) -> str:
    """Write the whole page. folder: with the reports, in the order of their names. Raises ConfigError."""
    return INTRODUCTION + "".join(map(_section, sorted(folder.glob("*.json"))))


def _section(path: Path) -> str:
    report, plot = read(path), path.with_suffix(".png")
    parts = [
        f"## {path.stem}",
        f"{machine_line(report)}; {report['date']}.",
        f"    {report['command']}",
        " ".join(timed_lines(report)),
        *(_table(*sheet) for sheet in sheets(report)),
        *([f"![{path.stem}]({plot.parent.name}/{plot.name})"] if plot.exists() else []),
    ]
    return "".join(f"\n{part}\n" for part in parts)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
