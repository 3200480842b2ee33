"""Write docs/parameters.md out of the dataclasses: `sam2s parameters > docs/parameters.md`."""

from __future__ import annotations

import dataclasses

from sam2s_ros.console import node as console_node
from sam2s_ros.interfaces.parameters import TRACKER, Parameters
from sam2s_ros.recorder import node as recorder_node
from sam2s_ros.replay import node as replay_node
from sam2s_ros.tracker import pair as pair_node

INTRODUCTION = """\
# Parameters

Written by `sam2s parameters` from the dataclasses that the nodes read; a test holds this file equal to
them. ROS refuses what is out of range, and the reason is in its answer. Times are in s.
"""
NODES = {
    "tracker_node": (
        "Defaults as a file: [config/tracker.yaml](../config/tracker.yaml). *live*: may change at any time and takes "
        "effect between two frames. The others are fixed while the node is configured: run cleanup, set, configure.",
        TRACKER,
    ),
    "pair_node": ("Set at the start.", pair_node.PARAMETERS),
    "replay_node": ("Defaults as a file: [config/replay.yaml](../config/replay.yaml). *live*: may change at any time.",
                    replay_node.PARAMETERS),
    "recorder_node": ("Set at the start.", recorder_node.PARAMETERS),
    "console_node": ("Set at the start. `sam2s console` has most of them as options.", console_node.PARAMETERS),
}  # fmt: skip


def parameters_page() -> str:
    """Write the whole file, in Markdown."""
    parts = [INTRODUCTION]
    for node, (how, parameters) in NODES.items():
        parts += [f"\n## {node}\n\n{how}\n\n", parameters_table(parameters)]
    return "".join(parts)


def parameters_table(parameters: Parameters) -> str:
    """Write a row for each parameter: name, default, range or choices, meaning."""
    rows = ["| parameter | default | | meaning |\n", "|---|---|---|---|\n"]
    for name, field in parameters.specs().items():
        live = " *live*" if name in parameters.live else ""
        rows.append(f"| `{name}`{live} | {_shown(field.default)} | {_range(field)} | {field.metadata['doc']} |\n")
    return "".join(rows)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'


def _range(field: dataclasses.Field) -> str:
    low, high, choices = (field.metadata[key] for key in ("low", "high", "choices"))
    if choices:
        return ", ".join(choices)
    return f"{_shown(low)} to {_shown(high)}" if low is not None else ""
