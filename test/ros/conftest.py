"""A real ROS graph for tests: nodes as processes over DDS, on a domain of this run's own."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# Before rclpy reads it. Processes of one run (`pytest -n 2`) choose among domains of their own.
_WORKER, _WORKERS = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().choice(range(1 + int(_WORKER[2:]), 101, _WORKERS)))
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
if os.environ.get("ROS_DISTRO") == "humble":  # which does not know the line above; later ones complain about this one
    os.environ["ROS_LOCALHOST_ONLY"] = "1"

sys.path.insert(0, str(Path(__file__).parent))  # the tests' helpers are modules of this folder

os.environ.setdefault("PYTHONUNBUFFERED", "1")  # of the process that the nodes are forked from

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import rclpy  # noqa: E402
from forked import ForkedProcess  # noqa: E402
from rclpy.client import Client  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from sam2s_ros.interfaces import image_codec, messages  # noqa: E402
from sam2s_ros.processes.discovery import KnownTo  # noqa: E402
from sam2s_ros.processes.spinning import NodeThread  # noqa: E402

RELIABLE = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
MOST_FIRST_IMAGES = 30  # each is given 2 s: a tracker on a busy machine is configured in a minute
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Process:
    """A real process whose output is kept in a file."""

    def __init__(self, command: list[str], forked: bool = False, **env: str):
        """forked: from a process that has imported most of it, see `forked`; the command then is one of Python's"""
        self._log = tempfile.NamedTemporaryFile("w+", suffix=".log")  # noqa: SIM115  it lives as long as this
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **env}
        self.popen: subprocess.Popen | ForkedProcess
        if forked:
            self.popen = ForkedProcess(command[1:], self._log.name, env)
        else:
            self.popen = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT, env=env)

    @property
    def output(self) -> str:
        with open(self._log.name) as file:
            return file.read()

    def running(self) -> bool:
        return self.popen.poll() is None

    def wait(self, timeout: float) -> int:
        """Return the exit code; fail with the output when the process does not end in `timeout` s."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            pytest.fail(f"did not end within {timeout} s:\n{self.output}")

    @property
    def out_within(self) -> float:
        """The s that it may take to end after a signal: the 2 s of P29, twice, times what shares a core."""
        return 4.0 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))

    def stop(self, number: int = signal.SIGINT, timeout: float = 10.0) -> tuple[int, float]:
        """Send a signal; return the exit code and the s until it ended."""
        began = time.monotonic()
        self.popen.send_signal(number)
        return self.wait(max(timeout, self.out_within)), time.monotonic() - began

    def wait_for_output(self, text: str, timeout: float = 30.0) -> None:
        wait_until(lambda: text in self.output or not self.running(), timeout, lambda: f"{text!r} in:\n{self.output}")
        assert text in self.output, self.output


def wait_until(predicate, timeout: float = 10.0, what=lambda: "it"):
    """Return the predicate's first true value; fail after `timeout` s."""
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout} s for {what()}")
        time.sleep(0.005)
    return value


class Collector(list):
    """Messages of one topic, in the order of arrival."""

    def of(self, stamp_ns: int):
        """The message whose header has this stamp, or None."""
        return next((m for m in list(self) if messages.to_ns(m.header.stamp) == stamp_ns), None)


