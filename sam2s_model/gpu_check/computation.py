"""Parts 1 to 5: what the GPU is, and whether networks, attention and small operations compute what the CPU does."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sam2s_model.acceleration.attention import attend
from sam2s_model.acceleration.compiling import FOLDER, can_keep, program_folder
from sam2s_model.gpu_check.part import WARN, Check, Setting, exact_products, judged, moved, tensors_of
from sam2s_model.network.image_features import Conditioned, ImageFeatures
from sam2s_model.network.memory_keys import CachedKeys
from sam2s_model.network.model import Sam2Model
from sam2s_model.tracking.holes import fill_holes
from sam2s_model.tracking.memory import kalman
from sam2s_model.tracking.memory.evidence import boxes, signature
from sam2s_model.tracking.outputs import compose

KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
KINDS = {  # heads' widths of queries and keys, and of values; whether some keys are masked
    "memory, values as they are": (256, 64, False),
    "memory, values padded": (256, 256, False),
    "memory, masked": (256, 64, True),
    "image encoder": (96, 96, False),
    "mask decoder": (16, 16, False),
}


def the_device(setting: Setting) -> Iterator[Check]:
    """Part 1."""
    properties = torch.cuda.get_device_properties(setting.device)
    free, total = torch.cuda.mem_get_info(setting.device)
    native = properties.major >= 8
    seen = (
        f"{properties.name}, sm_{properties.major}{properties.minor}, torch {torch.__version__}, "
        f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, "
        f"bf16 {'native' if native else 'emulated'}, {free >> 20} of {total >> 20} MiB free"
    )
    yield judged(free >= 2 << 30, "device", "2048 MiB free", seen, "end what else uses the GPU", WARN)
    yield judged(native, "bf16", "native", "native" if native else "emulated", "set precision to fp16", WARN)
    dtype = torch.bfloat16 if native else torch.float16
    folder = program_folder()
    usable = can_keep(folder)
    held = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if usable else 0
    yield judged(
        usable,
        "what torch compiles",
        "a folder that can be written to, so that it is compiled once",
        f"{folder}, {held / 2**20:.1f} MiB" if usable else f"{folder} cannot be written to",
        f"set {FOLDER} to such a folder",
        WARN,
    )
    for name, (width, values, masked) in KINDS.items():
        takes = [
            kernel
            for kernel, backend in KERNELS.items()
            if _runs(setting.device, dtype, width, values, masked, backend)
        ]
        advice = "install a torch with flash or memory-efficient attention: without, all scores are in memory at once"
        yield judged(
            bool(takes),
            f"attention ({width}, {values}), {name}",
            "a kernel besides math",
            ", ".join(takes) or "math only",
            advice,
        )


def _runs(device: torch.device, dtype: torch.dtype, width: int, values: int, masked: bool, backend: SDPBackend) -> bool:
    q, k, v, mask = _attention(device, dtype, width, values, masked, queries=256, keys=1024)
    try:
        with sdpa_kernel(backend):
            F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], None if mask is None else mask[:, None])
    except RuntimeError:
        return False
    return True


def _attention(
    device: torch.device, dtype: torch.dtype, width: int, values: int, masked: bool, queries: int, keys: int
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Of two objects, one head, always the same."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, queries, width), (2, keys, width), (2, keys, values))
    q, k, v = (torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes)
    mask = None
    if masked:
        mask = (torch.arange(keys) < torch.tensor([[keys], [keys // 2]]))[:, None].to(device)
    return q, k, v, mask


def networks_in_fp32(setting: Setting) -> Iterator[Check]:
    """Part 2."""
    with exact_products():
        for name, part, plain, got in _networks(setting, torch.float32):
            scale = 1 + plain.abs().max().item()
            worst, mean = ((got - plain).abs().max().item() / scale, (got - plain).abs().mean().item() / scale)
            yield judged(
                worst <= 2e-4 and mean <= 1e-5,
                f"{name}: {part}, fp32",
                "max 2e-4, mean 1e-5 of the CPU's",
                f"max {worst:.1e}, mean {mean:.1e}",
            )


def networks_in_half(setting: Setting) -> Iterator[Check]:
    """Part 3."""
    for dtype, limit in ((torch.bfloat16, 2e-2), (torch.float16, 5e-3)):
        for name, part, plain, got in _networks(setting, dtype):
            error = ((got - plain).norm() / plain.norm().clamp(min=1e-12)).item()
            cosine = F.cosine_similarity(got.flatten(), plain.flatten(), dim=0).item()
            yield judged(
                error <= limit and cosine >= 0.999,
                f"{name}: {part}, {str(dtype)[6:]}",
                f"relative L2 {limit:g}, cosine 0.999",
                f"{error:.1e}, {cosine:.5f}",
                "set precision to the other of bf16 and fp16, and report it",
            )


def _networks(setting: Setting, dtype: torch.dtype) -> Iterator[tuple[str, str, Tensor, Tensor]]:
    """Run each part of each model on the CPU's own inputs: yields name, part, the CPU's fp32 result, the device's."""
    image = torch.from_numpy(setting.images(1)[0])
    for name in setting.networks:
        plain, model = setting.model_on_cpu(name), setting.model(name, dtype=dtype)
        with torch.inference_mode():
            for part, function, inputs in _parts(plain, image):
                expected = function(plain, *inputs)
                own = inputs if part == "image encoder" else moved(inputs, setting.device, dtype)
                got = tensors_of(function(model, *own))
                for i, (a, b) in enumerate(zip(tensors_of(expected), got, strict=True)):
                    if a.is_floating_point():
                        yield name, f"{part} ({i})", a.float(), b.cpu().float()


