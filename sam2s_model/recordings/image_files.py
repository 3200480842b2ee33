"""Image and mask files as arrays, for replay and for training alike."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from sam2s_model.errors import SourceError
from sam2s_model.files.substitutes import substitute
from sam2s_model.paths import readable
from sam2s_model.recordings.pixels import bits_said, narrow, significant_bits

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
PROBED = 5  # images whose size is looked at
MASK_WORDS = {
    "mask",
    "masks",
    "label",
    "labels",
    "seg",
    "segmentation",
    "gt",
    "groundtruth",
    "annotation",
    "annotations",
    "overlay",
}
KIND_WORDS = {"color", "colour", "watershed", "instance", "instances", "semantic", "binary", "vis"}
IMAGE_WORDS = {"img", "image", "rgb", "raw"}
LOSSY_SUFFIXES = (".jpg", ".jpeg")
PNG_DEPTH_AT, PNG_COLOUR_TYPE_AT = 24, 25
PNG_GREY, PNG_PALETTE = 0, 3
OPAQUE = 255
MAX_COLOURS = 64  # of a mask in colour; what has more is a picture


def read_rgb(path: Path, least_bits: int = 0) -> np.ndarray | None:
    """Return (H, W, 3) uint8 RGB, or None when the file is not an image.

    Alpha is dropped; of 16 bits the significant ones become 8 (`pixels.significant_bits`).

    least_bits: that are significant, as other images of the camera have shown, so that none is brighter for being dim
    """
    image = _decoded(path)
    if image is not None and image.dtype == np.uint16:
        image = np.ascontiguousarray(narrow(image, max(least_bits, significant_bits(image))))
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _decoded(path: Path) -> np.ndarray | None:
    """Read (H, W, 3) BGR, uint8 or uint16, or None when the file is not an image."""
    data = _bytes_of(path)
    if data is None:
        return None
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if image is not None and image.dtype not in (np.uint8, np.uint16):
            # of floats OpenCV knows better what they mean
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return image


def unreadable(path: Path) -> str:
    """Say why an image file that OpenCV does not read is none, to follow its name; "" where nothing is known."""
    instead = substitute(path)
    return f": it {instead}" if instead else ""


def read_labels(path: Path) -> np.ndarray:
    """Return the values of a mask file, (H, W) uint8.

    Of a palette PNG they are the indices, of a grey PNG of 2 or 4 bits what is stored. Where there is an alpha channel,
    what is transparent is 0; where the colours are a picture, or all alike, alpha is the mask.
    Raises SourceError when the file cannot be read or is in colour. What values mean: `mask_values`.
    """
    depth, colour_type = _png_header(path)
    if colour_type == PNG_PALETTE:
        return _palette_indices(path)
    data = _bytes_of(path)
    try:
        values = None if data is None else cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        values = None
    if values is None:
        raise SourceError(f"mask {path} cannot be decoded{unreadable(path)}")
    if values.dtype != np.uint8:
        raise SourceError(f"mask {path} is {values.dtype}: expected 8 bits a pixel")
    if values.ndim == 3:
        grey, alpha = values[..., 0], values[..., 3] if values.shape[2] == 4 else None
        if alpha is not None and _is_cut_out(values, alpha):
            return np.ascontiguousarray(alpha)
        if any((values[..., c] != grey).any() for c in range(1, min(3, values.shape[2]))):
            raise SourceError(f"mask {path} is in colour: expected one channel of labels, or a palette PNG")
        values = grey if alpha is None else _without_transparent(grey, alpha)
    elif colour_type == PNG_GREY and depth in (2, 4):
        values = values // (255 // (2**depth - 1))  # the decoder has stretched them to 0..255
    return np.ascontiguousarray(values)


def _is_cut_out(values: np.ndarray, alpha: np.ndarray) -> bool:
    """Whether alpha is the mask: everything is transparent, or what is not shows a single colour or a picture.

    A picture has more colours than masks have.
    """
    if (alpha == OPAQUE).all():
        return False
    opaque = values[alpha > 0][:, :3]
    colours = len(np.unique(opaque.astype(np.uint32) @ np.array([1, 1 << 8, 1 << 16], np.uint32)))
    in_colour = bool((opaque != opaque[:, :1]).any())
    return colours > MAX_COLOURS or colours == 0 or (colours == 1 and in_colour)


def _without_transparent(grey: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    if (alpha == OPAQUE).all():
        return grey
    return alpha if (grey == grey[0, 0]).all() else np.where(alpha > 0, grey, 0).astype(np.uint8)


def common_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the commonest size (H, W), so that one odd image, even the first, leaves out itself alone."""
    return Counter(sizes).most_common(1)[0][0]  # of equal counts the first


