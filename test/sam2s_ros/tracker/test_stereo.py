"""Where the two trackers of a rig are, and what of a command line they take."""

from __future__ import annotations

import pytest

from sam2s_ros.processes.arguments import remappings
from sam2s_ros.tracker.stereo import rig_arguments


@pytest.mark.parametrize(
    "rules, space, kept",
    [
        ([], "", []),
        (["__ns:=/rig"], "/rig", []),
        (["__ns:=/a/rig", "__ns:=/b"], "/a/rig", []),
        (["__ns:=/"], "", []),
        (["__ns:=/rig", "left/image:=cam/left"], "/rig", ["/rig/left/image:=/rig/cam/left"]),
        (["right/image:=/cam"], "", ["/right/image:=/cam"]),
        (
            ["/left/image:=/cam", "~/click:=clicks", "image:=cam"],
            "",
            ["/left/image:=/cam", "~/click:=clicks", "image:=cam"],
        ),
        (["other:__ns:=/x", "leftover/image:=cam"], "", ["other:__ns:=/x", "leftover/image:=cam"]),
    ],
)
def test_p45_a_rig_is_in_its_namespace(rules, space, kept):
    line = [
        "program",
        "--ros-args",
        "-p",
        "a:=1",
        *(part for rule in rules for part in ("-r", rule)),
        "--log-level",
        "info",
    ]
    found, arguments = rig_arguments(line)
    assert found == space and [str(rule) for rule in remappings(["program", *arguments])] == kept
    assert arguments[:3] == ["--ros-args", "--param", "a:=1"] and arguments[-2:] == ["--log-level", "info"]
