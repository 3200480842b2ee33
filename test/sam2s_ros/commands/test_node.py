"""`sam2s node`: the launch file's parameters as a command line, and a slip of the hand is refused before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sam2s_model.errors import ConfigError
from sam2s_ros.commands.cli import main
from sam2s_ros.commands.node import NodeOptions, node_command
from sam2s_ros.commands.replay import ReplayOptions, replay_command
from sam2s_ros.processes.launching import parameter_files


def given(command: list[str]) -> tuple[list[str], dict[str, object], list[str]]:
    """The parameter files, parameters and remappings of a command line."""
    pairs = list(zip(command, command[1:], strict=False))
    parameters = (value.split(":=", 1) for flag, value in pairs if flag == "-p")
    return (
        [value for flag, value in pairs if flag == "--params-file"],
        {name: yaml.safe_load(value) for name, value in parameters},
        [value for flag, value in pairs if flag == "-r"],
    )


def test_it_is_what_the_launch_file_gives():
    files, parameters, remaps = given(node_command(NodeOptions(image="/camera/image_raw", device="cpu")))
    assert files == parameter_files("", "cpu") and len(files) == 2
    assert parameters == {"device": "cpu"} and remaps == ["image:=/camera/image_raw"]
    assert given(node_command(NodeOptions()))[0] == parameter_files("", "")


def test_settings_have_the_types_of_the_parameters():
    settings = ("max_output_age=1", "point_class=7", "warm_up=false", "max_objects=4", "policy=fifo")
    _, parameters, _ = given(node_command(NodeOptions(settings=settings)))
    expected = dict(max_output_age=1.0, point_class="7", warm_up=False, max_objects=4, policy="fifo")
    assert parameters == expected and type(parameters["max_output_age"]) is float


def test_paths_may_have_any_character():
    path = "/données/\U0001f52a.mp4"
    assert given(node_command(NodeOptions(checkpoint=path)))[1]["checkpoint"] == path
    assert given(replay_command(ReplayOptions(path)))[1]["source"] == path


def test_namespace_clicks_and_other_topics_are_remapped():
    options = NodeOptions(namespace="rig", click="/viewer_mouse_left", remap=("~/masks:=/masks",))
    remaps = given(node_command(options))[2]
    assert remaps == ["image:=image", "~/click:=/viewer_mouse_left", "~/masks:=/masks", "__ns:=/rig"]


def test_the_quality_of_service_can_be_set():
    name = "qos_overrides./camera.subscription.depth"
    assert given(node_command(NodeOptions(settings=(f"{name}=2",))))[1] == {name: 2}


@pytest.mark.parametrize(
    "options, said",
    [
        (
            dict(settings=("max_output_aeg=1",)),
            "option is 'max_output_aeg' (did you mean max_output_age?): expected one of",
        ),
        (dict(settings=("max_objects=many",)), "max_objects is 'many': expected a whole number"),
        (dict(settings=("warm_up",)), "expected warm_up=VALUE"),
        (dict(settings=("qos_overrides.x=[1",)), "--set qos_overrides.x=[1: expected a number, true or false, or a"),
        (dict(settings=("qos_overrides.x=",)), "expected a number, true or false, or a text in place of ''"),
        (dict(settings=("qos_overrides.x=2026-99-99",)), "in place of '2026-99-99'"),
        (dict(settings=("max_objects=2026-99-99",)), "max_objects is '2026-99-99': expected a whole number"),
        (dict(remap=("image",)), "expected FROM:=TO"),
        (dict(params_file="nowhere.yaml"), "params_file nowhere.yaml does not exist"),
    ],
)
def test_what_it_cannot_take_is_refused(options, said):
    with pytest.raises(ConfigError) as refused:
        node_command(NodeOptions(**options))
    assert said in str(refused.value)


def test_a_camera_from_a_recording_ends_with_it():
    options = ReplayOptions("clip.mp4", image="/camera", rate=5.0, crop="left", namespace="rig")
    files, parameters, remaps = given(replay_command(options))
    assert [Path(file).name for file in files] == ["replay.yaml"] and remaps == ["image:=/camera", "__ns:=/rig"]
    assert parameters == dict(
        source="clip.mp4", rate=5.0, crop="left", exit_at_end=True, loop=False, max_frames=0, topic="", mask_topic=""
    )
    changed = ReplayOptions("7", settings=("exit_at_end=false", "start_paused=true", "frame_id=8"))
    parameters = given(replay_command(changed))[1]
    assert parameters["exit_at_end"] is False and parameters["start_paused"] is True
    assert parameters["source"] == "7" and parameters["frame_id"] == "8"  # texts
    with pytest.raises(ConfigError, match="did you mean loop"):
        replay_command(ReplayOptions("clip.mp4", settings=("lop=true",)))


@pytest.mark.parametrize(
    "typed, said",
    [
        ("prompt", "nothing was asked: give --box, --point, or --object and --class"),
        ("prompt --object 3", "nothing was asked"),
        ("prompt --box 1,2,3", "--box 1,2,3: expected x0,y0,x1,y1, in px"),
        ("prompt --point 1,2 --negative a,b", "--negative a,b: expected x,y, in px"),
    ],
)
def test_a_prompt_that_is_none_is_refused_before_the_graph_is_asked(typed, said, capsys):
    assert main(typed.split()) == 2
    assert said in capsys.readouterr().err


def test_a_replay_shows_no_password_and_plays_the_source_that_has_it(monkeypatch, capsys):
    started = []
    monkeypatch.setattr("os.execve", lambda program, command, environment: started.append(command))
    source = "rtsp://user:secret@camera:554/live"
    assert main(["replay", source]) == 0
    out, error = capsys.readouterr()
    assert out.startswith("rtsp://user:***@camera:554/live as a camera in domain ") and "secret" not in out + error
    assert given(started[0])[1]["source"] == source
