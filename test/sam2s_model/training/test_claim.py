"""A folder has one writer at a time: a second one is refused, and what the first writes stays whole."""

from __future__ import annotations

import errno
import fcntl
import os

import numpy as np
import pytest

from sam2s_model.errors import ConfigError, TrainingError
from sam2s_model.training.claim import LOCK, claimed
from sam2s_model.training.class_prompt_config import ClassPromptConfig
from sam2s_model.training.config import TrainConfig
from sam2s_model.training.loop import run_training
from sam2s_model.training.state import claimed_run
from sam2s_model.training.store import StoreWriter, TaughtView, TeacherStore, encode

HEADER = {"size": 8, "levels": [[1, 2, 2]] * 3}
BUSY = "is being written by another process: wait for its end, or give another folder"


def add(writer: StoreWriter, frame: int) -> None:
    image = np.full((8, 8, 3), 10 + frame, np.uint8)
    level = np.full((1, 2, 2), frame, np.float16)
    view = TaughtView(image, None, {}, np.zeros((0, 4, 4), bool), (level,) * 3)
    writer.add("clip", frame, 0, encode(".png", image), view)


def test_a_store_has_one_writer_at_a_time(tmp_path):
    with StoreWriter(tmp_path, HEADER) as writer:
        add(writer, 0)
        with pytest.raises(TrainingError, match=BUSY):
            StoreWriter(tmp_path, HEADER)
        add(writer, 1)
    with StoreWriter(tmp_path, HEADER) as writer:
        add(writer, 2)
    store = TeacherStore(tmp_path)
    assert [int(store.image(i)[0, 0, 0]) for i in range(3)] == [10, 11, 12]
    assert [float(store.levels(i)[0].ravel()[0]) for i in range(3)] == [0, 1, 2]


def test_a_writer_that_was_refused_leaves_the_store_free(tmp_path):
    with StoreWriter(tmp_path, HEADER):
        pass
    with pytest.raises(ConfigError, match="is of a store with size = 8, not 16") as kept:
        StoreWriter(tmp_path, {**HEADER, "size": 16})
    with StoreWriter(tmp_path, HEADER) as writer:
        assert writer.count == 0 and kept  # whose traceback would keep an open file


@pytest.mark.parametrize("changes", [{}, dict(class_prompts=ClassPromptConfig(tokens=2))])
def test_a_run_has_its_folder_for_itself(tmp_path, changes):
    told = dict(model="auto", init="sam2s_pico", device="cpu", output=str(tmp_path / "run"))
    config = TrainConfig(**told, **changes)
    with claimed_run(config), pytest.raises(TrainingError, match=f"run {BUSY}"):
        run_training(config, quiet=True)
    with claimed_run(config):
        assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]


def test_without_locks_a_folder_is_written_and_that_is_said(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="file system without locks"), claimed(tmp_path):
        pass
