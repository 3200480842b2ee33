"""A home folder in paths: on the command line, where the shell leaves it, and in YAML."""

from __future__ import annotations

import os
import threading

import pytest

from sam2s_model.errors import ConfigError
from sam2s_model.paths import (
    claimed_file,
    expanded,
    expanded_arguments,
    expanded_table,
    readable,
    write_result,
    write_whole,
)
from sam2s_model.training.config import load_config


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")


@pytest.mark.parametrize(("given", "expected"), [
    ("~/x.pt", "/home/someone/x.pt"), ("--checkpoint=~/x.pt", "--checkpoint=/home/someone/x.pt"),
    ("~", "/home/someone"),
    ("--output=~", "--output=/home/someone"), ("a~/b", "a~/b"), ("--box=1,2,3,4", "--box=1,2,3,4"), ("~1.5", "~1.5"),
    ("scene:?seed=1", "scene:?seed=1"), ("--", "--"), ("two\nlines", "two\nlines"),
])  # fmt: skip
def test_arguments(given, expected):
    assert expanded_arguments([given]) == [expected]


def test_a_user_that_is_not_known():
    with pytest.raises(ConfigError, match="~nobody-here/x: .*home"):
        expanded("~nobody-here/x")


def test_yaml(tmp_path):
    table = {"a": ["~/x", {"b": "~/y"}], "topic": "~", "n": 3}
    assert expanded_table(table) == {"a": ["/home/someone/x", {"b": "/home/someone/y"}], "topic": "~", "n": 3}
    (tmp_path / "train.yaml").write_text(
        "model: sam2s_pico\ninit: ~/m.pt\noutput: ~/run\nphases: [{steps: 1}]\n"
        "data: {sources: [{kind: folder, path: ~/clips, label_set: ~/l.yaml}]}\n"
    )
    config = load_config(tmp_path / "train.yaml", ["evaluation.sources=[{kind: folder, path: ~/others}]"])
    assert (config.init, config.output) == ("/home/someone/m.pt", "/home/someone/run")
    assert (
        config.data.sources[0].path == "/home/someone/clips"
        and config.data.sources[0].label_set == "/home/someone/l.yaml"
    )
    assert config.evaluation.sources[0].path == "/home/someone/others"


def full(file: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_keeps_what_it_had_until_all_of_the_new_content_is_there(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write_whole(path, "old")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    write_whole(path, "new")
    assert path.read_text() == "new"


def test_a_result_for_which_there_is_no_room_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="report.json cannot be written to .No space left on device.: give another"):
        write_result(tmp_path / "report.json", "new")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [b"hours of work", b"", None])
def test_a_file_for_a_result_is_as_it_was_when_the_work_fails(old, error, tmp_path):
    path = tmp_path / "out" / "report.json"
    if old is not None:
        path.parent.mkdir()
        path.write_bytes(old)
    with pytest.raises(error), claimed_file(path, overwrite=True):
        assert path.read_bytes() == (old or b""), "it is there, so that whoever looks sees that it is taken"
        raise error
    assert (path.read_bytes() if path.exists() else None) == old
    with claimed_file(path, overwrite=True):
        write_whole(path, "new")
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]
    with pytest.raises(ConfigError, match="exists already \\(3 bytes\\)"), claimed_file(path, overwrite=False):
        raise AssertionError


def test_a_file_to_which_nothing_was_written_is_not_left_behind(tmp_path):
    with claimed_file(tmp_path / "report.json", overwrite=False):
        pass
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "report.json", tmp_path):
        with pytest.raises(ConfigError, match="cannot be"), claimed_file(path, overwrite=True):
            raise AssertionError


@pytest.mark.parametrize("old", ["old", None])
def test_a_link_stays_one(old, tmp_path):
    link, path = tmp_path / "link.json", tmp_path / "there" / "report.json"
    path.parent.mkdir()
    link.symlink_to(path)
    if old:
        path.write_text(old)
    with pytest.raises(ValueError), claimed_file(link, overwrite=True):
        raise ValueError
    assert link.is_symlink() and (path.read_text() if path.exists() else None) == old
    with claimed_file(link, overwrite=True):
        write_whole(link, "new")
    assert link.is_symlink() and path.read_text() == "new" and list(path.parent.iterdir()) == [path]


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with claimed_file(pipe, overwrite=False):
            write_whole(pipe, "new")
        assert os.read(reader, 10) == b"new" and pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]
    finally:
        os.close(reader)


def test_threads_that_write_one_file_do_not_meet(tmp_path, monkeypatch):
    """As two trackers of a process: each replaces the file by its own, whole."""
    path, both = tmp_path / "report.json", threading.Barrier(2, timeout=10)
    sync, failed = os.fsync, []
    monkeypatch.setattr(os, "fsync", lambda file: (sync(file), both.wait()))  # until both have written

    def write(text: str) -> None:
        try:
            write_whole(path, text)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(letter * 1000,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and path.read_text() in ("a" * 1000, "b" * 1000) and list(tmp_path.iterdir()) == [path]


def test_names_that_are_no_utf8_can_be_written():
    assert readable("bild_\udce4_0 \u00e4") == "bild_\\xe4_0 \u00e4" and readable("half \ud83d") == "half \\ud83d"
