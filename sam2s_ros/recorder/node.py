"""Record a tracker: overlay.mp4, masks.mcap, frames.jsonl (one line a frame), tracks.csv (one an object and frame) and
recorder.json (counts and latencies).

Callbacks only sort messages by stamp; drawing, encoding and writing happen in a thread behind a bounded queue. What has
arrived so far is told on /diagnostics.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from sam2s_model.config import check_options, option
from sam2s_model.errors import ConfigError
from sam2s_model.paths import expanded
from sam2s_ros.interfaces import qos
from sam2s_ros.interfaces.messages import labels_from_message, to_ns
from sam2s_ros.interfaces.parameters import Parameters
from sam2s_ros.interfaces.publishers import PublisherWatch
from sam2s_ros.msg import ClassLabels, TrackedMasks
from sam2s_ros.processes.awake import AwakeClock
from sam2s_ros.processes.process import run
from sam2s_ros.processes.runnable import RunnableNode
from sam2s_ros.recorder.camera import CameraSubscription
from sam2s_ros.recorder.writer import RecordingWriter, WriterJob

MATCH_WAIT = 1.0  # s of this process that masks wait for their image and ground truth
POLL = 0.2  # s
SILENT = 5.0  # s of this process without masks, from which the report says why


@dataclass(frozen=True)
class RecorderConfig:
    """The node's parameters."""

    output: str = option(
        "", "folder for the files; required; where a recording is already, it goes to a free one beside it"
    )
    overwrite: bool = option(False, "whether a recording that is in that folder is removed")
    image: str = option(
        "image", "topic of the images that are tracked: Image or CompressedImage, as they are published"
    )
    masks: str = option("tracker/masks", "topic of the tracker's TrackedMasks")
    labels: str = option("tracker/labels", "topic of the tracker's ClassLabels, for the colours")
    truth: str = option("mask", "topic of mono8 ground-truth label images with the images' stamps; empty: none")
    reliable: bool = option(
        False, "whether images are subscribed to as reliable; a best-effort camera then does not match"
    )
    fps: float = option(25.0, "frames per second of overlay.mp4", low=0.1, high=1000.0)
    alpha: float = option(0.45, "opacity of the masks in overlay.mp4", low=0.0, high=1.0)
    pending: int = option(
        100, "images kept while their masks are awaited, and masks while their image is", low=1, high=10000
    )
    queue: int = option(
        64, "frames that wait to be written; from half of it on, overlays are left out", low=2, high=10000
    )
    reserve: int = option(
        64,
        "MiB of the disk that stay free: with less, the files are finished and the recording ends",
        low=4,
        high=1 << 20,
    )

    def __post_init__(self):
        check_options(self)
        if not self.output:
            raise ConfigError("parameter output is empty: give the folder to record into")


PARAMETERS = Parameters((RecorderConfig,))


