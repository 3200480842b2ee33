"""A worker with a tracker of a few lines that obeys the contract and writes the frame's number into the mask."""

import threading
import time

import numpy as np
from said_log import SaidLog
from std_msgs.msg import Header

from sam2s_model.errors import ConfigError, ErrorCode, ImageError, RequestError, StampError
from sam2s_model.tracks import Tracks
from sam2s_ros.interfaces import messages
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.tracker.contract import BuiltTracker
from sam2s_ros.tracker.health import Health, ImageOutcome
from sam2s_ros.tracker.worker import Worker, WorkerFrame, WorkerLinks


class EchoTracker:
    """The label map is the image's first channel: a frame that carries its number gets it back."""

    name = "echo/none"
    object_ids, newest, revision, next_id = (), None, 0, 1

    def __init__(self, before_step=lambda: None):
        self.before_step, self.stamps, self.resets, self.thread = before_step, [], 0, threading.get_ident()

    def step(self, stamp, image, following=None):
        assert threading.get_ident() == self.thread, "a tracker belongs to the thread that made it"
        self.before_step()
        if self.stamps and stamp <= self.stamps[-1]:
            raise StampError(f"stamp {stamp} is not after {self.stamps[-1]}")
        if self.newest is not None and image.shape[:2] != self.newest.size:
            raise ImageError("another size")
        self.stamps.append(stamp)
        empty = Tracks.empty(stamp, *image.shape[:2], self.revision)
        empty.label_map[:] = image[..., 0]
        self.newest = empty
        return empty

    def prompt(self, stamp, prompts, *, learn=True):
        raise RequestError(ErrorCode.TOO_MANY_OBJECTS, "it tracks no objects")

    def remove(self, object_ids):
        raise RequestError(ErrorCode.UNKNOWN_OBJECT, "it tracks no objects")

    def set_policy(self, policy):
        raise ConfigError("it has no memory")

    def prepare(self):
        pass

    def reset(self):
        self.newest, self.stamps, self.resets, self.revision = None, [], self.resets + 1, self.revision + 1

    def memory_bytes(self):
        return 5

    def device_description(self):
        return "echo"


def encode(number, height=4, width=4):
    """An image whose pixels spell the number, 8 bits each."""
    image = np.zeros((height, width, 3), np.uint8)
    image[0, :4, 0] = np.frombuffer(np.uint32(number).tobytes(), np.uint8)
    return image


def decode(label_map):
    return int(np.frombuffer(label_map[0, :4].tobytes(), np.uint32)[0])


def frame(number, *, epoch=0, frame_id="cam", image=None, stamp=None):
    image = encode(number) if image is None else image
    make = image if callable(image) else lambda: image
    stamp = number if stamp is None else stamp
    return WorkerFrame(
        Header(stamp=messages.to_time(stamp), frame_id=frame_id), stamp, epoch, make, received=time.time_ns()
    )


class Bench:
    """A worker, what it delivered, and what it said."""

    def __init__(
        self,
        before_step=lambda: None,
        publishing=True,
        alive=lambda: None,
        between=lambda tracker, result: False,
        anew=lambda: None,
        **config,
    ):
        self.health, self.results, self.log, self.publishing = Health(), [], SaidLog(), publishing
        self.quarantined, self.alive, self.closed = [], alive, []
        self.tracker = None

        def build():
            self.tracker = EchoTracker(before_step)
            return BuiltTracker(self.tracker, close=lambda: self.closed.append(threading.get_ident()))

        links = WorkerLinks(self.health, self.log, quarantined=self.quarantined.append, between=between, anew=anew)
        self.worker = Worker(build, self, links, config=NodeConfig(**config), history=3)
        self.worker.start()

    def deliver(self, result):
        if self.publishing:
            self.results.append(result)
            self.health.published(result.tracks.stamp, 0, latency=0.0, step=result.step)
        else:
            self.health.ended(ImageOutcome.DISABLED)
        return len(self.results) if self.publishing else 0

    def put(self, item):
        self.health.received()
        self.worker.put(item)

    def run(self, *frames):
        """Put frames one by one, each processed before the next; return the counts."""
        for item in frames:
            self.put(item)
            self.settle()
        return self.health.counts()

    def settle(self):
        deadline = time.monotonic() + 5
        while self.health.counts().waiting and time.monotonic() < deadline:
            time.sleep(0.0005)
        assert self.health.counts().waiting == 0
