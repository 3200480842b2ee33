"""Reports and their differences for a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sam2s_model.evaluation.scores import OF_OBJECTS

FIGURES = {"J": "j", "F": "f", "J&F": "jf", "Dice": "dice", "CIoU": "ciou"}

MOST_ODD = 10  # recordings of which the first odd entry is shown


def report_table(report: dict[str, Any], output: Path) -> Group:
    """Lay a report out for a terminal. Lines are not wrapped: print without `crop`.

    report: as `run_evaluation` returns it; output: the folder it wrote to
    """
    timing, live = report["timing"], report["live"]
    models = "; ".join(timing["models"]) or "nothing"
    title = f"{models} on {'; '.join(timing['devices']) or 'nothing'}, prompt: {report['protocol']}"
    title += f", live at {report['configuration']['rate']:g}x" if live else ""
    table = Table(title=title, title_justify="left")
    table.add_column("recording", overflow="fold")
    for name in ("frames", *FIGURES, "FPS", "MB"):
        table.add_column(name, justify="right")
    for data_set in report["data_sets"]:
        table.add_row(data_set["name"], "", *_percents(data_set), "", "", style="bold")
        for own in report["recordings"]:
            if own["data_set"] == data_set["name"]:
                time = timing["recordings"][f"{own['data_set']}/{own['name']}"]
                shown = [_number(time["fps"]), _number(time["memory_bytes"] / 1e6)]
                table.add_row(f"  {own['name']}", str(own["scored_frames"]), *_percents(own["figures"]), *shown)
        table.add_section()
    memory = timing["memory_bytes"] / 1e6 if timing["memory_bytes"] else None
    table.add_row(
        "mean of data sets", "", *_percents(report["overall"]), _number(timing["fps"]), _number(memory), style="bold"
    )
    odd = sum(own["odd"]["count"] for own in report["recordings"])
    came = f"played, masks of {live['delivered']}" if live else "read, none dropped"
    bare = sum(own["frames_read"] - own["annotated"] for own in report["recordings"])
    lines = [
        f"{report['frames_read']} frames {came}, {bare} of them without a mask; {odd} odd images or masks left out"
    ]
    lines += _odd_lines(report["recordings"])
    lines += [f"{own['data_set']}/{own['name']}: {note}" for own in report["recordings"] for note in own["notes"]]
    lines += [f"nothing was scored of {name}: {reason}" for name, reason in report["unscored"].items()]
    lines += ["interrupted: the same command goes on with what is left"] if report["interrupted"] else []
    lines += [f"failed: {name}: {reason}" for name, reason in report["failed"].items()]
    lines += [str(output / "report.html")]
    texts = (Text(line, no_wrap=True, overflow="ignore") for line in lines)
    return Group(table, *([_live_table(live)] if live else []), *texts)


def _odd_lines(recordings: list[dict[str, Any]]) -> list[str]:
    """For the first recordings with something left out: how much, and the first of it."""
    with_odd = [own for own in recordings if own["odd"]["count"]]
    lines = [
        f"{own['data_set']}/{own['name']}: {own['odd']['count']} left out, the first: {own['odd']['named'][0]}"
        for own in with_odd[:MOST_ODD]
    ]
    return lines + (
        [f"and {len(with_odd) - MOST_ODD} more recordings, see the report"] if len(with_odd) > MOST_ODD else []
    )


def _live_table(live: dict[str, Any]) -> Table:
    """live: of a report, see `live_report`"""
    table = Table(
        title="live; latency from the publication of an image to the arrival of its masks, ms", title_justify="left"
    )
    table.add_column("recording", overflow="fold")
    for name in ("dropped %", "p50", "p90", "p99", "streaming J&F"):
        table.add_column(name, justify="right")
    for name, own in (*live["recordings"].items(), ("all; mean of data sets", live)):
        latency = own["sent_to_arrival_ms"]
        cells = [_number(latency.get(q)) for q in ("p50", "p90", "p99")]
        table.add_row(name, _percent(own["dropped"]), *cells, _percent(own["streaming"]["jf"]))
    return table


def comparison_tables(first: str, other: str, found: dict[str, Any]) -> Group:
    """found: of `compare`"""
    table = Table(title=f"{other} - {first}", title_justify="left")
    table.add_column("recording", overflow="fold")
    for name in FIGURES:
        if FIGURES[name] in OF_OBJECTS:
            table.add_column(name, justify="right")
    for row in found["recordings"]:
        table.add_row(
            f"{row['data_set']}/{row['name']}", *(f"{100 * row[name]['difference']:+.1f}" for name in OF_OBJECTS)
        )
    table.add_section()
    alone = len(found["recordings"]) == len({row["data_set"] for row in found["recordings"]})
    form = "{difference:+.1f}" if alone else "{difference:+.1f} [{low:+.1f}, {high:+.1f}]"
    cells = (form.format(**{k: 100 * v for k, v in found["overall"][name].items()}) for name in OF_OBJECTS)
    table.add_row("overall", *cells, style="bold")
    interval = "no interval: each data set has one recording" if alone else "in brackets: 95 % bootstrap interval"
    lines = [f"in percent; {interval}"]
    changed = [f"{name}: {a} and {b}" for name, (a, b) in found["configurations"].items()]
    lines += [f"different in {', '.join(changed)}" if changed else "same configuration"]
    lost = found["left_out"]
    if lost["first"] or lost["other"]:
        lines.append(
            f"left out: {lost['first']} objects that only the first has, {lost['other']} that only the other has"
        )
    return Group(table, *(Text(line) for line in lines))


def _percents(figures: dict[str, Any]) -> list[str]:
    return [_percent(figures[name]) for name in FIGURES.values()]


def _percent(value: float | None) -> str:
    return _number(None if value is None else 100 * value)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
