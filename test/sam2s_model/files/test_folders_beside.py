"""Folders beside a file: what killed processes left is removed, and what is used or somebody's own is not."""

from __future__ import annotations

import os
from pathlib import Path

from sam2s_model.files.folders_beside import LOCK, folder_beside


def age(*folders: Path) -> None:
    for folder in folders:
        os.utime(folder, (1, 1))


def test_folders_of_killed_processes_are_removed_and_no_others(tmp_path):
    path = tmp_path / "encoder[1].pt2"
    names = (".encoder[1].pt2.ab_d3fgh.tmp", ".encoder[1].pt2.abcd3f_9.tmp", ".encoder[1].pt2.backup12", "encoder1.pt2")
    killed, early, *others = (tmp_path / name for name in names)
    for folder in (killed, early, *others):
        folder.mkdir()
    (killed / LOCK).touch()
    (killed / path.name).write_bytes(b"half")
    young = tmp_path / ".encoder[1].pt2.abcd3f_0.tmp"
    young.mkdir()
    age(killed, early, *others)
    with folder_beside(path) as used:
        assert used.is_dir() and used.parent == tmp_path
        assert set(tmp_path.iterdir()) == {used, young, *others}
        (used / path.name).write_bytes(b"whole")
        age(used)
        with folder_beside(path) as second:
            assert second != used and (used / path.name).read_bytes() == b"whole"
    assert set(tmp_path.iterdir()) == {young, *others}
