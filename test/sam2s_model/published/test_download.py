"""Downloads from a real server: complete, cut, resumed, changed, wrong. The bytes and the advice are always right."""

from __future__ import annotations

import fcntl
import hashlib
import json
import resource
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from downloads import CONTENT, DIGEST, NAME, NOTE, PART, REJECTED, SUM, assert_complete, files, get, made, made_at

from sam2s_model.errors import CheckpointError, DownloadError
from sam2s_model.published.catalog import CATALOG
from sam2s_model.published.download import download


def test_a_download(server, entry, tmp_path):
    steps = []
    folder = tmp_path / "made" / "folder"
    assert get(entry, folder, progress=lambda done, total: steps.append((done, total))) == folder / NAME
    assert_complete(folder)
    assert steps[0] == (0, len(CONTENT)) and steps[-1] == (len(CONTENT), len(CONTENT)) and steps == sorted(steps)
    assert server.requests[0][0] == f"/{NAME}" and server.ranges == [None]
    said = []
    assert get(entry, folder, say=said.append) == folder / NAME
    assert len(server.requests) == 1, "a file that is there is not asked for again"
    assert "is there already" in said[0]


def test_the_default_folder_is_where_names_are_found(server, entry, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert download(entry) == tmp_path / "sam2s" / NAME


def test_a_cut_connection_is_resumed(server, entry, answer, tmp_path):
    server.plan = [answer(cut=600_000), answer(cut=400_000), answer()]
    said = []
    get(entry, tmp_path, say=said.append)
    assert_complete(tmp_path)
    assert server.ranges == [None, "bytes=600000-", "bytes=1000000-"]
    assert all(headers["If-Range"] == server.etag for _, headers in server.requests[1:])
    assert [line.split(";")[0] for line in said] == [
        "the connection was cut after 0.6 of 1.5 MB",
        "the connection was cut after 1.0 of 1.5 MB",
    ]


def test_a_cut_in_chunks_is_noticed_and_resumed(server, entry, answer, tmp_path):
    server.plan = [answer(cut=600_000, length=False), answer(length=False)]
    get(made(server, size=None), tmp_path)
    assert_complete(tmp_path)
    assert len(server.requests) == 2


def test_what_is_left_of_an_earlier_download_is_resumed(server, entry, answer, tmp_path):
    server.plan = [answer(cut=700_000), *[answer(status=503)] * 3]
    with pytest.raises(
        DownloadError, match=r"answered 503 .*; 3 attempts in a row brought nothing; 0.7 of 1.5 MB are in"
    ):
        get(entry, tmp_path, attempts=3)
    assert files(tmp_path) == {PART, NOTE} and (tmp_path / PART).stat().st_size == 700_000
    said = []
    get(entry, tmp_path, say=said.append)
    assert_complete(tmp_path)
    assert server.ranges[-1] == "bytes=700000-" and "has 0.7 MB already" in said[0]


def test_every_gain_allows_all_attempts_again(server, entry, answer, tmp_path):
    server.plan = [answer(cut=100_000) for _ in range(14)]
    get(entry, tmp_path, attempts=2)
    assert_complete(tmp_path)
    assert len(server.requests) == 15


def test_giving_up_with_nothing(server, entry, answer, tmp_path):
    server.plan = [answer(status=500)] * 2
    with pytest.raises(DownloadError, match="2 attempts in a row brought nothing; nothing has arrived yet"):
        get(entry, tmp_path, attempts=2)
    assert files(tmp_path) == set()


def test_a_server_that_cannot_resume_starts_anew(server, entry, answer, tmp_path):
    server.plan = [answer(cut=900_000), answer(ranges=False)]
    said = []
    get(entry, tmp_path, say=said.append)
    assert_complete(tmp_path)
    assert "the file cannot be resumed at the server: beginning anew" in said


def test_a_server_that_cannot_resume_and_always_cuts_ends(server, entry, answer, tmp_path):
    server.plan = [answer(cut=900_000, ranges=False) for _ in range(20)]
    with pytest.raises(DownloadError, match="the connection was cut after 0.9 of 1.5 MB; 3 attempts in a row"):
        get(entry, tmp_path, attempts=3)
    assert len(server.requests) == 4


def test_without_a_validator_nothing_is_resumed(server, entry, answer, tmp_path):
    server.plan = [answer(cut=900_000, validator=False), answer(validator=False)]
    get(entry, tmp_path)
    assert_complete(tmp_path)
    assert server.ranges == [None, None]


def test_a_weak_validator_does_not_resume(server, entry, answer, tmp_path):
    server.etag = 'W/"weak"'
    server.plan = [answer(cut=900_000)]
    get(entry, tmp_path)
    assert_complete(tmp_path)
    assert server.ranges == [None, None]


@pytest.mark.parametrize("blind", [False, True], ids=["If-Range", "If-Range ignored"])
def test_a_file_that_changes_meanwhile_is_not_mixed(server, entry, answer, tmp_path, blind):
    server.plan = [answer(cut=700_000)]
    server.content, server.etag = bytes(len(CONTENT)), '"old"'
    with pytest.raises(DownloadError):
        server.plan += [answer(status=503)]
        get(entry, tmp_path, attempts=1)
    assert json.loads((tmp_path / NOTE).read_text())["validator"] == '"old"'
    server.content, server.etag = CONTENT, '"new"'
    server.plan = [answer(blind=blind)]
    said = []
    get(entry, tmp_path, say=said.append)
    assert_complete(tmp_path)
    words = "sent something else than the rest" if blind else "the file has changed at the server"
    assert any(words in line for line in said)


def test_a_part_of_another_address_is_not_used(server, entry, answer, tmp_path):
    server.plan = [answer(cut=700_000), answer(status=503)]
    with pytest.raises(DownloadError):
        get(entry, tmp_path, attempts=1)
    get(entry, tmp_path, mirror=f"{server.url}/other")
    assert_complete(tmp_path)
    assert server.ranges[-1] is None and server.requests[-1][0] == f"/other/{NAME}"


@pytest.mark.parametrize("note", [None, "", "[]", "{}", '{"url": 3}', "not json"])
def test_a_part_of_unknown_origin_is_not_used(server, entry, tmp_path, note):
    (tmp_path / PART).write_bytes(b"junk")
    if note is not None:
        (tmp_path / NOTE).write_text(note)
    get(entry, tmp_path)
    assert_complete(tmp_path)


def test_the_wrong_part_of_a_file_is_not_used(server, entry, answer, tmp_path):
    server.plan = [answer(cut=500_000), answer(shift=7)]
    get(entry, tmp_path)
    assert_complete(tmp_path)


def test_a_part_that_is_complete_is_only_checked(server, entry, tmp_path):
    (tmp_path / PART).write_bytes(CONTENT)
    (tmp_path / NOTE).write_text(json.dumps({"url": entry.url, "validator": server.etag}))
    get(entry, tmp_path)
    assert_complete(tmp_path)
    assert server.ranges == [f"bytes={len(CONTENT)}-"], "answered with 416"


def test_a_part_that_is_too_long_starts_anew(server, entry, tmp_path):
    (tmp_path / PART).write_bytes(CONTENT + b"more")
    (tmp_path / NOTE).write_text(json.dumps({"url": entry.url, "validator": server.etag}))
    get(entry, tmp_path)
    assert_complete(tmp_path)
    assert server.ranges[-1] is None


def test_a_wrong_hash_is_never_given_the_name(server, entry, tmp_path):
    server.content = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    got = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(CheckpointError, match=f"has sha256 {got}, and {NAME} must have {DIGEST}: what .* is deleted"):
        get(entry, tmp_path)
    assert files(tmp_path) == set()
    server.content = CONTENT
    get(entry, tmp_path)
    assert_complete(tmp_path)


def test_a_wrong_size_is_noticed_before_the_bytes_come(server, entry, tmp_path):
    server.content = b"<html>please sign in</html>"
    with pytest.raises(CheckpointError, match=f"has 27 bytes, and {NAME} must have 1,500,000"):
        get(entry, tmp_path)
    assert files(tmp_path) == set()


def test_more_bytes_than_there_must_be(server, entry, answer, tmp_path):
    server.content = CONTENT + b"more"
    server.plan = [answer(length=False)]
    with pytest.raises(CheckpointError, match="sends more than the 1,500,000 bytes"):
        get(entry, tmp_path)
    assert files(tmp_path) == set()


@pytest.mark.parametrize("status, words", [(404, "answered 404 Not Found"), (403, "answered 403 Forbidden")])
def test_a_refusal_is_not_tried_again(server, entry, answer, tmp_path, status, words):
    server.plan = [answer(status=status)] * 9
    with pytest.raises(DownloadError, match=words):
        get(entry, tmp_path)
    assert len(server.requests) == 1 and files(tmp_path) == set()


def test_a_silent_server_times_out(server, entry, answer, tmp_path):
    server.plan = [answer(stall=20.0)]
    said = []
    get(entry, tmp_path, timeout=0.3, say=said.append)
    assert_complete(tmp_path)
    assert "timed out" in said[0]


def test_no_server(entry, tmp_path):
    with pytest.raises(DownloadError, match=r"127.0.0.1 cannot be reached \(.*refused\); 2 attempts in a row"):
        get(made_at("http://127.0.0.1:9"), tmp_path, attempts=2)


def test_without_a_known_hash_the_first_one_is_trusted(server, tmp_path):
    entry = made(server, sha256=None, size=None)
    get(entry, tmp_path)
    assert_complete(tmp_path)
    (tmp_path / NAME).unlink()
    get(entry, tmp_path)
    assert_complete(tmp_path)
    (tmp_path / NAME).unlink()
    server.content = b"another file"
    with pytest.raises(CheckpointError, match=f"and {NAME} must have {DIGEST} by .*{SUM}, written when .*remove it"):
        get(entry, tmp_path)
    assert files(tmp_path) == {SUM}


def test_a_file_that_is_there_and_wrong_is_said(server, entry, tmp_path):
    (tmp_path / NAME).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="it is damaged or another file; remove it and get it again"):
        get(entry, tmp_path)
    assert server.requests == [] and (tmp_path / NAME).read_bytes() == b"damaged"


