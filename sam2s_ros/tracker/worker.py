"""The one thread that owns torch: frames and requests in, tracks out."""

from __future__ import annotations

import gc
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from std_msgs.msg import Header

from sam2s_model.errors import ErrorCode, ImageError, RequestError, StampError
from sam2s_model.recordings.pixels import contrast
from sam2s_model.tracks import Tracks
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.processes.awake import AwakeClock, steady
from sam2s_ros.processes.log import Logger
from sam2s_ros.tracker.contract import Answer, BuiltTracker, TrackerLike
from sam2s_ros.tracker.gate import seconds
from sam2s_ros.tracker.health import Health, ImageOutcome, Processed, TrackerSnapshot
from sam2s_ros.tracker.mailbox import Mailbox
from sam2s_ros.tracker.quarantine import Quarantine, free_memory, lacks_memory
from sam2s_ros.tracker.saving import SavingTracker

ALIVE_EVERY = 0.1  # s; leases of the masks' liveliness must be longer


@dataclass(frozen=True)
class WorkerFrame:
    """An image on its way to the tracker.

    stamp: ns, the header's; epoch: of the stamp gate
    decode: makes (H, W, 3) uint8 RGB of the message, raises ImageError
    received: ns, node clock; arrived: s, of `steady`
    """

    header: Header
    stamp: int
    epoch: int
    decode: Callable[[], np.ndarray]
    received: int
    arrived: float = field(default_factory=steady)


@dataclass(frozen=True)
class Result:
    """A processed frame.

    image: (H, W, 3) uint8 RGB, the one that was segmented; step: s in the tracker; finished: ns, node clock
    config: as of when the frame was begun, so that a change of a parameter takes effect between frames
    """

    frame: WorkerFrame
    image: np.ndarray
    tracks: Tracks
    step: float
    finished: int
    model: str
    config: NodeConfig


class ResultSink(Protocol):
    """Where the worker's results go. It calls this in its thread."""

    def deliver(self, result: Result) -> int:
        """Take a processed frame to its end. Return its sequence, 0 when it was not published."""
        ...

    def alive(self) -> None:
        """Note that the worker does not hang; called between steps, every ALIVE_EVERY s at least."""


@dataclass(frozen=True)
class WorkerLinks:
    """What ties a worker to its node. It calls all of it in its thread.

    health: told how each frame ended that was not delivered, and why
    log: told of resets, and of frames that were refused or failed
    now: ns, the node's clock
    quarantined: told why images are tried no more from here on
    between: called after a frame that was published in time; returns whether it did anything
    anew: called when a stream begins, the first one or another: what was seen of the former one says nothing of it
    """

    health: Health
    log: Logger
    now: Callable[[], int] = time.time_ns
    quarantined: Callable[[str], None] = lambda reason: None
    between: Callable[[TrackerLike, Result], bool] = lambda tracker, result: False
    anew: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class _Request:
    call: Callable[[TrackerLike], Any]
    future: Future
    cures: bool


