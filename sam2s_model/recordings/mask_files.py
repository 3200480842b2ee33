"""The masks of a recording as files: which belongs to which image, and how all of them are read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from sam2s_model.errors import SourceError
from sam2s_model.paths import write_whole
from sam2s_model.published.catalog import cache_folder
from sam2s_model.recordings.image_files import LOSSY_SUFFIXES, read_labels
from sam2s_model.recordings.mask_values import MaskReading, MaskStatistics, decide

FORMAT = 1  # of what is kept of masks that were looked at
WORTH_KEEPING = 1.0  # s that looking at the masks of a recording takes
WORKERS = 4  # threads that look at masks: decoding is outside the interpreter's lock


class MaskFiles:
    """Masks that belong to images of the same stem.

    unused: masks that have the name of no image; bare: how many images have no mask
    """

    def __init__(self, name: str, images: Sequence[Path], masks: Sequence[Path], values: str | MaskReading = "auto"):
        """values: how they are read, or how that is found out, see `mask_values.decide`

        Raises SourceError when there are masks and none belongs to an image, when two belong to one, or when masks and
        images are numbered from different numbers.
        """
        self.name, self._how, self.paths = name, values, list(masks)
        self._masks = {mask.stem: mask for mask in masks}
        stems = {image.stem for image in images}
        self.unused = [mask for mask in masks if mask.stem not in stems]
        self.bare = sum(image.stem not in self._masks for image in images)
        self.count = len(images)
        if len(self._masks) < len(masks):
            first = next(mask for mask in masks if self._masks[mask.stem] != mask)
            raise SourceError(
                f"{name} has two masks of one name, {first.name} and {self._masks[first.stem].name}: leave one of them"
            )
        if masks and len(self.unused) == len(masks):
            both = f"{masks[0].name} and {images[0].name}" if images else f"{masks[0].name}, and there are no images"
            raise SourceError(f"no mask of {name} has the name of an image: the first are {both}")
        _check_numbering(name, images, masks)

    def __contains__(self, image: Path) -> bool:
        return image.stem in self._masks

    def path(self, image: Path) -> Path | None:
        return self._masks.get(image.stem)

    def labels(self, image: Path) -> np.ndarray | None:
        """Read an image's mask, (H, W) uint8: 0 none, 255 void, other values objects; None where there is none.

        Raises SourceError when it cannot be read, and as `reading` does.
        """
        path = self.path(image)
        return None if path is None else self.reading.labels(read_labels(path))

    @cached_property
    def reading(self) -> MaskReading:
        """How the values are read: decided from all masks the first time, unless it is known.

        Raises SourceError for values that can be no masks.
        """
        if isinstance(self._how, MaskReading):
            return self._how
        return _reading(self.name, self._seen, self._how)

    @cached_property
    def _seen(self) -> MaskStatistics:
        return mask_statistics(tuple(self.paths))

    def describe(self) -> str:
        """Say in one line what there is and how it is read. Raises SourceError as `reading` does."""
        known = isinstance(self._how, MaskReading)
        text = self.reading.why if known else describe_reading(self.reading, self._seen)
        odd = (
            [f"{len(self.unused)} have the name of no image, the first is {self.unused[0].name}"] if self.unused else []
        )
        odd += [f"{self.bare} of {self.count} images have none"] if self.bare else []
        return "; ".join([f"{len(self.paths)} masks, {text}", *odd])


def describe_reading(reading: MaskReading, seen: MaskStatistics) -> str:
    odd = f"; {seen.odd} cannot be read, the first: {seen.first_odd}" if seen.odd else ""
    return reading.why + odd


def merge_mask_lines(lines: Sequence[tuple[str, str]]) -> list[str]:
    """Merge lines (name of a recording, description of its masks) for a user: one for recordings that are alike."""
    apart = [(name, re.sub(r"^\d+ masks, ", "", text)) for name, text in lines]
    counts = Counter(text for _, text in apart)
    whole = dict(lines)
    out, done = [], set()
    for name, text in apart:
        if text in done:
            continue
        done.add(text)
        more = f" and {counts[text] - 1} more" if counts[text] > 1 else ""
        out.append(f"masks of {name}{more}: {text if more else whole[name]}")
    return out


def _reading(name: str, seen: MaskStatistics, how: str) -> MaskReading:
    try:
        return decide(seen, how)
    except SourceError as error:
        raise SourceError(f"masks of {name}: {error}") from error


@lru_cache(maxsize=4096)
def mask_statistics(paths: tuple[Path, ...]) -> MaskStatistics:
    """Return the statistics of mask files.

    Those that took long are kept in the cache folder, for as long as the files do not change.
    """
    kept, began = _kept(paths), time.monotonic()
    found = _load(kept)
    if found is None:
        if len(paths) > 2 * WORKERS:
            with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1)) as threads:
                found = MaskStatistics.sum(threads.map(_statistics_of, paths))
        else:
            found = MaskStatistics.sum(map(_statistics_of, paths))
        if time.monotonic() - began > WORTH_KEEPING:
            _save(kept, found)
    return found


def _statistics_of(path: Path) -> MaskStatistics:
    try:
        return MaskStatistics.of(read_labels(path), path.suffix.lower() in LOSSY_SUFFIXES)
    except SourceError as error:
        return MaskStatistics.of_odd(str(error))


def _kept(paths: Sequence[Path]) -> Path | None:
    """Where the statistics of these files are kept; None where a file cannot be looked at."""
    digest = hashlib.sha256(str(FORMAT).encode())
    try:
        for path in paths:
            status = path.stat()
            digest.update(f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    except OSError:
        return None
    return cache_folder() / "masks" / f"{digest.hexdigest()[:32]}.json"


def _load(path: Path | None) -> MaskStatistics | None:
    try:
        kept = json.loads(path.read_text()) if path else None
        if kept is None:
            return None
        arrays = {name: np.array(kept[name], np.int64) for name in ("pixels", "inside", "ramp")}
        return MaskStatistics(**{**kept, **arrays, "shapes": set(kept["shapes"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _save(path: Path | None, found: MaskStatistics) -> None:
    if path is None:
        return
    fields = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(found).items()}
    with suppress(OSError):  # they are looked at again the next time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({**fields, "shapes": sorted(found.shapes)}))


def _check_numbering(name: str, images: Sequence[Path], masks: Sequence[Path]) -> None:
    """Raise SourceError for images and masks that are `numbered_apart`."""
    apart = numbered_apart(images, masks)
    if apart:
        raise SourceError(
            f"images of {name} are numbered from {apart[0]} and masks from {apart[1]}, {len(images)} of each: "
            "a mask would belong to the wrong image; rename one of them"
        )


def numbered_apart(images: Sequence[Path], masks: Sequence[Path]) -> tuple[int, int] | None:
    """Return what images and masks are numbered from: as many of both, without a gap, from different numbers."""
    if not masks or len(images) != len(masks):
        return None
    first, second = (_numbers(paths) for paths in (images, masks))
    return (first[0], second[0]) if first and second and first[0] != second[0] else None


def _numbers(paths: Sequence[Path]) -> list[int] | None:
    """Return the numbers that names end in, where they ascend without a gap; otherwise None."""
    found = [re.search(r"(\d+)$", path.stem) for path in paths]
    numbers = sorted(int(match[1]) for match in found if match)
    if len(numbers) < len(paths):
        return None
    return numbers if len(paths) > 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers))) else None
