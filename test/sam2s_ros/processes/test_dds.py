"""The environment of child processes, and a measurement across two real ones."""

from __future__ import annotations

import socket
import xml.etree.ElementTree as ElementTree

import pytest

from sam2s_ros.doctor.dds_loss import measure_loss
from sam2s_ros.processes import dds


def test_environment_sets_profile_and_allocator():
    env = dds.environment({"PATH": "/bin"})
    assert env["PATH"] == "/bin" and set(env) == {"PATH", *dds.PROFILE_VARIABLES, *dds.MALLOC_VARIABLES}
    assert env["FASTRTPS_DEFAULT_PROFILES_FILE"] == env["FASTDDS_DEFAULT_PROFILES_FILE"] == str(dds.profile_path())
    ElementTree.parse(dds.profile_path())


@pytest.mark.parametrize("name", dds.PROFILE_VARIABLES)
def test_a_profile_of_the_user_stays_and_is_set_for_all_versions(name):
    env = dds.environment({name: "/my/profile.xml", "MALLOC_TOP_PAD_": "5"})
    assert [env[k] for k in dds.PROFILE_VARIABLES] == ["/my/profile.xml"] * 2
    assert env["MALLOC_TOP_PAD_"] == "5"


def test_two_profiles_of_the_user_stay():
    given = {name: f"/my/{name}.xml" for name in dds.PROFILE_VARIABLES}
    env = dds.environment(given)
    assert {name: env[name] for name in given} == given


def test_without_profile_nothing_of_it_is_left():
    assert dds.environment(dds.environment({"A": "b"}), profile=False) == {"A": "b"}


def test_this_environment_is_not_changed():
    import os

    before = dict(os.environ)
    dds.local_environment(7)
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("distribution", "variable"), [("jazzy", "ROS_AUTOMATIC_DISCOVERY_RANGE"), ("humble", "ROS_LOCALHOST_ONLY")]
)
def test_local_environment_stays_on_this_machine(distribution, variable):
    env = dds.local_environment(42, {"ROS_DISTRO": distribution, "ROS_LOCALHOST_ONLY": "0"})
    assert env["ROS_DOMAIN_ID"] == "42"
    assert env[variable] == ("LOCALHOST" if distribution == "jazzy" else "1")
    assert ("ROS_LOCALHOST_ONLY" in env) == (distribution == "humble")


def test_a_domain_in_use_is_not_taken(monkeypatch):
    monkeypatch.setattr(dds, "DOMAINS", range(77, 79))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 7400 + 250 * 77 + 10))
        assert {dds.free_domain() for _ in range(8)} == {78}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("", 7400 + 250 * 78 + 12))
            with pytest.raises(ValueError, match="all ROS domains from 77 to 78 are in use"):
                dds.free_domain()


def test_share_directory_has_what_is_used():
    share = dds.share_directory()
    for name in ("package.xml", "msg/TrackedMasks.msg", "msg/TrackedObject.msg", dds.PROFILE):
        assert (share / name).is_file(), name


def test_large_images_arrive_with_the_profile():
    """The figure is the doctor's to report; here only that most arrive, on a machine that is busy with tests."""
    measured = measure_loss(1.0, profile=True)
    assert measured.sent == 30 and measured.received <= 30
    assert measured.loss < 0.5, measured
    assert measured.median_age_ms < 200
