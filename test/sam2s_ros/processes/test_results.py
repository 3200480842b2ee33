"""Folders for results: what is read is not removed for what is written."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sam2s_model.errors import ConfigError
from sam2s_ros.processes.results import FolderTaken, claim, in_chosen_folder, unclaimed_if_alone

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


MARK = ("tracks.csv", dict(command="test"))


@pytest.mark.parametrize("overwrite", [False, True])
def test_of_processes_that_claim_a_folder_at_a_time_one_has_it(tmp_path, overwrite):
    together = threading.Barrier(8)

    def begin(number: int) -> bool:
        together.wait()
        try:
            claim(tmp_path / "out", NAMES, overwrite=overwrite, mark=(MARK[0], dict(number=number)))
        except ConfigError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            (tmp_path / "out" / MARK[0]).unlink(missing_ok=True)
            won = [number for number, has in enumerate(pool.map(begin, range(8))) if has]
            last = json.loads((tmp_path / "out" / MARK[0]).read_text())["number"]
            assert (won == [last]) or (overwrite and last in won), "asked to, one may replace another"


def test_a_mark_that_is_there_is_another_process(folder):
    with pytest.raises(FolderTaken, match="has results already"):
        claim(folder, NAMES, overwrite=False, mark=MARK)
    claim(folder, NAMES, overwrite=True, mark=MARK)
    assert json.loads((folder / "tracks.csv").read_text()) == MARK[1] and files(folder) == {"kept.txt", "tracks.csv"}
    with pytest.raises(FolderTaken, match="another process writes its results to"):
        claim(folder, ("masks/*.png",), overwrite=False, mark=MARK)


@pytest.mark.parametrize("made, left", [((), set()), (("masks/0.png",), {"masks/0.png", MARK[0]})])
def test_a_run_that_fails_before_it_has_results_leaves_the_folder_free(tmp_path, made, left):
    folder = tmp_path / "out"
    claim(folder, NAMES, overwrite=False, mark=MARK)
    with pytest.raises(KeyboardInterrupt), unclaimed_if_alone(folder, NAMES):
        for name in made:
            (folder / name).parent.mkdir()
            (folder / name).touch()
        raise KeyboardInterrupt
    assert files(folder) == left


@pytest.mark.parametrize("given", [None, Path("default")])
def test_who_finds_the_folder_taken_meanwhile_takes_the_next_unless_it_was_given(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    said, tried = [], []

    def run(folder: Path) -> str:
        tried.append(folder.name)
        if len(tried) == 1:
            claim(folder, NAMES, overwrite=False, mark=MARK)  # another process
        claim(folder, NAMES, overwrite=False, mark=MARK)
        return "done"

    how = dict(overwrite=False, say=said.append)
    if given:
        with pytest.raises(FolderTaken):
            in_chosen_folder(given, "default", NAMES, run, **how)
        assert tried == ["default"] and not said
    else:
        assert in_chosen_folder(None, "default", NAMES, run, **how) == (Path("default_2"), "done")
        assert tried == ["default", "default_2"] and "these go to default_2" in said[0]


def test_a_folder_that_cannot_be_claimed_and_looks_free_is_not_tried_for_ever(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(folder: Path) -> None:
        raise FolderTaken(f"another process writes its results to {folder}")

    with pytest.raises(FolderTaken, match="another process writes its results to default"):
        in_chosen_folder(None, "default", NAMES, run, overwrite=False, say=print)
