"""Adapters: published names load strictly, a pass is the papers' formula, files say their base, weights are shared."""

from __future__ import annotations

import dataclasses
import shutil
import warnings

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from sam2s_model.checkpoint import file_sha256, load_model, read_checkpoint, with_adapter
from sam2s_model.checkpoint.adapter_files import ALPHA_KEY, BASE, BASE_SHA256, read_adapter, save_adapter
from sam2s_model.checkpoint.convert import convert
from sam2s_model.checkpoint.describe import describe
from sam2s_model.config import MODELS, PICO
from sam2s_model.errors import CheckpointError, ConfigError
from sam2s_model.network.model import Sam2Model
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.training.adapter_config import AdapterConfig
from sam2s_model.training.adapters import adapter_tensors, add_adapter
from sam2s_model.training.config import Phase, TrainConfig
from sam2s_model.training.data_config import DataConfig, SourceConfig
from sam2s_model.training.loop import run_training

QKV = "image_encoder.trunk.blocks.{}.attn.qkv"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A file of the smallest model, complete, with random weights."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("base") / "base.pt"
    torch.save({"model": Sam2Model(PICO).state_dict()}, path)
    return path


def channels(block: int) -> int:
    ends = [sum(PICO.stages[: i + 1]) for i in range(len(PICO.stages))]
    return PICO.embed_dim * 2 ** next(i for i, end in enumerate(ends) if block < end)


