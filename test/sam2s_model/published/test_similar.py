"""What was meant by a name or a path that does not exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2s_model.published.similar import similar_name, similar_path

NAMES = ["sam2s_nano", "sam2s_pico", "sam2s_tiny", "sam2.1_hiera_tiny", "sam2_hiera_tiny", "edgetam"]


@pytest.mark.parametrize("given, meant", [
    ("sam2.1_tiny", "sam2.1_hiera_tiny"),
    ("sam2s-tiny", "sam2s_tiny"),
    ("SAM2S_Nano", "sam2s_nano"),
    ("sam2s_tiny.safetensors", "sam2s_tiny"),
    ("sam2.1_heira_tiny.PT", "sam2.1_hiera_tiny"),
    ("EdgeTAM", "edgetam"),
    ("tiny", "sam2s_tiny"),
    ("model", None),
    ("", None),
])  # fmt: skip
def test_names(given, meant):
    assert similar_name(given, NAMES) == meant


@pytest.mark.parametrize("given, meant", [
    ("models/surgeon.pt", "models/surgeons.pt"),
    ("model/surgeon.pt", "models/surgeons.pt"),
    ("models/Surgeons.safetensors", None),  # of suffixes that differ so much it is another file
    ("models/surgeons.txt", "models/surgeons.pt"),
    ("models", None),
    ("models/sub/surgeons.pt", None),
    ("models/surgeons.pt/surgeons.pt", None),
    ("elsewhere/surgeons.pt", None),
])  # fmt: skip
def test_paths(given, meant, tmp_path, monkeypatch):
    (tmp_path / "models" / "notes").mkdir(parents=True)
    (tmp_path / "models" / "surgeons.pt").touch()
    (tmp_path / "models" / "surgeon.md").touch()
    monkeypatch.chdir(tmp_path)
    assert similar_path(Path(given)) == meant
    absolute = similar_path(tmp_path / given)
    assert absolute == (meant and str(tmp_path / meant))
