"""The log of a run: lines of JSON, a bar, a plot."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sam2s_model.errors import TrainingError
from sam2s_model.files.whole_files import replacing

SMOOTHED = 20  # a smoothed curve is the mean over this part of its points
COLUMNS = ("loss", "iou_seen", "occlusion", "lr")  # of a line, shown beside the bar


class Log:
    """The lines of `path`, one dictionary each, ascending by step."""

    def __init__(self, path: Path):
        self.path = path

    def lines(self) -> list[dict[str, Any]]:
        """Read all lines; one that a kill has cut short is left out."""
        out = []
        for text in self.path.read_text().splitlines() if self.path.exists() else []:
            line = _parsed(text)
            if line is None:
                break
            out.append(line)
        return out

    def forget_from(self, step: int) -> None:
        """Drop what was written of steps that will be done again. Raises TrainingError."""
        kept = [line for line in self.lines() if line["step"] < step]
        with replacing(self.path, TrainingError) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def write(self, line: Mapping[str, Any]) -> None:
        """Add a line. Raises TrainingError."""
        try:
            with open(self.path, "a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise TrainingError(f"{self.path} cannot be written to: {error.strerror}") from error


def alike(line: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether the figures of two evaluations compare: what they depend on, `of`, is the same.

    That is, as far as both say it: an older log says less of it, or nothing.
    """
    one, two = line.get("of", {}), other.get("of", {})
    return all(one[key] == two[key] for key in one.keys() & two.keys())


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


class TrainingProgress:
    """A bar on a terminal, otherwise a line now and then."""

    def __init__(self, steps: int, first: int, quiet: bool = False):
        self._console = Console(quiet=quiet)
        text = TextColumn("{task.fields[figures]}")
        columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), text)
        self._bar = Progress(*columns, console=self._console, disable=quiet or not self._console.is_terminal)
        self._task = self._bar.add_task("", total=steps, completed=first, figures="")
        self._steps, self._first, self._done = steps, first, first
        self._began = time.monotonic()

    def __enter__(self) -> TrainingProgress:
        self._bar.__enter__()
        return self

    def __exit__(self, *problem) -> None:
        self._bar.__exit__(*problem)

    def step(self, done: int) -> None:
        self._done = done
        self._bar.update(self._task, completed=done)

    def line(self, line: Mapping[str, Any]) -> None:
        figures = ", ".join(f"{name} {line[name]:.4g}" for name in COLUMNS if name in line)
        self._bar.update(self._task, figures=figures)
        if not self._console.is_terminal:
            self.log(f"step {line['step']}: {figures}, {line['seconds']:.0f} s{self._left()}")

    def _left(self) -> str:
        """Say how long the steps take that are left, at the rate of this session so far, evaluations included."""
        done, left = self._done - self._first, self._steps - self._done
        if not done or not left:
            return ""
        seconds = round((time.monotonic() - self._began) / done * left)
        return f", {seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d} left"

    def log(self, text: str) -> None:
        self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)


def plot_log(log: Log, path: Path) -> str:
    """Draw loss, IoU and J&F over the steps, as they are and smoothed. Returns what is wrong, or nothing."""
    try:
        import matplotlib
    except ImportError:
        return "no plot: matplotlib is not installed"
    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    lines = log.lines()
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    seen = [(line["step"], 100 * line["iou_seen"]) for line in lines if line.get("iou_seen") is not None]
    evaluated = [line for line in lines if line.get("jf") is not None]
    scored = [(line["step"], line["jf"]) for line in evaluated if alike(line, evaluated[-1])]
    _curve(left, losses, "#2060a0")
    left.set(title="loss", xlabel="step", yscale="log")
    for axis in (left.yaxis.set_major_formatter, left.yaxis.set_minor_formatter):
        axis(ticker.LogFormatter(minor_thresholds=(2, 0.5)))
    _curve(right, seen, "#5080b0", "IoU in training")
    if scored:
        right.plot(*zip(*scored, strict=True), color="#c04020", marker="o", label="J&F")
        if scored[0][0] == 0:
            right.axhline(scored[0][1], color="#c04020", linestyle=":", label="J&F before")
    right.set(title="masks, %", xlabel="step", ylim=(0, 100))
    if seen or scored:
        right.legend(loc="lower right")
    try:
        with replacing(path, TrainingError) as temporary:
            figure.savefig(temporary, dpi=110, format="png")
    except TrainingError as error:
        return f"no plot: {error}"
    finally:
        pyplot.close(figure)
    return ""


def _curve(axes: Any, points: Sequence[tuple[float, float]], color: str, label: str | None = None) -> None:
    """Draw points faintly, and their running mean over them."""
    if not points:
        return
    steps, values = zip(*points, strict=True)
    axes.plot(steps, values, color=color, alpha=0.3)
    axes.plot(steps, smoothed(values), color=color, label=label)


def smoothed(values: Sequence[float]) -> list[float]:
    """Return the mean around each value, over a twentieth of them; towards the ends over as many on either side."""
    reach = len(values) // (2 * SMOOTHED)
    out = []
    for i in range(len(values)):
        own = min(reach, i, len(values) - 1 - i)
        out.append(sum(values[i - own : i + own + 1]) / (2 * own + 1))
    return out