def dilated(blocks: int = 3, prefix: str = "") -> dict[str, torch.Tensor]:
    """As DD-SAM2 names them."""
    torch.manual_seed(4)
    out = {}
    for i in range(blocks):
        c = channels(i)
        shapes = {
            "pw1": (c // 2, c, 1, 1),
            "dw2_1": (c // 2, 1, 3, 3),
            "dw2_2": (c // 2, 1, 3, 3),
            "pw2": (c, c // 2, 1, 1),
        }
        for name, shape in shapes.items():
            place = f"{prefix}image_encoder.trunk.blocks.{i}.adapter.{name}.0"
            out |= {f"{place}.weight": torch.randn(shape) * 0.2, f"{place}.bias": torch.randn(shape[0]) * 0.1}
    return out


def low_rank(blocks: int = 2, rank: int = 4) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    out = {}
    for i in range(blocks):
        d_in = channels(i - 1) if i in (1, 3, 7) else channels(i)
        out[f"{QKV.format(i)}.lora_down.weight"] = torch.randn(rank, d_in) * 0.2
        out[f"{QKV.format(i)}.lora_up.weight"] = torch.randn(3 * channels(i), rank) * 0.2
    return out


def test_a_dilated_adapter_is_the_papers_formula(base, tmp_path):
    """x = block(x); x = x + pw2(dw1(pw1(x)) + dw3(pw1(x))), a GELU after each convolution."""
    tensors = dilated()
    save_adapter(tmp_path / "a.safetensors", tensors, {BASE_SHA256: file_sha256(base)})
    plain = load_model(base, image_size=64, device="cpu", precision="fp32")
    adapted = load_model(base, image_size=64, device="cpu", precision="fp32", adapter=tmp_path / "a.safetensors")
    image = torch.randn(1, 3, 64, 64)
    trunk = plain.image_encoder.trunk

    def convolved(x, block, name, **options):
        place = f"image_encoder.trunk.blocks.{block}.adapter.{name}.0"
        return F.gelu(F.conv2d(x, tensors[f"{place}.weight"], tensors[f"{place}.bias"], **options))

    with torch.inference_mode():
        x = trunk.patch_embed(image)
        x = x + trunk.position(*x.shape[1:3])
        for i, block in enumerate(trunk.blocks[:3]):
            x, mlp = block(x, block.norm1(x))
            x = x + mlp
            y = convolved(x.permute(0, 3, 1, 2), i, "pw1")
            half = y.shape[1]
            wide = convolved(y, i, "dw2_1", padding=1, groups=half) + convolved(
                y, i, "dw2_2", padding=3, dilation=3, groups=half
            )
            x = x + convolved(wide, i, "pw2").permute(0, 2, 3, 1)
        found = adapted.image_encoder.trunk(image)
        before = trunk(image)
    torch.testing.assert_close(found[1], x.permute(0, 3, 1, 2), atol=1e-5, rtol=1e-5)
    assert (found[1] - before[1]).abs().max() > 0.05


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_published_files_load_with_and_without_prefix_alone_and_whole(base, tmp_path, prefix, wrapped):
    whole = read_checkpoint(base).state
    tensors = {**dilated(), **low_rank()}
    alone = {prefix + name: value for name, value in tensors.items()}
    both = dict(whole)
    for i in range(2):  # LoRA puts the layer that it is beside under another name
        for part in ("weight", "bias"):
            both[f"{QKV.format(i)}.original.{part}"] = both.pop(f"{QKV.format(i)}.{part}")
    both = {prefix + name: value for name, value in {**both, **tensors}.items()}
    torch.save({"model": alone} if wrapped else alone, tmp_path / "alone.pt")
    torch.save({"model": both} if wrapped else both, tmp_path / "both.pt")
    image = torch.randn(1, 3, 64, 64)
    with pytest.warns(UserWarning, match="cannot be checked"):
        over = load_model(base, image_size=64, device="cpu", adapter=tmp_path / "alone.pt")
    itself = load_model(tmp_path / "both.pt", image_size=64, device="cpu")
    for a, b in zip(over.image_encoder(image), itself.image_encoder(image), strict=True):
        assert torch.equal(a, b)
    scale = 16 / 4
    up, down = (tensors[f"{QKV.format(1)}.lora_{part}.weight"] for part in ("up", "down"))
    expected = whole[f"{QKV.format(1)}.weight"] + scale * up @ down
    torch.testing.assert_close(over.image_encoder.trunk.blocks[1].attn.qkv.weight, expected)
    assert over.adapter.endswith("alone.pt") and itself.adapter.endswith("both.pt")


def test_tensors_of_the_model_beside_an_adapter_take_its_place_and_the_equal_ones_are_shared(base, tmp_path):
    whole = read_checkpoint(base).state
    changed = {**whole, "sam_mask_decoder.iou_token.weight": whole["sam_mask_decoder.iou_token.weight"] + 1}
    torch.save({"model." + name: value for name, value in {**changed, **dilated()}.items()}, tmp_path / "whole.pt")
    plain = load_model(base, device="cpu")
    with pytest.warns(UserWarning, match="cannot be checked"):
        adapted = with_adapter(plain, tmp_path / "whole.pt")
    own = plain.state_dict()
    apart = [n for n, v in adapted.state_dict().items() if n in own and v.data_ptr() != own[n].data_ptr()]
    assert apart == ["sam_mask_decoder.iou_token.weight"]


def test_several_adapters_share_the_weights_of_one_base(base, tmp_path):
    digest = {BASE: base.name, BASE_SHA256: file_sha256(base), ALPHA_KEY: "8"}
    save_adapter(tmp_path / "a.safetensors", dilated(), digest)
    save_adapter(tmp_path / "b.safetensors", low_rank(), digest)
    plain = load_model(base, image_size=64, device="cpu")
    image = torch.randn(1, 3, 64, 64)
    before = plain.image_encoder(image)[0].clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the base is known, and is the right one
        a, b = with_adapter(plain, tmp_path / "a.safetensors"), with_adapter(plain, tmp_path / "b.safetensors")
    own = plain.state_dict()
    for model, changed in ((a, set()), (b, {f"{QKV.format(i)}.weight" for i in range(2)})):
        found = model.state_dict()
        assert {n for n in own if found[n].data_ptr() != own[n].data_ptr()} == changed
    assert torch.equal(plain.image_encoder(image)[0], before), "the base stays as it is"
    assert not torch.equal(a.image_encoder(image)[0], b.image_encoder(image)[0])
    with pytest.raises(ConfigError, match="has the adapter .*a.safetensors already"):
        with_adapter(a, tmp_path / "b.safetensors")


def test_an_adapter_over_another_base_is_refused_with_both_digests(base, tmp_path):
    save_adapter(tmp_path / "a.safetensors", dilated(), {BASE: "other.pt", BASE_SHA256: "0" * 64})
    with pytest.raises(
        CheckpointError, match=f"over other.pt with sha256 {'0' * 64}, and .*base.pt has {file_sha256(base)}"
    ):
        load_model(base, device="cpu", adapter=tmp_path / "a.safetensors")


def _without(tensors, name):
    return {key: value for key, value in tensors.items() if not key.endswith(name)}


@pytest.mark.parametrize("tensors, words", [
    (lambda: _without(dilated(), "0.adapter.dw2_2.0.bias"),
     r"adapter of block 0 has dw2_2.0.bias nowhere, expected \(12,\)"),
    (lambda: {k.replace("blocks.0", "blocks.8"): v for k, v in dilated(1).items()},
     "after block 8 of Hiera, and sam2s_pico has 8"),
    (lambda: _without(low_rank(), "0.attn.qkv.lora_up.weight"), "half of a LoRA at .*0.attn.qkv: down alone"),
    (lambda: {k.replace("qkv", "kv"): v for k, v in low_rank().items()}, "no linear layer .*attn.kv for its LoRA"),
    (lambda: {k.replace("blocks.0", "blocks.7"): v for k, v in low_rank(1).items()},
     r"is for \(72, 24\), and the weight is"),
    (lambda: {"image_encoder.trunk.blocks.0.mlp.layers.0.weight": torch.zeros(2)},
     "holds no adapter: expected names such"),
])  # fmt: skip
def test_what_does_not_fit_is_named(base, tmp_path, tensors, words):
    save_adapter(tmp_path / "a.safetensors", tensors(), {BASE_SHA256: file_sha256(base)})
    with pytest.raises(CheckpointError, match=words):
        load_model(base, device="cpu", adapter=tmp_path / "a.safetensors")


def test_lora_is_merged_exactly_and_dilated_adapters_are_not(base, tmp_path):
    digest = {BASE_SHA256: file_sha256(base), ALPHA_KEY: "6"}
    save_adapter(tmp_path / "b.safetensors", low_rank(), digest)
    convert(base, tmp_path / "merged.pt", adapter=tmp_path / "b.safetensors")
    merged = load_model(tmp_path / "merged.pt", device="cpu", precision="fp32")
    beside = load_model(base, device="cpu", precision="fp32", adapter=tmp_path / "b.safetensors")
    for name, value in beside.state_dict().items():
        assert torch.equal(value, merged.state_dict()[name]), name
    name = f"{QKV.format(0)}.weight"
    expected = read_checkpoint(base).state[name].double() + 6 / 4 * (
        low_rank()[f"{QKV.format(0)}.lora_up.weight"].double()
        @ low_rank()[f"{QKV.format(0)}.lora_down.weight"].double()
    )
    torch.testing.assert_close(merged.state_dict()[name].double(), expected, atol=1e-6, rtol=1e-6)
    save_adapter(tmp_path / "a.safetensors", dilated(), digest)
    with pytest.raises(CheckpointError, match="dilated adapters after 3 blocks, which no weights .* can stand for"):
        convert(base, tmp_path / "no.pt", adapter=tmp_path / "a.safetensors")
    assert not (tmp_path / "no.pt").exists()


def test_lora_over_a_base_is_merged_whichever_way_it_is_given(base, tmp_path):
    """As SOURCE with --base it was left out, and so was that beside a decoder, and the base alone was written."""
    digest = {BASE_SHA256: file_sha256(base), ALPHA_KEY: "6"}
    whole = read_checkpoint(base).state
    decoder = {name: value + 1 for name, value in whole.items() if name.startswith("sam_mask_decoder.")}
    for content in (low_rank(), {**low_rank(), **decoder}):
        save_adapter(tmp_path / "a.safetensors", content, digest)
        convert(base, tmp_path / "as_adapter.pt", adapter=tmp_path / "a.safetensors")
        convert(tmp_path / "a.safetensors", tmp_path / "as_source.pt", base=base, force=True)
        expected, found = (read_checkpoint(tmp_path / f"{name}.pt").state for name in ("as_adapter", "as_source"))
        assert all(torch.equal(value, found[name]) for name, value in expected.items())
        assert not torch.equal(found[f"{QKV.format(0)}.weight"], whole[f"{QKV.format(0)}.weight"])
        (tmp_path / "as_adapter.pt").unlink()
    save_adapter(tmp_path / "a.safetensors", dilated(), digest)
    with pytest.raises(CheckpointError, match="which no weights of sam2s_pico can stand for: give it as --adapter"):
        convert(tmp_path / "a.safetensors", tmp_path / "no.pt", base=base)
    save_adapter(tmp_path / "a.safetensors", low_rank(), {BASE: "other.pt", BASE_SHA256: "0" * 64})
    with pytest.raises(CheckpointError, match="is an adapter over other.pt with sha256 0000"):
        convert(tmp_path / "a.safetensors", tmp_path / "no.pt", base=base)
    assert not (tmp_path / "no.pt").exists()


def test_what_is_said_of_a_file_with_an_adapter_is_what_loading_does(base, tmp_path):
    whole, path = read_checkpoint(base).state, tmp_path / "both.pt"
    torch.save({**whole, **dilated(), **low_rank()}, path)
    found = describe(path)
    assert (found.model, found.tensors, found.memory) == ("sam2s_pico", len(whole), True)
    assert found.adapter == "LoRA of rank 4 at 2 layers and dilated adapters after 3 blocks"
    assert load_model(path, device="cpu").adapter == str(path) and describe(base).adapter == ""
    torch.save({**whole, **{k.replace("blocks.0", "blocks.8"): v for k, v in dilated(1).items()}}, path)
    with pytest.raises(CheckpointError, match="after block 8 of Hiera, and sam2s_pico has 8"):
        describe(path)


def test_an_adapter_alone_in_the_place_of_a_checkpoint_is_named_with_its_base(base, tmp_path):
    alone = tmp_path / "alone.safetensors"
    save_adapter(alone, low_rank(), {BASE: base.name, BASE_SHA256: file_sha256(base)})
    words = f"alone, LoRA of rank 4 at 2 layers, over base.pt with sha256 {file_sha256(base)}: give that .*--adapter"
    for use in (describe, lambda path: load_model(path, device="cpu"), lambda path: convert(path, tmp_path / "no.pt")):
        with pytest.raises(CheckpointError, match=words):
            use(alone)


@pytest.mark.parametrize("config", [
    AdapterConfig("dilated", blocks=4),
    AdapterConfig("lora", rank=2, alpha=3.0, projections=("cross_attn_token_to_image.q_proj", "attn.qkv")),
], ids=lambda config: config.kind)  # fmt: skip
def test_what_is_trained_begins_as_the_base_and_is_the_same_from_its_file(base, tmp_path, config):
    plain = load_model(base, image_size=64, device="cpu", precision="fp32")
    model = load_model(base, image_size=64, device="cpu", precision="fp32")
    learning = add_adapter(model, config)
    named = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning == sum(p.numel() for p in model.parameters() if p.requires_grad) > 0
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(plain.image_encoder(image)[0], model.image_encoder(image)[0])
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):  # after the first step the second matrix has a gradient, too
        features = model.encode_image(image)
        decoded = model.decode(model.without_memory(features, 1), features, multimask=False)
        (decoded.logits.mean() + features.coarse.square().mean()).backward()
        optimizer.step()
    assert named == {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    save_adapter(
        tmp_path / "t.safetensors",
        adapter_tensors(model.state_dict()),
        {BASE_SHA256: file_sha256(base), ALPHA_KEY: str(config.alpha)},
    )
    again = load_model(base, image_size=64, device="cpu", precision="fp32", adapter=tmp_path / "t.safetensors")
    model.eval()
    with torch.no_grad():
        x, y = model.encode_image(image), again.encode_image(image)
        torch.testing.assert_close(x.coarse, y.coarse, atol=1e-5, rtol=1e-5)
        a, b = (
            one.decode(one.without_memory(features, 1), features, multimask=False).logits
            for one, features in ((model, x), (again, y))
        )
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(plain.encode_image(image).coarse, y.coarse, atol=1e-4)


def test_what_cannot_be_trained_is_named(base):
    model = load_model("sam2s_nano", image_size=64, device="cpu")
    with pytest.raises(ConfigError, match="image encoder of sam2s_nano has no blocks of Hiera: expected 'lora'"):
        add_adapter(model, AdapterConfig("dilated"))
    with pytest.raises(ConfigError, match="no linear layer of sam2s_nano ends in it"):
        add_adapter(model, AdapterConfig("lora", projections=("wrong",)))
    with pytest.raises(ConfigError, match="blocks is 9: sam2s_pico has 8"):
        add_adapter(load_model(base, device="cpu"), AdapterConfig("dilated", blocks=9))
    for wrong in ({"init": ""}, {"init": "x.pt", "freeze": ("image_half",)}):
        with pytest.raises(ConfigError, match="expected an init, all of which is frozen"):
            TrainConfig(adapter=AdapterConfig("lora"), **wrong)


def test_dd_sam2s_size_over_tiny():
    """2.35 M parameters after all 12 blocks, 0.55 M after 6: at most 6 MB in fp16."""
    with torch.device("meta"):
        for blocks, expected in ((12, 2.35e6), (6, 0.55e6)):
            model = Sam2Model(MODELS["sam2.1_hiera_tiny"])
            found = add_adapter(model, AdapterConfig("dilated", blocks=blocks))
            assert abs(found - expected) < 0.02e6 and 2 * found < 6e6


def test_a_run_writes_an_adapter_that_says_its_base(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    source = SourceConfig("scene", first_seed=1, scenes=1, frames=4, height=64)
    config = TrainConfig(
        model="auto", init="sam2s_pico", adapter=AdapterConfig("dilated", blocks=2), output=str(tmp_path),
        precision="fp32",
        phases=(Phase(steps=2),),
        data=DataConfig(size=64, length=2, frames=2, image_share=0.0, sources=(source,), workers=1),
    )  # fmt: skip
    config = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, lr=1e-2, ema=0.0))
    outcome = run_training(config, quiet=True)
    assert outcome.checkpoint == tmp_path / "adapter.safetensors" and not (tmp_path / "model.safetensors").exists()
    found = read_adapter(outcome.checkpoint)
    assert found.base_sha256 == file_sha256(resolve_checkpoint("sam2s_pico")) and found.base == "sam2s_pico.safetensors"
    assert any(value.abs().max() > 0 for name, value in found.tensors.items() if ".pw2." in name), "it has learnt"
    assert all(value.dtype == torch.float16 for value in load_file(outcome.checkpoint).values())
    assert load_model("sam2s_pico", device="cpu", adapter=outcome.checkpoint).has_memory
    with pytest.raises(ConfigError, match="lacks .* tensors, such as"):
        run_training(dataclasses.replace(config, init="sam2s_tiny", output=str(tmp_path / "b")))


def test_an_adapter_fits_the_base_that_was_loaded_whatever_its_file_is_by_now(base, tmp_path):
    path, adapter = tmp_path / "copy.pt", tmp_path / "a.safetensors"
    shutil.copy(base, path)
    save_adapter(adapter, low_rank(), {BASE: base.name, BASE_SHA256: file_sha256(base)})
    plain = load_model(path, device="cpu")
    path.unlink()
    adapted = with_adapter(plain, adapter)
    assert adapted.source_sha256 == file_sha256(base) and adapted.adapter_sha256 == file_sha256(adapter)


def test_a_run_goes_on_over_the_base_that_it_began_with(tmp_path):
    """Its file may be another one by then; the weights that the adapter lies over are in the run's state."""
    torch.set_num_threads(1)
    init = tmp_path / "init.safetensors"
    shutil.copy(resolve_checkpoint("sam2s_pico"), init)
    digest = file_sha256(init)
    source = SourceConfig("scene", first_seed=1, scenes=1, frames=4, height=64)
    config = TrainConfig(
        model="auto", init=str(init), adapter=AdapterConfig("dilated", blocks=1), output=str(tmp_path / "run"),
        precision="fp32", phases=(Phase(steps=1),),
        data=DataConfig(size=64, length=1, frames=1, image_share=0.0, sources=(source,), workers=1),
    )  # fmt: skip
    assert read_adapter(run_training(config, quiet=True).checkpoint).base_sha256 == digest
    convert(init, init, half=True, force=True)
    assert file_sha256(init) != digest
    found = read_adapter(run_training(config, quiet=True).checkpoint)
    assert (found.base, found.base_sha256) == ("init.safetensors", digest)
