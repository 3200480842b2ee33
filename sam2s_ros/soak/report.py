"""What a soak ended with: the figures, the checks, and the table for a person."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group
from rich.table import Table

from sam2s_ros.processes.counting import (
    checks_table,
    count_check,
    dropped_by_cause,
    drops_of,
    ending_checks,
    image_checks,
)
from sam2s_ros.soak.client import SoakLog

if TYPE_CHECKING:
    from sam2s_ros.soak.run import SoakOptions

PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9}
WARM_UP, WARM_UP_SHARE = 300.0, 0.25  # s, and share of the run: the lesser of them passes before memory is compared
READINGS = 10  # of memory, whose median is taken at each end: a second
POINTS = 40  # of memory over the run, to see whether it has come to rest


def soak_report(options: SoakOptions, model: dict[str, Any], log: SoakLog, codes: dict[str, int]) -> dict[str, Any]:
    """Return the content of the JSON file.

    model: what the tracker ran; log: of a run that has ended; codes: exit code of each process
    """
    status, seconds = log.status, log.ended - log.began
    assert status is not None, "a run that has ended has one"
    received, published = int(status.received), int(status.published)
    counts = dict(
        sent=log.sent, lost_before_node=log.sent - received, received=received, published=published,
        **drops_of(status),
        waiting=int(status.waiting), at_subscriber=len(log.stamps),
    )  # fmt: skip
    stamps, arrived, left = (np.asarray(times, np.int64) for times in (log.stamps, log.received, log.published))
    return dict(
        command="soak",
        hardware=hardware(),
        device=status.device,
        model=dict(model, name=status.model),
        camera=dict(size=list(options.size), encoding="bgr8", rate=options.rate, reached=round(log.sent / seconds, 3)),
        seconds=round(seconds, 1),
        objects=int(status.objects),
        counts=counts,
        added_latency_ms=percentiles((left - arrived) / 1e6),
        age_ms=percentiles((left - stamps) / 1e6),
        memory=_memory(log, seconds),
        cpu_percent_of_a_core={name: round(100 * used / seconds, 1) for name, used in log.cpu.items()},
        checks=_checks(counts, log, codes),
    )


def hardware() -> str:
    """Name the CPU, the cores that this process may use, and the memory.

    A GPU is named in the status of the node.
    """
    with open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{(names or [platform.machine()])[0]}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB"


def percentiles(values: np.ndarray) -> dict[str, float]:
    """Of all values; only their count when there are none."""
    if not len(values):
        return dict(count=0)
    found = dict(zip(PERCENTILES, np.percentile(values, list(PERCENTILES.values())), strict=True), max=values.max())
    return dict(count=len(values), **{name: round(float(value), 3) for name, value in found.items()})


def _memory(log: SoakLog, seconds: float) -> dict[str, Any]:
    """Resident memory of the node's process after the warm-up and at the end, bytes, as it tells them itself."""
    times, resident = np.asarray(log.times), np.asarray(log.resident)
    after = min(WARM_UP, WARM_UP_SHARE * seconds)
    warm = float(np.median(resident[times >= log.began + after][:READINGS]))
    end = float(np.median(resident[times <= log.ended][-READINGS:]))
    series = [int(np.median(part)) for part in np.array_split(resident, min(POINTS, len(resident)))]
    return dict(
        after_s=round(after, 1),
        warm=int(warm),
        end=int(end),
        growth_percent=round(100 * (end / warm - 1), 3),
        series=series,
    )


def _checks(counts: dict[str, int], log: SoakLog, codes: dict[str, int]) -> list[dict[str, Any]]:
    published, seen = counts["published"], counts["at_subscriber"]
    return [
        *image_checks(counts["sent"], counts["lost_before_node"], counts),
        count_check(
            "and so with what waits in every status",
            log.unbalanced == 0 < len(log.times),
            f"{len(log.times) - log.unbalanced} of {len(log.times)} statuses",
        ),
        count_check("the subscriber has every mask", seen == published and not log.gaps, f"{seen} of {published}"),
        *ending_checks(published, codes),
    ]


def soak_tables(found: dict[str, Any]) -> Group:
    """Lay the report out for a terminal."""
    counts, camera, model, memory = found["counts"], found["camera"], found["model"], found["memory"]
    width, height = camera["size"]
    table = Table(title=found["hardware"], title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("tracker", model["name"] + (f" on {found['device']}" if model["checkpoint"] else ""))
    if model["checkpoint"]:
        table.add_row("checkpoint", f"{Path(model['checkpoint']).name}, {model['image_size']} px, {model['dtype']}")
    table.add_row(
        "camera", f"{width}x{height} {camera['encoding']}, {camera['rate']:g} Hz, {camera['reached']:.2f} Hz reached"
    )
    table.add_row("run", f"{found['seconds'] / 60:.1f} min, {found['objects']} object")
    table.add_row(
        "images sent / received / published", f"{counts['sent']} / {counts['received']} / {counts['published']}"
    )
    table.add_row("lost between camera and node", str(counts["lost_before_node"]))
    table.add_row("replaced by a newer image", str(counts["dropped_overload"]))
    table.add_row("dropped by other causes", dropped_by_cause(counts, leave_out=["dropped_overload"]))
    for name, title in (("added_latency_ms", "added latency"), ("age_ms", "age when published")):
        values = found[name]
        names = [*PERCENTILES, "max"]
        shown = " / ".join(f"{values[n]:.1f}" for n in names) if values["count"] else "none"
        table.add_row(f"{title} {' / '.join(names)}, ms", shown)
    warm, end = memory["warm"] / 1e6, memory["end"] / 1e6
    growth = f"{warm:.1f} -> {end:.1f} MB, {memory['growth_percent']:+.2f} %"
    table.add_row(f"memory of the node, from {memory['after_s']:g} s on", growth)
    cpu = found["cpu_percent_of_a_core"]
    table.add_row(f"CPU of {' / '.join(cpu)}, % of a core", " / ".join(f"{share:.0f}" for share in cpu.values()))
    return Group(table, checks_table(found))
