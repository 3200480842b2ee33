"""The doctor on this machine, and its judgement of what it may find on others."""

from __future__ import annotations

import functools
import shlex
import shutil
from collections import namedtuple

import pytest
from rclpy.utilities import get_rmw_implementation_identifier

from sam2s_ros.commands.cli import main
from sam2s_ros.doctor import checks as doctor
from sam2s_ros.doctor.checks import Finding, Level, examine, exports, usable
from sam2s_ros.doctor.dds_loss import Measured
from sam2s_ros.processes import dds


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def test_this_machine_is_usable():
    findings = examine(measure=False)
    assert usable(findings), findings
    found = by_name(findings)
    assert {"Python", "torch", "CUDA", "ROS", "ROS interfaces", "DDS profile"} <= set(found)
    assert all(f.advice for f in findings if f.level is not Level.OK)
    assert doctor.findings_table(findings).row_count == len(findings)


@pytest.mark.parametrize(
    ("measured", "profile", "level"),
    [
        (Measured(150, 150, 2.0), True, Level.OK),
        (Measured(150, 149, 2.0), False, Level.OK),
        (Measured(150, 120, 9.0), True, Level.WARN),
        (Measured(150, 11, 27.0), False, Level.WARN),
        (Measured(150, 11, 27.0), True, Level.FAIL),
        (Measured(150, 0, None), True, Level.FAIL),
    ],
)
def test_loss_is_judged(measured, profile, level):
    finding = doctor._judged("dds", measured, profile)
    assert finding.level is level and f"{measured.received} of {measured.sent} arrived" in finding.seen
    assert bool(finding.advice) == (level is not Level.OK)


def test_interfaces_are_those_of_the_share_folder(monkeypatch, tmp_path):
    share = dds.share_directory()
    count = {kind: len(list((share / kind).glob(f"*.{kind}"))) for kind in ("msg", "srv")}
    finding = doctor._interfaces()
    assert finding.level is Level.OK
    assert finding.seen == f"{count['msg']} messages and {count['srv']} services of sam2s_ros"

    monkeypatch.setattr(dds, "share_directory", lambda: tmp_path)
    finding = doctor._interfaces()
    assert finding.level is Level.FAIL and "has no *.msg files" in finding.seen
    for name in ("msg/TrackedMasks.msg", "msg/Newer.msg", "srv/GetState.srv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    finding = doctor._interfaces()
    assert finding.level is Level.FAIL and finding.seen == "Newer missing" and finding.advice


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ROS_DOMAIN_ID", "300", "ROS_DOMAIN_ID is '300': expected a number from 0 to 232"),
        ("ROS_STATIC_PEERS", "not an address", "ROS_STATIC_PEERS names 'not an address', which has no address"),
    ],
)
def test_variables_with_which_no_node_starts_are_found(monkeypatch, name, value, said):
    if name == "ROS_STATIC_PEERS" and "fastrtps" not in get_rmw_implementation_identifier():
        pytest.skip("the middleware is not Fast DDS")
    monkeypatch.setenv(name, value)
    findings = examine(measure=True)  # which is not begun
    assert not usable(findings)
    ros = by_name(findings)["ROS"]
    assert ros.level is Level.FAIL and said in ros.seen and ros.advice
    assert by_name(findings)["DDS, large images"].seen == "not measured"


def test_little_shared_memory_is_found(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(64 << 20, 0, 64 << 20))
    finding = doctor._shared_memory()
    assert finding.level is Level.WARN and "64 of 64 MiB" in finding.seen and "--shm-size" in finding.advice


def test_a_profile_that_is_not_there_is_found(monkeypatch):
    monkeypatch.setenv(dds.PROFILE_VARIABLES[0], "/no/profile.xml")
    finding = doctor._profile()
    assert finding.level is Level.FAIL and "/no/profile.xml does not exist" in finding.seen
    assert not usable([finding])