@dataclass(frozen=True)
class ProbedImages:
    """What a few images of a recording have shown.

    size: (H, W) that most have, None where none can be read
    bits: significant ones of 16-bit samples, 0 where there are none
    """

    size: tuple[int, int] | None
    bits: int = 0

    @property
    def note(self) -> str:
        """Say how 16-bit samples are taken where some of their bits are not used, "" otherwise."""
        return bits_said(self.bits)


def probe(paths: Sequence[Path]) -> ProbedImages:
    """Look at a few images, evenly spread."""
    chosen = dict.fromkeys([0, *(round(i) for i in np.linspace(0, len(paths) - 1, PROBED))]) if paths else {}
    images = [image for image in (_decoded(paths[at]) for at in chosen) if image is not None]
    if not images:
        return ProbedImages(None)
    bits = max((significant_bits(image) for image in images if image.dtype == np.uint16), default=0)
    return ProbedImages(common_size([image.shape[:2] for image in images]), bits)


def frame_names(paths: Sequence[Path]) -> list[str]:
    """Name each image as no other is named: by its stem, with the suffix where two images have one stem.

    Names go into tables and file names, so that they are `readable`.
    """
    counts = Counter(path.stem for path in paths)
    return [readable(path.stem if counts[path.stem] == 1 else path.name) for path in paths]


def split_masks(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Split files into images and the masks that lie beside them.

    A mask has the name of an image, and a word such as mask or label.
    """
    split = {path: [word for word in re.split(r"[^a-z0-9]+", path.stem.lower()) if word] for path in paths}
    plain = {
        tuple(w for w in words if w not in IMAGE_WORDS)
        for words in split.values()
        if not MASK_WORDS.intersection(words)
    }
    ignored = MASK_WORDS | KIND_WORDS | IMAGE_WORDS
    masks = [
        path
        for path, words in split.items()
        if MASK_WORDS.intersection(words) and tuple(w for w in words if w not in ignored) in plain
    ]
    taken = set(masks)
    return [path for path in paths if path not in taken], masks


def images_in(folder: Path) -> list[Path]:
    """Return the image files of a folder, in natural order. Raises SourceError when it cannot be read."""
    try:
        found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    except OSError as error:
        raise SourceError(f"{folder} cannot be read ({error.strerror})") from error
    return sorted(found, key=lambda p: natural_key(p.name))


def natural_key(name: str) -> list:
    """Sort key in which frame2 comes before frame10."""
    parts = re.split("([0-9]+)", name)  # text, digits, text, ...
    return [(1, 0, part.lower()) if at % 2 == 0 else (0, int(part), "") for at, part in enumerate(parts) if part]


def _bytes_of(path: Path) -> np.ndarray | None:
    """Return a file's bytes, or None when it is empty or cannot be read: OpenCV's own reader prints to stderr."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:
        return None
    return data if data.size else None


def _png_header(path: Path) -> tuple[int, int]:
    """Return bit depth and colour type of a PNG; (0, -1) of any other file."""
    if path.suffix.lower() != ".png":
        return 0, -1
    try:
        with path.open("rb") as file:
            header = file.read(PNG_COLOUR_TYPE_AT + 1)
    except OSError:
        return 0, -1
    return (header[PNG_DEPTH_AT], header[PNG_COLOUR_TYPE_AT]) if len(header) > PNG_COLOUR_TYPE_AT else (0, -1)


def _palette_indices(path: Path) -> np.ndarray:
    """Read the indices of a palette PNG, which are the labels: FFmpeg keeps them, OpenCV makes colours of them."""
    try:
        # from memory: a name with % would be a pattern
        with av.open(io.BytesIO(path.read_bytes()), mode="r", format="png_pipe") as container:
            frame = next(container.decode(video=0))
            indices, _ = frame.to_ndarray(format="pal8")
    except (av.error.FFmpegError, StopIteration, ValueError, OSError) as error:
        raise SourceError(f"mask {path} cannot be decoded ({error})") from error
    return np.ascontiguousarray(indices)
