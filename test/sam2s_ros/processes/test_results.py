"""Folders for results: what is read is not removed for what is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2s_model.errors import ConfigError
from sam2s_ros.processes.results import claim

NAMES = ("masks/*.png", "tracks.csv")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Results of an earlier run."""
    (tmp_path / "out" / "masks").mkdir(parents=True)
    for name in ("masks/0.png", "masks/1.png", "tracks.csv", "kept.txt"):
        (tmp_path / "out" / name).write_text("x")
    return tmp_path / "out"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("given", ["out", "out/masks", "out/tracks.csv", "out/../out/masks/", "link", ".#out"])
def test_an_input_is_not_removed(given, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (folder.parent / "link").symlink_to(folder / "masks")
    before = files(folder)
    with pytest.raises(ConfigError, match="--overwrite would remove .*, which .* is read from: give another --output"):
        claim(Path("out"), NAMES, overwrite=True, inputs=("scene:", given))
    assert files(folder) == before


@pytest.mark.parametrize("given", ["out/masks/1.png", "out/../out/tracks.csv", "link/1.png", "frames/1.png"])
def test_a_file_that_is_read_is_not_removed(given, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (folder.parent / "link").symlink_to(folder / "masks")
    (folder.parent / "frames").mkdir()
    (folder.parent / "frames/1.png").symlink_to(folder / "masks/0.png")
    before = files(folder)
    with pytest.raises(ConfigError, match="--overwrite would remove out/.*, which is read: give another --output"):
        claim(Path("out"), NAMES, overwrite=True, files=(Path("out/kept.txt"), Path(given)))
    assert files(folder) == before


def test_results_in_the_folder_of_their_source_are_removed_where_nothing_reads_them(folder):
    claim(folder, NAMES, overwrite=True, files=(folder / "kept.txt",))
    assert files(folder) == {"kept.txt"}


@pytest.mark.parametrize("given", ["", "-", "scene:?seed=1", "rtsp://camera/1", ".", "clip", "out/kept.txt", "none#1"])
def test_what_is_not_read_is_removed(given, folder, monkeypatch):
    """The folder that the results lie somewhere in is not read there."""
    monkeypatch.chdir(folder.parent)
    (folder.parent / "clip").mkdir()
    claim(Path("out"), NAMES, overwrite=True, inputs=(given,))
    assert files(folder) == {"kept.txt"}
