"""Where recordings are evaluated: in this process, in several, or on a Ray cluster. The results do not depend on it.

A runner yields (task, result or exception) for each of some tasks as they end, in any order.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import Any, Protocol, TypeAlias

from sam2s_model.errors import ConfigError, Sam2sError
from sam2s_ros.evaluation.task import Task

ATTEMPTS = 3  # at a recording, before it is listed as failed
Outcome: TypeAlias = dict[str, Any] | Exception
Evaluate = Callable[[Task], dict[str, Any]]


class Runner(Protocol):
    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]: ...


def run_all(runner: Runner, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome, int]]:
    """(task, result or last exception, attempts) of each task. What cannot be read is not tried again; all else is."""
    left = list(tasks)
    for attempt in range(1, ATTEMPTS + 1):
        again = []
        for task, outcome in runner.run(left):
            if isinstance(outcome, Exception) and not isinstance(outcome, Sam2sError) and attempt < ATTEMPTS:
                again.append(task)
            else:
                yield task, outcome, attempt
        left = again
        if not left:
            return


class InProcess:
    """One after the other, in this process."""

    def __init__(self, evaluate: Evaluate):
        self._evaluate = evaluate

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        for task in tasks:
            try:
                outcome: Outcome = self._evaluate(task)
            except Exception as error:
                outcome = error
            yield task, outcome


class Processes:
    """`jobs` processes of this machine. One that dies takes those at work with it; they are tried again."""

    def __init__(self, jobs: int, evaluate: Evaluate):
        self._jobs, self._evaluate = jobs, evaluate

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        # spawn: a fork of a process that has used torch's threads or CUDA does not work
        with ProcessPoolExecutor(self._jobs, multiprocessing.get_context("spawn")) as pool:
            futures = {pool.submit(self._evaluate, task): task for task in tasks}
            for future in as_completed(futures):
                yield futures[future], _outcome_of(future)


def _outcome_of(future: Future[dict[str, Any]]) -> Outcome:
    try:
        return future.result()
    except Exception as error:
        return error


class RayCluster:
    """One Ray task a recording. Sources, checkpoint and output folder must be on all machines under the same paths."""

    def __init__(self, address: str, evaluate: Evaluate):
        """address: of a running cluster, "auto", or "local" to start one here. Raises ConfigError."""
        try:
            import ray
        except ImportError as error:
            raise ConfigError(
                f"--ray {address} needs Ray, which is not installed: pip install 'sam2s_ros[ray]'"
            ) from error
        self._ray, self._evaluate = ray, evaluate
        if not ray.is_initialized():
            try:
                ray.init(address=address, log_to_driver=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                reason = str(error).splitlines()[0]
                problem = f"there is no Ray cluster at {address!r} ({reason})"
                raise ConfigError(f"{problem}: start one with `ray start --head`") from error

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        ray = self._ray
        # retries are ours, so that they are counted; a GPU each, where the cluster has any
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(self._evaluate)
        waiting = {remote.remote(task): task for task in tasks}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            task = waiting.pop(done)
            try:
                outcome: Outcome = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                outcome = error.cause if isinstance(error.cause, Exception) else error
            except ray.exceptions.RayError as error:
                outcome = error
            yield task, outcome
