"""Export the image encoder to a file (a library of machine code, or ONNX), and the tracking half to torch.export.

An encoder has one input size, one type and one kind of device, and holds the weights that it was made with.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from inspect import signature
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor, nn

from sam2s_model.device import as_current, on_its_gpu
from sam2s_model.errors import ConfigError
from sam2s_model.files.folders_beside import folder_beside
from sam2s_model.network.image_features import ImageFeatures
from sam2s_model.network.model import Sam2Model
from sam2s_model.paths import write_whole, writing
from sam2s_model.tracking.outputs import gate

log = logging.getLogger(__name__)
KINDS = {"aoti": ".pt2", "onnx": ".onnx"}
"""What an encoder can be exported to, and how its file's name ends."""
SINCE = {"aoti": "2.6", "onnx": "2.5"}  # the first release of torch that writes a program of torch.export so
NEEDS = {"aoti": (), "onnx": ("onnx", "onnxscript")}
ONE_FILE = 1 << 30  # bytes of weights, at most, that are in a file of ONNX itself, which has no more than 2 GiB
OUTPUTS = ("coarse", "middle", "fine")
OUTPUT = "OUTPUT"  # the argument of `sam2s export encoder` that gives the path
ALLOWED = {
    torch.float32: 1e-3,
    torch.bfloat16: 0.05,
    torch.float16: 0.02,
}  # difference from torch, as a share of the greatest feature


@dataclass(frozen=True)
class EncoderFile:
    """What an exported encoder was made for, as written beside it in JSON.

    device: "cpu", or "sm_90" for a GPU of that kind; weights: sha256 of them; torch: version it was made with
    difference: greatest one from torch's own features, as a share of the greatest of these; None where it was not run
    """

    model: str
    image_size: int
    precision: str
    device: str
    weights: str
    torch: str
    difference: float | None = None

    @classmethod
    def of(cls, model: Sam2Model) -> EncoderFile:
        precision = str(model.dtype).removeprefix("torch.")
        return cls(model.name, model.image_size, precision, _kind_of(model.device), _digest(model), torch.__version__)


def beside(path: Path) -> Path:
    """Return the path of the file that says what an exported encoder was made for."""
    return path.with_name(f"{path.name}.json")


def weights_beside(path: Path) -> Path:
    """Return the path of the weights of an encoder in ONNX with more than `ONE_FILE` of them; both belong together."""
    return path.with_name(f"{path.name}.data")


