"""Single images without masks, or with those that a teacher found in them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import av
import cv2
import numpy as np

from sam2s_model.errors import SourceError
from sam2s_model.recordings.image_files import images_in, read_rgb, unreadable
from sam2s_model.recordings.recording import FIRST_STAMP_NS, Frame, Truth
from sam2s_model.recordings.sequences import subfolders
from sam2s_model.recordings.video_files import as_file, as_shown
from sam2s_model.training.datasets.recording import FRAME_NS
from sam2s_model.training.pack import TeacherPack

VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm")
VIDEO_STILLS = 64  # frames taken of a video, evenly spread
SELECTIONS = 8  # of a teacher's masks, which overlap; each selection is one label image
MAX_MASKS = 4  # of a selection
MIN_VISIBLE = 0.6  # share of a mask that the masks in front of it must leave


class Still:
    """One image. With a teacher's pack its "frames" are the same image with different selections of masks."""

    def __init__(self, name: str, path: Path, pack: TeacherPack | None = None, row: int = -1, at: int | None = None):
        """path: of an image, or of a video of which it is the `at`-th still; row: of the class table, for all masks."""
        self.name, self.classes = name, {label: row for label in range(1, MAX_MASKS + 1)}
        self._path, self._pack, self._at = path, pack, at
        self.has_masks = pack is not None and pack.has_masks(name)
        self.left_out: dict[str, None] = {}  # what `frames` has left out

    def __len__(self) -> int:
        return SELECTIONS if self.has_masks else 1

    def frame(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Read the image (H, W, 3) uint8 RGB and labels (H, W) uint8 of a selection, or None. Raises SourceError."""
        image = read_rgb(self._path) if self._at is None else _decoded(_video_stills(self._path)[self._at])
        if image is None:
            raise SourceError(f"{self._path} is not a readable image{unreadable(self._path)}")
        if self._pack is None or not self.has_masks:
            return image, None
        rng = np.random.default_rng((zlib.crc32(self.name.encode()), index))
        return image, select(rng, self._pack.masks(self.name), image.shape[:2])

    def frames(self) -> Iterator[Frame]:
        """Yield all selections, as the evaluation reads them; none of an image that cannot be read, see `left_out`."""
        for index in range(len(self)):
            try:
                image, labels = self.frame(index)
            except SourceError as error:  # the same for all
                self.left_out[str(error)] = None
                return
            truth = None if labels is None else Truth.of_labels(labels)
            yield Frame(index, FIRST_STAMP_NS + index * FRAME_NS, str(index), image, truth)

    def showing(self, min_area: float) -> list[int]:
        """Return the selections, all of which show something that the teacher found."""
        return list(range(len(self))) if self.has_masks else []

    def features(self, index: int) -> np.ndarray | None:
        """(C, h, w) float16 of a teacher's pack, or None."""
        return self._pack.features(self.name) if self._pack else None


def select(rng: np.random.Generator, masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a label image (H, W) of up to four of some masks (K, h, w) bool, the smaller in front of the larger."""
    count = int(rng.integers(1, MAX_MASKS + 1))
    chosen = [masks[i] for i in rng.permutation(len(masks))[:count]]
    labels, kept = np.zeros(masks.shape[1:], np.uint8), 0
    for mask in sorted(chosen, key=np.count_nonzero):
        free = mask & (labels == 0)
        if np.count_nonzero(free) > MIN_VISIBLE * np.count_nonzero(mask):
            kept += 1
            labels[free] = kept
    return cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST)


def stills(path: str | Path, pack: TeacherPack | None = None, row: int = -1) -> list[Still]:
    """Return the images of a folder, of its folder frames/, of its subfolders, or of a video; names are FOLDER/STEM.

    Raises SourceError when there are none.
    """
    path = Path(path)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        count = len(_video_stills(path))
        return [Still(f"{path.parent.name}/{path.stem}-{i:02d}", path, pack, row, i) for i in range(count)]
    folders = [path / "frames"] if (path / "frames").is_dir() else [path, *subfolders(path)]
    found = []
    for folder in folders:
        folder = folder / "frames" if (folder / "frames").is_dir() else folder
        owner = folder.parent if folder.name == "frames" else folder
        found += [Still(f"{owner.name}/{image.stem}", image, pack, row) for image in images_in(folder)]
    if not found:
        raise SourceError(f"{path} has no images: expected images, folders of them, or a video")
    return found


def _decoded(jpeg: np.ndarray) -> np.ndarray | None:
    image = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


@lru_cache(maxsize=4)
def _video_stills(path: Path) -> list[np.ndarray]:
    """Read evenly spread frames as JPEGs, as players show them: seeking in a video takes an unbounded time."""
    try:
        with av.open(as_file(path)) as container:
            count = sum(1 for _ in container.decode(video=0))
        wanted = set(np.linspace(0, count - 1, min(count, VIDEO_STILLS)).round().astype(int).tolist())
        out = []
        with av.open(as_file(path)) as container:
            for i, frame in enumerate(container.decode(video=0)):
                if i in wanted:
                    image = cv2.cvtColor(as_shown(frame), cv2.COLOR_RGB2BGR)
                    out.append(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1])
        return out
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise SourceError(f"{path} is not a readable video ({error}){unreadable(path)}") from error