def test_a_cut_file_that_is_there_is_not_trusted(server, tmp_path):
    """Of a published file whose sha256 is not known a cut one was called right, and the whole refused for ever."""
    entry = made(server, sha256=None)
    (tmp_path / NAME).write_bytes(CONTENT[:1000])
    with pytest.raises(CheckpointError, match="has 1,000 bytes, not the 1,500,000 that are known for it: .*remove it"):
        get(entry, tmp_path)
    assert files(tmp_path) == {NAME}
    (tmp_path / NAME).write_bytes(CONTENT)
    said = []
    get(entry, tmp_path, say=said.append)
    assert_complete(tmp_path)
    get(entry, tmp_path, say=said.append)
    assert "is trusted now: nothing tells which sha256" in said[0] and "its sha256 is right" in said[1]


def test_what_the_check_refuses_is_put_aside(server, entry, tmp_path):
    def check(path: Path) -> None:
        assert path.read_bytes() == CONTENT and not (tmp_path / NAME).exists()
        raise CheckpointError("it is a cat")

    with pytest.raises(CheckpointError, match=f"is not weights, it is kept as .*{REJECTED}: it is a cat"):
        get(entry, tmp_path, check=check)
    assert files(tmp_path) == {REJECTED} and (tmp_path / REJECTED).read_bytes() == CONTENT