class RecorderNode(RunnableNode):
    """Matches images, ground truth and masks by exact stamp. Raises ConfigError when the files cannot be made."""

    def __init__(self):
        super().__init__("recorder")
        (self._config,) = PARAMETERS.declare(self)
        config = self._config
        for name in ("image", "masks", "labels", *(["truth"] if config.truth else [])):
            self.full_topic_name(name, getattr(config, name))  # refused before files are made, or removed
        self._writer = RecordingWriter(
            expanded(config.output),
            overwrite=config.overwrite,
            say=self.get_logger().warning,
            topic=self.full_topic_name("masks", config.masks),
            fps=config.fps,
            alpha=config.alpha,
            queue_size=config.queue,
            reserve=config.reserve << 20,
            failed=self._on_failure,
        )
        self._images: OrderedDict[int, Image | CompressedImage] = OrderedDict()
        self._truths: OrderedDict[int, Image] = OrderedDict()
        # with ns of the node's clock and s of `_ran` at arrival
        self._masks: deque[tuple[TrackedMasks, int, float]] = deque()
        # what comes while the process is stopped waits in the middleware, images and masks alike
        self._ran = AwakeClock()
        self._truth_expected = False
        self._counts = dict(
            images=0, truths=0, masks=0, matched=0, masks_without_image=0, images_given_up=0, sequence_gaps=0
        )
        self._last_sequence = 0
        reliability = ReliabilityPolicy.RELIABLE if config.reliable else ReliabilityPolicy.BEST_EFFORT
        images = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=50, reliability=reliability)
        masks = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=50, reliability=ReliabilityPolicy.RELIABLE)
        self._camera = CameraSubscription(self, config.image, self._on_image, images)
        self._input = self.create_subscription(
            TrackedMasks, config.masks, self._on_masks, masks, qos_overriding_options=qos.overridable()
        )
        self._sources, self._came = PublisherWatch(self, config.masks), self._ran()
        self._labels = self.create_subscription(ClassLabels, config.labels, self._on_labels, qos.own(qos.LATCHED))
        self._truth = self.create_subscription(Image, config.truth, self._on_truth, images) if config.truth else None
        self._reports = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._failure = ""
        self.steady_timer(POLL, self._poll)
        self.get_logger().info(f"recording into {self._writer.folder}")

    def close(self, timeout: float | None) -> bool:
        """Write what is waiting, and finish the files; the writer has its own timeout."""
        self._writer.begin_close()  # more masks may wait than the queue has room for
        self._match(last=True)
        counts = dict(self._counts, images_without_masks=self._counts["images"] - self._counts["matched"])
        try:
            self._writer.close(counts)
        except Exception as error:  # whatever the writers of the files raise
            self._on_failure(error)
            return False
        return True

    def _on_failure(self, error: Exception) -> None:
        """Report that the files cannot be written to, and end; also called from the writer's thread."""
        self._failure = f"recording into {self._writer.folder} failed: {error}"
        print(self._failure, file=sys.stderr)
        self._report()
        self.finish(1)

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._counts["images"] += 1
        self._images[to_ns(message.header.stamp)] = message
        while len(self._images) > self._config.pending:
            self._images.popitem(last=False)
            self._counts["images_given_up"] += 1
        self._match()

    def _on_truth(self, message: Image) -> None:
        self._counts["truths"] += 1
        self._truths[to_ns(message.header.stamp)] = message
        while len(self._truths) > self._config.pending:
            self._truths.popitem(last=False)
        self._match()

    def _on_masks(self, message: TrackedMasks) -> None:
        self._counts["masks"] += 1
        self._came = self._ran()
        # a reliable topic with a deep queue should have no gaps; one that starts late begins anywhere
        if self._last_sequence and message.sequence > self._last_sequence + 1:
            self._counts["sequence_gaps"] += message.sequence - self._last_sequence - 1
        self._last_sequence = message.sequence
        self._masks.append((message, self.get_clock().now().nanoseconds, self._ran()))
        self._match()

    def _on_labels(self, message: ClassLabels) -> None:
        try:
            self._writer.labels = labels_from_message(message)
        except ConfigError as error:
            self.get_logger().warning(f"labels on {self._labels.topic_name} are left out: {error}")

    def _poll(self) -> None:
        truth = self._truth  # whose name is that after remapping, which count_publishers does not apply
        self._truth_expected = truth is not None and self.count_publishers(truth.topic_name) > 0
        self._camera.look()
        self._sources.look(self._input)
        self._match()
        self._report()
        if why := self._sources.news(self._silence()):
            self.get_logger().warning(f"no masks come: {why}")

    def _report(self) -> None:
        counts = self._counts | self.failures.values()
        values = [KeyValue(key=key, value=str(value)) for key, value in counts.items()]
        warning = self.clock_warning() or self._warning() or self.failures.news()
        level = DiagnosticStatus.ERROR if self._failure else DiagnosticStatus.WARN if warning else DiagnosticStatus.OK
        message = self._failure or warning or "recording"
        status = DiagnosticStatus(level=level, name="recorder: messages", message=message, values=values)
        report = DiagnosticArray(status=[status])
        report.header.stamp = self.get_clock().now().to_msg()
        self._reports.publish(report)

    def _warning(self) -> str:
        """Return what is wrong with the recording though it goes on; "" when nothing is."""
        masks = self._silence() or self._sources.found.warning
        return "; ".join(filter(None, (self._unmatched(), self._writer.warning, masks)))

    def _unmatched(self) -> str:
        without, matched = self._counts["masks_without_image"], self._counts["matched"]
        if self._camera.warning or without <= matched:
            return self._camera.warning
        return f"{without} of {without + matched} masks came without an image of their stamp on {self._camera.topic}"

    def _silence(self) -> str:
        spent = self._ran() - self._came
        return f"no masks for {spent:.0f} s: {self._sources.found.silent}" if spent > SILENT else ""

    def _match(self, *, last: bool = False) -> None:
        """Hand masks on, in their order, as soon as their image and ground truth are here or have been waited for.

        No more of them wait than images do, whatever the clock does.
        """
        now = self._ran()
        while self._masks:
            message, arrived, since = self._masks[0]
            stamp = to_ns(message.header.stamp)
            complete = stamp in self._images and (stamp in self._truths or not self._truth_expected)
            if not (complete or last or now - since > MATCH_WAIT or len(self._masks) > self._config.pending):
                return
            self._masks.popleft()
            image = self._images.pop(stamp, None)
            self._counts["matched" if image is not None else "masks_without_image"] += 1
            self._writer.put(WriterJob(message, arrived, image, self._truths.pop(stamp, None)))


def main(args: list[str] | None = None) -> int:
    """Entry point: 0 after a signal, with the files closed, 1 when writing failed, 2 for a bad parameter."""
    return run(RecorderNode, args, close_timeout=None)


if __name__ == "__main__":
    sys.exit(main())
