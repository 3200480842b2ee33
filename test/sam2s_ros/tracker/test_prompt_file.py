"""Who may write a file of prompts: one tracker at a time, whatever the file is called and whoever used it before."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from said_log import SaidLog

from sam2s_model.config import TrackerConfig
from sam2s_model.errors import CheckpointError, ConfigError
from sam2s_model.prompts import Prompt
from sam2s_model.semantics import GENERIC
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.tracker.build import build_tracker
from sam2s_ros.tracker.prompt_file import PromptFile, PromptSet

BOX = Prompt(class_name="object", box=np.array([10.0, 12.0, 34.0, 36.0], np.float32))


def test_a_file_is_of_one_tracker_until_that_ends(tmp_path):
    """Also of several processes: what was opened elsewhere holds the lock, wherever that is."""
    path, link = tmp_path / "prompts.json", tmp_path / "link.json"
    link.symlink_to(path)
    first = PromptFile(path)
    first.hold()
    for other in (path, link):
        config = NodeConfig(checkpoint="no_such_checkpoint.pt", device="cpu", prompts_file=str(other))
        with pytest.raises(ConfigError, match=f"prompts_file {other} is kept by another tracker"):
            build_tracker(config, TrackerConfig(), GENERIC, log=SaidLog())
        assert not path.exists()
    first.release()
    with pytest.raises(CheckpointError, match="no_such_checkpoint") as caught:
        build_tracker(config, TrackerConfig(), GENERIC, log=SaidLog())
    first.hold()  # one that could not be built has it no more
    first.release()
    assert caught.tb is not None, "also while somebody looks at why"


@pytest.mark.parametrize("place", ["prompts", "/"])
def test_a_folder_is_no_file_of_prompts_and_nothing_is_left_beside_it(tmp_path, place):
    (tmp_path / "prompts").mkdir()
    with pytest.raises(ConfigError, match="cannot be written .Is a directory"):
        PromptFile(tmp_path / place).hold()
    assert [path.name for path in tmp_path.rglob("*")] == ["prompts"]


def test_the_lock_file_of_another_user_is_taken_once_it_is_free(tmp_path, monkeypatch):
    opened = Path.open

    def open_as_another(self, mode="r", *args, **options):
        if self.name.endswith(".lock") and mode != "r":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(self, mode, *args, **options)

    (tmp_path / "prompts.json.lock").touch()
    monkeypatch.setattr(Path, "open", open_as_another)
    first, second = (PromptFile(tmp_path / "prompts.json") for _ in range(2))
    first.hold()
    with pytest.raises(ConfigError, match="is kept by another tracker"):
        second.hold()
    first.release()
    second.hold()
    second.release()


def test_a_link_stays_one_and_what_it_leads_to_is_written(tmp_path):
    path, link = tmp_path / "prompts.json", tmp_path / "link.json"
    link.symlink_to(path)
    first, second = PromptFile(link), PromptFile(link)
    first.hold()
    first.write(PromptSet((48, 64), {1: [BOX]}))
    assert link.is_symlink() and PromptFile(path).read().prompts.keys() == {1}
    with pytest.raises(ConfigError, match=f"prompts_file {link} is kept by another tracker"):
        second.hold()
    first.release()
