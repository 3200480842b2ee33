"""What a later phase cannot run with is said before the first step."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam2s_model.errors import ConfigError
from sam2s_model.training.config import Phase, TrainConfig
from sam2s_model.training.data_config import DataConfig, SourceConfig
from sam2s_model.training.distributed import World
from sam2s_model.training.loop import Trainer
from sam2s_model.training.store import StoreWriter

SCENE = SourceConfig("scene", height=64, scenes=1, frames=6)


def run(folder: Path, *phases: Phase, source: SourceConfig = SCENE, **data) -> TrainConfig:
    told = DataConfig(sources=(source,), **{**dict(size=64, length=2, frames=4), **data})
    return TrainConfig(model="sam2s_pico", device="cpu", output=str(folder), phases=phases, data=told)


def images(folder: Path) -> SourceConfig:
    (folder / "images").mkdir()
    cv2.imwrite(str(folder / "images" / "0.png"), np.zeros((64, 64, 3), np.uint8))
    return SourceConfig("images", str(folder / "images"))


def empty_store(folder: Path) -> SourceConfig:
    with StoreWriter(folder / "store", {"size": 64, "levels": [[1, 2, 2]] * 3}):
        return SourceConfig("store", str(folder / "store"))


@pytest.mark.parametrize(
    ("later", "made", "said"),
    [
        (Phase(size=100), lambda folder: SCENE, "phases.1: image_size is 100: expected a multiple of 32, at least 64"),
        (Phase(image_share=0.5), images, "phases.1: data has only images without masks: expected a source with masks"),
        (Phase(size=96), empty_store, "phases.0: store .* has 0 views of 64 px: expected some, of size = 64"),
    ],
)
def test_a_phase_that_cannot_run_is_said_before_the_first(tmp_path, later, made, said):
    asked = run(tmp_path / "run", Phase(image_share=1.0), later, source=made(tmp_path))
    with pytest.raises(ConfigError, match=said):
        Trainer(asked, World(), True)
    assert not list((tmp_path / "run").iterdir()), "the same folder takes the corrected run"


def test_a_batch_holds_a_group_of_views(tmp_path):
    """Fewer images than views of one scene made empty batches, from which a run learnt nothing."""
    said = re.escape("frames is 3: expected at least views = 4")
    with pytest.raises(ConfigError, match=said):
        DataConfig(length=1, frames=3, views=4)
    with pytest.raises(ConfigError, match=said):
        run(tmp_path, Phase(), Phase(frames=3), frames=8, views=4)
    assert DataConfig(length=1, frames=4, views=4).views == 4
