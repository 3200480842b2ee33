"""Where recordings are evaluated: processes that die, what is tried again, the same figures everywhere."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.evaluation.protocol import EvaluationProtocol
from sam2s_model.recordings.open import Source
from sam2s_ros.commands.cli import main
from sam2s_ros.commands.engine import EngineOptions
from sam2s_ros.evaluation.runners import ATTEMPTS, InProcess, Processes, RayCluster, run_all
from sam2s_ros.evaluation.task import Task

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install sam2s_ros[ray]"
)

DIES_ONCE = """
import os, pathlib, signal

def evaluate(task):
    mark = pathlib.Path(task.masks)
    if task.name == "b" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return dict(name=task.name)
"""


FULL_ONCE = """
import errno, pathlib
from sam2s_model.paths import writing

def evaluate(task):
    mark = pathlib.Path(task.masks)
    with writing(mark.parent):
        if task.name == "b" and not mark.exists():
            mark.touch()
            raise OSError(errno.ENOSPC, "No space left on device")
    return dict(name=task.name)
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Make the function `evaluate` of a source, in a module that other processes can import."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(source: str) -> Callable[[Task], dict]:
        (tmp_path / "evaluates.py").write_text(source)
        return importlib.import_module("evaluates").evaluate

    yield make
    sys.modules.pop("evaluates", None)


@pytest.fixture
def full_once(written):
    """Finds the disk full the first time it sees recording b."""
    return written(FULL_ONCE)


@pytest.fixture
def dies_once(written):
    """Takes its process with it the first time it sees recording b."""
    return written(DIES_ONCE)


def tasks(mark: Path) -> list[Task]:
    return [Task(Source(""), "set", name, EngineOptions(), EvaluationProtocol(), masks=str(mark)) for name in "abc"]


def test_a_process_that_dies_is_tried_again_and_the_others_go_on(dies_once, tmp_path):
    outcomes = list(run_all(Processes(2, dies_once), tasks(tmp_path / "mark")))
    assert sorted(outcome["name"] for _, outcome, _ in outcomes) == ["a", "b", "c"]
    assert {task.name: tried for task, _, tried in outcomes} == dict(a=1, b=2, c=1)


@pytest.mark.parametrize("runner", [InProcess, lambda evaluate: Processes(1, evaluate)], ids=["here", "processes"])
def test_what_cannot_be_written_is_tried_again(runner, full_once, tmp_path):
    outcomes = list(run_all(runner(full_once), tasks(tmp_path / "mark")))
    assert {task.name: (outcome, tried) for task, outcome, tried in outcomes} == {
        name: (dict(name=name), 1 + (name == "b")) for name in "abc"
    }


def test_what_cannot_be_read_is_not_tried_again_and_all_else_is():
    tried = []

    def failing(task: Task) -> dict:
        tried.append(task.name)
        if task.name == "a":
            raise SourceError("a is not readable")
        if task.name == "b":
            raise RuntimeError("out of memory")
        return {}

    outcomes = {
        task.name: (outcome, count) for task, outcome, count in run_all(InProcess(failing), tasks(Path("mark")))
    }
    assert (tried.count("a"), tried.count("b"), tried.count("c")) == (1, ATTEMPTS, 1)
    assert str(outcomes["b"][0]) == "out of memory" and outcomes["b"][1] == ATTEMPTS and outcomes["c"] == ({}, 1)


@pytest.fixture
def ray(tmp_path, monkeypatch):
    """A local cluster of two workers, that see what this process sees."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@needs_ray
def test_a_ray_worker_that_dies_is_replaced(dies_once, tmp_path, ray):
    outcomes = list(run_all(RayCluster("local", dies_once), tasks(tmp_path / "mark")))
    assert {task.name: outcome for task, outcome, _ in outcomes} == {name: dict(name=name) for name in "abc"}
    assert {task.name: tried for task, _, tried in outcomes}["b"] == 2


@needs_ray
def test_what_cannot_be_written_on_a_node_is_tried_again(full_once, tmp_path, ray):
    outcomes = list(run_all(RayCluster("local", full_once), tasks(tmp_path / "mark")))
    assert {task.name: tried for task, _, tried in outcomes} == dict(a=1, b=2, c=1)


@needs_ray
def test_what_cannot_be_read_comes_back_from_ray_as_it_was(tmp_path, ray):
    def failing(task: Task) -> dict:
        raise SourceError(f"{task.name} is not readable")

    failing.__module__ = "__main__"  # so that it travels by value
    for task, outcome, tried in run_all(RayCluster("local", failing), tasks(tmp_path)):
        assert isinstance(outcome, SourceError) and str(outcome) == f"{task.name} is not readable" and tried == 1


@needs_ray
def test_ray_gives_the_same_figures(tmp_path, ray):
    scenes = [f"scene:?width=96&height=80&frames=6&seed={seed}" for seed in (2, 3)]
    found = []
    for where in ((), ("--ray", "local")):
        output = tmp_path / f"out{len(found)}"
        small = ("--checkpoint", "sam2s_pico", "--image-size", "64", "--device", "cpu", "--output", str(output))
        assert main(["eval", *scenes, *small, *where]) == 0
        report = json.loads((output / "report.json").read_text())
        del report["timing"]
        found.append((report, (output / "frames.csv").read_text()))
    assert found[0] == found[1]


def test_without_ray_the_option_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        ConfigError, match=r"--ray auto needs Ray, which is not installed: pip install 'sam2s_ros\[ray\]'"
    ):
        RayCluster("auto", lambda task: {})
