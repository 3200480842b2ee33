"""What a demo ended with: the summary, its checks, and the table for a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
from sam2s_ros.processes.written import written_files


def summarise(
    *,
    options,
    source,
    labels: list[int],
    object_ids: list[int],
    status,
    sent: int,
    rate: float,
    played_hz: float,
    recorded: dict[str, Any],
    codes: dict[str, int],
) -> dict[str, Any]:
    """Return the content of summary.json.

    labels, object_ids: ground-truth label (0: not known) and tracked id of each prompt
    status: the tracker's last TrackerStatus; sent: frames that the replay published
    recorded: the recorder's recorder.json; codes: exit code of each process
    """
    received, published = int(status.received), int(status.published)
    counts = dict(
        sent=sent, received=received, lost=sent - received, published=published, **drops_of(status),
        waiting=int(status.waiting),
    )  # fmt: skip
    return dict(
        command="demo",
        source=dict(spec=source.spec, kind=source.kind, size=list(source.size), fps=source.fps, length=source.length),
        checkpoint=str(options.engine.checkpoint),
        model=status.model,
        device=status.device,
        image_size=options.engine.image_size or None,  # None: the model's own
        rate=dict(asked=rate, reached=round(played_hz, 3)),
        counts=counts,
        latency_ms=dict(
            receive_to_publish=dict(p50=round(status.latency_p50, 3), p99=round(status.latency_p99, 3)),
            step=recorded["step_ms"],
            stamp_to_recorder=recorded["stamp_to_arrival_ms"],
        ),
        iou=_iou(labels, object_ids, recorded["iou"]),
        memory=dict(tracker_bytes=int(status.memory_bytes), process_bytes=int(status.process_bytes)),
        recorder={k: v for k, v in recorded.items() if k not in ("iou", "step_ms", "stamp_to_arrival_ms")},
        exit_codes=codes,
        checks=_checks(counts, recorded, codes),
    )


def _iou(labels: list[int], object_ids: list[int], pairs: list[dict]) -> list[dict[str, Any]]:
    """Mean IoU of each prompted object with the label whose box prompted it; frames after the prompted one."""
    found = {(pair["label"], pair["object_id"]): pair for pair in pairs}
    rows = []
    for label, object_id in zip(labels, object_ids, strict=True):
        pair = found.get((label, object_id))
        if pair:
            rows.append(dict(label=label, object_id=object_id, mean_iou=pair["mean_iou"], frames=pair["frames"]))
    return rows


def _checks(counts: dict[str, int], recorded: dict[str, Any], codes: dict[str, int]) -> list[dict[str, Any]]:
    """Compare what replay, tracker and recorder have counted on their own."""
    published, masks, in_bag = counts["published"], recorded["masks"], recorded["messages_in_bag"]
    gaps, unmatched = recorded["sequence_gaps"], recorded["masks_without_image"]
    return [
        *image_checks(counts["sent"], counts["lost"], counts),
        count_check(
            "the recorder received every mask that was published",
            masks == published and gaps == 0,
            f"{masks} of {published}, {gaps} missing in the sequence",
        ),
        count_check(
            "every mask has the stamp of a recorded image",
            unmatched == 0,
            f"{recorded['matched']} matched, {unmatched} not",
        ),
        count_check(
            "masks.mcap holds every mask",
            in_bag == masks and not recorded["error"],
            recorded["error"] or f"{in_bag} of {masks}",
        ),
        *ending_checks(published, codes),
    ]


def demo_tables(summary: dict[str, Any], output: Path) -> Group:
    """Lay the summary out for a terminal: print without `crop`. output: the folder of the results"""
    size = summary["image_size"]
    table = Table(
        title=f"{summary['model']} on {summary['device']}" + (f", {size} px" if size else ""),
        title_justify="left",
        show_header=False,
    )
    table.add_column(style="bold")
    table.add_column(justify="right")
    counts = summary["counts"]
    table.add_row(
        "frames sent / received / published", f"{counts['sent']} / {counts['received']} / {counts['published']}"
    )
    table.add_row("lost on the way to the tracker", str(counts["lost"]))
    table.add_row("dropped by cause", dropped_by_cause(counts))
    table.add_row("rate asked / reached", f"{summary['rate']['asked']:.3g} / {summary['rate']['reached']:.3g} Hz")
    latency = summary["latency_ms"]
    table.add_row("receive to publish p50 / p99", "{p50:.1f} / {p99:.1f} ms".format(**latency["receive_to_publish"]))
    for name, title in (("step", "receive to masks ready"), ("stamp_to_recorder", "image stamp to recorder")):
        if latency[name]["count"]:
            table.add_row(
                f"{title} p50 / p90 / p99 / max",
                "{p50:.1f} / {p90:.1f} / {p99:.1f} / {max:.1f} ms".format(**latency[name]),
            )
    for row in summary["iou"]:
        table.add_row(
            f"mean IoU of object {row['object_id']} (label {row['label']})",
            f"{row['mean_iou']:.3f} over {row['frames']} frames",
        )
    files = [
        (output / "overlay.mp4", "the masks on the images"),
        (output / "masks.mcap", "every TrackedMasks message, as a rosbag2 file"),
        (output / "frames.jsonl", "one line a frame: latencies, states, IoU"),
        (output / "tracks.csv", "a row for each object of each frame"),
        (output / "summary.json", "this table"),
        (output / "logs", "log and parameters of each process"),
    ]
    return Group(table, checks_table(summary), written_files(files))
