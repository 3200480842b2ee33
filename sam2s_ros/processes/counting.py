"""What the processes of a run have counted, as checks: each on its own, and all must add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

DROPS = (
    "dropped_overload", "dropped_stamp", "dropped_image", "dropped_disabled", "dropped_error", "dropped_late",
)  # fmt: skip


def drops_of(status: Any) -> dict[str, int]:
    """Read the images that were dropped, by cause. status: a TrackerStatus"""
    return {name: int(getattr(status, name)) for name in DROPS}


def dropped_by_cause(counts: Mapping[str, int], leave_out: Sequence[str] = ()) -> str:
    """Name the causes and how many images each has cost; "none" when none has."""
    shown = {name: counts[name] for name in DROPS if counts[name] and name not in leave_out}
    return ", ".join(f"{name.removeprefix('dropped_')} {count}" for name, count in shown.items()) or "none"


def count_check(what: str, ok: bool, numbers: str) -> dict[str, Any]:
    """Make a check: what it says, whether it holds, and the numbers."""
    return dict(what=what, ok=bool(ok), numbers=numbers)


def image_checks(sent: int, lost: int, counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """Check that every image that was sent has come to an end. counts: received, published, waiting, and DROPS"""
    received, published, waiting = (counts[name] for name in ("received", "published", "waiting"))
    dropped = sum(counts[name] for name in DROPS)
    return [
        count_check("sent = received + lost, lost >= 0", lost >= 0, f"{sent} = {received} + {lost}"),
        count_check(
            "received = published + dropped by cause, none waiting",
            received == published + dropped and waiting == 0,
            f"{received} = {published} + {dropped}, {waiting} waiting",
        ),
    ]


def ending_checks(published: int, codes: Mapping[str, int]) -> list[dict[str, Any]]:
    """Check that there are masks, and that every process ended by itself. codes: exit code of each"""
    return [
        count_check("something was published", published > 0, f"{published} masks"),
        count_check(
            "every process ended with code 0",
            not any(codes.values()),
            ", ".join(f"{name} {code}" for name, code in codes.items()),
        ),
    ]


def passed(summary: Mapping[str, Any]) -> bool:
    """Whether all `checks` of a summary hold."""
    return all(one["ok"] for one in summary["checks"])


def checks_table(summary: Mapping[str, Any]) -> Table:
    """Lay the `checks` of a summary out for a terminal."""
    table = Table(show_header=False, title="checks", title_justify="left")
    for one in summary["checks"]:
        table.add_row("[green]OK[/]" if one["ok"] else "[red]FAIL[/]", one["what"], one["numbers"])
    return table