def test_no_space_is_said_before(entry, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1_000_000))
    with pytest.raises(DownloadError, match="has 1 MB free, and 2 MB are needed"):
        get(entry, tmp_path)
    assert files(tmp_path) == set()


def test_a_full_disk_keeps_what_has_arrived(server, entry, tmp_path):
    """A limit on the size of files stands for the end of the disk: the same system call fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(DownloadError, match="cannot be written to: File too large; what has arrived is kept"):
            get(entry, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(tmp_path) == {PART, NOTE} and (tmp_path / PART).stat().st_size == 1_000_000
    get(entry, tmp_path)
    assert_complete(tmp_path)
    assert server.ranges == [None, "bytes=1000000-"]


def test_a_folder_that_cannot_be_made(entry, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="file/folder cannot be written to: Not a directory"):
        get(entry, tmp_path / "file" / "folder")


def test_two_downloads_of_one_file(server, entry, tmp_path):
    with open(tmp_path / PART, "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CheckpointError, match="weights.pt.part is being written by another download"):
            get(entry, tmp_path)
    get(entry, tmp_path)
    assert_complete(tmp_path)


KILLED = """
import os
from pathlib import Path
from sam2s_model.published.catalog import Published
from sam2s_model.published.download import download
download({entry!r}, Path({folder!r}), progress=lambda done, total: os._exit(9) if done >= 500_000 else None)
"""


def test_a_killed_download_is_resumed(server, entry, tmp_path):
    """`os._exit` in the middle, as kill -9 would: nothing is written or closed any more."""
    done = subprocess.run([sys.executable, "-c", KILLED.format(entry=entry, folder=str(tmp_path))], timeout=60)
    assert done.returncode == 9 and files(tmp_path) == {PART, NOTE}
    arrived = (tmp_path / PART).stat().st_size
    get(entry, tmp_path)
    assert_complete(tmp_path)
    assert server.ranges == [None, f"bytes={arrived}-"] and arrived >= 500_000


def test_surgsam2_says_where_it_is():
    for name in ("sam2.1_hiera_s_endo18", "sam2_hiera_s_endo18"):
        with pytest.raises(
            CheckpointError, match="cannot be downloaded from here: get .*Surgical-SAM-2 and put it into"
        ):
            download(CATALOG[name])