def test_exports_are_what_is_not_set(monkeypatch):
    for name in (*dds.PROFILE_VARIABLES, *dds.MALLOC_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MALLOC_TOP_PAD_", dds.MALLOC_VARIABLES["MALLOC_TOP_PAD_"])
    lines = exports([doctor._profile(), doctor._allocator()]).splitlines()
    names = [line.split()[1].split("=")[0] for line in lines]
    assert names == [*dds.PROFILE_VARIABLES, "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX"]
    for name, value in dds.environment().items():
        monkeypatch.setenv(name, value)
    assert exports([doctor._profile(), doctor._allocator()]) == ""


def test_an_export_is_one_word_for_a_shell_wherever_the_package_is(monkeypatch, tmp_path):
    place = str(tmp_path / "a folder; with (all)" / "fastdds.xml")
    monkeypatch.setattr(dds, "environment", lambda: dict.fromkeys(dds.PROFILE_VARIABLES, place))
    for name in (*dds.PROFILE_VARIABLES, *dds.MALLOC_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    lines = exports([doctor._profile()]).splitlines()
    assert [shlex.split(line) for line in lines] == [["export", f"{name}={place}"] for name in dds.PROFILE_VARIABLES]


@pytest.mark.parametrize("broken", ["get_device_properties", "mem_get_info"])
@pytest.mark.parametrize("kind", ["RuntimeError", "OutOfMemoryError", "DeferredCudaCallError"])
def test_a_gpu_that_cannot_be_used_is_a_finding(monkeypatch, broken, kind):
    """Full, exclusive to another process, or faulty: what is asked first initialises CUDA, and raises."""
    import torch

    said = "CUDA error: device busy or unavailable"
    error = getattr(torch.cuda, kind, RuntimeError)(f"{said}\nCompile with TORCH_USE_CUDA_DSA")
    gpu = namedtuple("GPU", "name major minor")("A100", 8, 0)
    answers = {"get_device_properties": gpu, "mem_get_info": (8 << 30, 16 << 30)}

    def ask(name: str, index: int):
        if name == broken and index == 0:
            raise error
        return answers[name]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in answers:
        monkeypatch.setattr(torch.cuda, name, functools.partial(ask, name))
    _, first, second = doctor._torch()
    assert first.level is Level.FAIL and first.seen == f"cuda:0 cannot be used ({said})"
    assert "nvidia-smi" in first.advice and second.level is Level.OK


def test_bf16_that_would_be_emulated_is_said_of_each_gpu(monkeypatch):
    """Of its own architecture: torch's `is_bf16_supported` asks the current GPU, and counts emulation."""
    import torch

    gpus = [namedtuple("GPU", "name major minor")("A100", 8, 0), namedtuple("GPU", "name major minor")("T4", 7, 5)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", gpus.__getitem__)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (8 << 30, 16 << 30))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    _, ampere, turing = doctor._torch()
    assert ampere.level is Level.OK and ampere.seen.endswith("with bf16")
    assert turing.level is Level.WARN and turing.seen.endswith("without bf16") and "fp16" in turing.advice


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--tracker", "left"], "--tracker does nothing without --node"),
        (["--device", "cuda:0"], "--device does nothing without --gpu"),
        (["--only", "1"], "--only does nothing without --gpu"),
        (["--output", "found.json"], "--output does nothing without --gpu"),
        (["--overwrite", "--node"], "--overwrite does nothing without --gpu"),
        (["--quick", "--node"], "--quick does nothing with --node"),
        (["--gpu", "--node"], "--node does nothing with --gpu"),
        (["--gpu", "--seconds", "9"], "--seconds does nothing with --gpu"),
    ],
)
def test_an_option_that_does_nothing_is_refused(given, said, capsys):
    assert main(["doctor", *given]) == 2
    out, error = capsys.readouterr()
    assert error == f"{said}: leave it away, or see --help\n" and not out
