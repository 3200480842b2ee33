"""Where recordings are evaluated or tracked: in this process, in several, or on a Ray cluster. Results are the same.

A runner yields (task, result or exception) for each of some tasks as they end, in any order.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, cast

from sam2s_model.errors import ConfigError, Sam2sError, WriteError
from sam2s_ros.processes.graph import end_with_parent

ATTEMPTS = 3  # at a recording, before it is listed as failed
OUT_WITHIN = 10.0  # s that a process may take to end, before it is killed
OneTask = TypeVar("OneTask")
Outcome: TypeAlias = dict[str, Any] | Exception
Evaluate: TypeAlias = Callable[[OneTask], dict[str, Any]]


class Runner(Protocol[OneTask]):
    def run(self, tasks: Sequence[OneTask]) -> Iterator[tuple[OneTask, Outcome]]: ...


def run_all(runner: Runner[OneTask], tasks: Sequence[OneTask]) -> Iterator[tuple[OneTask, Outcome, int]]:
    """(task, result or last exception, attempts) of each task.

    What cannot be read is not tried again. All else is, also what cannot be written: a disk may be full on one machine
    alone, and a file server may answer again.
    """
    left = list(tasks)
    for attempt in range(1, ATTEMPTS + 1):
        again = []
        for task, outcome in runner.run(left):
            if attempt < ATTEMPTS and _may_pass(outcome):
                again.append(task)
            else:
                yield task, outcome, attempt
        left = again
        if not left:
            return


def _may_pass(outcome: Outcome) -> bool:
    """Tell whether it is an error that another attempt may not meet.

    By its class alone: an exception comes from another process without its cause.
    """
    return isinstance(outcome, WriteError) or (isinstance(outcome, Exception) and not isinstance(outcome, Sam2sError))


class InProcess(Generic[OneTask]):
    """One after the other, in this process."""

    def __init__(self, evaluate: Evaluate[OneTask]):
        self._evaluate = evaluate

    def run(self, tasks: Sequence[OneTask]) -> Iterator[tuple[OneTask, Outcome]]:
        for task in tasks:
            try:
                outcome: Outcome = self._evaluate(task)
            except Exception as error:
                outcome = error
            yield task, outcome


class WorkerDied(RuntimeError):
    """A process has ended in the middle of a recording: killed, or out of memory."""


class Processes(Generic[OneTask]):
    """`jobs` processes of this machine. One that dies takes its recording with it, which is tried again, no other."""

    def __init__(self, jobs: int, evaluate: Evaluate[OneTask]):
        self._jobs, self._evaluate = jobs, evaluate

    def run(self, tasks: Sequence[OneTask]) -> Iterator[tuple[OneTask, Outcome]]:
        left = deque(tasks)
        working: dict[Connection, _Worker[OneTask]] = {}
        try:
            while left or working:
                while left and len(working) < self._jobs:
                    worker = _Worker(self._evaluate)
                    working[worker.link] = worker
                    worker.give(left.popleft())
                for link in wait(list(working)):
                    worker = working[cast(Connection, link)]
                    task, outcome = worker.take()
                    if left and not isinstance(outcome, WorkerDied):
                        worker.give(left.popleft())  # before the caller does something with the outcome
                    else:
                        del working[worker.link]
                        worker.dismiss()
                    yield task, outcome
        finally:
            for worker in working.values():
                worker.dismiss()


class _Worker(Generic[OneTask]):
    """A process that evaluates one recording after the other. link: readable when it has an outcome, or has died"""

    def __init__(self, evaluate: Evaluate[OneTask]):
        # spawn: a fork of a process that has used torch's threads or CUDA does not work
        context = multiprocessing.get_context("spawn")
        self.link, its_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(its_end, evaluate), daemon=True)
        self._process.start()
        its_end.close()
        self._task: OneTask | None = None

    def give(self, task: OneTask) -> None:
        self._task = task
        with suppress(BrokenPipeError):  # it has died: `take` says so
            self.link.send(task)

    def take(self) -> tuple[OneTask, Outcome]:
        """Return the task that it was given, with what has become of it; waits for it."""
        task, self._task = cast(OneTask, self._task), None
        try:
            return task, self.link.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            return task, WorkerDied(f"the process died with code {self._process.exitcode}")

    def dismiss(self) -> None:
        """Let it end: at once when it waits for a task, after the frame that it is at when it does not."""
        self.link.close()
        if self._task is not None and self._process.is_alive() and self._process.pid is not None:
            os.kill(self._process.pid, signal.SIGINT)
        self._process.join(OUT_WITHIN)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(link: Connection, evaluate: Evaluate[OneTask]) -> None:
    end_with_parent()  # a killed parent is started again, and two would write the same files
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while True:
            task = link.recv()
            try:
                outcome: Outcome = evaluate(task)
            except Exception as error:
                outcome = error
            link.send(_sendable(outcome))


def _sendable(outcome: Outcome) -> Outcome:
    """Put a plain error in place of one that cannot travel."""
    if isinstance(outcome, Exception):
        try:
            pickle.loads(pickle.dumps(outcome))
        except Exception:
            return RuntimeError(f"{type(outcome).__name__}: {outcome}")
    return outcome


class RayCluster(Generic[OneTask]):
    """One Ray task a recording. Sources, checkpoint and output folder must be on all machines under the same paths."""

    def __init__(self, address: str, evaluate: Evaluate[OneTask]):
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

    def run(self, tasks: Sequence[OneTask]) -> Iterator[tuple[OneTask, Outcome]]:
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
