"""What a training run is told: one frozen dataclass, read from YAML with strict keys."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml

from sam2s_model.config import POLICY_NAMES, ModelConfig, check_options, option
from sam2s_model.errors import ConfigError
from sam2s_model.paths import expanded, expanded_table
from sam2s_model.similar import meant
from sam2s_model.training.adapter_config import AdapterConfig
from sam2s_model.training.class_prompt_config import ClassPromptConfig
from sam2s_model.training.data_config import DataConfig, SourceConfig


@dataclass(frozen=True)
class Phase:
    """A part of a run. 0, -1 and "" mean: as in `data`. Small images first teach most of it, cheaply."""

    steps: int = option(1000, "updates", low=1)
    size: int = option(0, "side of the images, px", low=0, high=4096)
    length: int = option(0, "frames of a clip", low=0, high=64)
    frames: int = option(0, "images in a batch", low=0, high=4096)
    image_share: float = option(-1.0, "share of batches that are single images", low=-1.0, high=1.0)
    sampling: str = option("", "which frames make a clip", choices=("", "vanilla", "tsms", "divemem"))
    lr: float = option(1.0, "factor of the learning rate", low=0.0, high=1000.0)
    learn_statistics: bool = option(
        False, "batch normalisation learns its statistics: for a convolutional encoder from scratch"
    )
    learn_encoder: bool = option(True, "the image encoder learns, too; without it a step takes half as long")

    def __post_init__(self):
        check_options(self)


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW. The rate rises over `warmup` steps, then falls to lr * final along a cosine over the whole run."""

    lr: float = option(
        1e-5, "highest learning rate; 1e-5 is SAM2S's, for weights that are trained already", low=0.0, high=1.0
    )
    final: float = option(0.1, "learning rate at the end, as a part of lr", low=0.0, high=1.0)
    encoder_lr: float = option(1.0, "factor for the image encoder", low=0.0, high=100.0)
    warmup: int = option(100, "steps", low=0)
    weight_decay: float = option(
        0.1, "of matrices and convolutions; vectors and embeddings have none", low=0.0, high=10.0
    )
    clip: float = option(0.1, "longest gradient; 0.1 is SAM2's, 1 is better from scratch", low=1e-6)
    ema: float = option(
        0.999, "decay of the average of the weights that becomes the checkpoint; 0: no average", low=0.0, high=0.99999
    )
    accumulate: int = option(
        1, "parts that a batch is split into, one after the other, to need less memory", low=1, high=1024
    )

    def __post_init__(self):
        check_options(self)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses; the defaults are the published ones (SAM2S, arXiv 2511.16618 sec. 4)."""

    arl: float = option(20.0, "ambiguity-resilient learning: focal loss against softened masks", low=0.0)
    arl_sigma: float = option(
        1.0, "of the 5x5 Gaussian that softens, px; 0: hard masks, SAM2's own focal loss", low=0.0, high=10.0
    )
    focal_alpha: float = option(0.25, "weight of the object against the rest; negative: none", low=-1.0, high=1.0)
    focal_gamma: float = option(2.0, "how much less sure pixels count", low=0.0, high=10.0)
    dice: float = option(1.0, "overlap", low=0.0)
    iou: float = option(1.0, "predicted against achieved IoU", low=0.0)
    occlusion: float = option(1.0, "object score against presence", low=0.0)
    tsl: float = option(0.1, "temporal semantic learning: class token against class table", low=0.0)
    features: float = option(1.0, "distillation: features against a teacher's, where there is one", low=0.0)
    masks: float = option(
        1.0, "distillation: masks against a teacher's for the same prompts, where there is one", low=0.0
    )
    correspondence: float = option(
        0.0, "distillation: affinities between views of one scene (data.views) against a teacher's", low=0.0
    )
    temperature: float = option(0.07, "of those affinities", low=0.001, high=10.0)
    entropy: float = option(
        10.0, "weight of the cross-entropy that a run from scratch starts with, in place of arl", low=0.0
    )
    entropy_steps: int = option(
        0, "steps over which it gives way to arl: with that alone masks stay empty for long", low=0
    )
    stride: int = option(1, "masks are compared at the image's side divided by this", choices=(1, 2, 4))

    def __post_init__(self):
        check_options(self)


@dataclass(frozen=True)
class PromptConfig:
    """Simulated prompts (SAM2, arXiv 2408.00714 app. D): the defaults are the published ones but for `clicks`."""

    mask: float = option(0.5, "odds of a mask on the first frame", low=0.0)
    box: float = option(0.25, "odds of a box", low=0.0)
    point: float = option(0.25, "odds of a click", low=0.0)
    labels: float = option(0.0, "odds of the first frame's labels, as `match` propagates them to later ones", low=0.0)
    spoiled: float = option(0.6, "probability that such labels have lost or gained parts", low=0.0, high=1.0)
    box_jitter: float = option(0.1, "most that an edge of a box is off, in sides of the box", low=0.0, high=1.0)
    clicks: int = option(3, "corrective clicks on a corrected frame; 7 is published", low=0, high=16)
    corrected_frames: int = option(2, "most corrected frames of a clip, the first one included", low=0, high=64)
    correct: float = option(
        0.5, "probability that a step has corrections; published with 1 for points and boxes", low=0.0, high=1.0
    )
    click_from_truth: float = option(
        0.1, "probability that clicks are on the object, not on an error", low=0.0, high=1.0
    )
    hard: float = option(
        0.0,
        "probability that corrections are clicks where student and teacher disagree, and both answer",
        low=0.0,
        high=1.0,
    )
    images_without_mask: bool = option(
        True, "single images are prompted with boxes and points only: a mask is its own answer"
    )

    def __post_init__(self):
        check_options(self)
        of_images = self.box + self.point + (0.0 if self.images_without_mask else self.mask)
        if not of_images > 0:
            raise ConfigError(
                f"mask, box, point are {self.mask}, {self.box}, {self.point}: expected odds that are not all 0"
            )


@dataclass(frozen=True)
class RolloutConfig:
    """How clips are run through."""

    max_objects: int = option(3, "most objects of a clip; of more, some are drawn", low=1, high=254)
    forced_presence: bool = option(
        False, "memories are told whether the object is there; published: the model's own answer"
    )
    short_only: float = option(
        0.3, "probability that a DiveMem clip's long-term frames are remembered as short-term ones", low=0.0, high=1.0
    )
    longest_gap: int = option(300, "DiveMem: the age of the conditional frame is drawn up to this, frames", low=1)

    def __post_init__(self):
        check_options(self)


@dataclass(frozen=True)
class TeacherConfig:
    """A model that is run beside, for `loss.features` and `loss.masks`. A pack of its features needs none, see `data`.

    A student whose decoder is as wide as the teacher's learns to make the same features for it, on all three levels.
    """

    checkpoint: str = option("", "its file; empty: no teacher")
    size: int = option(0, "side of its input, px; 0: that of the clips", low=0, high=4096)
    cache_mb: int = option(
        4096, "memory for what it said of clips that come again, see `data.pool`", low=0, high=1_000_000
    )

    def __post_init__(self):
        check_options(self)


@dataclass(frozen=True)
class EvaluationConfig:
    """J&F of the average of the weights while training runs."""

    sources: tuple[SourceConfig, ...] = ()
    before: bool = option(False, "also before the first step, so that one sees what training has changed")
    best: bool = option(False, "keep the weights with the highest mean of figures that compare, beside the newest")
    policy: str = option("auto", "of memory; auto: what the result is used with", choices=("auto", *POLICY_NAMES))
    every: int = option(0, "steps from one evaluation to the next; 0: at the end only", low=0)
    frames: int = option(60, "most frames of each recording", low=2)
    recordings: int = option(8, "most recordings of each source", low=1)
    prompt: str = option("mask", "on the first frame", choices=("mask", "box"))

    def __post_init__(self):
        check_options(self)


@dataclass(frozen=True)
class TrainConfig:
    """A training run. Raises ConfigError for a value out of its limits."""

    model: str = option("sam2s_nano", "name of the configuration; auto: that of init")
    init: str = option(
        "",
        "checkpoint to start from, complete or an image half; package: the package's sam2s_nano; empty: random weights",
    )
    decoder_from: str = option("", "without init: checkpoint that prompt encoder and mask decoder are taken from")
    long_term: bool = option(True, "the model gets SAM2S's embedding of long-term memories, if it has none")
    short_attention: bool = option(
        False, "the model gets SLM-SAM2's second memory attention, for the newest frame, if it has none"
    )
    class_token: bool = option(True, "the model gets SAM2S's class token, if it has none, for the classes of data")
    output: str = option("output/train", "folder of the run; a run in it is resumed")
    device: str = option("auto", "auto, cpu, cuda or cuda:N")
    precision: str = option(
        "auto", "of the computation: auto (bf16 on CUDA), bf16 or fp32", choices=("auto", "bf16", "fp32")
    )
    seed: int = option(0, "of weights, clips and prompts", low=0)
    freeze: tuple[str, ...] = option(
        (), "beginnings of names of weights that stay as they are; image_half: all that memory does not need"
    )
    adapter: AdapterConfig = AdapterConfig()
    class_prompts: ClassPromptConfig = ClassPromptConfig()
    save_every: int = option(200, "steps from one saved state to the next, all that a kill can cost", low=1)
    log_every: int = option(10, "steps from one line of the log to the next", low=1)
    max_minutes: float = option(0.0, "stop and save after that long, 0: no limit; the same command goes on", low=0.0)
    half: bool = option(True, "the checkpoint is written in fp16")
    phases: tuple[Phase, ...] = (Phase(),)
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()
    prompts: PromptConfig = PromptConfig()
    rollout: RolloutConfig = RolloutConfig()
    teacher: TeacherConfig = TeacherConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    def __post_init__(self):
        check_options(self)
        if not self.phases:
            raise ConfigError("phases is empty: expected at least one")
        if self.model == "auto" and not self.init:
            raise ConfigError("model is 'auto' without init: expected a name, or a checkpoint that says it")
        if self.adapter.kind and (not self.init or self.freeze):
            raise ConfigError(
                f"adapter.kind is {self.adapter.kind!r} with init {self.init!r} and freeze {list(self.freeze)}: "
                "expected an init, all of which is frozen, and no freeze"
            )
        if self.class_prompts.tokens and (not self.init or self.freeze or self.adapter.kind):
            raise ConfigError(
                f"class_prompts.tokens is {self.class_prompts.tokens} with init {self.init!r}, freeze "
                f"{list(self.freeze)} and adapter.kind {self.adapter.kind!r}: expected an init, all of which is "
                "frozen, no freeze and no adapter"
            )
        self.phase_data()  # which checks it

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    def phase_at(self, step: int) -> Phase:
        ends = accumulate(phase.steps for phase in self.phases)
        return next((p for p, end in zip(self.phases, ends, strict=True) if step < end), self.phases[-1])

    def data_at(self, step: int) -> DataConfig:
        """Return what batches are made of in a step: `data` with the changes of its phase."""
        return self._data(self.phase_at(step))

    def phase_data(self) -> list[DataConfig]:
        """Return what batches are made of in each phase."""
        return [self._data(phase) for phase in self.phases]

    def _data(self, phase: Phase) -> DataConfig:
        said = {name: getattr(phase, name) for name in ("size", "length", "frames", "sampling") if getattr(phase, name)}
        if phase.image_share >= 0:
            said["image_share"] = phase.image_share
        return dataclasses.replace(self.data, **said)

    def model_config(self, known: ModelConfig | None = None) -> ModelConfig:
        """Return the model with SAM2S's additions, which an adapter's base does not get.

        known: what `model` stands for where it is "auto"
        Raises ConfigError for an unknown name.
        """
        known = known or ModelConfig.from_name(self.model)
        more = not self.adapter.kind
        return dataclasses.replace(
            known,
            long_term_embedding=known.long_term_embedding or (self.long_term and more),
            short_attention=known.short_attention or (self.short_attention and more),
            num_classes=len(self.data.classes) if known.num_classes or (self.class_token and more) else 0,
        )


def load_config(path: str | Path, overrides: Sequence[str] = (), output: str | Path = "") -> TrainConfig:
    """Read a training run's YAML file, see `read_config`. output: folder of the run, "": that which the file says."""
    read: TrainConfig = read_config(TrainConfig, path, overrides)
    return dataclasses.replace(read, output=str(expanded(output))) if output else read


