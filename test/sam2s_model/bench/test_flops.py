"""The formulas against what torch counts while the real network runs, without its memory."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sam2s_model.bench.flops import count
from sam2s_model.config import MODELS, NANO, NANO_CLASSES, ModelConfig
from sam2s_model.network.model import Sam2Model
from sam2s_model.recordings.scene import CLASS_IDS

CASES = {
    "nano": (NANO, 512, 7, 16, 1),
    "nano, three objects, part of the memory": (NANO, 224, 3, 5, 3),
    "pico": (MODELS["sam2s_pico"], 192, 7, 16, 2),
    "tiny": (MODELS["sam2.1_hiera_tiny"], 512, 7, 16, 1),
    "small, windows that pad": (MODELS["sam2_hiera_small"], 288, 2, 3, 2),
    "base plus": (MODELS["sam2.1_hiera_base_plus"], 224, 2, 2, 1),
    "edgetam": (MODELS["edgetam"], 512, 7, 16, 1),
    "efficienttam, windows that pad": (MODELS["efficienttam_ti"], 512, 7, 16, 1),
    "sam3": (MODELS["sam3"], 1008, 7, 16, 2),
    "sam3, windows that pad": (MODELS["sam3"], 672 + 14, 2, 3, 1),
}


def run_and_count(config: ModelConfig, size: int, memories: int, pointers: int, objects: int) -> dict[str, int]:
    with torch.device("meta"):
        model = Sam2Model(config, size).eval().requires_grad_(False)
        image = torch.zeros(1, 3, size, size)
        memory = torch.zeros(objects, memories, model.memory_tokens, config.memory_dim)
        codes = torch.zeros(objects, memories, dtype=torch.long)
        pointer, ages = torch.zeros(objects, pointers, config.dim), torch.zeros(objects, pointers)
        present = torch.ones(objects, dtype=torch.bool)
        mask = torch.zeros(objects, 1, *(16 * side for side in model.grid))

    def counted(run):
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            run()  # folds weights
            with FlopCounterMode(display=False) as counter:
                return run(), counter.get_total_flops()

    features, image_encoder = counted(lambda: model.encode_image(image))
    conditioned, with_memory = counted(lambda: model.with_memory(features, memory, codes, pointer, ages, None))
    class_token = 0
    if config.num_classes:
        flat = memory.flatten(1, 2)
        keys = torch.cat((flat, pointer.reshape(objects, -1, config.memory_dim)), dim=1)
        seen = features.coarse.flatten(2).transpose(1, 2).expand(objects, -1, -1)
        _, class_token = counted(lambda: model.temporal_semantics(keys, keys, None, seen))
    decoded, decoder = counted(lambda: model.decode(conditioned.features, features, multimask=True))
    _, to_pointer = counted(lambda: model.pointer(decoded.token, present))
    _, memory_encoder = counted(lambda: model.memory_encoder(features.coarse, mask))
    _, remembered = counted(lambda: model.encode_memory(features, decoded.logits, present))
    return dict(
        image_encoder=image_encoder,
        memory_attention=with_memory - class_token,
        class_token=class_token,
        mask_decoder=decoder + to_pointer,
        memory_encoder=memory_encoder,
        perceiver=remembered - memory_encoder,
    )


@pytest.mark.parametrize("case", CASES)
def test_formulas_are_what_torch_counts(case):
    config, size, memories, pointers, objects = CASES[case]
    assert dataclasses.asdict(count(config, size, memories, pointers, objects)) == run_and_count(*CASES[case])


def test_nano_is_as_small_as_promised():
    """12 M parameters, a file of 25 MB in half precision, 12 GFLOP a frame even with four long-term memories."""
    with torch.device("meta"):
        parameters = sum(p.numel() for p in Sam2Model(NANO).parameters())
    assert parameters <= 12e6 and 2 * parameters < 25e6
    for memories in (NANO.num_memories, NANO.num_memories + 4):
        assert count(NANO, memories=memories).total <= 12e9


def test_nanos_classes_begin_with_those_of_the_scene():
    assert NANO_CLASSES[: len(CLASS_IDS)] == tuple(sorted(CLASS_IDS, key=CLASS_IDS.get))
    assert NANO.num_classes == len(NANO_CLASSES)
