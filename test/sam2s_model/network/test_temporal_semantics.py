"""The class token of SAM2S: what it reads, what it is compared with, and that it leaves the masks alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from sam2s_model.config import PICO
from sam2s_model.network.image_features import Conditioned
from sam2s_model.network.layers import sine_position_2d
from sam2s_model.network.model import Sam2Model
from sam2s_model.network.temporal_semantics import SCALE, TemporalSemantics

CONFIG = replace(PICO, num_classes=5)


@pytest.fixture
def network() -> Sam2Model:
    torch.manual_seed(0)
    return Sam2Model(CONFIG, image_size=64).eval().requires_grad_(False)


@pytest.fixture
def scene(network) -> dict:
    """Two objects with three memories and two pointers each; of the second, one memory and one pointer are hidden."""
    return dict(
        features=network.encode_image(torch.randn(1, 3, 64, 64)),
        memory=torch.randn(2, 3, 16, 32),
        codes=torch.tensor([[6, 0, 1]] * 2),
        pointers=torch.randn(2, 2, 96),
        ages=torch.tensor([[4.0, 1.0]] * 2),
        allowed=torch.tensor([[True] * 5, [True, True, False, True, False]]),
    )


def run(network, scene, **changes) -> Conditioned:
    return network.with_memory(**(scene | changes))


def test_each_object_has_a_logit_for_each_class(network, scene):
    logits = run(network, scene).class_logits
    assert logits.shape == (2, 5) and logits.dtype == torch.float32 and logits.abs().max() <= SCALE
    assert (logits[0] != logits[1]).any()


def test_the_masks_are_as_without_classes(network, scene):
    plain = Sam2Model(PICO, image_size=64).eval().requires_grad_(False)
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("temporal_semantics.")})
    without = run(plain, scene)
    assert without.class_logits is None and torch.equal(without.features, run(network, scene).features)


@pytest.mark.parametrize("what, index", [("memory", 2), ("pointers", 1)])
def test_hidden_memories_change_nothing(network, scene, what, index):
    before = run(network, scene).class_logits
    changed = scene[what].clone()
    changed[:, index] += 3 * torch.randn_like(changed[:, index])
    after = run(network, scene, **{what: changed}).class_logits
    torch.testing.assert_close(after[1], before[1], atol=1e-4, rtol=1e-5)
    assert (after[0] - before[0]).abs().max() > 1e-3, "it is not hidden from the first object"


def test_it_reads_memory_position_and_frame():
    torch.manual_seed(0)
    token = TemporalSemantics(16, 8, 4).eval().requires_grad_(False)
    keys, values, features = torch.randn(1, 6, 8), torch.randn(1, 6, 8), torch.randn(1, 9, 16)
    before = token(keys, values, None, features)
    for other in (
        token(torch.randn(1, 6, 8), values, None, features),
        token(keys, torch.randn(1, 6, 8), None, features),
        token(keys, values, None, torch.randn(1, 9, 16)),
    ):
        assert (other - before).abs().max() > 1e-3
    order = torch.tensor([3, 1, 5, 0, 2, 4])  # it is a set that it reads
    torch.testing.assert_close(token(keys[:, order], values[:, order], None, features), before, atol=1e-4, rtol=1e-4)


def test_its_keys_have_time_and_place_and_its_values_have_not(network, scene):
    seen = []
    handle = network.temporal_semantics.register_forward_pre_hook(lambda module, args: seen.extend(args[:2]))
    run(network, scene)
    handle.remove()
    keys, values = seen
    assert torch.equal(values[:, :48], scene["memory"].flatten(1, 2))
    position = (keys - values)[:, :48].unflatten(1, (3, 16))
    time = network.maskmem_tpos_enc[scene["codes"][0]].squeeze()
    torch.testing.assert_close(
        position[0, 1] - position[0, 0], (time[1] - time[0]).expand(16, -1), atol=1e-5, rtol=1e-3
    )
    place = sine_position_2d(32, 4, 4).flatten(1).T
    torch.testing.assert_close(position[0, 2] - time[2], place, atol=1e-5, rtol=1e-3)


def test_logits_are_cosines_with_the_stored_classes(network, scene):
    seen = []
    part = network.temporal_semantics
    handle = part.out_proj.register_forward_hook(lambda module, args, output: seen.append(output[:, 0]))
    table = torch.randn(5, 96)
    part.set_class_embeddings(7 * table)
    logits = run(network, scene).class_logits
    handle.remove()
    expected = 100 * F.cosine_similarity(seen[0][:, None], table[None], dim=2)
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=1e-4)
    part.class_embeddings[3] = seen[0][1]  # the second object's own token
    assert run(network, scene).class_logits[1].argmax() == 3
    assert run(network, scene).class_logits[1, 3] == pytest.approx(100, abs=1e-2)


def test_the_table_is_stored_with_the_weights(network):
    other = Sam2Model(CONFIG, image_size=64)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.temporal_semantics.class_embeddings, network.temporal_semantics.class_embeddings)
    assert "temporal_semantics.class_embeddings" not in dict(network.named_parameters())


def test_the_class_token_learns_from_class_labels(network, scene):
    network.requires_grad_(True)
    F.cross_entropy(run(network, scene).class_logits, torch.tensor([1, 4])).backward()
    own = [p.grad for p in network.temporal_semantics.parameters()]
    assert all(grad is not None and grad.isfinite().all() for grad in own)
    assert network.temporal_semantics.class_token.grad.abs().sum() > 0
    assert network.memory_attention.norm.weight.grad.abs().sum() > 0, "through the frame, the mask's features learn too"


def test_bf16_agrees_with_fp32(network, scene):
    exact = run(network, scene).class_logits
    rounded = network.to(torch.bfloat16)
    coarse = rounded.encode_image(torch.zeros(1, 3, 64, 64, dtype=torch.bfloat16))
    features = replace(coarse, coarse=scene["features"].coarse.to(torch.bfloat16))
    logits = run(rounded, scene, features=features).class_logits
    assert logits.dtype == torch.float32 and (logits - exact).abs().max() < 3