def read_config(kind: type, path: str | Path, overrides: Sequence[str] = ()) -> Any:
    """Read a config dataclass from a YAML file and change it by some "key.subkey=value".

    overrides: their values are YAML too, and list members are named by their number
    Raises ConfigError that names the key and what was expected.
    """
    try:
        table = yaml.safe_load(expanded(path).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is not a readable YAML file ({_one_line(error)})") from error
    table = {} if table is None else table
    for text in overrides:
        _override(table, text)
    return build(kind, expanded_table(table), "")


def override(key: str, value: Any) -> str:
    """Write "key=value" as `read_config` reads it back, whatever a text has in it, such as a comma, # or `no`."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return f"{key}={text.removesuffix(chr(10)).removesuffix(chr(10) + '...')}"


def build(kind: type, table: Any, where: str) -> Any:
    """Make a config dataclass of a mapping of its fields. Raises ConfigError for unknown keys and wrong types."""
    if not isinstance(table, dict):
        raise ConfigError(f"{where or 'the configuration'} is {table!r}: expected a table of keys and values")
    types = typing.get_type_hints(kind)
    known = [spec.name for spec in dataclasses.fields(kind)]
    for key in table:
        if key not in known:
            names = ", ".join(known) + meant(key, known)
            raise ConfigError(f"{_join(where, key)} is not known: expected one of {names}")
    values = {key: _value(types[key], value, _join(where, key)) for key, value in table.items()}
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}" if where else str(error)) from None


def _value(kind: Any, value: Any, where: str) -> Any:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return build(kind, value, where)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} is {value!r}: expected a list")
        return tuple(_value(typing.get_args(kind)[0], part, f"{where}.{i}") for i, part in enumerate(value))
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-5 as text
        try:
            return float(value)
        except ValueError:
            pass
    accepted = {bool: (bool,), int: (int,), float: (float, int), str: (str,)}[kind]
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        named = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]
        raise ConfigError(f"{where} is {value!r}: expected {named}")
    return kind(value)


def _override(table: Any, text: str) -> None:
    path, sign, value = text.partition("=")
    if not sign or not path:
        raise ConfigError(f"{text!r} sets nothing: expected KEY=VALUE, such as optimizer.lr=1e-4")
    try:
        parsed = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:  # the latter for a date that is none
        raise ConfigError(f"the value of {text!r} is not YAML ({_one_line(error)})") from error
    *parents, last = path.split(".")
    for depth, name in enumerate(parents):
        if isinstance(table, dict):
            table = table.setdefault(name, {})
        else:
            table = table[_place(table, name, ".".join(parents[:depth]))]
    if isinstance(table, dict):
        table[last] = parsed
    else:
        table[_place(table, last, ".".join(parents))] = parsed


def _place(table: Any, name: str, where: str) -> int:
    if not isinstance(table, list) or not name.isdecimal() or int(name) >= len(table):
        count = len(table) if isinstance(table, list) else 0
        raise ConfigError(f"{where}.{name} is not there: {where} has {count} members, numbered from 0")
    return int(name)


def as_table(config: Any) -> Any:
    """Return a config as plain dicts and lists, which `build` reads again."""
    if dataclasses.is_dataclass(config):
        return {spec.name: as_table(getattr(config, spec.name)) for spec in dataclasses.fields(config)}
    return [as_table(part) for part in config] if isinstance(config, tuple) else config


def set_options(config: Any) -> dict[str, Any]:
    """Return, as `as_table`, the options that are not at their defaults, so that it outlives options added later."""
    table, plain = as_table(config), as_table(type(config)())
    return {key: value for key, value in table.items() if value != plain[key]}


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