def _parts(model: Sam2Model, image: Tensor) -> Iterator[tuple]:
    config, generator = model.config, torch.Generator().manual_seed(0)
    features = model.encode_image(model.prepare_image(image))
    yield "image encoder", lambda m, image: m.encode_image(m.prepare_image(image)), (image,)
    memory = torch.randn(2, 3, model.memory_tokens, config.memory_dim, generator=generator)
    pointers = torch.randn(2, 4, config.dim, generator=generator)
    codes, ages = torch.tensor([[config.num_memories - 1, 0, 1]] * 2), torch.tensor([[9.0, 3, 2, 1]] * 2)
    given = (features, memory, codes, pointers, ages, None)
    yield "memory attention", Sam2Model.with_memory, given
    allowed = torch.ones(2, 7, dtype=torch.bool)
    allowed[1, 1] = allowed[1, 5] = False
    yield "memory attention, masked", Sam2Model.with_memory, (*given[:-1], allowed)
    yield "memory attention, keys cached", _with_cached_keys, given
    conditioned = model.with_memory(*given).features
    yield "mask decoder", lambda m, c, f: m.candidates(c, f), (conditioned, features)
    decoded = model.decode(conditioned, features, multimask=False)
    yield "memory encoder", Sam2Model.encode_memory, (features, decoded.logits, torch.tensor([True, False]))


def _with_cached_keys(
    model: Sam2Model,
    features: ImageFeatures,
    memory: Tensor,
    codes: Tensor,
    pointers: Tensor,
    ages: Tensor,
    allowed: Tensor | None,
) -> Conditioned:
    """Condition as `with_memory`, with the keys of the memories (N, F, tokens, ...) made before."""
    objects, frames = memory.shape[:2]
    keys = model.memory_keys(memory.flatten(0, 1)).unflatten(0, (objects, frames))
    rows, columns = (torch.arange(count, device=memory.device) for count in (objects, frames))
    cached = CachedKeys(keys, rows, columns.expand(objects, -1), codes, model.time_codes)
    return model.with_memory(features, memory, codes, pointers, ages, allowed, cached=cached)


def attention(setting: Setting) -> Iterator[Check]:
    """Part 4."""
    dtype = torch.bfloat16
    for masked in (False, True):
        plain = _attention(torch.device("cpu"), torch.float32, 256, 64, masked, 256, 4096)
        q, k, v = (t.to(dtype).float() for t in plain[:3])
        scores = (q @ k.transpose(1, 2)) * q.shape[2] ** -0.5
        expected = (scores if plain[3] is None else scores.masked_fill(~plain[3], -torch.inf)).softmax(-1) @ v
        q, k, v, mask = _attention(setting.device, dtype, 256, 64, masked, 256, 4096)
        for way, run in {"as a tracker attends": attend, "values padded": _attend_padded}.items():
            with torch.inference_mode():
                got = run(q, k, v, mask).cpu().float()
            worst = (got - expected).abs().max().item() / v.abs().max().item()
            good = bool(got.isfinite().all()) and worst <= 2e-2
            yield judged(
                good,
                f"attention{', masked' if masked else ''}, {way}",
                "within 2e-2 of the greatest value, no NaN",
                f"{worst:.1e}",
            )


def _attend_padded(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attend with values padded from 64 to 256, the width of queries and keys."""
    bias = None if mask is None else mask[:, None]
    padded = F.pad(v, (0, 192))
    return F.scaled_dot_product_attention(q[:, None], k[:, None], padded[:, None], bias)[:, 0, :, :64]


def small_operations(setting: Setting) -> Iterator[Check]:
    """Part 5."""
    generator = torch.Generator().manual_seed(0)
    logits = F.interpolate(torch.randn(3, 1, 32, 32, generator=generator), size=(128, 128), mode="bilinear")
    present, labels = torch.tensor([True, True, False]), torch.tensor([3, 1, 2], dtype=torch.uint8)
    features, box = torch.randn(1, 96, 16, 16, generator=generator), torch.tensor([[10.0, 12, 40, 50], [3, 4, 30, 20]])
    exact = {
        "holes": (lambda x: fill_holes(x, 8) > 0, (logits,)),
        "boxes": (lambda x: boxes(x[:, 0] > 0), (logits,)),
        "order of memories": (lambda x: x.flatten(1).sort(dim=1, stable=True).indices, (logits.round(),)),
    }
    close = {
        "image signature": (signature, (features,)),
        "box of the Kalman filter": (
            lambda b: kalman.box(kalman.update(*kalman.predict(*kalman.start(b)), b + 1)[0]),
            (box,),
        ),
    }
    with torch.inference_mode():
        for name, (function, inputs) in exact.items():
            same = torch.equal(function(*inputs), function(*moved(inputs, setting.device)).cpu())
            yield judged(same, name, "the CPU's bits", "the same" if same else "others")
        for name, (function, inputs) in close.items():
            plain = function(*inputs)
            error = (plain - function(*moved(inputs, setting.device)).cpu()).abs().max().item() / (
                1 + plain.abs().max().item()
            )
            yield judged(error <= 1e-5, name, "within 1e-5 of the CPU's", f"{error:.1e}")
        maps = [
            compose(logits.to(device), present.to(device), labels.to(device), (240, 320)).cpu()
            for device in (torch.device("cpu"), setting.device)
        ]
        share = (maps[0] != maps[1]).float().mean().item()
        yield judged(share <= 1e-4, "label map", "at most 1e-4 of the pixels differ, at ties", f"{share:.1e}")
