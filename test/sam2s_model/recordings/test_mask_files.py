"""Mask files of a recording: which belongs to which image, all of them looked at once, alpha and few bits."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam2s_model.errors import SourceError
from sam2s_model.recordings import mask_files
from sam2s_model.recordings.image_files import images_in, read_labels
from sam2s_model.recordings.mask_files import MaskFiles, merge_mask_lines

H, W = 40, 60
DISC = cv2.circle(np.zeros((H, W), np.uint8), (30, 20), 10, 1, -1)


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def opened(folder: Path, masks: dict[str, np.ndarray], images: list[str], **options) -> MaskFiles:
    for name, mask in masks.items():
        write(folder / name, mask)
    return MaskFiles("clip", [Path(name) for name in images], images_in(folder), **options)


def test_a_tool_that_is_seen_once_in_sixty_frames(tmp_path):
    masks = {f"{i:03d}.png": DISC * 255 if i == 31 else DISC * 0 for i in range(60)}
    files = opened(tmp_path, masks, [f"{i:03d}.jpg" for i in range(60)])
    assert files.labels(Path("031.jpg")).sum() == DISC.sum() and not files.labels(Path("000.jpg")).any()
    assert files.describe() == "60 masks, binary, 255 is object 1"


def test_masks_and_images_without_one_another_are_counted(tmp_path):
    masks = {f"{'0' * (i > 2)}{i:05d}.png": DISC for i in range(12)}
    files = opened(tmp_path, masks, [f"{i:05d}.jpg" for i in range(12)])
    assert len(files.unused) == 9 and files.bare == 9
    assert "9 have the name of no image, the first is 000003.png; 9 of 12 images have none" in files.describe()


def test_what_would_belong_to_the_wrong_image_is_refused(tmp_path):
    with pytest.raises(SourceError, match="images of clip are numbered from 1 and masks from 0, 3 of each"):
        opened(tmp_path / "a", {f"{i}.png": DISC for i in range(3)}, [f"{i}.jpg" for i in (1, 2, 3)])
    with pytest.raises(SourceError, match="two masks of one name, 0.bmp and 0.png"):
        opened(tmp_path / "b", {"0.png": DISC, "0.bmp": DISC}, ["0.jpg"])


def test_a_mask_that_cannot_be_read_is_named_and_the_others_decide(tmp_path):
    (tmp_path / "0.png").write_bytes(b"no mask")
    files = opened(tmp_path, {"1.png": DISC * 255}, ["0.jpg", "1.jpg"])
    assert files.labels(Path("1.jpg")).max() == 1 and "1 cannot be read, the first: mask" in files.describe()
    with pytest.raises(SourceError, match="0.png cannot be decoded"):
        files.labels(Path("0.jpg"))


ALPHA = {
    "the object is opaque, all is white": (np.full((H, W), 255, np.uint8), DISC * 255),
    "the object is opaque, all is black": (np.zeros((H, W), np.uint8), DISC * 255),
    "a white object on nothing": (DISC * 255, DISC * 255),
    "what is under nothing does not count": (np.where(DISC, 255, 7).astype(np.uint8), DISC * 255),
    "opaque everywhere": (DISC * 255, np.full((H, W), 255, np.uint8)),
}


@pytest.mark.parametrize("name", ALPHA)
def test_alpha(tmp_path, name):
    grey, alpha = ALPHA[name]
    path = write(tmp_path / "mask.png", np.dstack([grey] * 3 + [alpha]))
    assert np.array_equal(read_labels(path), DISC * 255)


def test_pictures_that_were_cut_out(tmp_path):
    """The camera's image, transparent but for the object: alpha is the mask; one of several colours stays in colour."""
    image = np.random.default_rng(0).integers(1, 255, (H, W, 3), np.uint8)
    grey = image[..., :1].repeat(3, axis=2)
    for picture in (image, grey, np.full((H, W, 3), (0, 0, 200), np.uint8)):
        assert np.array_equal(read_labels(write(tmp_path / "mask.png", np.dstack([picture, DISC * 255]))), DISC * 255)
    two = np.where(np.arange(W)[None, :, None] < 30, (0, 0, 200), (0, 200, 0)).repeat(H, axis=0).astype(np.uint8)
    for picture, alpha in ((two, DISC * 255), (image, np.full((H, W), 255, np.uint8))):
        with pytest.raises(SourceError, match="is in colour"):
            read_labels(write(tmp_path / "mask.png", np.dstack([picture, alpha])))


def test_a_frame_without_the_object_in_a_mask_with_alpha(tmp_path):
    nothing = np.dstack([np.full((H, W), 255, np.uint8)] * 3 + [np.zeros((H, W), np.uint8)])
    assert not read_labels(write(tmp_path / "mask.png", nothing)).any()


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_pngs_of_few_bits_give_what_is_stored(tmp_path, bits):
    labels = (np.arange(8)[None] % 2**bits).repeat(8, 0).astype(np.uint8)
    rows = np.packbits(np.unpackbits(labels[..., None], axis=2)[..., 8 - bits :].reshape(8, -1), axis=1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 8, bits, 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    path = tmp_path / "mask.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    assert np.array_equal(read_labels(path), labels)


def test_masks_are_looked_at_once(tmp_path, monkeypatch):
    """In a process, and, where it takes long, in all later ones, until a file changes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(mask_files, "WORTH_KEEPING", 0.0)
    looked: list[Path] = []
    look = mask_files._statistics_of
    monkeypatch.setattr(mask_files, "_statistics_of", lambda path: looked.append(path) or look(path))
    masks = {f"{i}.png": DISC * (i + 1) for i in range(10)}
    images = [f"{i}.jpg" for i in range(10)]
    first = opened(tmp_path / "masks", masks, images).describe()
    assert len(looked) == 10
    assert MaskFiles("clip", [Path(n) for n in images], images_in(tmp_path / "masks")).describe() == first
    mask_files.mask_statistics.cache_clear()
    assert (
        MaskFiles("clip", [Path(n) for n in images], images_in(tmp_path / "masks")).describe() == first
        and len(looked) == 10
    )
    mask_files.mask_statistics.cache_clear()
    write(tmp_path / "masks" / "3.png", np.dstack([DISC] * 3))
    assert MaskFiles("clip", [Path(n) for n in images], images_in(tmp_path / "masks")).describe() and len(looked) == 20


def test_recordings_that_are_alike_are_said_once():
    alike = [(f"clip{i}", f"{i + 5} masks, labels: 1 is an object") for i in range(3)]
    assert merge_mask_lines([*alike, ("other", "2 masks, binary")]) == [
        "masks of clip0 and 2 more: labels: 1 is an object", "masks of other: 2 masks, binary",
    ]  # fmt: skip
