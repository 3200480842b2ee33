"""What was meant: names and paths that are nearly right, wherever one is given."""

from __future__ import annotations

import pytest

from sam2s_model.bench.peers import check_peer
from sam2s_model.config import MODELS, ModelConfig, TrackerConfig
from sam2s_model.evaluation.protocol import EvaluationProtocol
from sam2s_model.recordings.layouts import open_layout
from sam2s_model.recordings.open import open_recording
from sam2s_model.similar import meant, meant_path
from sam2s_model.tracker_options import tracker_options
from sam2s_model.training.config import load_config


@pytest.mark.parametrize(
    ("given", "expected"),
    [("mach", "match"), ("MATCH", "match"), ("tsm", "tsms"), ("hiera_tiny", "sam2.1_hiera_tiny"), ("xyzzy", None)],
)
def test_the_nearest_name(given, expected):
    names = ["fifo", "match", "tsms", "sam2.1_hiera_tiny"]
    assert meant(given, names) == (f" (did you mean {expected}?)" if expected else "")


def test_the_nearest_path(tmp_path):
    (tmp_path / "operations" / "first").mkdir(parents=True)
    assert meant_path(tmp_path / "operation" / "frist") == f" (did you mean {tmp_path / 'operations' / 'first'}?)"
    assert meant_path(tmp_path / "operations" / "second") == meant_path(tmp_path / "xyzzy" / "first") == ""


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (lambda folder: ModelConfig.from_name("sam2s_nan"), "sam2s_nano"),
        (lambda folder: TrackerConfig(field_of_view="atuo"), "auto"),
        (lambda folder: EvaluationProtocol(prompt="click"), "clicks"),
        (lambda folder: tracker_options(["max_object=4"]), "max_objects"),
        (lambda folder: load_config(folder / "train.yaml", []), "model"),
        (lambda folder: open_layout(folder, "davs"), "davis"),
        (lambda folder: open_recording("scene:?widht=64"), "width"),
        (lambda folder: open_recording(folder / "trian.yaml"), "train.yaml"),
        (lambda folder: check_peer("transformer", MODELS["sam2s_nano"]), "transformers"),
    ],
)
def test_what_is_refused_for_its_name_says_what_was_meant(ask, name, tmp_path):
    (tmp_path / "train.yaml").write_text("modl: sam2s_nano")
    with pytest.raises(ValueError, match=rf"\(did you mean [^)]*{name}\?\)"):
        ask(tmp_path)