class Worker:
    """Builds a tracker in a thread of its own and runs it there until `stop`.

    build: makes the tracker, called in the thread
    config: replaced by the owner when a parameter changes; read before each frame
    history: frames that the tracker can be prompted on
    """

    def __init__(
        self,
        build: Callable[[], BuiltTracker],
        results: ResultSink,
        links: WorkerLinks,
        *,
        config: NodeConfig,
        history: int = 1,
    ):
        self.config = config
        self.view = TrackerSnapshot()
        self._frames: deque[Processed] = deque(maxlen=history)
        self._build, self._results, self._links = build, results, links
        self._health, self._log = links.health, links.log
        self._chosen = ""
        self.quarantine = Quarantine()
        self._mailbox: Mailbox[WorkerFrame, _Request] = Mailbox()
        self._built: Future = Future()
        self._clock = AwakeClock()
        self._prepares = True  # until that fails
        self._step_began: float | None = None  # of an image, a request, discovery or preparation
        self._image_began: float | None = None  # of an image alone
        self._epoch: int | None = None
        self._shape: tuple[int, int, str] | None = None  # height, width and frame_id of the stream
        self._thread = threading.Thread(target=self._run, name="tracker", daemon=True)

    def start(self) -> None:
        """Start the thread and wait until the tracker is built. Raises what `build` raises."""
        self._thread.start()
        self._built.result()

    def put(self, frame: WorkerFrame) -> None:
        """Leave a frame; the one that was waiting is dropped."""
        if self._mailbox.put(frame) is not None:
            self._health.ended(ImageOutcome.DISABLED if self._mailbox.closed else ImageOutcome.OVERLOAD)

    def discard(self) -> None:
        """Drop the waiting frame: the node was deactivated or disabled."""
        if self._mailbox.discard() is not None:
            self._health.ended(ImageOutcome.DISABLED)

    def request(
        self, call: Callable[[TrackerLike], Answer], timeout: float, *, cures: bool = False
    ) -> tuple[Answer, TrackerSnapshot]:
        """Run `call(tracker)` in the thread, before the next frame. Return its result and the view right after.

        timeout: s; cures: whether it is let in during a quarantine, and ends it
        Raises RequestError (TIMEOUT, NOT_ACTIVE, INTERNAL in quarantine) and what `call` raises. A call that timed out
        before it began never begins.
        """
        self._check_not_hung()
        future: Future = Future()
        if not self._mailbox.ask(_Request(call, future, cures)):
            raise RequestError(ErrorCode.NOT_ACTIVE, "the tracker is stopped: configure and activate the node first")
        deadline = time.monotonic() + timeout
        while not future.done():
            left = deadline - time.monotonic()
            if left <= 0:
                ending = "nothing was changed" if future.cancel() else "it has begun and may still take effect"
                raise RequestError(ErrorCode.TIMEOUT, f"no answer within {timeout:g} s (service_timeout): {ending}")
            self._check_not_hung(future)
            wait((future,), min(left, ALIVE_EVERY))
        return future.result()

    def _check_not_hung(self, waiting: Future | None = None) -> None:
        """Raise RequestError while a step takes too long.

        An image's step alone: other requests and discovery, which take long with good reason, are waited for.
        waiting: a request, which is given up unless it has begun
        """
        busy = self._since(self._image_began)
        if busy is None or busy <= self.config.step_timeout or (waiting is not None and not waiting.cancel()):
            return
        spent = f"{busy:.1f} s (step_timeout is {self.config.step_timeout:g} s)"
        raise RequestError(ErrorCode.TIMEOUT, f"the tracker has worked on one image for {spent}: nothing was changed")

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called: no frame and no request is taken any more, though the thread may still run."""
        return self._mailbox.closed

    def busy(self) -> float | None:
        """Return the s that the process ran for the current step so far; None when there is none."""
        return self._since(self._step_began)

    def _since(self, began: float | None) -> float | None:
        now = self._clock()  # read in any case, see AwakeClock
        return None if began is None else now - began

    def stop(self, timeout: float | None) -> bool:
        """Stop after the current step or request; refuse what waits. Return whether it ended in `timeout` s."""
        left, frame = self._mailbox.close()
        for request in left:
            if request.future.set_running_or_notify_cancel():
                request.future.set_exception(
                    RequestError(ErrorCode.NOT_ACTIVE, "the tracker was stopped before it answered")
                )
        if frame is not None:
            self._health.ended(ImageOutcome.DISABLED)
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        keep_out_of_collections()
        try:
            built = self._build()
            tracker, self._chosen = built.tracker, built.chosen
            self.forget_stream()
            self._renew_view(tracker)
        except BaseException as error:
            self._built.set_exception(error)
            return
        self._built.set_result(None)
        self._serve(tracker)
        built.close()
        del built, tracker
        free_memory()

    def _serve(self, tracker: TrackerLike) -> None:
        while not self._mailbox.closed:
            try:
                self._results.alive()
            except Exception as error:  # of the middleware: whoever asked for liveliness learns it, and images go on
                self._log.warning(f"liveliness was not asserted: {type(error).__name__}: {error}")
            item = self._mailbox.take(ALIVE_EVERY)
            if isinstance(item, _Request):
                self._answer(tracker, item)
            elif item is not None:
                result = self._process(tracker, item)
                self._prepare(tracker)
                if result is not None:
                    self._look_again(tracker, result)

    def _prepare(self, tracker: TrackerLike) -> None:
        """While nothing waits, let the tracker do what a later step would stop for."""
        if self._prepares and self._mailbox.idle and not self.quarantine.reason:
            self._step_began = self._clock()
            try:
                tracker.prepare()
            except Exception as error:
                self._prepares = False
                self._log.warning(f"what steps stop for is left to them from here on: {type(error).__name__}: {error}")
                self._recover(error)
            finally:
                self._step_began = None

    def _look_again(self, tracker: TrackerLike, result: Result) -> None:
        """Let discovery look at the frame where that was in time. Images that come meanwhile replace one another."""
        late = 0 < self.config.max_output_age < steady() - result.frame.arrived
        if late or self.quarantine.reason or self._mailbox.closed:
            return
        self._step_began = self._clock()
        try:
            if self._links.between(tracker, result):
                self._renew_view(tracker)
        except Exception as error:
            self._log.warning(f"discovery failed: {type(error).__name__}: {error}")
            self._recover(error)
        finally:
            self._step_began = None

    def _recover(self, error: Exception) -> None:
        """Do what an error asks for that was raised outside of an image's step."""
        if lacks_memory(error):
            free_memory(error)
        if not self.quarantine.broken and self.quarantine.breaks(error):
            self._links.quarantined(self.quarantine.reason)

    def _answer(self, tracker: TrackerLike, request: _Request) -> None:
        if not request.future.set_running_or_notify_cancel():
            return None  # timed out before it began
        if self.quarantine.reason and not (request.cures and not self.quarantine.broken):
            return request.future.set_exception(RequestError(ErrorCode.INTERNAL, self.quarantine.reason))
        self._step_began = self._clock()
        try:
            try:
                result = request.call(tracker)
            finally:
                self._renew_view(tracker)  # a call that raised may have used up ids
        except Exception as error:
            self._recover(error)
            request.future.set_exception(error)
        else:
            if request.cures:
                self.quarantine.over()
                self._health.clear_failure()
            request.future.set_result((result, self.view))
        finally:
            self._step_began = None

    def _process(self, tracker: TrackerLike, frame: WorkerFrame) -> Result | None:
        """Take one frame to its end, whatever happens. Return it where it was published."""
        if self.quarantine.reason:
            self._health.ended(ImageOutcome.ERROR, self.quarantine.reason)
            return None
        self._step_began = self._image_began = self._clock()
        try:
            result = self._step(tracker, frame)
            sequence = self._results.deliver(result)
            self._frames[-1] = replace(self._frames[-1], sequence=sequence)
            self.view = replace(self.view, frames=tuple(self._frames))
        except ImageError as error:
            self._end(ImageOutcome.IMAGE, str(error))
        except StampError as error:
            self._end(ImageOutcome.STAMP, str(error))
        except Exception as error:
            self._end(ImageOutcome.ERROR, self.quarantine.failed(error, self.config.max_step_errors))
            if self.quarantine.reason:
                self._links.quarantined(self.quarantine.reason)
        else:
            self.quarantine.over()
            return result if sequence else None
        finally:
            self._step_began = self._image_began = None
        return None

    def _step(self, tracker: TrackerLike, frame: WorkerFrame) -> Result:
        config, image = self.config, frame.decode()
        self._health.seen(contrast(image))
        self._follow(tracker, frame, image, config)
        began = time.monotonic()
        tracks = tracker.step(frame.stamp, image)
        step, finished = time.monotonic() - began, self._links.now()
        if (tracks.stamp, tracks.size) != (frame.stamp, image.shape[:2]):
            wanted = f"{frame.stamp} and {image.shape[:2]}"
            raise RuntimeError(
                f"the tracker's masks are of stamp {tracks.stamp} and size {tracks.size} instead of {wanted}"
            )
        seen = zip(tracks.object_ids.tolist(), tracks.boxes.tolist(), tracks.areas.tolist(), strict=True)
        boxes = tuple((object_id, tuple(map(float, box))) for object_id, box, area in seen if area)
        self._frames.append(Processed(frame.stamp, frame.header, frame.received, finished, boxes=boxes))
        self._renew_view(tracker)
        return Result(frame, image, tracks, step, finished, self.view.model, config)

    def _follow(self, tracker: TrackerLike, frame: WorkerFrame, image: np.ndarray, config: NodeConfig) -> None:
        """Begin anew when the stream is another than before. Raises ImageError when that is refused."""
        shape = (*image.shape[:2], frame.header.frame_id)
        why = ""
        if self._shape is not None and shape != self._shape:
            height, width, frame_id = shape
            before = "{1}x{0} of {2!r}".format(*self._shape)
            why = f"the image is {width}x{height} of frame_id {frame_id!r} instead of {before}"
            if config.on_size_change == "refuse":
                raise ImageError(f"{why}: on_size_change is refuse; call ~/reset to go on with it")
        elif self._epoch is not None and frame.epoch != self._epoch:
            why = f"stamps jumped back to {seconds(frame.stamp)}"
        if why:
            tracker.reset()
            self.forget_stream()
            self._log.info(f"{why}: all objects were dropped, prompt again")
            self._renew_view(tracker)  # the step may fail
        self._shape, self._epoch = shape, frame.epoch

    def forget_stream(self) -> None:
        """Take the next frame as the first of its stream. For calls in the thread, with a reset."""
        self._shape = self._epoch = None
        self._frames.clear()
        self._links.anew()

    def _renew_view(self, tracker: TrackerLike) -> None:
        self.view = TrackerSnapshot(
            model=tracker.name,
            device=tracker.device_description(),
            objects=tuple(tracker.object_ids),
            revision=tracker.revision,
            memory_bytes=tracker.memory_bytes(),
            newest=tracker.newest,
            next_id=tracker.next_id,
            frames=tuple(self._frames),
            chosen=self._chosen,
            unsaved=tracker.unsaved if isinstance(tracker, SavingTracker) else "",
        )

    def _end(self, outcome: ImageOutcome, why: str) -> None:
        self._health.ended(outcome, why, accepted=True)
        self._log.warning(why if outcome is ImageOutcome.ERROR else f"image refused: {why}")


def keep_out_of_collections() -> None:
    """Keep what there is, the modules of torch and ROS, out of every garbage collection.

    A collection would go through all of it, 0.3 s in which no thread runs and images are lost. What a tracker is made
    of afterwards is collected as ever.
    """
    gc.collect()  # what is garbage by now would stay, too: the tracker before, if somebody held it until it had ended
    gc.freeze()
