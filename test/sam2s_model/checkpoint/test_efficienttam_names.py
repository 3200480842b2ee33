"""Files of EfficientTAM: the names and shapes that its published code gives, loaded strictly, at the size of each file.

Its tracker's tensors are those of SAM 2.0 without the two convolutions for finer features. `shared` has no list of all.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sam2s_model.checkpoint import load_model, recognise
from sam2s_model.checkpoint.recognition import check_names, known_shapes
from sam2s_model.config import MODELS
from sam2s_model.errors import CheckpointError
from sam2s_model.published.catalog import CATALOG, cache_folder

KEYS = Path(__file__).parents[4] / "shared" / "keys" / "sam2_s.tsv"
WIDTHS = {"efficienttam_s": 384, "efficienttam_ti": 192}
BLOCKS = 12
Shapes = dict[str, tuple[int, ...]]


def published_encoder(width: int) -> Shapes:
    """Names and shapes of the plain ViT and of the neck after it."""
    shapes: Shapes = {
        "trunk.pos_embed": (1, 1 + 14 * 14, width),
        "trunk.patch_embed.proj.weight": (width, 3, 16, 16),
        "trunk.patch_embed.proj.bias": (width,),
        "neck.convs.0.conv_1x1.weight": (256, width, 1, 1),
        "neck.convs.0.conv_3x3.weight": (256, 256, 3, 3),
    }
    for norm in ("norm_0", "norm_1"):
        shapes |= {f"neck.convs.0.{norm}.{what}": (256,) for what in ("weight", "bias")}
    layers = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.layers.0": (4, 1), "mlp.layers.1": (1, 4)}
    for block in range(BLOCKS):
        name = f"trunk.blocks.{block}"
        shapes |= {f"{name}.{norm}.{what}": (width,) for norm in ("norm1", "norm2") for what in ("weight", "bias")}
        for layer, (out, into) in layers.items():
            shapes |= {f"{name}.{layer}.weight": (out * width, into * width), f"{name}.{layer}.bias": (out * width,)}
    return {f"image_encoder.{name}": shape for name, shape in shapes.items()}


def published_tracker() -> Shapes:
    if not KEYS.is_file():
        pytest.skip(f"the published key list is not at {KEYS}")
    rows = (line.split("\t") for line in KEYS.read_text().splitlines())
    absent = ("image_encoder.", "sam_mask_decoder.conv_s")
    return {name: tuple(json.loads(shape)) for name, shape, _ in rows if not name.startswith(absent)}


@pytest.mark.parametrize("name", WIDTHS)
def test_the_published_names_and_shapes_are_exactly_the_model(name):
    published = published_encoder(WIDTHS[name]) | published_tracker()
    assert len(published) == 455
    assert published == known_shapes(MODELS[name])
    state = {key: torch.empty(shape, device="meta") for key, shape in published.items()}
    config = recognise(state, "light.pt")
    assert config == MODELS[name] and check_names(known_shapes(config), state, config.name, "light.pt") == ()
    for change in (dict(drop="image_encoder.neck.convs.0.norm_1.bias"), dict(add="image_encoder.trunk.norm.weight")):
        changed = dict(state)
        changed.pop(change.get("drop"), None)
        if "add" in change:
            changed[change["add"]] = torch.empty(WIDTHS[name], device="meta")
        with pytest.raises(CheckpointError, match=next(iter(change.values()))):
            check_names(known_shapes(config), changed, config.name, "light.pt")


@pytest.mark.parametrize("name", [name for name, entry in CATALOG.items() if entry.model in WIDTHS])
def test_a_published_file_is_used_at_its_size(name, tmp_path, monkeypatch):
    entry = CATALOG[name]
    size = 512 if name.endswith("_512x512") else 1024
    assert entry.licence == "Apache-2.0" and entry.url and entry.size and entry.sha256
    assert (entry.image_size or MODELS[entry.model].image_size) == size
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache_folder().mkdir(parents=True)
    shapes = known_shapes(MODELS[entry.model])
    generator = torch.Generator().manual_seed(0)
    state = {key: torch.randn(shape[-2:], generator=generator).expand(shape) for key, shape in shapes.items()}
    torch.save({"model": state}, cache_folder() / entry.file)
    model = load_model(cache_folder() / entry.file, device="cpu", precision="fp32")
    assert (model.name, model.image_size, model.missing) == (entry.model, size, ())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
