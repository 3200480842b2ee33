"""Command lines of nodes: what is for which node, and what is for none."""

from __future__ import annotations

from pathlib import Path

import pytest
import rclpy
import yaml
from rclpy.node import Node

from sam2s_model.errors import ConfigError
from sam2s_ros.processes.arguments import (
    Remapping,
    is_for,
    join_arguments,
    parameter_argument,
    parameter_files,
    parameters_file,
    remappings,
    sections,
    split_arguments,
)
from sam2s_ros.processes.process import check_arguments, initialise

LINE = [
    "program",
    "--ros-args",
    "-p",
    "a:=1",
    "-r",
    "image:=/cam",
    "--params-file",
    "/a.yaml",
    "--",
    "more",
    "--ros-args",
    "--remap",
    "__ns:=/x",
]


def test_arguments_of_ros_and_of_the_program():
    own, ros = split_arguments(LINE)
    assert own == ["program", "more"]
    assert ros == [
        ("--param", "a:=1"),
        ("--remap", "image:=/cam"),
        ("--params-file", "/a.yaml"),
        ("--remap", "__ns:=/x"),
    ]
    assert split_arguments(join_arguments(ros)) == ([], ros)
    assert parameter_files(LINE) == [Path("/a.yaml")]
    assert [str(rule) for rule in remappings(LINE)] == ["image:=/cam", "__ns:=/x"]


@pytest.mark.parametrize(
    "text, rule",
    [
        ("image:=/cam", Remapping("", "image", "/cam")),
        ("tracker:~/click:=/a", Remapping("tracker", "~/click", "/a")),
        ("rostopic://image:=cam", Remapping("", "rostopic://image", "cam")),
        ("tracker:__ns:=/x", Remapping("tracker", "__ns", "/x")),
        ("image=cam", None),
    ],
)
def test_a_rule_is_read_as_ros_reads_it(text, rule):
    assert Remapping.parse(text) == rule and (rule is None or str(rule) == text)


@pytest.mark.parametrize(
    "text, found",
    [
        ("/**:\n  ros__parameters: {a: 1}\n", ["/**"]),
        (
            "tracker_node:\n  ros__parameters: {a: 1}\n/left/tracker:\n  ros__parameters: {b: 1}\n",
            ["tracker_node", "/left/tracker"],
        ),
        ("rig:\n  left:\n    tracker:\n      ros__parameters: {a: 1}\n", ["rig/left/tracker"]),
        ("a: 1\n", []),
        ("", []),
    ],
)
def test_sections_of_a_parameters_file(tmp_path, text, found):
    file = tmp_path / "parameters.yaml"
    file.write_text(text)
    assert list(sections(file)) == found


@pytest.mark.parametrize(
    "text, value",
    [
        ("2026-31-12", "2026-31-12"),
        ("2026-12-31", "2026-12-31"),
        ("7", 7),
        ("true", True),
        ("données", "données"),
        ("!!timestamp x", "x"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_rcl_reads_is_read(tmp_path, text, value, encoding):
    file = tmp_path / "parameters.yaml"
    file.write_text(f"/**:\n  ros__parameters: {{output: {text}}}\n", encoding=encoding)
    assert sections(file) == {"/**": {"output": value}}


NONE = [b"a: [", b"a: !!int x", b"a: !!bool x", b"a: !!int ''", b"\xff\xff\xff", b"[" * 20000]


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_parameters_file_is_one_error(tmp_path, text):
    file = tmp_path / "parameters.yaml"
    file.write_bytes(text)
    with pytest.raises(yaml.YAMLError):
        sections(file)


@pytest.mark.parametrize(
    "section, node, expected",
    [
        ("/**", "/rig/left/tracker", True),
        ("**", "/tracker", True),
        ("/*", "/tracker", True),
        ("/*", "/left/tracker", False),
        ("tracker", "/tracker", True),
        ("tracker", "/left/tracker", False),
        ("/**/tracker", "/left/tracker", True),
        ("/**/tracker", "/tracker", True),
        ("/*/tracker", "/left/tracker", True),
        ("tracker_node", "/tracker", False),
    ],
)
def test_sections_are_matched_with_their_wildcards(section, node, expected):
    assert is_for(section, node) is expected


@pytest.fixture
def value_in_ros():
    """Returns the value of a parameter that a node has from its command line."""
    context = rclpy.Context()
    rclpy.init(context=context)

    def read(words: list[str]):
        how = dict(allow_undeclared_parameters=True, automatically_declare_parameters_from_overrides=True)
        node = Node("any", context=context, cli_args=["--ros-args", *words], enable_rosout=False, **how)
        try:
            return node.get_parameter("value").value
        finally:
            node.destroy_node()

    yield read
    rclpy.shutdown(context=context)


# Of which YAML, or rcl in its own way, would make something else.
LIKE_NUMBERS = ["7", "08", "1e5", ".5", "0x1F", "1_000", "12:30:45", "nan", ".inf", "-.inf", "2026-12-31"]
LIKE_WORDS = ["no", "y", "n", "Y", "on", "true", "null", "~", ""]
LIKE_MARKUP = ["scene:", "- a", "[a]", "a: b", "*a", "!a", "@a", "%a"]
UNUSUAL = ['a "b" \\ud83d #', "/données/\U0001f52a.mp4", "\U00010000", "a\nb\t\x7f\x85\u2028\ufeff", "x " * 2000]
TEXTS = [*LIKE_NUMBERS, *LIKE_WORDS, *LIKE_MARKUP, *UNUSUAL]
VALUES = [*TEXTS, 7, 0.5, 1e-7, 1e22, True, TEXTS]


def test_values_arrive_in_ros_as_they_are(value_in_ros):
    for value in VALUES:
        found = value_in_ros(parameter_argument("value", value))
        assert found == value and isinstance(found, type(value)), value


def test_values_in_a_file_arrive_in_ros_as_they_are(value_in_ros, tmp_path):
    file = tmp_path / "parameters.yaml"
    for value in VALUES:
        file.write_text(parameters_file(dict(before="08", value=value, after=1)), encoding="utf-8")
        found = value_in_ros(["--params-file", str(file)])
        assert found == value and isinstance(found, type(value)), value


def test_a_value_that_is_no_utf_8_is_refused_before_a_file_has_it():
    with pytest.raises(ConfigError, match=r"^source /b\\xe4.mp4 is no UTF-8, and ROS takes no other"):
        parameters_file(dict(rate=1.0, source="/b\udce4.mp4"))


@pytest.mark.parametrize(
    "args", [parameter_argument("source", "/b\udce4.mp4"), ["--params-file", "/b\udce4.yaml"], ["-r", "__ns:=/b\udce4"]]
)
def test_a_name_that_is_no_utf_8_is_refused_in_a_sentence(args):
    with pytest.raises(ConfigError, match=r"^argument .*b\\xe4.* is no UTF-8, and ROS takes no other"):
        check_arguments(["program", "--ros-args", *args])


def test_the_arguments_of_a_command_are_not_for_ros(monkeypatch):
    monkeypatch.setattr("sys.argv", ["sam2s", "--mask", "b\udce4.png", "--ros-args", "--colour"])
    initialise()
    rclpy.shutdown()