@torch.no_grad()
def export_encoder(model: Sam2Model, path: str | Path, to: str = "aoti") -> EncoderFile:
    """Write the image encoder to a file, for the model's image size, type and device, and run it beside torch.

    to: "aoti", a library of machine code that `use_exported_encoder` loads; or "onnx", with an input "image"
        (1, 3, S, S), as from `Sam2Model.prepare_image`, and outputs "coarse", "middle", "fine", see `ImageFeatures`
    Raises ConfigError for another kind or ending, in int8, where torch lacks something, or when the features differ.
    """
    path = Path(path)
    if to not in KINDS:
        raise ConfigError(f"an encoder cannot be exported to {to!r}: expected {' or '.join(KINDS)}")
    if path.suffix != KINDS[to]:
        raise ConfigError(f"the encoder's file is {str(path)!r}: expected a name that ends with {KINDS[to]}")
    if torch.__version__ < SINCE[to]:
        raise ConfigError(
            f"torch {torch.__version__} cannot write an exported program as {to}: expected {SINCE[to]} or newer"
        )
    if missing := [name for name in NEEDS[to] if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"an export to {to} needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    if any(getattr(module, "int8", False) for module in model.modules()):
        raise ConfigError("precision is 'int8', which cannot be exported: expected fp32, bf16 or fp16")
    with ExitStack() as stack:
        with writing(path, OUTPUT):
            folder = stack.enter_context(folder_beside(path))
        new = folder / path.name  # a model in ONNX names the file of its weights, which keeps its name then
        difference = _write(model, new, to)
        described = EncoderFile(**{**asdict(EncoderFile.of(model)), "difference": difference})
        with writing(path, OUTPUT):
            _take_place(new, path, described)
    return described


def _write(model: Sam2Model, path: Path, to: str) -> float | None:
    """Write the encoder, and return the difference of its features from torch's, see `EncoderFile`."""
    image = _example(model)
    with as_current(model.device):
        expected = model._encode(image)
        program = torch.export.export(EncoderProgram(model), (image,), strict=True)
        try:
            if to == "aoti":
                torch._inductor.aoti_compile_and_package(program, package_path=str(path))
                made: Sequence[Tensor] | None = _load(path, model.device)(image)
            else:
                _write_onnx(program, image, path)
                made = _run_onnx(path, image)
        except Exception as error:  # of torch's compiler, of Triton, of the compilers that they start
            raise ConfigError(f"torch {torch.__version__} cannot export the encoder to {to}: {error}") from error
    if made is None:
        return None
    difference = max(_difference(own, plain) for own, plain in zip(made, expected, strict=True))
    if not difference <= ALLOWED[model.dtype]:
        limit = ALLOWED[model.dtype]
        raise ConfigError(
            f"the exported encoder's features differ from torch's by {difference:.1e} of the greatest: "
            f"limit {limit:.0e}"
        )
    return difference


def _take_place(new: Path, path: Path, described: EncoderFile) -> None:
    """Put an encoder in the place of an older one. The description goes first and comes last: none is of another."""
    beside(path).unlink(missing_ok=True)
    if weights_beside(new).exists():
        os.replace(weights_beside(new), weights_beside(path))
    elif path.suffix == KINDS["onnx"]:
        weights_beside(path).unlink(missing_ok=True)
    os.replace(new, path)
    write_whole(beside(path), json.dumps(asdict(described), indent=1) + "\n")


def use_exported_encoder(model: Sam2Model, path: str | Path) -> None:
    """Let a model encode images with a file of `export_encoder(..., to="aoti")`.

    Raises ConfigError when the file cannot be read, or was made for another model, size, type, device or other weights.
    """
    path = Path(path)
    try:
        stored = json.loads(beside(path).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"encoder {str(path)!r}: {beside(path).name}, which says what it was made for, cannot be read: {error}"
        ) from error
    own = asdict(EncoderFile.of(model))
    for name in ("model", "image_size", "precision", "device", "weights"):
        if stored.get(name) != own[name]:
            raise ConfigError(
                f"encoder {str(path)!r} was made for {name} {stored.get(name)!r}, but this is {own[name]!r}: "
                "export it anew"
            )
    try:
        run = _load(path, model.device)
        run(_example(model))
    except Exception as error:
        made_with = f"made with torch {stored.get('torch')}, this is {torch.__version__}"
        raise ConfigError(f"encoder {str(path)!r} cannot be run ({made_with}): {error}") from error
    model.encode_with(lambda _, image: run(image), capturable=_runs_alone())
    if model.device.type == "cuda" and not model.capturable:
        log.warning(
            "torch %s cannot run an exported encoder in a CUDA graph: it is launched kernel by kernel",
            torch.__version__,
        )


class EncoderProgram(nn.Module):
    """A prepared image (1, 3, S, S) to coarse, middle and fine features, see `ImageFeatures`."""

    def __init__(self, model: Sam2Model):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.model._encode(image)


class TrackingProgram(nn.Module):
    """All of a tracked frame but its image encoder, with memories as inputs and outputs: the program keeps no state.

    For N objects, each with memories of F frames and P pointers. The caller decides which memories are read, and where
    the new ones are kept.
    """

    def __init__(self, model: Sam2Model, multimask: bool = True):
        super().__init__()
        self.model, self.multimask = model, multimask

    def forward(
        self,
        coarse: Tensor,
        middle: Tensor,
        fine: Tensor,
        memory: Tensor,
        codes: Tensor,
        pointers: Tensor,
        ages: Tensor,
        allowed: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Track N objects in a frame, given its features and the arguments of `Sam2Model.with_memory`.

        Returns mask logits (N, 1, 4h, 4w), IoUs (N,), object logits (N,), and what is to be remembered: spatial
        memories (N, tokens, memory_dim) and pointers (N, dim); then class logits (N, K), where the model has classes.
        """
        model, features = self.model, ImageFeatures(coarse, middle, fine)
        conditioned = model.with_memory(features, memory, codes, pointers, ages, allowed)
        decoded = model.decode(conditioned.features, features, multimask=self.multimask)
        present = decoded.object_logit > 0
        logits = gate(decoded.logits, present)
        remembered = model.encode_memory(features, logits, present), model.pointer(decoded.token, present)
        classes = () if conditioned.class_logits is None else (conditioned.class_logits,)
        return logits, decoded.iou, decoded.object_logit, *remembered, *classes


def _example(model: Sam2Model) -> Tensor:
    """Prepare an image of noise, the same every time."""
    noise = torch.randint(0, 256, (model.image_size, model.image_size, 3), generator=torch.Generator().manual_seed(0))
    return model.prepare_image(noise.to(torch.uint8))


def _load(path: Path, device: torch.device) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
    """Load a program of machine code onto a device, on which it runs, whichever GPU is the current one.

    Threads that share it take turns: the program itself does nothing about them, where that is possible.
    """
    alone = {"run_single_threaded": True} if _runs_alone() else {}
    with as_current(device):
        program = torch._inductor.aoti_load_package(str(path), **alone)
    turn = Lock()

    @on_its_gpu
    def run(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with turn:
            coarse, middle, fine = program(image)
        return coarse, middle, fine

    return run


def _runs_alone() -> bool:
    """Whether this torch runs a program without the events of one for many threads, which no capture permits."""
    return "run_single_threaded" in signature(torch._inductor.aoti_load_package).parameters


def _write_onnx(program: torch.export.ExportedProgram, image: Tensor, path: Path) -> None:
    weights = sum(value.nbytes for value in program.state_dict.values())
    onnx = logging.getLogger("torch.onnx")  # it warns of torchvision's operators, which nothing here has
    level = onnx.level
    onnx.setLevel(logging.ERROR)
    try:
        torch.onnx.export(
            program, (image,), str(path), input_names=["image"], output_names=list(OUTPUTS), dynamo=True,
            external_data=weights > ONE_FILE, verbose=False,
        )  # fmt: skip
    finally:
        onnx.setLevel(level)


def _run_onnx(path: Path, image: Tensor) -> Sequence[Tensor] | None:
    """Compute the features by onnxruntime on the CPU; None where it is not installed, or lacks the number type."""
    if importlib.util.find_spec("onnxruntime") is None or image.dtype == torch.bfloat16:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    made = session.run(list(OUTPUTS), {"image": image.cpu().numpy()})
    return [torch.from_numpy(features).to(image.device) for features in made]


def _difference(own: Tensor, plain: Tensor) -> float:
    return float((own.float() - plain.float()).abs().max() / plain.float().abs().max())


def _kind_of(device: torch.device) -> str:
    return "cpu" if device.type == "cpu" else "sm_{}{}".format(*torch.cuda.get_device_capability(device))


def _digest(model: Sam2Model) -> str:
    digest = hashlib.sha256()
    parts = {"image_encoder": model.image_encoder, "heads": nn.ModuleList(model._heads)}
    for name, part in parts.items():
        for key, value in part.state_dict().items():
            digest.update(f"{name}.{key} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(
                value.contiguous().view(torch.uint8).cpu().numpy().tobytes()
                if value.dim()
                else str(value.item()).encode()
            )
    return digest.hexdigest()
