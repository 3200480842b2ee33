"""`sam2s status`: what the running trackers do, as a table that follows them or in one line each."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sam2s_ros.commands.arguments import FAILED, line_printer

if TYPE_CHECKING:  # take a while to import
    from rich.console import RenderableType

    from sam2s_ros.msg import TrackedMasks
    from sam2s_ros.processes.running_trackers import FollowedTracker

SILENT = 2.0  # s without a heartbeat from which it is said
MEASURED = 1.5  # s for which --once listens, so that a rate can be told
REFRESH = 4.0  # Hz
EVERY = 5.0  # s between the lines where there is no terminal


def status(
    once: Annotated[bool, typer.Option("--once", help="print one line for each tracker, and end")] = False,
    tracker: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="name of a node; repeatable; default: all that are found")
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=600.0, help="longest wait for the first tracker, or for each --tracker, s")
    ] = 5.0,
) -> None:
    """Show state, objects, rate and drops of the running trackers, from ~/status and ~/masks. Until Ctrl-C.

    Without a terminal it prints a line for each tracker every 5 s. The exit code is 1 when there is no tracker, or,
    with --once, when one is silent.
    """
    from rich.console import Console
    from rich.live import Live

    from sam2s_ros.processes.dds import environment

    os.environ.update(environment())  # read when the node's participant is made
    from sam2s_ros.processes.running_trackers import RunningTrackers, full_name, where

    console = Console()
    names = [full_name(name) for name in tracker or ()]
    with RunningTrackers("sam2s_status") as running:
        found = running.names(timeout, names)
        if missing := [name for name in names if name not in found] or (() if found else ["any tracker"]):
            line_printer(console)(f"{', '.join(missing)} not found in {where()}: see `sam2s doctor --node`")
            raise typer.Exit(FAILED)
        if once:
            followed = _listened(running.follow(names), timeout)
            for one in followed:
                line_printer(console)(line(one))
            if any(one.status is None for one in followed):
                raise typer.Exit(FAILED)
            return
        while not console.is_terminal:
            for one in _listened(running.follow(names), timeout):
                line_printer(console)(line(one))
            time.sleep(EVERY - MEASURED)
        with Live(console=console, refresh_per_second=REFRESH) as live:
            while True:
                live.update(table(running.follow(names)))
                time.sleep(1 / REFRESH)


def _listened(followed: list[FollowedTracker], patience: float) -> list[FollowedTracker]:
    deadline = time.monotonic() + patience
    while any(one.status is None for one in followed) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(MEASURED)
    return followed


def line(one: FollowedTracker) -> str:
    """Return one line about a tracker."""
    from sam2s_ros.interfaces.status_text import dropped

    if one.status is None:
        return f"{one.name}: no heartbeat"
    drops = [f"{count} {name.removeprefix('dropped_')}" for name, count in dropped(one.status).items() if count]
    parts = [
        f"{state_of(one)}, {objects(one.masks, one.status.objects)}",
        f"{one.rate():.1f} masks/s",
        f"latency {_ms(one.status.latency_p50)}, p99 {_ms(one.status.latency_p99)}",
        f"received {one.status.received}, published {one.status.published}, dropped {', '.join(drops) or 'none'}",
        one.status.message,
    ]
    return f"{one.name}: " + "; ".join(parts)


def table(followed: Sequence[FollowedTracker]) -> RenderableType:
    """Lay the trackers out for a terminal, with their objects."""
    from rich.markup import escape
    from rich.table import Table

    from sam2s_ros.interfaces.status_text import FINE, dropped

    made = Table(title="sam2s status, Ctrl-C ends it", title_justify="left", show_lines=True)
    for column in ("tracker", "state", "objects", "masks/s", "latency ms\np50 / p99", "images\nreceived / published"):
        made.add_column(column, overflow="fold")
    for one in followed:
        if one.status is None:
            made.add_row(escape(one.name), "[red]no heartbeat[/]", "", "", "", "")
            continue
        colour = "green" if one.status.state in FINE and (one.silence() or 0) < SILENT else "red"
        drops = [f"{name.removeprefix('dropped_')} {count}" for name, count in dropped(one.status).items() if count]
        made.add_row(
            escape(one.name),
            f"[{colour}]{state_of(one)}[/]\n{escape(one.status.message)}",
            escape(objects(one.masks, one.status.objects).replace("; ", "\n")),
            f"{one.rate():.1f}",
            f"{_ms(one.status.latency_p50)} / {_ms(one.status.latency_p99)}",
            f"{one.status.received} / {one.status.published}" + "".join(f"\n{text}" for text in drops),
        )
    return made


def state_of(one: FollowedTracker) -> str:
    """Name a tracker's state, and how old that is when it has fallen silent."""
    from sam2s_ros.interfaces.status_text import state_name

    if one.status is None:
        return "no heartbeat"
    silence = one.silence() or 0.0
    return state_name(one.status.state) + (f", silent for {silence:.0f} s" if silence >= SILENT else "")


def objects(masks: TrackedMasks | None, count: int) -> str:
    """List the objects of the newest masks. count: as the status has it, for when no masks have come"""
    from sam2s_model.tracks import State

    if masks is None:
        return f"{count} object{'s' * (count != 1)}, no masks here so far"
    if not masks.objects:
        return "no objects"
    names = {state.value: state.name for state in State}
    return "; ".join(
        f"{one.object_id} {one.class_name} {names.get(one.state, one.state)} {one.score:.2f}, {one.area} px"
        for one in masks.objects
    )


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if math.isfinite(value) and value >= 0 else "-"
