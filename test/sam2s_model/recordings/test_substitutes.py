"""Recordings where something else lies than the file that should be there."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

from sam2s_model.errors import SourceError
from sam2s_model.recordings.open import open_recording

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 1055906\n"
SUBSTITUTES = {
    "pointer": (POINTER, r"is a Git LFS pointer to 1,055,906 bytes, not the file itself: run `git lfs pull`"),
    "page": (b"<!doctype html><title>Log in</title>", r"is an HTML or XML page \(Log in\), not the file itself"),
    "annex": (b"../.git/annex/objects/a/b/c", "is a git-annex pointer, not the file itself: run `git annex get`"),
    "archive": (b"7z\xbc\xaf\x27\x1c" + bytes(50), "is a 7z archive: unpack it first"),
    "zeros": (bytes(5000), "begins with 4096 bytes of 0: it was not written to its end"),
}


@pytest.mark.parametrize("kind", SUBSTITUTES)
def test_what_lies_where_a_file_should_be_is_named(tmp_path, kind):
    content, said = SUBSTITUTES[kind]
    for name in ("clip.mp4", "operation.mcap", "operation.db3"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SourceError, match=said):
            open_recording(tmp_path / name)
    images, masks = tmp_path / "clip" / "frames", tmp_path / "clip" / "masks"
    images.mkdir(parents=True), masks.mkdir()
    for number in range(4):
        cv2.imwrite(str(images / f"{number}.png"), np.full((16, 20, 3), 90, np.uint8))
        (masks / f"{number}.png").write_bytes(content if number else cv2.imencode(".png", np.eye(16, 20))[1].tobytes())
    (images / "2.png").write_bytes(content)
    recording = open_recording(tmp_path / "clip")
    assert [frame.name for frame in recording] == ["0", "1", "3"]
    assert any(re.search(f"frame 2.png cannot be decoded: it {said}", line) for line in recording.odd)
    assert any(re.search(f"mask .*1.png cannot be decoded: it {said}", line) for line in recording.odd)
    for image in images.iterdir():
        image.write_bytes(content)
    with pytest.raises(SourceError, match=f"is not a readable image, and it is the first one .*: it {said}"):
        open_recording(images)


def test_a_link_to_an_image_that_is_not_there_is_named(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.full((16, 20, 3), 90, np.uint8))
    (tmp_path / "1.png").symlink_to("/elsewhere/1.png")
    recording = open_recording(tmp_path)
    assert len(list(recording)) == 1 and "is a link to /elsewhere/1.png, which is not there" in recording.odd[0]
