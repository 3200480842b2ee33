"""Whatever is given at the start and has no effect is named in a sentence, and nothing else is."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import rclpy
from rclpy.node import Node
from rclpy.utilities import get_rmw_implementation_identifier
from std_msgs.msg import Header

from sam2s_model.errors import ConfigError
from sam2s_ros.interfaces import qos
from sam2s_ros.interfaces.parameters import TRACKER
from sam2s_ros.processes.unused import (
    check_environment,
    unused_files,
    unused_parameters,
    unused_remappings,
    unused_rules,
    unused_variables,
)


@pytest.fixture
def node():
    context = rclpy.Context()
    rclpy.init(context=context, args=["--ros-args"])
    made = []

    def make(*arguments: str) -> Node:
        made.append(Node("tracker", context=context, cli_args=["--ros-args", *arguments], use_global_arguments=False))
        return made[-1]

    yield make
    for one in made:
        one.destroy_node()
    rclpy.shutdown(context=context)


def given(**values) -> list[str]:
    return [part for name, value in values.items() for part in ("-p", f"{name}:={value}")]


@pytest.mark.parametrize(
    "values, said",
    [
        (dict(max_objects=3, use_sim_time="false"), []),
        ({"qos_overrides./image.subscription.depth": 2, "qos_overrides./clock.subscription.depth": 2}, []),
        (dict(max_objcts=3), ["/tracker was given a parameter", "max_objcts (did you mean max_objects?)"]),
        (dict(zebra=3, polcy="fifo"), ["parameters that it does not have", "polcy (did you mean policy?), zebra"]),
        ({"qos_overrides./imge.subscription.depth": 2}, ["did you mean qos_overrides./image.subscription.depth?"]),
        ({"qos_overrides./image.subscription.dept": 2}, ["did you mean qos_overrides./image.subscription.depth?"]),
        ({"qos_overrides./image.publisher.depth": 2}, ["qos_overrides./image.publisher.depth"]),
        ({f"unknown{i}": 2 for i in range(9)}, ["unknown5 and 3 more"]),
    ],
)
def test_p44_parameters_that_a_node_does_not_have_are_named(node, values, said):
    made = node(*given(**values))
    TRACKER.declare(made)
    sentence = unused_parameters(made, ["/image"])
    assert all(part in sentence for part in said) and bool(sentence) == bool(said), sentence


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("/image.subscription.reliability", "relaible", "expected one of system_default, reliable, best_effort"),
        ("/image.subscription.reliability", 1, "expected one of"),
        ("/image.subscription.depth", "deep", "expected a whole number from 0 on"),
        ("/image.subscription.depth", -1, "expected a whole number from 0 on"),
        ("/tracker/masks.publisher.deadline", 0.5, "expected a whole number of nanoseconds"),
        ("/image.subscription.history", "keep", "expected one of system_default, keep_last, keep_all"),
    ],
)
def test_p44_a_quality_of_service_that_is_none_is_refused_at_the_start(node, name, value, expected):
    made = node(*given(**{f"qos_overrides.{name}": value}))
    with pytest.raises(ConfigError) as caught:
        TRACKER.declare(made)
    assert f"qos_overrides.{name} is {value!r}" in str(caught.value) and expected in str(caught.value)


def test_qualities_of_service_that_rclpy_takes_are_taken():
    qos.check_overrides(
        {
            "qos_overrides./a.publisher.reliability": "Best_Effort", "qos_overrides./a.publisher.history": "keep_all",
            "qos_overrides./a.publisher.depth": 0, "qos_overrides./a.publisher.deadline": 10, "reliability": "none",
        }
    )  # fmt: skip


def test_p44_a_file_without_a_section_for_the_node_is_named(tmp_path):
    other, own, none, broken = (tmp_path / f"{name}.yaml" for name in ("other", "own", "none", "broken"))
    other.write_text("tracker_node:\n  ros__parameters: {max_objects: 3}\n")
    own.write_text("tracker_node:\n  ros__parameters: {a: 3}\n/*/tracker:\n  ros__parameters: {max_objects: 3}\n")
    none.write_text("max_objects: 3\n")
    broken.write_text("/**:\n  ros__parameters: {max_objects: !!int x}\n")
    line = [
        "program",
        "--ros-args",
        *(part for file in (other, own, none, broken, tmp_path / "gone") for part in ("--params-file", str(file))),
    ]
    first, second = unused_files(line, ["/left/tracker", "/right/tracker"])
    assert str(other) in first and "for /left/tracker or /right/tracker: its sections are for tracker_node" in first
    assert str(none) in second and "no section with ros__parameters" in second


def test_p44_a_parameter_for_another_node_is_named():
    line = [
        "x",
        "--ros-args",
        "-p",
        "tracker:a:=1",
        "-p",
        "a:=b:c",
        "-p",
        "tracker_node:max_objects:=3",
        "-p",
        "/left/tracker:a:=1",
    ]
    (said,) = unused_rules(line, ["/tracker", "/left/tracker"])
    assert (
        "-p tracker_node:max_objects:=3 has no effect: no node here is called tracker_node, "
        "but /tracker and /left/tracker" in said
    )


def test_p44_a_remapping_of_a_name_that_is_not_there_is_named(node):
    made = node("-r", "image:=/camera", "-r", "imge:=/other", "-r", "~/masks:=masks")
    made.create_subscription(Header, "image", print, 1)
    made.create_publisher(Header, "~/masks", 1)
    line = ["x", "--ros-args"]
    for rule in (
        "image:=/camera",
        "imge:=/other",
        "~/masks:=masks",
        "__ns:=/a",
        "late:=/late",
        "other:image:=/camera",
        "tracker:image:=/camera",
    ):
        line += ["-r", rule]
    said = list(unused_remappings(line, [made], ["/late"]))
    assert [sentence.split()[2] for sentence in said] == ["imge:=/other", "other:image:=/camera"], said


@pytest.mark.parametrize(
    "domain, good",
    [("", True), ("0", True), ("232", True), ("233", False), ("-1", False), ("1e2", False), ("abc", False)],
)
def test_p44_a_domain_that_cannot_be_used_is_refused(domain, good):
    refusal = pytest.raises(ConfigError, match=f"ROS_DOMAIN_ID is '{domain}': expected a number from 0 to 232")
    with nullcontext() if good else refusal:
        check_environment({"ROS_DOMAIN_ID": domain})


def test_p44_a_profile_that_is_not_there_is_named(tmp_path):
    profile = tmp_path / "profile.xml"
    variables = {"FASTRTPS_DEFAULT_PROFILES_FILE": str(profile), "FASTDDS_DEFAULT_PROFILES_FILE": ""}
    [said] = unused_variables(variables)
    assert f"FASTRTPS_DEFAULT_PROFILES_FILE is {profile}" in said
    profile.touch()
    assert not list(unused_variables(variables))


@pytest.mark.parametrize("peers", ["no.such.host.invalid", "127.0.0.1;no.such.host.invalid", "not an address"])
def test_p44_a_peer_without_an_address_is_refused(peers):
    if "fastrtps" not in get_rmw_implementation_identifier():
        pytest.skip("the middleware is not Fast DDS")
    with pytest.raises(ConfigError, match=f"ROS_STATIC_PEERS names '{peers.split(';')[-1]}', which has no address"):
        check_environment({"ROS_STATIC_PEERS": peers})
    check_environment({"ROS_STATIC_PEERS": "127.0.0.1;localhost;"})


@pytest.mark.parametrize(
    "given, said",
    [
        (dict(ENABLE="True"), "ROS_SECURITY_ENABLE is 'True', which leaves security off"),
        (dict(ENABLE="true", STRATEGY="enforce"), "ROS_SECURITY_STRATEGY is 'enforce', which is Permissive"),
        (dict(ENABLE="true", KEYSTORE="/nowhere"), "ROS_SECURITY_KEYSTORE is '/nowhere', where no enclaves are"),
        (dict(ENABLE="true"), "ROS_SECURITY_KEYSTORE is '', where no enclaves are: ROS goes on without security"),
        (dict(ENABLE="false"), ""),
        (dict(ENABLE="true", STRATEGY="Enforce"), ""),
    ],
)
def test_p44_security_that_is_not_there_is_named(tmp_path, given, said):
    (tmp_path / "enclaves").mkdir()
    if "enforce" in given.values():
        given = given | dict(KEYSTORE=str(tmp_path))
    found = list(unused_variables({f"ROS_SECURITY_{name}": value for name, value in given.items()}))
    assert len(found) == bool(said) and all(said in sentence for sentence in found)
