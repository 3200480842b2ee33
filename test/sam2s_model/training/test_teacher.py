"""A teacher's proposals and its pack: what goes in comes out, small, and it is what the teacher says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.metrics import iou
from sam2s_model.training.datasets.images import stills
from sam2s_model.training.pack import TeacherPack
from sam2s_model.training.teacher import Teacher, make_pack, principal_directions

SHARED = Path(__file__).parents[4] / "shared"
WEIGHTS = SHARED / "weights" / "sam2_hiera_tiny_image_part.fp16.pt"


def test_a_pack_is_what_was_put_in(tmp_path):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((3, 6, 8, 8)).astype(np.float32) * np.arange(1, 7)[:, None, None]
    masks = [rng.random((k, 32, 32)) > 0.7 for k in (2, 0, 5)]
    made = TeacherPack.of(["a", "b/1", "c"], features, np.zeros(9), np.eye(9)[:6], masks)
    made.save(tmp_path / "pack")
    read = TeacherPack.load(tmp_path / "pack")
    assert read.names == ("a", "b/1", "c") and "a" in read and "d" not in read and read.features("d") is None
    for i, name in enumerate(read.names):
        assert (read.masks(name) == masks[i]).all() and read.has_masks(name) == (i != 1)
        worst = np.abs(features).max((0, 2, 3)) / 127
        assert (np.abs(read.features(name) - features[i]) <= 0.51 * worst[:, None, None] + 0.01).all()
    assert not read.has_masks("d")


def test_another_file_is_no_pack(tmp_path):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3)}, tmp_path / "other")
    (tmp_path / "junk").write_bytes(b"no")
    with pytest.raises(SourceError, match="is not a teacher's pack: its format is None"):
        TeacherPack.load(tmp_path / "other")
    with pytest.raises(SourceError, match="is not a readable teacher's pack"):
        TeacherPack.load(tmp_path / "junk")
    with pytest.raises(ConfigError, match="a pack of 0 images"):
        make_pack(None, [])
    with pytest.raises(SourceError, match="junk is not a readable image"):
        make_pack(None, [("junk", tmp_path / "junk")])


def test_principal_directions_keep_what_differs_most():
    rng = np.random.default_rng(0)
    hidden = torch.from_numpy(rng.standard_normal((4, 3, 6, 6)))
    mix = torch.from_numpy(rng.standard_normal((10, 3)))
    features = (torch.einsum("nkhw,ck->nchw", hidden, mix) + 5).float()
    mean, basis = principal_directions(features, 3)
    torch.testing.assert_close(basis @ basis.T, torch.eye(3), atol=1e-4, rtol=0)
    kept = torch.einsum("nchw,kc->nkhw", features - mean[:, None, None], basis)
    again = torch.einsum("nkhw,kc->nchw", kept, basis) + mean[:, None, None]
    torch.testing.assert_close(again, features, atol=1e-3, rtol=1e-3)


def test_features_of_a_batch_are_those_of_its_images(model):
    teacher = Teacher(model)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (2, 50, 70, 3), dtype=np.uint8))
    both = teacher.features(images)
    assert both.shape == (2, 96, 8, 8)
    torch.testing.assert_close(both[1], teacher.features(images[1:])[0])


def test_what_the_real_teacher_finds_in_surgery(tmp_path):
    if not WEIGHTS.is_file():
        pytest.skip("no weights of a teacher beside the repository")
    teacher = Teacher.load(WEIGHTS, image_size=512, device="cpu")
    image, _ = stills(SHARED / "data" / "cataract_unlabelled")[0].frame(0)
    pack = make_pack(teacher, [("eye", image)], channels=16)
    pack.save(tmp_path / "pack")
    assert (tmp_path / "pack").stat().st_size < 40_000
    masks = pack.masks("eye")
    assert 1 <= len(masks) <= 8
    assert all(iou(a, b) < 0.8 for i, a in enumerate(masks) for b in masks[:i])
    encoded = teacher.encode(torch.from_numpy(image)[None])
    kept = np.tensordot(pack.basis.T, pack.features("eye").astype(np.float32), 1) + pack.mean[:, None, None]
    whole = encoded.coarse[0].float().numpy()
    assert 1 - np.var(whole - kept) / np.var(whole) > 0.6  # 16 of 256 directions hold most of it
