"""Whether another process is at a file: yes, no, or there is no telling, which is not a no."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from sam2s_model.files.file_locks import lock


def test_a_file_is_locked_until_it_is_closed(tmp_path):
    path = tmp_path / "a"
    with path.open("w") as first, path.open("w") as second:
        lock(first)
        with pytest.raises(BlockingIOError):
            lock(second)
    with path.open("w") as third:
        lock(third)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_that_a_file_system_has_no_locks_is_said(tmp_path, monkeypatch, code):
    monkeypatch.setattr(fcntl, "flock", refusing(code))
    with (tmp_path / "a").open("w") as file, pytest.warns(UserWarning, match=f"{tmp_path}/a is on a file system witho"):
        lock(file)


@pytest.mark.parametrize("code", [errno.EBADF, errno.EIO, errno.ESTALE])
def test_any_other_refusal_is_an_error(tmp_path, monkeypatch, code):
    monkeypatch.setattr(fcntl, "flock", refusing(code))
    with (tmp_path / "a").open("w") as file, pytest.raises(OSError) as caught:
        lock(file)
    assert caught.value.errno == code


def refusing(code: int):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    return flock
