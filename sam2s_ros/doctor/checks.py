"""`sam2s doctor`: what this machine has, what is missing, and what to do about it."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from rich.table import Table

from sam2s_model.device_errors import first_line
from sam2s_model.errors import ConfigError
from sam2s_ros.doctor.dds_loss import Measured, measure_loss
from sam2s_ros.processes import dds
from sam2s_ros.processes.shared_memory import SHM, orphans

MINIMUM_PYTHON = (3, 10)
SHM_NEEDED = 512 << 20  # bytes: a 64 MiB segment for each process of a graph of a few, twice over
GOOD_LOSS = 0.02  # share of images
SET_FOR_OTHERS = "sam2s and the launch files set it; for a camera driver and other subscribers, set what stands below"


class Level(str, Enum):
    OK = "OK"
    WARN = "WARN"  # usable, and could be better
    FAIL = "FAIL"  # not usable


COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


@dataclass(frozen=True)
class Finding:
    """what: looked at; seen: what there is; advice: what to do, "" when nothing."""

    level: Level
    what: str
    seen: str
    advice: str = ""


def examine(
    *, measure: bool = True, seconds: float = 5.0, say: Callable[[str], Any] = lambda line: None
) -> list[Finding]:
    """Look at everything, in the order of what depends on what.

    measure: also send images across two processes, twice for `seconds`
    say: told what takes long, one line at a time
    """
    findings = [_python(), *_torch(), *_ros()]
    findings += [_shared_memory(), _orphans(), _allocator(), _profile()]
    if not measure:
        return findings
    if any(f.level is Level.FAIL for f in findings if f.what.startswith("ROS")):
        return [*findings, Finding(Level.FAIL, "DDS, large images", "not measured", "make ROS usable first")]
    return [*findings, *_loss(seconds, say)]


def usable(findings: list[Finding]) -> bool:
    return all(finding.level is not Level.FAIL for finding in findings)


def exports(findings: list[Finding]) -> str:
    """Shell lines that prepare a process that sam2s does not start; "" when the findings need none."""
    if not any(finding.advice == SET_FOR_OTHERS for finding in findings):
        return ""
    prepared = dds.environment()
    names = (*dds.PROFILE_VARIABLES, *dds.MALLOC_VARIABLES)
    missing = (name for name in names if os.environ.get(name) != prepared.get(name))
    return "\n".join(f"export {name}={shlex.quote(prepared[name])}" for name in missing)


def findings_table(findings: list[Finding]) -> Table:
    """Lay the findings out for a terminal."""
    shown = Table(title="sam2s doctor", title_justify="left", show_lines=True)
    for column in ("", "what", "seen", "what to do"):
        shown.add_column(column, overflow="fold")
    for finding in findings:
        level = f"[{COLOURS[finding.level]}]{finding.level.value}[/]"
        shown.add_row(level, finding.what, finding.seen.replace("[", "\\["), finding.advice.replace("[", "\\["))
    return shown


def _python() -> Finding:
    seen = f"{platform.python_version()}, {platform.machine()}, {sys.executable}"
    if sys.version_info < MINIMUM_PYTHON:
        return Finding(Level.FAIL, "Python", seen, f"use Python {'.'.join(map(str, MINIMUM_PYTHON))} or later")
    return Finding(Level.OK, "Python", seen)


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding(Level.FAIL, "torch", f"cannot be imported ({error})", "install it: pip install torch")
        return
    threads, cores = torch.get_num_threads(), len(os.sched_getaffinity(0))
    bf16 = "with" if _cpu_has_bf16() else "without"
    seen = f"{torch.__version__}, {threads} CPU threads for {cores} cores, CPU {bf16} bf16 instructions"
    if threads > cores:
        advice = f"threads fight for cores: set OMP_NUM_THREADS={cores}, or the tracker's parameter threads"
        yield Finding(Level.WARN, "torch", seen, advice)
    else:
        yield Finding(Level.OK, "torch", seen)
    if not torch.cuda.is_available():
        built = torch.version.cuda
        reason = f"torch is built for CUDA {built}, but finds no device" if built else "torch is built without CUDA"
        advice = (
            "check the driver with nvidia-smi" if built else "for a GPU, install a CUDA build of torch (pytorch.org)"
        )
        yield Finding(
            Level.WARN,
            "CUDA",
            reason,
            f"{advice}; on the CPU set the tracker's device to cpu, and expect seconds a frame at 1024 px",
        )
        return
    for index in range(torch.cuda.device_count()):
        yield _gpu(index)


def _gpu(index: int) -> Finding:
    """Say whether a GPU can be used, and has room and bf16."""
    import torch

    try:
        properties, (free, total) = torch.cuda.get_device_properties(index), torch.cuda.mem_get_info(index)
    except (RuntimeError, torch.cuda.DeferredCudaCallError) as error:  # the first call initialises CUDA
        seen = f"cuda:{index} cannot be used ({first_line(error)})"
        return Finding(Level.FAIL, "CUDA", seen, "end what else uses the GPU; nvidia-smi shows it, and its faults")
    has_bf16 = properties.major >= 8  # torch's own question is of the current device, and takes emulation for support
    memory = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    seen = f"cuda:{index} {properties.name}, {memory}, {'with' if has_bf16 else 'without'} bf16"
    if free < 2 << 30:
        return Finding(Level.WARN, "CUDA", seen, "less than 2 GiB is free: end what else uses the GPU")
    if not has_bf16:
        return Finding(Level.WARN, "CUDA", seen, "set precision to fp16 or fp32: bf16 would be emulated")
    return Finding(Level.OK, "CUDA", seen)


def _cpu_has_bf16() -> bool:
    """Ask the kernel whether the CPU has bf16 instructions.

    torch runs bf16 on any CPU, but without these instructions slower than fp32.
    """
    try:
        with open("/proc/cpuinfo") as file:
            words = set(file.read().split())
    except OSError:
        return False
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


def _ros() -> Iterator[Finding]:
    install = "source a ROS 2 distribution, or install ROS 2 from PyPI with the project's Makefile (make setup)"
    try:
        from rclpy.utilities import get_rmw_implementation_identifier

        from sam2s_ros.processes.unused import check_environment

        rmw = get_rmw_implementation_identifier()
    except Exception as error:  # a missing library, or a middleware that is named but not installed
        yield Finding(Level.FAIL, "ROS", f"rclpy cannot be used ({type(error).__name__}: {error})", install)
        return
    yield _environment(rmw, check_environment)
    yield _interfaces()


def _environment(rmw: str, check: Callable[[], None]) -> Finding:
    """Say what nodes start in. check: raises ConfigError where none does"""
    try:
        check()
    except ConfigError as error:
        return Finding(Level.FAIL, "ROS", f"no node starts: {error}", "correct that variable, or unset it")
    distribution = os.environ.get("ROS_DISTRO")
    origin = f"distribution {distribution}" if distribution else f"PyPI, ros-rclpy {_version('ros-rclpy')}"
    seen = f"{origin}, {rmw}, domain {os.environ.get('ROS_DOMAIN_ID') or 0}"
    if "fastrtps" in rmw:
        return Finding(Level.OK, "ROS", seen)
    advice = (
        "the shipped profile is for Fast DDS: give this middleware buffers for large images by its own means, "
        "or set RMW_IMPLEMENTATION=rmw_fastrtps_cpp"
    )
    return Finding(Level.WARN, "ROS", seen, advice)


def _interfaces() -> Finding:
    what = "ROS interfaces"
    rebuild = "build the package again (make build, pip install . or colcon build), and source its workspace"
    try:
        share = dds.share_directory()
        defined = {kind: sorted(path.stem for path in (share / kind).glob(f"*.{kind}")) for kind in ("msg", "srv")}
        for kind, names in defined.items():
            if not names:
                return Finding(Level.FAIL, what, f"{share / kind} has no *.{kind} files", rebuild)
        modules = {kind: importlib.import_module(f"sam2s_ros.{kind}") for kind in defined}
        missing = [name for kind, names in defined.items() for name in names if not hasattr(modules[kind], name)]
        if missing:
            return Finding(Level.FAIL, what, f"{', '.join(missing)} missing", rebuild)
        from rclpy.serialization import deserialize_message, serialize_message

        masks = modules["msg"].TrackedMasks
        deserialize_message(serialize_message(masks()), masks)
    except Exception as error:  # ImportError, or rclpy's own for a type support that does not load
        return Finding(Level.FAIL, what, f"cannot be used ({type(error).__name__}: {error})", rebuild)
    return Finding(Level.OK, what, f"{len(defined['msg'])} messages and {len(defined['srv'])} services of sam2s_ros")


def _shared_memory() -> Finding:
    what = f"shared memory {SHM}"
    try:
        usage = shutil.disk_usage(SHM)
    except OSError as error:
        return Finding(
            Level.WARN,
            what,
            f"not there ({error.strerror})",
            "large images then go through UDP and are lost: mount a tmpfs on it",
        )
    seen = f"{usage.free >> 20} of {usage.total >> 20} MiB free"
    if usage.free < SHM_NEEDED:
        advice = (
            f"give it {SHM_NEEDED >> 20} MiB: mount -o remount,size=1g {SHM}; in a container --shm-size=1g; "
            "what killed processes left stands below"
        )
        return Finding(Level.WARN, what, seen, advice)
    return Finding(Level.OK, what, seen)


def _orphans() -> Finding:
    what = f"{SHM} of killed processes"
    found = orphans()
    if not found.count:
        return Finding(Level.OK, what, "none")
    advice = "start a node of this package, which removes what nobody holds, or fastdds shm clean"
    return Finding(Level.WARN, what, str(found), advice)


def _allocator() -> Finding:
    what = "allocator variables"
    if platform.libc_ver()[0] != "glibc":
        return Finding(Level.OK, what, "not of use: the C library is not glibc")
    unset = [name for name in dds.MALLOC_VARIABLES if not os.environ.get(name)]
    if not unset:
        return Finding(Level.OK, what, "set")
    return Finding(Level.OK, what, f"{', '.join(unset)} not set in this shell", SET_FOR_OTHERS)


def _profile() -> Finding:
    what = "DDS profile"
    given = next((os.environ[name] for name in dds.PROFILE_VARIABLES if os.environ.get(name)), None)
    if given is not None:
        if not os.path.isfile(given):
            return Finding(
                Level.FAIL,
                what,
                f"{given} does not exist",
                f"unset {' and '.join(dds.PROFILE_VARIABLES)}, or correct them",
            )
        return Finding(Level.OK, what, f"{given}, from the environment")
    try:
        dds.profile_path()
    except ConfigError as error:
        return Finding(Level.FAIL, what, str(error), "install the package again")
    return Finding(Level.OK, what, "shipped; not set in this shell", SET_FOR_OTHERS)


def _loss(seconds: float, say: Callable[[str], Any]) -> Iterator[Finding]:
    """Measure the loss of images with the graph's own transport, which must work, and without it.

    What a process without the profile loses is there to be compared.
    """
    what = "DDS, 1280x720 bgr8 at 30 Hz"
    for profile in (True, False):
        name = f"{what}, {'with' if profile else 'without'} the profile"
        say(f"measuring: {name}, {seconds:g} s")
        try:
            measured = measure_loss(seconds, profile=profile)
        except (RuntimeError, ConfigError) as error:
            yield Finding(
                Level.FAIL if profile else Level.WARN,
                name,
                str(error),
                "run `sam2s doctor` again; look at the ROS findings",
            )
            continue
        yield _judged(name, measured, profile)


def _judged(name: str, measured: Measured, profile: bool) -> Finding:
    age = "" if measured.median_age_ms is None else f", median age {measured.median_age_ms:.1f} ms"
    seen = f"{measured.received} of {measured.sent} arrived{age}"
    if measured.loss <= GOOD_LOSS:
        return Finding(Level.OK, name, seen)
    if not profile:
        return Finding(Level.WARN, name, seen, SET_FOR_OTHERS)
    if measured.loss < 0.5:
        return Finding(
            Level.WARN, name, seen, f"end what else loads this machine; see that {SHM} has {SHM_NEEDED >> 20} MiB"
        )
    return Finding(
        Level.FAIL,
        name,
        seen,
        f"images do not get through: see that {SHM} is writable, has {SHM_NEEDED >> 20} MiB and is shared by both ends",
    )


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
