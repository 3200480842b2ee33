"""`sam2s doctor --gpu`: the parts of `sam2s_model.gpu_check`, each in a process of its own, and what they found."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from sam2s_model.device_errors import first_line
from sam2s_model.errors import ConfigError
from sam2s_model.paths import write_result
from sam2s_ros.doctor.checks import COLOURS, Level

TOGETHER = 4  # processes; speed and memory are measured alone
TAIL = 20  # lines of a traceback that are shown


@dataclass(frozen=True)
class Found:
    """A check of a part. detail: the end of what a process wrote that died"""

    part: str
    level: Level
    what: str
    expected: str
    got: str
    advice: str = ""
    detail: str = ""


def examine_gpu(
    device: str = "cuda:0",
    only: Sequence[int] = (),
    *,
    say: Callable[[str], Any] = lambda line: None,
    python: Sequence[str] = (),
) -> list[Found]:
    """Run all parts, or those of some numbers, and return what they found, in their order.

    say: told of each part when it is done; python: the command of a part, before its number and the device
    Raises ConfigError when there is no CUDA device, or no part of a number.
    """
    import torch

    from sam2s_model.device import resolve_device
    from sam2s_model.gpu_check.parts import PARTS

    if not torch.cuda.is_available():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        raise ConfigError(
            f"no CUDA device: torch {torch.__version__} is built {built} "
            "and finds none, so that `sam2s doctor --gpu` has nothing to check; `sam2s doctor` says what to do"
        )
    device = str(resolve_device(device))
    known = [part.number for part in PARTS]
    if unknown := [number for number in only if number not in known]:
        raise ConfigError(f"--only {unknown[0]}: expected numbers of parts, {known[0]} to {known[-1]}")
    parts = [part for part in PARTS if not only or part.number in only]
    command = list(python) or [sys.executable, "-m", "sam2s_model.gpu_check"]
    found: dict[int, list[Found]] = {}

    def run(part: Any) -> None:
        began = time.monotonic()
        found[part.number] = list(_run(part, [*command, str(part.number), device]))
        worst = max((f.level for f in found[part.number]), key=list(Level).index, default=Level.OK)
        say(f"{part.number:2d} {part.title}: {worst.value}, {time.monotonic() - began:.0f} s")

    with ThreadPoolExecutor(TOGETHER) as together:
        list(together.map(run, [part for part in parts if not part.alone]))
    for part in parts:
        if part.alone:
            run(part)
    return [f for part in parts for f in found[part.number]]


def _run(part: Any, command: list[str]) -> Iterator[Found]:
    """Run a part and give its checks.

    One that died is run again with each launch waited for, so that its traceback says where.
    """
    code, lines, errors = _process(command, part.limit, {})
    yield from (
        Found(f"{part.number} {part.title}", Level(check.pop("level")), **check) for check in map(json.loads, lines)
    )
    if code == 0:
        return
    _, _, exact = _process(command, part.limit, {"CUDA_LAUNCH_BLOCKING": "1"})
    last = (exact or errors).strip().splitlines()[-1:] or ["nothing was written"]
    got = f"no answer within {part.limit:g} s" if code is None else f"exit code {code}: {last[0]}"
    yield Found(
        f"{part.number} {part.title}", Level.FAIL, "the process", "ends by itself", got, "report it with the JSON file",
        "\n".join((exact or errors).splitlines()[-TAIL:]),
    )  # fmt: skip


def _process(command: list[str], limit: float, more: dict[str, str]) -> tuple[int | None, list[str], str]:
    """Exit code, None when it was ended for its time, lines of JSON, and what it wrote to stderr."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **more}
    )
    code: int | None = None
    try:
        out, errors = process.communicate(timeout=limit)
        code = process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        out, errors = process.communicate()
    return code, [line for line in out.splitlines() if line.startswith("{")], errors


def write_json(path: Path, found: Sequence[Found]) -> None:
    """Write all that was found, with what it was found on. Raises ConfigError where it cannot be written."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    machine = dict(
        torch=torch.__version__, cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version(),
        python=platform.python_version(), system=platform.platform(), driver=_driver(),
        gpus=[_name(i) for i in range(count)],
    )  # fmt: skip
    checks = [{**asdict(f), "level": f.level.value} for f in found]
    write_result(path, json.dumps(dict(machine=machine, checks=checks), indent=1) + "\n")


def _name(index: int) -> str:
    """Name a GPU, also one that the parts have found unusable."""
    import torch

    try:
        return torch.cuda.get_device_name(index)
    except (RuntimeError, torch.cuda.DeferredCudaCallError) as error:
        return f"cannot be used ({first_line(error)})"


def _driver() -> str:
    """As the kernel says it; "" where it does not."""
    try:
        return Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
    except OSError:
        return ""


def found_table(found: Sequence[Found]) -> Table:
    """Lay out what was found for a terminal."""
    shown = Table(title="sam2s doctor --gpu", title_justify="left", show_lines=False)
    for column in ("", "part", "what", "expected", "got", "what to do"):
        shown.add_column(column, overflow="fold")
    for f in found:
        cells = (f.part, f.what, f.expected, f.got, f.advice)
        shown.add_row(f"[{COLOURS[f.level]}]{f.level.value}[/]", *(cell.replace("[", "\\[") for cell in cells))
    return shown
