"""The registry of image encoders: building, recognition and costs go through its entries alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sam2s_model.bench.floor import ENCODER, Shape, least_work, work_done
from sam2s_model.bench.flops import count
from sam2s_model.checkpoint.recognition import recognise
from sam2s_model.config import MODELS, ModelConfig
from sam2s_model.errors import CheckpointError, ConfigError
from sam2s_model.network.image_encoder import BACKBONES, Backbone, FpnNeck, ImageEncoder
from sam2s_model.network.image_encoder.backbone import count_blocks, rows
from sam2s_model.network.image_encoder.encoder import Trunk
from sam2s_model.network.image_encoder.fpn import fpn_operations, pyramid
from sam2s_model.network.model import Sam2Model
from sam2s_model.network.operations import linear

SIDE = 128
CONFIG = replace(MODELS["sam2s_pico"], name="toy", backbone="toy", embed_dim=16, stages=(1, 1, 1, 1))


class ToyTrunk(Trunk):
    """A strided convolution for each map."""

    def __init__(self, width: int):
        super().__init__()
        self.channels = [width * 2**i for i in range(4)]
        steps = zip((3, *self.channels[:3]), self.channels, (4, 2, 2, 2), strict=True)
        self.halvings = nn.ModuleList(nn.Conv2d(before, after, step, step) for before, after, step in steps)

    def forward(self, image: Tensor) -> list[Tensor]:
        maps = [image]
        for halving in self.halvings:
            maps.append(halving(maps[-1]))
        return maps[1:]


def build(config: ModelConfig) -> ImageEncoder:
    trunk = ToyTrunk(config.embed_dim)
    return ImageEncoder(trunk, FpnNeck(config.dim, trunk.channels))


def recognise_toy(trunk: Mapping[str, Tensor]) -> tuple[int, int] | None:
    first = trunk.get("halvings.0.weight")
    return None if first is None else (rows(first), count_blocks(trunk, r"halvings\.\d+\."))


def operations(config: ModelConfig, side: int, padded: bool) -> int:
    places, widths = pyramid(config, side)
    pixels = [16 * 3, *(4 * width for width in widths[:-1])]
    return sum(map(linear, places, pixels, widths)) + fpn_operations(config, side)


@pytest.fixture
def toy(monkeypatch) -> ModelConfig:
    monkeypatch.setitem(BACKBONES, "toy", Backbone(build, recognise_toy, operations, coarsest=2))
    monkeypatch.setitem(MODELS, "toy", CONFIG)
    return CONFIG


def test_a_new_encoder_is_built_and_encodes(toy):
    model = Sam2Model(toy, SIDE).eval()
    with torch.inference_mode():
        features = model.encode_image(model.prepare_image(torch.zeros(SIDE, SIDE, 3, dtype=torch.uint8)))
    assert isinstance(model.image_encoder.trunk, ToyTrunk) and features.grid == (SIDE // 16, SIDE // 16)
    with pytest.raises(ConfigError, match="image_size is 112: expected a multiple of 32"):
        Sam2Model(toy, 112)


def test_a_new_encoder_is_recognised_by_its_tensors(toy, monkeypatch):
    state = Sam2Model(toy).state_dict()
    assert recognise(state, "toy.pt") == toy
    monkeypatch.delitem(BACKBONES, "toy")
    monkeypatch.delitem(MODELS, "toy")
    with pytest.raises(CheckpointError, match=r"toy.pt is not a checkpoint of a known model: nearest is sam2s_pico"):
        recognise(state, "toy.pt")


def test_a_new_encoder_costs_what_its_entry_says(toy):
    with torch.device("meta"):
        model = Sam2Model(toy, SIDE).eval().requires_grad_(False)
        image = torch.zeros(1, 3, SIDE, SIDE)
    with torch.no_grad():
        model.encode_image(image)  # folds weights
        with FlopCounterMode(display=False) as counter:
            model.encode_image(image)
    shape = Shape(SIDE, 1, 7, 16, element_size=2)
    least = least_work(model, shape)[ENCODER]
    assert count(toy, SIDE).image_encoder == counter.get_total_flops() == least.flops == work_done(toy, shape)[ENCODER]
    heads = model.sam_mask_decoder.conv_s0, model.sam_mask_decoder.conv_s1
    weights = sum(p.numel() for part in (model.image_encoder, *heads) for p in part.parameters())
    assert least.bytes == 2 * weights + 3 * SIDE**2


def test_an_encoder_without_an_entry_is_counted_as_no_other():
    with pytest.raises(ConfigError, match=f"backbone is 'toy': expected one of {', '.join(map(repr, BACKBONES))}"):
        count(CONFIG)


@pytest.mark.parametrize("name", ["sam2.1_hiera_tiny", "edgetam", "efficienttam_s", "sam3"])
def test_each_kind_recognises_its_own_tensors_alone(name):
    with torch.device("meta"):
        trunk = Sam2Model(MODELS[name]).image_encoder.trunk.state_dict()
    found = {kind: backbone.recognise(trunk) for kind, backbone in BACKBONES.items()}
    config = MODELS[name]
    own = (config.embed_dim, sum(config.stages))
    assert found == {kind: own if kind == config.backbone else None for kind in BACKBONES}
