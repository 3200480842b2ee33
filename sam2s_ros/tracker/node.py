"""The tracker as a ROS 2 lifecycle node: wiring between topics, services and the worker. No pixel is touched here."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import CompressedImage, Image

from sam2s_model.errors import ErrorCode, ImageError, RequestError, Sam2sError, StampError
from sam2s_model.recordings.pixels import ImageReader
from sam2s_model.semantics import GENERIC, LabelSet
from sam2s_model.tracks import Tracks
from sam2s_ros.interfaces import messages, qos
from sam2s_ros.interfaces.parameters import TRACKER
from sam2s_ros.interfaces.publishers import IMAGE_TYPES, PublisherWatch
from sam2s_ros.msg import ClassLabels, TrackerStatus
from sam2s_ros.processes.awake import steady
from sam2s_ros.processes.callbacks import LenientMultiThreadedExecutor
from sam2s_ros.processes.log import NodeLogger, UnthrottledLogger
from sam2s_ros.processes.process import run
from sam2s_ros.processes.runnable import RunnableNode
from sam2s_ros.processes.unused import given_parameters
from sam2s_ros.tracker.auto_prompt import AutoPrompt
from sam2s_ros.tracker.build import build_tracker
from sam2s_ros.tracker.contract import Answer, TrackerLike
from sam2s_ros.tracker.detection_prompts import DetectionPrompts
from sam2s_ros.tracker.discovery_services import DiscoveryServices
from sam2s_ros.tracker.event_log import EventLog
from sam2s_ros.tracker.gate import StampGate
from sam2s_ros.tracker.health import Health, ImageOutcome, NodeState, Processed, TrackerSnapshot
from sam2s_ros.tracker.object_services import FirstLoad, ObjectServices
from sam2s_ros.tracker.outputs import TrackerPublishers
from sam2s_ros.tracker.own_files import OwnFiles
from sam2s_ros.tracker.point_prompts import PointPrompts
from sam2s_ros.tracker.semantic_input import SemanticInput
from sam2s_ros.tracker.services import TrackerServices
from sam2s_ros.tracker.transitions import ERROR, FAILURE, SUCCESS, transition
from sam2s_ros.tracker.watchdog import Watchdog
from sam2s_ros.tracker.worker import Worker, WorkerFrame, WorkerLinks

WATCH = 0.1  # s between two looks at how long a step has taken
THREADS = 6  # one for each callback group, so that no callback ever waits for a free thread


class TrackerNode(RunnableNode, LifecycleNode):
    """Lifecycle node "tracker". Its topics, services and parameters: docs/topics.md, services.md, parameters.md.

    build_tracker: makes the tracker at configure
    Raises ConfigError when a given parameter has the wrong type or is out of range.
    """

    build_tracker = staticmethod(build_tracker)

    def __init__(self, **kwargs):
        super().__init__("tracker", **kwargs)
        self._config, self._tracking = TRACKER.declare(self, self.late_topics())

        self._log = NodeLogger(self.get_logger())
        self._events = EventLog(UnthrottledLogger(self.get_logger()))
        self._health, self._gate = Health(), StampGate()
        self._outputs = TrackerPublishers(self, self._health, self._now, self._log)
        self._worker: Worker | None = None
        self._note = ""  # why it is not configured
        self._seen = self._stamps_seen = ""  # what a person should know of clocks and stamps
        self._first_id = 1  # object ids go on counting over cleanup and configure
        self._image_subscription = self._image_type = None
        self._reader = ImageReader()
        self._sources = PublisherWatch(self, "image", IMAGE_TYPES)

        self._make_interfaces()
        beats = MutuallyExclusiveCallbackGroup()
        self._heartbeat = self.steady_timer(1 / self._config.heartbeat_rate, self._beat, beats)
        watchdog = Watchdog(self._busy, self._broken, lambda: self._config.hang_exit, self._give_up)
        self._watch = self.steady_timer(WATCH, watchdog.check, beats)
        # In the default group, as the lifecycle services are, so that no two transitions overlap.
        self._lost = self.create_guard_condition(self._unconfigure)
        self._next_diagnostics = 0.0
        self.add_on_set_parameters_callback(self._on_set)
        if self._config.autostart:
            self._autostart = self.steady_timer(0.0, self._start, self.default_callback_group)

    def _make_interfaces(self) -> None:
        self._status = self.create_publisher(
            TrackerStatus, "~/status", qos.own(qos.OUTPUT), qos_overriding_options=qos.overridable()
        )
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # A request may wait for the tracker; images must not wait behind it.
        requests, self._images = MutuallyExclusiveCallbackGroup(), MutuallyExclusiveCallbackGroup()
        config, labels = (lambda: self._config), (lambda: self._outputs.labels)
        self._served = TrackerServices(self, self, requests, self._events)
        while_on = self._outputs.publish_while_on
        own = self.own_files = OwnFiles(self.get_fully_qualified_name(), config)
        self._discovery = DiscoveryServices(self, self.ask, while_on, labels, config, requests, own.check)
        self._kept_objects = ObjectServices(self, self.ask, config, requests, self._events, own.check)
        self._points = PointPrompts(self, self.ask, self._frames, config, requests, self._events)
        maps = MutuallyExclusiveCallbackGroup()
        self._maps = SemanticInput(self, self._outputs, self._log, maps)
        self._detected = DetectionPrompts(
            self, self.ask, self._frames, config, lambda: self._tracking.max_objects, labels, requests, self._events
        )

    def _now(self) -> int:
        return self.get_clock().now().nanoseconds

    # Parameters

    def _on_set(self, changed):
        result, configs = TRACKER.check_change(self, changed, fixed=self._worker is not None)
        if configs is not None:
            # also where it is the value that the parameter has: a change that timed out may have been done since
            if self._worker is not None and any(parameter.name == "policy" for parameter in changed):
                policy = configs[0].policy
                try:
                    self._worker.request(lambda tracker: tracker.set_policy(policy), self._config.service_timeout)
                except Exception as error:  # the checkpoint has no such memory, or there is no room for it
                    return SetParametersResult(successful=False, reason=str(error))
            if configs[0].heartbeat_rate != self._config.heartbeat_rate:
                self._heartbeat.timer_period_ns = int(1e9 / configs[0].heartbeat_rate)
            self._config, self._tracking = configs
            if self._worker is not None:
                self._worker.config = self._config
        return result

    # Life cycle

    def _start(self) -> None:
        self._autostart.cancel()
        if self._worker is None and self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def fail(self, transition: str, why: str) -> None:
        """Say why a transition failed, in the log and, while the node is not configured, in the status."""
        self._note = why if transition == "configure" else f"{transition} failed: {why}"
        self.get_logger().error(f"{transition} failed: {why}")

    @transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._health.clear()
        self.own_files.check("prompts_file")
        qos.check_overrides(given_parameters(self))  # of `image`; the others were checked before
        labels = LabelSet.from_yaml(self._config.label_set) if self._config.label_set else GENERIC
        self._subscribe()
        build = partial(
            self.build_tracker, self._config, self._tracking, labels, first_id=self._first_id, log=self._log
        )
        between = FirstLoad(self._config, AutoPrompt(self._discovery.publish, self._log.info), self._log)
        links = WorkerLinks(self._health, self._log, self._now, self._on_quarantine, between, self._detected.forget)
        worker = Worker(build, self._outputs, links, config=self._config, history=self._tracking.prompt_history)
        worker.start()
        self._outputs.begin(labels)
        warn = self.get_logger().warning
        self._reader = ImageReader(encoding=self._config.image_encoding, bits=self._config.significant_bits, say=warn)
        self._worker, self._note, self._gate = worker, "", StampGate()
        return SUCCESS

    def _subscribe(self) -> None:
        """Subscribe to what comes in: once, gated afterwards, and anew only when its type changes."""
        self._detected.subscribe(self._config.detections_in)
        self._maps.subscribe(self._config)
        kind = CompressedImage if self._config.compressed else Image
        if kind is self._image_type:
            return
        if self._image_subscription is not None:
            self.destroy_subscription(self._image_subscription)
        # Without events, which share the condition of the data: from the arrival of an image until a thread takes it,
        # the executor would ask again and again, and keep that thread from Python's lock.
        events = SubscriptionEventCallbacks(use_default_callbacks=False)
        self._image_subscription = self.create_subscription(
            kind,
            "image",
            self._on_image,
            qos.own(qos.IMAGE_IN),
            callback_group=self._images,
            qos_overriding_options=qos.overridable(),
            event_callbacks=events,
        )
        self._image_type = kind

    @transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        if self._worker is None or self._worker.stopped:
            self.get_logger().error("activate failed: the tracker was stopped by a cleanup, run cleanup again")
            return FAILURE
        self._outputs.switch(active=True)
        self._outputs.publish_labels()
        return super().on_activate(state)

    @transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._outputs.switch(active=False)
        if self._worker is not None:
            self._worker.discard()
            if self._worker.quarantine.lost:
                return ERROR  # and so to on_error
        return super().on_deactivate(state)

    @transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return SUCCESS if self.close(self._config.service_timeout) else FAILURE

    @transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close(self._config.service_timeout)
        return SUCCESS

    @transition
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        return SUCCESS if self.close(self._config.service_timeout) else FAILURE

    def late_topics(self) -> tuple[str, ...]:
        return tuple(self.resolve_topic_name(name) for name in ("image", "~/detections_in", "~/semantic_in"))

    def close(self, timeout: float | None) -> bool:
        """Publish nothing more and stop the worker. Return whether it stopped within `timeout` s."""
        self._outputs.switch(active=False)
        if self._worker is not None and not self._worker.stop(timeout):
            self.get_logger().error(f"the tracker did not stop within {timeout:g} s")
            return False
        if self._worker is not None:
            self._first_id = self._worker.view.next_id
            self._note = self._worker.quarantine.reason if self._worker.quarantine.lost else self._note
        self._worker = None
        return True

    def _on_quarantine(self, reason: str) -> None:
        self.get_logger().error(reason)
        self._lost.trigger()

    def _unconfigure(self) -> None:
        """Let go of a tracker that only another one can replace."""
        if self._worker is not None and self._worker.quarantine.lost:
            if self._outputs.active:
                self.trigger_deactivate()
            else:
                self.trigger_cleanup()

    def _give_up(self, why: str, exit_code: int) -> None:
        self.get_logger().fatal(why)
        self.finish(exit_code)

    # Images in, masks out

    def _on_image(self, msg: Image | CompressedImage) -> None:
        worker = self._worker
        if not self._outputs.active or worker is None:
            return
        self._health.received()
        try:
            if not self._outputs.enabled:
                self._health.ended(ImageOutcome.DISABLED)
                return
            self._reader.check(msg)
            stamp, now, arrived = messages.header_ns(msg.header), self._now(), steady()
            policy = dict(on_time_jump=self._config.on_time_jump, time_jump=self._config.time_jump)
            epoch = self._gate.admit(stamp, now=now, at=arrived, **policy)
        except ImageError as error:
            self._refuse(ImageOutcome.IMAGE, error)
        except StampError as error:
            self._refuse(ImageOutcome.STAMP, error)
        except Exception as error:  # a message that nobody thought of is counted as ended, as any other
            self._refuse(ImageOutcome.IMAGE, ImageError(self.failures.add("an image's check", error)))
        else:
            if news := self._gate.news():
                self._log.info(news)
            self._health.accepted(stamp, arrived)
            worker.put(WorkerFrame(msg.header, stamp, epoch, partial(self._reader.read, msg), now, arrived))

    def _refuse(self, outcome: ImageOutcome, error: Sam2sError) -> None:
        self._health.ended(outcome, str(error))
        self._log.warning(f"image refused: {error}")

    # Services

    def ask(self, call: Callable[[TrackerLike], Answer], *, cures: bool = False) -> tuple[Answer, TrackerSnapshot]:
        """Run call(tracker) in the worker, see `ServedTracker`. cures: whether it may end a quarantine"""
        if not self._outputs.active or self._worker is None:
            raise RequestError(
                ErrorCode.NOT_ACTIVE, f"the node is not active: {self._note or 'configure and activate it first'}"
            )
        try:
            return self._worker.request(call, self._config.service_timeout, cures=cures)
        except RequestError:
            raise
        except Exception as error:
            self._log.warning(f"request failed: {type(error).__name__}: {error}")
            raise RequestError(ErrorCode.INTERNAL, f"the tracker raised {type(error).__name__}: {error}") from error

    def _frames(self) -> tuple[Processed, ...]:
        return self._worker.view.frames if self._worker is not None else ()

    def start_anew(self) -> None:
        """Drop all objects and take the next image as the first of its stream. Raises RequestError."""
        worker, gate = self._worker, self._gate

        def reset(tracker: TrackerLike) -> None:
            tracker.reset()
            if worker is not None:
                worker.forget_stream()
            gate.restart()

        self.ask(reset, cures=True)

    def enable(self, enabled: bool) -> None:
        """Let images in or drop them."""
        self._outputs.switch(enabled=enabled)
        if self._worker is not None and not enabled:
            self._worker.discard()

    def newest(self) -> Tracks | None:
        """Return the newest frame's tracks; None when there is no frame."""
        return self._worker.view.newest if self._worker is not None else None

    def labels(self) -> ClassLabels:
        """Return the table of classes."""
        return self._outputs.labels_message()

    # Health

    def status(self) -> TrackerStatus:
        """Report what is known now."""
        worker, outputs = self._worker, self._outputs
        view = worker.view if worker is not None else None
        at = NodeState(
            self._now(),
            steady(),
            view,
            self._busy(),
            outputs.active,
            outputs.enabled,
            self._note,
            seen=self._seen,
            silent=self._sources.found.silent,
        )
        return self._health.status(at, self._config)

    def _busy(self) -> float | None:
        worker = self._worker
        return worker.busy() if worker is not None else None

    def _broken(self) -> str:
        return worker.quarantine.broken if (worker := self._worker) is not None else ""

    def _beat(self) -> None:
        if self._worker is not None and self._image_subscription is not None:
            self._sources.look(self._image_subscription)
        self._check_stamps()
        status = self.status()
        self._status.publish(status)
        self._events.status(status)
        if silent := self._sources.news(status.message):
            self.get_logger().warning(f"no image comes: {silent}")
        if time.monotonic() >= self._next_diagnostics:
            self._next_diagnostics = time.monotonic() + 1 / self._config.diagnostics_rate
            name, warning = self.get_fully_qualified_name(), self._warning()
            source = self._sources.found.warning or self._health.empty_picture(self._config)
            for sentence in filter(None, (warning, source)):
                self._log.warning(sentence)
            warning = warning or self._seen or self.failures.news()
            more = {**self.failures.values(), **self._detected.values(), **self._maps.values()}
            made = self._health.diagnostics(status, self._config, name, warning, source=source, more=more)
            self._diagnostics.publish(made)

    def _check_stamps(self) -> None:
        """See whether clock and stamps are as they should be; the log says what of the stamps is not when it begins."""
        clock, stamps = self.clock_warning(), self._gate.warning() if self._outputs.active else ""
        if stamps and not self._stamps_seen:
            self.get_logger().warning(stamps)
        self._stamps_seen, self._seen = stamps, "; ".join(filter(None, (clock, stamps)))

    def _warning(self) -> str:
        """Return a sentence about what else a person should know of the tracking, or "".

        There is another node of this name, whose masks and answers are taken for this one's; the prompts of the tracked
        objects could not be saved; or clicks, detections or class images are not heard.
        """
        own = (self.get_name(), self.get_namespace())
        count = self.get_node_names_and_namespaces().count(own)
        name = self.get_fully_qualified_name()
        if count > 1:
            return f"{count} nodes are called {name}: give each a name or a namespace of its own"
        unsaved = self._worker.view.unsaved if self._worker is not None else ""
        return unsaved or self._points.unheard() or self._detected.unheard() or self._maps.unheard()


def main(args: list[str] | None = None) -> int:
    """Entry point: 0 after a signal, 2 for a bad parameter or argument, 3 when a step did not end, 4 without a GPU."""
    return run(TrackerNode, args, make_executor=partial(LenientMultiThreadedExecutor, THREADS))


if __name__ == "__main__":
    sys.exit(main())
