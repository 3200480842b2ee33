"""Parameters of a node: dataclasses made of `option`s, from which ROS declares, checks and reads them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from sam2s_model.config import POLICY_NAMES, TrackerConfig, check_options, option
from sam2s_model.errors import ConfigError, Sam2sError
from sam2s_model.recordings.pixels import ENCODINGS
from sam2s_model.tracking.policy_plugins import check_policy_name
from sam2s_ros.interfaces import qos
from sam2s_ros.processes.unused import given_parameters


@dataclass(frozen=True)
class Parameters:
    """The parameters of a node. Configurations are given in the order of `configs`.

    configs: dataclasses made of `option`s; no two have a field of the same name
    live: names that may change at any time
    fixed_while: state of the node in which the others are fixed; empty: they are read-only
    """

    configs: tuple[type, ...]
    live: frozenset[str] = frozenset()
    fixed_while: str = ""

    def specs(self) -> dict[str, dataclasses.Field]:
        """Return the fields by parameter name."""
        return {field.name: field for config in self.configs for field in dataclasses.fields(config)}

    def declare(self, node: Node, late_topics: Iterable[str] = ()) -> tuple[Any, ...]:
        """Declare all parameters and return the configurations.

        late_topics: full names of topics that are made later and whose `qos_overrides` are checked then
        Raises ConfigError when a given value has the wrong type or is out of its limits, also one of `qos_overrides`.
        """
        qos.check_overrides(given_parameters(node), besides=late_topics)
        for name, field in self.specs().items():
            self._declare_one(node, name, field)
        return self.read(node)

    def _declare_one(self, node: Node, name: str, field: dataclasses.Field) -> None:
        try:
            node.declare_parameter(name, field.default, self._descriptor(field))
        except Exception as error:  # rclpy raises ParameterException here, and others by version
            raise ConfigError(_refusal(field, error)) from error

    def read(self, node: Node, changed: Sequence[Parameter] = ()) -> tuple[Any, ...]:
        """Read the configurations from the node's parameters, with `changed` on top.

        Raises ConfigError for a value that is out of its limits.
        """
        values = {name: node.get_parameter(name).value for name in self.specs()}
        values.update((parameter.name, parameter.value) for parameter in changed if parameter.name in values)
        return tuple(
            config(**{field.name: values[field.name] for field in dataclasses.fields(config)})
            for config in self.configs
        )

    def check_change(
        self, node: Node, changed: Sequence[Parameter], *, fixed: bool = False
    ) -> tuple[SetParametersResult, tuple[Any, ...] | None]:
        """Answer an on-set callback; if the answer is yes, return the configurations with the change, too.

        fixed: whether the node is in the state `fixed_while`
        A value that is out of its limits, or fixed now, is refused with the reason.
        """
        asked = [p.name for p in changed if p.name in self.specs() and p.value != node.get_parameter(p.name).value]
        refused = [name for name in asked if name not in self.live]
        if fixed and refused:
            return _no(f"{', '.join(refused)} cannot change while {self.fixed_while}"), None
        try:
            return SetParametersResult(successful=True), self.read(node, changed)
        except Sam2sError as error:
            return _no(str(error)), None

    def _descriptor(self, field: dataclasses.Field) -> ParameterDescriptor:
        """Describe a parameter to ROS, with the range that it enforces."""
        doc, low, high, choices = (field.metadata[key] for key in ("doc", "low", "high", "choices"))
        described = ParameterDescriptor(name=field.name, description=doc)
        constraints = [f"one of {', '.join(choices)}"] if choices else []
        if field.name not in self.live and self.fixed_while:
            constraints.append(f"fixed while {self.fixed_while}")
        described.additional_constraints = "; ".join(constraints)
        described.read_only = field.name not in self.live and not self.fixed_while
        if low is not None and isinstance(field.default, float):
            described.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
        elif low is not None and isinstance(field.default, int):
            described.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
        return described


def _no(reason: str) -> SetParametersResult:
    return SetParametersResult(successful=False, reason=reason)


def _refusal(field: dataclasses.Field, error: Exception) -> str:
    low, high, kind = field.metadata["low"], field.metadata["high"], type(field.default).__name__
    limits = f" from {low} to {high}" if low is not None else ""
    return f"parameter {field.name}: expected {kind}{limits} ({error})"


@dataclass(frozen=True)
class NodeConfig:
    """What the tracker node needs beside TrackerConfig. All times in s."""

    checkpoint: str = option(
        "",
        "path of the checkpoint, or a name of `sam2s checkpoint list`; empty: sam2s_tiny on a GPU, sam2s_nano on a CPU",
    )
    model: str = option("auto", "name of the model; auto recognises it from the checkpoint")
    image_size: int = option(0, "side of the square the network sees, px; 0 is the checkpoint's own", low=0, high=4096)
    device: str = option("auto", "auto, cpu, cuda or cuda:N; auto takes CUDA, and the CPU only with allow_cpu")
    precision: str = option(
        "auto",
        "arithmetic: auto is bf16 on CUDA and fp32 on the CPU; int8 is for a CPU without bf16 instructions",
        choices=("auto", "fp32", "bf16", "fp16", "int8"),
    )
    compile: bool = option(
        True,
        "whether torch compiles the image encoder at configure, on a GPU that Triton knows: for a minute the first "
        "time; not if deterministic, nor with encoder",
    )
    encoder: str = option(
        "",
        "file that `sam2s export encoder` made of the checkpoint's image encoder, for this device; "
        "empty: torch runs it",
    )
    adapter: str = option(
        "",
        "file with an adapter over the checkpoint, as `sam2s train config/train/adapters.yaml` writes it; empty: none",
    )
    deterministic: bool = option(
        False, "whether the same images and prompts give the same bits every time; somewhat slower on CUDA"
    )
    allow_cpu: bool = option(False, "whether device auto may fall back to the CPU")
    threads: int = option(0, "threads of torch on the CPU; 0 is one less than there are cores", low=0, high=1024)
    policy: str = option(
        "auto",
        "which memory is used: auto: what the checkpoint follows best with; a change keeps the objects, or is refused; "
        f"{', '.join(POLICY_NAMES)}; or MODULE:CLASS or the name of a plug-in",
    )
    label_set: str = option("", "path of the YAML table of classes; empty is the generic one")
    compressed: bool = option(False, "whether `image` is a sensor_msgs/CompressedImage (jpeg, png)")
    image_encoding: str = option(
        "",
        "encoding of `image`, such as rgb8, where its messages name none that says it, or a wrong one; "
        "empty: as they say",
    )
    significant_bits: int = option(
        0, "significant bits of 16-bit samples, the lowest ones: 10, 12, ...; 0: found in the pictures", low=0, high=16
    )
    prompts_file: str = option("", "path of a file in which the prompts of the tracked objects are kept; empty is none")
    restore: bool = option(False, "whether the prompts in prompts_file are applied to the first image after configure")
    restore_max_age: float = option(
        600.0,
        "prompts in prompts_file of which the newest was given longer ago than this are not restored; 0 is no limit",
        low=0.0,
        high=86400.0,
    )
    prototypes: str = option(
        "",
        "path of a file of prototypes, by which classes are found; ~/save_prototypes writes there; empty is none",
    )
    objects_file: str = option(
        "",
        "path of a file of objects: ~/save_objects writes what is remembered of those that are tracked, ~/load_objects "
        "goes on with them without a prompt; empty is none",
    )
    load_objects: bool = option(
        False, "whether the objects in objects_file go on from the first image after configure whose masks are in time"
    )
    auto_prompt: str = option(
        "off",
        "what nobody prompted: propose publishes it on ~/proposals, track follows what is of a class as well",
        choices=("off", "propose", "track"),
    )
    auto_prompt_score: float = option(0.7, "least predicted IoU of what auto_prompt tracks", low=0.0, high=1.0)
    refind: bool = option(False, "whether discovery looks for objects that are LOST")
    recondition: bool = option(False, "whether discovery prompts anew objects of which it has a better mask")
    discovery_every: int = option(
        25, "images between two looks of discovery, after one that is not late", low=1, high=100000
    )
    autostart: bool = option(True, "whether the node configures and activates itself")
    warm_up: bool = option(True, "whether configure runs one throw-away step, so that the first image is not slow")
    input_timeout: float = option(0.5, "age of the newest image from which the input is stale", low=0.01, high=3600.0)
    heartbeat_rate: float = option(10.0, "rate of ~/status, Hz", low=0.1, high=100.0)
    service_timeout: float = option(5.0, "longest wait for the answer of a service", low=0.01, high=3600.0)
    step_timeout: float = option(
        1.0, "a step longer than this is an error, and services do not wait for it", low=0.01, high=3600.0
    )
    hang_exit: float = option(
        10.0,
        "a step or a request longer than this ends the process, with code 3, to be started again, and so does, with "
        "code 4, a GPU that it cannot use any more; 0 is never",
        low=0.0,
        high=3600.0,
    )
    max_step_errors: int = option(
        10, "with so many steps in a row that fail, images are dropped until ~/reset", low=1, high=1000000
    )
    max_output_age: float = option(
        0.2, "masks of an image that came longer ago are late; 0 is no limit", low=0.0, high=3600.0
    )
    on_late: str = option(
        "drop",
        "late masks: drop publishes nothing, flag publishes ~/masks and the pictures for people alone, which say so",
        choices=("drop", "flag"),
    )
    on_size_change: str = option(
        "reset",
        "image of another size or frame_id: reset drops the objects, refuse drops the image",
        choices=("reset", "refuse"),
    )
    on_time_jump: str = option(
        "reset",
        "stamps that jump back and go on there (a bag that loops): reset drops the objects, refuse drops the images",
        choices=("reset", "refuse"),
    )
    time_jump: float = option(
        1.0, "going back further than this is a jump; less is a late image, which is dropped", low=0.0, high=1e6
    )
    point_object_id: int = option(
        0,
        "object of a point on ~/point or ~/click: 0 a new one, -1 that of the last point, else its id",
        low=-1,
        high=2**32 - 1,
    )
    point_class: str = option("", "class of that object, a name of the label set; empty keeps it")
    point_max_age: float = option(
        1.0,
        "a point with a stamp that is no image's (RViz: the time of the click): the newest image not later, "
        "at most so much older; 0 refuses it",
        low=0.0,
        high=3600.0,
    )
    point_label: str = option(
        "positive",
        "whether a point is on its object, or not on it, which corrects the one that point_object_id says",
        choices=("positive", "negative"),
    )
    detections_in: str = option(
        "off",
        "type of ~/detections_in, of whose boxes those of no tracked object become objects: boxes: "
        "sam2s_ros/DetectedBoxes, vision_msgs: vision_msgs/Detection2DArray",
        choices=("off", "boxes", "vision_msgs"),
    )
    semantic_in: bool = option(
        False,
        "whether ~/semantic_in has class images of another network, with the headers of the images, that "
        "~/semantic_image merges with the objects",
    )
    semantic_max_age: float = option(
        0.5,
        "a class image that comes later than this after its image is not merged; 0 is no limit",
        low=0.0,
        high=3600.0,
    )
    detection_min_score: float = option(0.5, "least score of a detection", low=0.0, high=1.0)
    detection_iou: float = option(
        0.3, "overlap (IoU of boxes) from which a detection is of an object", low=0.01, high=1.0
    )
    detection_max_age: float = option(
        0.5,
        "detections on an image that was not tracked: the newest image not later, at most so much older; "
        "0 refuses them",
        low=0.0,
        high=3600.0,
    )
    detection_lost: str = option(
        "prompt",
        "a detection that overlaps with nothing, while one object of its class is LOST: prompt: it is that one, "
        "new: it is another",
        choices=("prompt", "new"),
    )
    overlay_alpha: float = option(0.45, "opacity of the masks in ~/overlay", low=0.0, high=1.0)
    overlay_quality: int = option(80, "quality of the JPEG in ~/overlay/compressed", low=10, high=100)
    diagnostics_rate: float = option(1.0, "rate of /diagnostics, Hz; at most heartbeat_rate", low=0.01, high=100.0)
    warn_latency: float = option(
        0.2, "99th percentile of the latency from which /diagnostics says WARN", low=0.0, high=3600.0
    )
    warn_empty: float = option(
        2.0,
        "time for which the picture is next to empty (black, one colour) from which /diagnostics says WARN; 0: never",
        low=0.0,
        high=3600.0,
    )
    warn_dropped: float = option(
        0.5, "share of images dropped since the last /diagnostics from which it says WARN", low=0.0, high=1.0
    )

    def __post_init__(self):
        check_options(self)
        if not re.fullmatch(r"auto|cpu|cuda|cuda:\d+", self.device):
            raise ConfigError(f"device is {self.device!r}: expected auto, cpu, cuda or cuda:N")
        check_policy_name(self.policy)
        if self.image_encoding and self.image_encoding not in ENCODINGS:
            raise ConfigError(f"image_encoding is {self.image_encoding!r}: expected one of {', '.join(ENCODINGS)}")
        if 0 < self.significant_bits < 8:
            raise ConfigError(f"significant_bits is {self.significant_bits}: expected 0 or 8 to 16")
        if self.restore and not self.prompts_file:
            raise ConfigError("restore is true, but prompts_file is empty: give the path of the file to restore from")
        if self.load_objects and not self.objects_file:
            raise ConfigError("load_objects is true, but objects_file is empty: give the path of the file to load from")


TRACKER = Parameters(
    configs=(NodeConfig, TrackerConfig),
    # everything else is built into the tracker or the subscription at configure
    live=frozenset(
        {
            "policy", "auto_prompt", "auto_prompt_score", "refind", "recondition", "discovery_every", "autostart",
            "input_timeout", "heartbeat_rate", "service_timeout", "step_timeout", "hang_exit",
            "max_step_errors", "max_output_age", "on_late", "on_size_change", "on_time_jump", "time_jump",
            "point_object_id", "point_class", "point_max_age", "point_label", "detection_min_score", "detection_iou",
            "detection_max_age", "detection_lost", "overlay_alpha", "overlay_quality",
            "diagnostics_rate", "warn_latency", "warn_empty", "warn_dropped",
        }
    ),
    fixed_while="the node is configured: run cleanup first",
)  # fmt: skip
