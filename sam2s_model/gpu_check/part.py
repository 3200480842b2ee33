"""What a check says, and what it is done with: the two things that all parts share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam2s_model.checkpoint import load_model
from sam2s_model.config import MODELS
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.recordings.scene import Scene, SceneConfig

OK, WARN, FAIL = "OK", "WARN", "FAIL"
REPORT = "report it with the JSON file"


@dataclass(frozen=True)
class Check:
    """What one comparison found.

    level: OK, WARN (usable, and could be better) or FAIL; expected and got: with numbers
    advice: "" when nothing is to be done
    """

    level: str
    what: str
    expected: str
    got: str
    advice: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def judged(good: bool, what: str, expected: str, got: str, advice: str = REPORT, level: str = FAIL) -> Check:
    """Make a check that is OK, or else has the level and the advice."""
    return Check(OK, what, expected, got) if good else Check(level, what, expected, got, advice)


def _nano(side: int) -> Sam2Model:
    return load_model("sam2s_nano", image_size=side, device="cpu", precision="fp32")


def _tiny(side: int) -> Sam2Model:
    """Make a model of random weights, always the same ones, in which objects are present."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = Sam2Model(MODELS["sam2.1_hiera_tiny"], side).eval().requires_grad_(False)
    model.get_parameter("sam_mask_decoder.pred_obj_score_head.layers.2.bias").fill_(4.0)
    return model


NETWORKS = {"sam2s_nano": _nano, "random tiny": _tiny}


@dataclass(frozen=True)
class Setting:
    """What is checked with.

    device: the GPU; networks: name -> makes a model on the CPU in fp32
    side: px of a model's input where speed does not matter
    frames: of a rollout; long: of the one that must not grow; timed: of each that is timed
    """

    device: torch.device
    networks: dict[str, Callable[[int], Sam2Model]] = field(default_factory=lambda: dict(NETWORKS))
    side: int = 256
    frames: int = 30
    long: int = 2000
    timed: int = 150

    def images(self, count: int = 12, height: int = 240, width: int = 320) -> list[np.ndarray]:
        """Of the procedural scene, the same every time."""
        scene = Scene(SceneConfig(width=width, height=height, frames=count, seed=0))
        return [frame.image for frame in scene]

    def model(self, name: str = "", side: int = 0, dtype: torch.dtype | None = None) -> Sam2Model:
        """On the device. name: "" is the first of `networks`."""
        make = self.networks[name or next(iter(self.networks))]
        return make(side or self.side).to(self.device, dtype).eval().requires_grad_(False)

    def model_on_cpu(self, name: str = "") -> Sam2Model:
        return self.networks[name or next(iter(self.networks))](self.side).eval().requires_grad_(False)


@dataclass(frozen=True)
class CheckPart:
    """number: in the list of comparisons; alone: nothing else may use the GPU meanwhile; limit: s"""

    number: int
    title: str
    run: Callable[[Setting], Iterable[Check]]
    alone: bool = False
    limit: float = 120.0


@contextmanager
def exact_products() -> Iterator[None]:
    """Compute without TF32, which torch uses for convolutions in fp32 unless it is told not to."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def tensors_of(value: Any) -> list[Tensor]:
    """List all tensors in a result of the model."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in tensors_of(v)]
    return [t for v in vars(value).values() for t in tensors_of(v)] if hasattr(value, "__dict__") else []


def moved(value: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """Copy a result of the model to another device; dtype: of its floating-point tensors, None to keep theirs."""
    if isinstance(value, Tensor):
        return value.to(device, dtype if dtype is not None and value.is_floating_point() else value.dtype)
    if isinstance(value, (tuple, list)):
        return type(value)(moved(v, device, dtype) for v in value)
    if hasattr(value, "__dataclass_fields__"):
        return type(value)(**{name: moved(getattr(value, name), device, dtype) for name in value.__dataclass_fields__})
    return value


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the IoU of two label maps: that of the worst object; 1 where neither has any."""
    ids = set(np.unique(a)) | set(np.unique(b)) - {0}
    ids.discard(0)
    return min((float(((a == i) & (b == i)).sum() / max(1, ((a == i) | (b == i)).sum())) for i in ids), default=1.0)


def some_boxes(image: np.ndarray, count: int) -> list[Prompt]:
    """Make prompts of as many different boxes, each a third of the image wide."""
    height, width = image.shape[:2]
    steps = [k / max(1, count - 1) for k in range(count)]
    corners = [
        (0.1 + 0.5 * s, 0.15 + 0.4 * (k % 3) / 2, 0.4 + 0.5 * s, 0.5 + 0.4 * (k % 3) / 2) for k, s in enumerate(steps)
    ]
    return [Prompt(box=np.array(c, np.float32) * np.array([width, height] * 2, np.float32)) for c in corners]