class Graph:
    """The test's own node: publishes, subscribes, calls services. Its executor runs in a thread."""

    def __init__(self):
        self.node = rclpy.create_node("test_graph")
        self._clients: dict[tuple, tuple[Client, KnownTo]] = {}
        self._thread = NodeThread(self.node)

    def close(self):
        self._thread.close(5.0)

    wait_until = staticmethod(wait_until)

    def collect(self, kind, topic: str, profile=RELIABLE) -> Collector:
        found = Collector()
        self.node.create_subscription(kind, topic, found.append, profile)
        return found

    def publisher(self, kind, topic: str, profile=RELIABLE):
        return self.node.create_publisher(kind, topic, profile)

    def known_to(self, *names: str, timeout: float = 30.0) -> None:
        """Return when these nodes have discovered all that this graph has made so far: what is sent now is not lost.

        That a publisher counts a subscription says only that this side has discovered the other. names: with namespaces
        """
        for name in names:
            known = KnownTo(self.node, name)
            wait_until(known, timeout, lambda name=name: f"an answer of node {name}")
            known.destroy(self.node)

    def call(self, kind, name: str, request=None, timeout: float = 20.0):
        """The response of a service; fails when it does not come in `timeout` s. The request is sent once.

        It is sent when the node whose service it is (the name without its last part) knows the client. Each client is
        kept: a new one would have to be discovered for each call.
        """
        name = self.node.resolve_service_name(name)
        if (kind, name) not in self._clients:
            client = self.node.create_client(kind, name)
            self._clients[kind, name] = client, KnownTo(self.node, name.rpartition("/")[0])  # in this order
        client, known = self._clients[kind, name]
        known.forget()  # it may be a process that has been started meanwhile
        assert client.wait_for_service(timeout), f"service {name} did not appear within {timeout} s"
        wait_until(known, timeout, lambda: f"the node of {name} to know its client")
        answer = client.call_async(request if request is not None else kind.Request())
        wait_until(answer.done, timeout, lambda: f"an answer of {name}")
        return answer.result()


@pytest.fixture(scope="session", autouse=True)
def ros():
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture(scope="module")
def graph():
    made = Graph()
    yield made
    made.close()


@pytest.fixture(scope="module")
def start():
    """Start a process that is ended with the module: start([...command...], VARIABLE=value) -> Process."""
    processes = []

    def begin(command: list[str], forked: bool = False, **env: str) -> Process:
        processes.append(Process(command, forked, **env))
        return processes[-1]

    yield begin
    for process in processes:
        if process.running():
            process.popen.kill()
            process.popen.wait()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> str:
    """A complete checkpoint of the project's smallest model with random weights (seed 0)."""
    import torch

    from sam2s_model.config import PICO
    from sam2s_model.network.model import Sam2Model

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "random.pt"
    torch.save({"model": {k: v.half() for k, v in Sam2Model(PICO, 64).state_dict().items()}}, path)
    return str(path)


def ros_args(**parameters) -> list[str]:
    """Command line arguments that set parameters."""
    shown = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in parameters.items()}
    return ["--ros-args", *(part for k, v in shown.items() for part in ("-p", f"{k}:={v}"))]


@pytest.fixture(scope="module")
def start_tracker(start, checkpoint):
    """Start a tracker node: start_tracker(name=value, remap=["image:=camera"]) -> Process.

    It subscribes to its images as reliable: tests send most of them once, and on a busy machine best effort loses some.
    fault: a file that says what goes wrong in a step, see faulty_tracker.py
    """

    def begin(remap: tuple[str, ...] = (), fault: Path | None = None, **parameters) -> Process:
        given = dict(
            checkpoint=checkpoint,
            model="sam2s_pico",
            device="cpu",
            image_size=64,
            threads=1,
            step_timeout=20.0,
            service_timeout=10.0,
            max_output_age=0.0,
            hang_exit=0.0,
        )
        given[f"qos_overrides.{_image_topic(remap)}.subscription.reliability"] = "reliable"
        remaps = [part for rule in remap for part in ("-r", rule)]
        arguments = [*ros_args(**{**given, **parameters}), *remaps]
        if fault is None:
            return start([sys.executable, "-m", "sam2s_ros.tracker.node", *arguments], forked=True)
        faulty = str(Path(__file__).with_name("faulty_tracker.py"))
        return start([sys.executable, faulty, *arguments], forked=True, FAULT=str(fault))

    return begin


def _image_topic(remap: Sequence[str]) -> str:
    """Return the full name of a tracker's `image`."""
    rules = dict(rule.split(":=") for rule in remap)
    topic = rules.get("image", "image")
    return topic if topic.startswith("/") else f"{rules.get('__ns', '')}/{topic}"


