"""Recordings whose images and masks are files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from sam2s_model.errors import SourceError
from sam2s_model.evaluation.recording import ASSUMED_FPS, FIRST_STAMP_NS, Frame, Recording, Truth
from sam2s_model.recordings.image_files import frame_names, probed_size, read_labels, read_rgb
from sam2s_model.recordings.mask_files import MaskFiles, describe_reading, look_at
from sam2s_model.recordings.mask_values import MaskReading, MaskStatistics, decide_object


class TruthOf(ABC):
    """The ground truth of image files, called with a path: None where it has none. Raises SourceError when it cannot be read."""

    @abstractmethod
    def __call__(self, image: Path) -> Truth | None: ...

    def describe(self) -> str:
        """One line: how the values of the masks are read; "" where nothing is guessed. Raises SourceError for what is no mask."""
        return ""

    def folders(self) -> dict[int, str]:
        """Object -> the name of its folder, where each has one, otherwise nothing."""
        return {}

    def unused(self, images: Sequence[Path]) -> list[str]:
        """A sentence for each mask that belongs to none of the images."""
        return []


class FileRecording(Recording):
    """Images as files, in the order given. images: their paths"""

    def __init__(
        self,
        name: str,
        data_set: str,
        images: Sequence[Path],
        truth_of: TruthOf,
        fps: float = ASSUMED_FPS,
        classes: dict[int, str] | None = None,
    ):
        """Raises SourceError when there are no images."""
        if not images:
            raise SourceError(f"recording {name} has no images: expected at least one")
        super().__init__(name, data_set, fps, classes)
        self.images, self._truth_of = list(images), truth_of
        self.length = len(self.images)

    def describe_masks(self) -> str:
        return self._truth_of.describe()

    @property
    def object_folders(self) -> dict[int, str]:
        return self._truth_of.folders()

    def _frames(self) -> Iterator[Frame]:
        self.describe_masks()  # what can be no masks is refused as a whole, not frame by frame
        for sentence in self._truth_of.unused(self.images):
            self._note_odd(sentence)
        size = probed_size(self.images)
        for index, (path, name) in enumerate(zip(self.images, frame_names(self.images))):
            image = read_rgb(path)
            if image is None:
                self._note_odd(f"frame {path.name} cannot be decoded")
                continue
            size = size or image.shape[:2]
            if image.shape[:2] != size:
                (h, w), (height, width) = image.shape[:2], size
                self._note_odd(f"frame {path.name} is {w}x{h}, the first one is {width}x{height}")
                continue
            try:
                truth = self._fitting(self._truth_of(path), path.name, size)
            except SourceError as error:
                self._note_odd(str(error))
                truth = None
            yield Frame(index, FIRST_STAMP_NS + round(index * 1e9 / self.fps), name, image, truth)


class LabelFiles(TruthOf):
    """Label images by the stem of their image. How their values are read is decided from all of them, see `mask_values.decide`."""

    def __init__(self, name: str, masks: Sequence[Path], images: Sequence[Path], values: str = "auto"):
        """Raises SourceError as `MaskFiles` does."""
        self._files = MaskFiles(name, images, masks, values)

    def __call__(self, image: Path) -> Truth | None:
        labels = self._files.labels(image)
        return None if labels is None else Truth.of_labels(labels)

    def describe(self) -> str:
        return self._files.describe()

    def unused(self, images: Sequence[Path]) -> list[str]:
        return [f"mask {mask.name} has the name of no image" for mask in self._files.unused]


class ObjectFiles(TruthOf):
    """Binary masks, a file for each object and image: whatever is not 0 is the object, but for grey edges; objects may overlap.

    Of an object without a file for an annotated image nothing is known.
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

    @cached_property
    def _seen(self) -> MaskStatistics:
        return look_at(tuple(path for paths in self._masks.values() for path in paths.values()))

    @cached_property
    def _reading(self) -> MaskReading:
        return decide_object(self._seen)

    def describe(self) -> str:
        return describe_reading(self._reading, self._seen)

    def unused(self, images: Sequence[Path]) -> list[str]:
        stems = {image.stem for image in images}
        lost = [path for paths in self._masks.values() for stem, path in paths.items() if stem not in stems]
        return [f"mask {path.parent.name}/{path.name} has the name of no image" for path in lost]
