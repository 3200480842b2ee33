"""A video file, an image folder, a bag or the procedural scene as a camera.

Publishes `image` (sensor_msgs/Image, rgb8), `mask` (mono8 ground-truth labels, the image's header) where the source
has masks, ~/frame (std_msgs/Header: the image's stamp, and as frame_id the number of the frame in the source), /clock
if asked, and /diagnostics. Serves ~/set_paused and ~/step.
"""

from __future__ import annotations

import array
import sys
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from sam2s_model.config import check_options, option
from sam2s_model.errors import SourceError
from sam2s_model.recordings.crop import Crop
from sam2s_model.recordings.open import open_recording
from sam2s_model.recordings.recording import Frame
from sam2s_ros.interfaces.messages import to_time
from sam2s_ros.interfaces.parameters import Parameters
from sam2s_ros.processes.discovery import KnownToSubscribers
from sam2s_ros.processes.process import BAD_INPUT, run
from sam2s_ros.processes.runnable import RunnableNode
from sam2s_ros.replay.player import Player, PlayState

QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.RELIABLE)
CLOCK_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
FRAMES_QOS = QoSProfile(  # small messages, none of which should be missed
    history=HistoryPolicy.KEEP_LAST, depth=1000, reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)  # fmt: skip
REPORT_PERIOD = 0.5  # s between two messages on /diagnostics
STEP_TIMEOUT = 5.0  # s


@dataclass(frozen=True)
class ReplayConfig:
    """The node's parameters, as they are in config/replay.yaml."""

    source: str = option(
        "", "path of a video, image folder or bag, /dev/videoN, a URL (rtsp, http, ...), or a scene: URI; required"
    )
    topic: str = option("", "image topic of a bag; empty: its only one")
    mask_topic: str = option("", "topic of a bag with mono8 label images of the images' stamps; empty: none")
    crop: str = option("", "part of each picture: left or right half, or x,y,w,h in px; empty: all of it")
    rate: float = option(0.0, "frames per second; 0: the source's own times", low=0.0, high=1000.0)
    loop: bool = option(False, "whether the source begins again at its end")
    start_paused: bool = option(False, "whether nothing is published until ~/step or ~/set_paused")
    max_frames: int = option(0, "frames published in all; 0: no limit", low=0, high=2**31 - 1)
    stamps: str = option(
        "now", "header stamps: now is the node's clock, source the source's own times (which jump back when it loops)",
        choices=("now", "source"),
    )  # fmt: skip
    frame_id: str = option("camera", "frame_id of the headers")
    wait_for_subscribers: int = option(0, "subscribers of `image` to wait for before the first frame", low=0, high=100)
    publish_clock: bool = option(
        False, "whether /clock is published, with the time of `stamps`; it stands while paused"
    )
    exit_at_end: bool = option(False, "whether the process ends after the last frame; otherwise it stays, idle")

    def __post_init__(self):
        check_options(self)
        Crop.parse(self.crop)
        if self.publish_clock and self.stamps == "now":
            raise SourceError(
                "publish_clock is true and stamps is 'now': set stamps to 'source', so that /clock has a time to tell"
            )


PARAMETERS = Parameters((ReplayConfig,), live=frozenset({"rate", "loop"}))


