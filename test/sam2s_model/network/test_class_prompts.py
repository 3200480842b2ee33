"""SurgicalSAM's prototype prompt encoder: the published names load strictly, and the prompts are the paper's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sam2s_model.checkpoint.class_prompts import load_class_prompts
from sam2s_model.errors import CheckpointError
from sam2s_model.network.class_prompts import ClassPrompts

CLASSES, DIM, SIDE, TOKENS = 7, 256, 64, 2
ENCODER = {
    "dense_fc_1.weight": (128, DIM, 1, 1),
    "dense_fc_1.bias": (128,),
    "dense_fc_2.weight": (DIM, 128, 1, 1),
    "dense_fc_2.bias": (DIM,),
    "sparse_fc_1.weight": (128, SIDE * SIDE, 1),
    "sparse_fc_1.bias": (128,),
    "sparse_fc_2.weight": (TOKENS, 128, 1),
    "sparse_fc_2.bias": (TOKENS,),
    "pn_cls_embeddings.0.weight": (TOKENS, DIM),
    "pn_cls_embeddings.1.weight": (TOKENS, DIM),
}
"""Names and shapes of the published file for EndoVis 2018."""


def published() -> dict[str, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    return {
        "prototype_prompt_encoder_state_dict": {name: 0.1 * torch.randn(shape) for name, shape in ENCODER.items()},
        "sam_decoder_state_dict": {"iou_token.weight": torch.randn(1, DIM)},
        "prototypes_state_dict": {"class_embeddings.weight": 0.1 * torch.randn(CLASSES, DIM)},
    }


@pytest.fixture
def file(tmp_path):
    def write(content):
        torch.save(content, tmp_path / "surgicalsam.pth")
        return tmp_path / "surgicalsam.pth"

    return write


def test_the_published_names_load_strictly_and_give_the_papers_prompts(file):
    content = published()
    made = load_class_prompts(file(content))
    assert isinstance(made, ClassPrompts) and made.encoder.side == SIDE
    features = torch.randn(1, DIM, SIDE, SIDE)
    asked = 3
    sparse, dense = made(features, torch.tensor([asked]))
    weights, prototypes = content["prototype_prompt_encoder_state_dict"], made.class_embeddings.weight
    places = features[0].flatten(1).T  # (4096, 256)
    tokens = []
    for k in range(CLASSES):
        activated = places + places * (places @ prototypes[k])[:, None]
        hidden = F.relu(weights["sparse_fc_1.weight"][:, :, 0] @ activated + weights["sparse_fc_1.bias"][:, None])
        own = weights["sparse_fc_2.weight"][:, :, 0] @ hidden + weights["sparse_fc_2.bias"][:, None]
        tokens.append(own + weights[f"pn_cls_embeddings.{int(k == asked)}.weight"])
        if k == asked:
            hidden = F.relu(activated @ weights["dense_fc_1.weight"][:, :, 0, 0].T + weights["dense_fc_1.bias"])
            expected = hidden @ weights["dense_fc_2.weight"][:, :, 0, 0].T + weights["dense_fc_2.bias"]
    assert torch.allclose(sparse[0], torch.cat(tokens), rtol=1e-3, atol=1e-3)
    assert torch.allclose(dense[0].flatten(1).T, expected, rtol=1e-3, atol=1e-3)
    assert sparse.shape == (1, CLASSES * TOKENS, DIM) and dense.shape == features.shape


def test_a_prefix_of_several_gpus_is_taken_off(file):
    content = published()
    name = "prototype_prompt_encoder_state_dict"
    content[name] = {f"module.{key}": value for key, value in content[name].items()}
    assert load_class_prompts(file(content)).encoder.side == SIDE


@pytest.mark.parametrize("spoiled", ["missing", "more", "shape", "kind"])
def test_what_does_not_fit_is_refused(file, spoiled):
    content = published()
    encoder = content["prototype_prompt_encoder_state_dict"]
    if spoiled == "missing":
        del encoder["dense_fc_2.bias"]
    elif spoiled == "more":
        encoder["dense_fc_3.bias"] = torch.zeros(1)
    elif spoiled == "shape":
        encoder["dense_fc_1.weight"] = torch.zeros(64, DIM, 1, 1)
    else:
        content = {"model": encoder}
    with pytest.raises(CheckpointError, match="surgicalsam.pth .*SurgicalSAM"):
        load_class_prompts(file(content))


def test_each_image_is_asked_for_its_own_class():
    torch.manual_seed(0)
    made = ClassPrompts(classes=3, dim=8, side=4, tokens=2)
    features = torch.randn(2, 8, 4, 4)
    sparse, dense = made(features, torch.tensor([2, 0]))
    for i, asked in enumerate((2, 0)):
        alone = made(features[i : i + 1], torch.tensor([asked]))
        assert torch.allclose(sparse[i], alone[0][0], atol=1e-6) and torch.allclose(dense[i], alone[1][0], atol=1e-6)


def test_everything_but_the_marks_of_the_asked_class_learns():
    made = ClassPrompts(classes=3, dim=8, side=4, tokens=2)
    sparse, dense = made(torch.randn(1, 8, 4, 4), torch.tensor([1]))
    (sparse.sum() + dense.sum()).backward()
    learns = {name for name, parameter in made.named_parameters() if parameter.grad is not None}
    assert learns == {name for name, _ in made.named_parameters() if "pn_cls" not in name}