class Camera:
    """Publishes images on a topic, each with a later stamp than the one before."""

    def __init__(self, graph: Graph, topic: str = "image"):
        self.topic, self.publisher = topic, graph.publisher(Image, topic)
        self.graph, self.stamp = graph, time.time_ns()

    @staticmethod
    def picture(number: int, height: int = 48, width: int = 64) -> np.ndarray:
        """(H, W, 3) uint8 RGB: noise with a bright square that moves with the number."""
        image = np.random.default_rng(number).integers(0, 80, (height, width, 3), np.uint8)
        left = number * 3 % (width // 2)
        image[12:36, left : left + 24] = (230, 210, 190)
        return image

    @staticmethod
    def message(stamp_ns: int, pixels: np.ndarray, encoding: str = "rgb8", frame_id: str = "endoscope") -> Image:
        return image_codec.to_message(pixels, Header(stamp=messages.to_time(stamp_ns), frame_id=frame_id), encoding)

    def send(self, pixels: np.ndarray | None = None, **kwargs) -> int:
        """Publish a picture; return its stamp in ns."""
        self.stamp = max(self.stamp + 1, time.time_ns())
        self.publisher.publish(self.message(self.stamp, self.picture(0) if pixels is None else pixels, **kwargs))
        return self.stamp

    def first(self, arrived) -> int:
        """Send pictures until `arrived()`; return the stamp of the last.

        A subscription that a publisher sees may not see the publisher yet: what is sent then is lost. The same holds
        for the tracker's own answers.
        """
        self.wait_for_subscriber()
        for _ in range(MOST_FIRST_IMAGES):
            stamp, deadline = self.send(), time.monotonic() + 2
            while time.monotonic() < deadline:
                if arrived():
                    return stamp
                time.sleep(0.01)
        pytest.fail(f"of {MOST_FIRST_IMAGES} images on {self.topic} none arrived")

    def wait_for_subscriber(self, timeout: float = 60.0) -> None:
        wait_until(
            self.publisher.get_subscription_count, timeout, lambda: f"a subscriber of {self.publisher.topic_name}"
        )


@pytest.fixture(scope="module")
def camera(graph) -> Camera:
    return Camera(graph)


@pytest.fixture(scope="module")
def tracker(graph, start_tracker, camera):
    """A tracker that is active, and waits for its first image."""
    from tracker_process import TrackerProcess

    made = TrackerProcess(graph, start_tracker())
    camera.wait_for_subscriber()
    return made


@pytest.fixture
def fresh(tracker, camera):
    """The tracker without objects or frames, as after a reset."""
    if not tracker.status().received:
        camera.first(lambda: tracker.masks)
    assert tracker.reset().success
    return tracker


@pytest.fixture(scope="module")
def new_camera(graph) -> Callable[..., Camera]:
    """Makes cameras on topics of their own: a tracker that a test has just ended may seem subscribed for seconds.

    new_camera(): on the next topic; new_camera("/topic"): on this one
    """
    return lambda topic="": Camera(graph, topic or f"/camera_{next(_cameras)}")


@pytest.fixture
def own_camera(new_camera) -> Camera:
    return new_camera()


_cameras = itertools.count(1)


@pytest.fixture
def recorder(graph, start, tmp_path, request):
    """Start a recorder in a namespace of its own: recorder(name=value) -> its process, and what publishes to it.

    It subscribes to images and ground truth as reliable: tests send them once, and on a busy machine best effort loses
    some.
    """
    from recording import Source

    def begin(*before: str, kind: type | None = Image, truth_topic: str = "mask", **parameters):
        """before: a command that starts the recorder; kind: of the images; truth_topic: what `mask` is remapped to"""
        name = f"/{request.node.name.split('[')[0]}"
        rules = [f"__ns:={name}", *([f"mask:={truth_topic}"] if truth_topic != "mask" else [])]
        arguments = ["--ros-args", *(part for rule in rules for part in ("-r", rule))]
        for key, value in {"output": tmp_path / "out", "reliable": True, **parameters}.items():
            arguments += ["-p", f"{key}:={str(value).lower() if isinstance(value, bool) else value}"]
        process = start([*before, sys.executable, "-m", "sam2s_ros.recorder.node", *arguments], forked=not before)
        process.wait_for_output("recording into")
        return process, Source(graph, name, kind, truth_topic)

    return begin