class ReplayNode(RunnableNode):
    """Publishes one source. Raises SourceError or ConfigError when it cannot be opened."""

    def __init__(self):
        super().__init__("replay")
        (self._config,) = PARAMETERS.declare(self)
        if self._config.publish_clock and self.get_parameter("use_sim_time").value:  # it would follow itself
            self.set_parameters([Parameter("use_sim_time", value=False)])
            self.get_logger().info("use_sim_time is not followed: this node publishes the clock")
        config = self._config
        source = open_recording(config.source, topic=config.topic, mask_topic=config.mask_topic, crop=config.crop)
        self._images = self.create_publisher(Image, "image", QOS)
        self._masks = self.create_publisher(Image, "mask", QOS) if source.has_masks else None
        self._frames = self.create_publisher(Header, "~/frame", FRAMES_QOS)
        self._clock_out = self.create_publisher(Clock, "/clock", CLOCK_QOS) if config.publish_clock else None
        self._reports = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        height, width = source.size
        self._image = _ImageBuffer(height, width, 3, "rgb8", config.frame_id)
        self._mask = _ImageBuffer(height, width, 1, "mono8", config.frame_id)
        self._odd_named, self._notes_said = 0, len(source.notes)
        self._closing = False
        self._known: KnownToSubscribers | None = None
        self._player = Player(
            source,
            self._emit,
            tick=self._publish_clock if config.publish_clock else None,
            ready=self._ready,
            changed=self._on_change,
            rate=config.rate,
            loop=config.loop,
            paused=config.start_paused,
            max_frames=config.max_frames,
        )
        self.add_on_set_parameters_callback(self._on_set)
        self.create_service(SetBool, "~/set_paused", self._set_paused)
        self.create_service(Trigger, "~/step", self._step)
        self.steady_timer(REPORT_PERIOD, self._report)
        self.get_logger().info(source.describe())
        self._player.start()

    def close(self, timeout: float | None) -> bool:
        self._closing = True
        return self._player.stop(timeout)

    # from the player's thread

    def _ready(self) -> bool:
        wanted = self._config.wait_for_subscribers
        if self._images.get_subscription_count() < wanted:
            return False
        if wanted and self._known is None:  # that they are seen from here does not mean that they see this node
            self._known = KnownToSubscribers(self, self._images.topic_name)
        if self._known is not None and not self._known():
            return False
        if self._known is not None and self._known.silent:
            names = ", ".join(self._known.silent)
            self.get_logger().info(f"{names} subscribe to the images and did not answer: they may miss the first ones")
        return True

    def _emit(self, frame: Frame) -> None:
        if self._config.stamps == "source":
            stamp = to_time(frame.stamp_ns)
            self._publish_clock(frame.stamp_ns)
        else:
            stamp = self.get_clock().now().to_msg()
        self._frames.publish(Header(stamp=stamp, frame_id=str(frame.index)))
        self._images.publish(self._image.filled(frame.image, stamp))
        if self._masks is not None and frame.truth is not None:
            try:
                labels = frame.truth.labels
            except SourceError as error:  # an object that no value of a mask stands for, as SA-V's first
                self.get_logger().warning(
                    f"frame {frame.name} has no mask here, nor others like it: {error}", once=True
                )
                return
            self._masks.publish(self._mask.filled(labels, stamp))

    def _publish_clock(self, stamp_ns: int) -> None:
        if self._clock_out is not None and stamp_ns > 0:
            self._clock_out.publish(Clock(clock=to_time(stamp_ns)))

    def _on_change(self) -> None:
        if self._closing:  # it has not ended, it was stopped
            return
        self._report()
        player = self._player
        if player.state is PlayState.FAILED:
            print(player.error, file=sys.stderr)
            self.finish(BAD_INPUT if isinstance(player.error, SourceError) else 1)
        elif player.state is PlayState.FINISHED:
            counters = player.counters
            self.get_logger().info(
                f"the source has ended: {counters.emitted} frames published, {counters.odd} left out"
            )
            if self._config.exit_at_end:
                for publisher in filter(None, (self._images, self._masks, self._frames)):
                    publisher.wait_for_all_acked(Duration(seconds=2))
                self.finish()

    # from the executor's thread

    def _set_paused(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._player.set_paused(request.data)
        response.success = not self._player.over
        response.message = f"{self._player.state.value}, {self._player.counters.emitted} frames published"
        return response

    def _step(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            frame = self._player.step(STEP_TIMEOUT)
        except SourceError as error:
            response.success, response.message = False, str(error)
        else:
            response.success, response.message = True, f"published frame {frame.index} ({frame.name})"
            self._report()
        return response

    def _on_set(self, changed):
        result, configs = PARAMETERS.check_change(self, changed)
        if configs is not None:
            (self._config,) = configs
            self._player.rate, self._player.loop = self._config.rate, self._config.loop
        return result

    def _report(self) -> None:
        player = self._player
        counters, source = player.counters, player.source
        for sentence in source.odd[self._odd_named :]:
            self.get_logger().warning(f"left out: {sentence}")
        self._odd_named = len(source.odd)
        for note in source.notes[self._notes_said :]:
            self.get_logger().warning(note)
        self._notes_said = len(source.notes)
        warning = self.clock_warning() or self.failures.news()
        level = DiagnosticStatus.WARN if counters.odd or warning else DiagnosticStatus.OK
        status = DiagnosticStatus(
            level=DiagnosticStatus.ERROR if player.error else level,
            name=f"{self.get_name()}: source",
            message=str(player.error) if player.error else warning or player.state.value,
            hardware_id=source.kind,
            values=[KeyValue(key=key, value=str(value)) for key, value in self._values().items()],
        )
        self._reports.publish(_diagnostics(self.get_clock().now().to_msg(), status))

    def _values(self) -> dict[str, object]:
        player = self._player
        counters, source = player.counters, player.source
        values = {
            "state": player.state.value,
            "published": counters.emitted,
            "late": counters.late,
            "odd": counters.odd,
            "missed": source.missed,
            "passes": counters.passes,
            "source": source.spec,
            "fps": source.fps,
            "length": "" if player.expected is None else player.expected,
        }
        return {**values, **self.failures.values()}


class _ImageBuffer:
    """One Image message that is filled again for every frame, so that no frame allocates its pixels."""

    def __init__(self, height: int, width: int, channels: int, encoding: str, frame_id: str):
        self._message = Image(height=height, width=width, encoding=encoding, step=width * channels)
        self._message.header.frame_id = frame_id
        self._message.data = array.array("B", bytes(height * width * channels))
        self._pixels = np.frombuffer(self._message.data, np.uint8)  # of what the message holds: its setter may copy

    def filled(self, pixels: np.ndarray, stamp) -> Image:
        """Fill the message with these pixels and return it; valid until the next call."""
        np.copyto(self._pixels, pixels.reshape(-1))
        self._message.header.stamp = stamp
        return self._message


def _diagnostics(stamp, status: DiagnosticStatus) -> DiagnosticArray:
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message


def main(args: list[str] | None = None) -> int:
    """Entry point: 0 at the end or after a signal, 2 when the source cannot be opened."""
    return run(ReplayNode, args)


if __name__ == "__main__":
    sys.exit(main())
