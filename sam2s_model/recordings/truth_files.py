"""The ground truth of images that are files: label images, or a file for each object."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from sam2s_model.recordings.class_file import CLASS_FILE
from sam2s_model.recordings.image_files import read_labels
from sam2s_model.recordings.mask_files import MaskFiles, describe_reading, mask_statistics
from sam2s_model.recordings.mask_values import MaskReading, MaskStatistics, decide_object
from sam2s_model.recordings.recording import Truth


class TruthOf(ABC):
    """The ground truth of image files, called with an image's path.

    A call returns None where the image has none, and raises SourceError when it cannot be read.
    """

    @property
    def binary(self) -> bool:
        """Whether object 1 is the only one, whatever values masks have. Raises SourceError as `describe`."""
        return False

    @abstractmethod
    def __call__(self, image: Path) -> Truth | None: ...

    @abstractmethod
    def __contains__(self, image: Path) -> bool:
        """Whether an image has ground truth, which is not read."""

    @abstractmethod
    def files(self, images: Sequence[Path]) -> list[Path]:
        """Return the files that the ground truth of these images is read from."""

    def place(self, image: Path) -> str:
        """Say what an image's ground truth is called in a sentence."""
        return f"the ground truth of {image}"

    def describe(self) -> str:
        """Say in one line how the values of the masks are read; "" where nothing is guessed.

        Raises SourceError for what is no mask.
        """
        return ""

    def why(self) -> str:
        """Say how the values of the masks are read, without their number."""
        return self.describe()

    def folders(self) -> dict[int, str]:
        """Return object -> the name of its folder, where each has one, otherwise nothing."""
        return {}

    def unused(self, images: Sequence[Path]) -> list[str]:
        """Return a sentence for each mask that belongs to none of the images."""
        return []


class LabelFiles(TruthOf):
    """Label images by the stem of their image.

    How their values are read is decided from all of them, see `mask_values.decide`.
    """

    def __init__(
        self,
        name: str,
        masks: Sequence[Path],
        images: Sequence[Path],
        values: str | MaskReading = "auto",
        unused_is_odd: bool = True,
    ):
        """unused_is_odd: whether masks that belong to no image are named one by one; `describe` counts them in any case

        Raises SourceError as `MaskFiles` does.
        """
        self._files, self._unused_is_odd = MaskFiles(name, images, masks, values), unused_is_odd

    @property
    def binary(self) -> bool:
        return self._files.reading.binary

    def __call__(self, image: Path) -> Truth | None:
        labels = self._files.labels(image)
        return None if labels is None else Truth.of_labels(labels)

    def __contains__(self, image: Path) -> bool:
        return image in self._files

    def files(self, images: Sequence[Path]) -> list[Path]:
        paths = list(self._files.paths)
        classes = paths[0].parent.parent / CLASS_FILE if paths else None  # as the readers of these layouts have it
        return [*paths, classes] if classes is not None and classes.is_file() else paths

    def place(self, image: Path) -> str:
        return f"mask {self._files.path(image)}"

    def why(self) -> str:
        return self._files.reading.why

    def describe(self) -> str:
        return self._files.describe()

    def unused(self, images: Sequence[Path]) -> list[str]:
        lost = self._files.unused if self._unused_is_odd else []
        return [f"mask {mask.name} has the name of no image" for mask in lost]


class ObjectFiles(TruthOf):
    """Binary masks, a file for each object and image: whatever is not 0 is the object, but for grey edges.

    Objects may overlap. Of an object without a file for an annotated image nothing is known.
    """

    def __init__(self, masks: Mapping[int, Sequence[Path]], folders: Mapping[int, str] | None = None):
        """masks: object -> its files, of their images' stems; folders: object -> the name of its folder"""
        self._masks = {label: {path.stem: path for path in paths} for label, paths in masks.items()}
        self._folders = dict(folders or {})

    def folders(self) -> dict[int, str]:
        return self._folders

    def __call__(self, image: Path) -> Truth | None:
        found = {label: paths[image.stem] for label, paths in self._masks.items() if image.stem in paths}
        if not found:
            return None
        masks = {label: self._reading.labels(read_labels(path)) > 0 for label, path in found.items()}
        return Truth(masks, complete=False)

    def __contains__(self, image: Path) -> bool:
        return any(image.stem in paths for paths in self._masks.values())

    def files(self, images: Sequence[Path]) -> list[Path]:
        return [path for paths in self._masks.values() for path in paths.values()]

    def why(self) -> str:
        return self._reading.why

    @cached_property
    def _seen(self) -> MaskStatistics:
        return mask_statistics(tuple(path for paths in self._masks.values() for path in paths.values()))

    @cached_property
    def _reading(self) -> MaskReading:
        return decide_object(self._seen)

    def describe(self) -> str:
        return describe_reading(self._reading, self._seen)

    def unused(self, images: Sequence[Path]) -> list[str]:
        stems = {image.stem for image in images}
        lost = [path for paths in self._masks.values() for stem, path in paths.items() if stem not in stems]
        return [f"mask {path.parent.name}/{path.name} has the name of no image" for path in lost]
