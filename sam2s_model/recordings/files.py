"""Recordings whose images are files, in a folder or in the layout of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from sam2s_model.errors import SourceError
from sam2s_model.paths import readable
from sam2s_model.recordings.class_file import read_classes
from sam2s_model.recordings.image_files import (
    IMAGE_SUFFIXES,
    ProbedImages,
    frame_names,
    images_in,
    probe,
    read_rgb,
    split_masks,
    unreadable,
)
from sam2s_model.recordings.recording import ASSUMED_FPS, Frame, IndexedRecording, Truth
from sam2s_model.recordings.truth_files import LabelFiles, TruthOf


class FileRecording(IndexedRecording):
    """Images as files, in the order given. A frame of a pass is of the size that most of a few images have.

    images: their paths
    """

    def __init__(
        self,
        name: str,
        data_set: str,
        images: Sequence[Path],
        truth_of: TruthOf | None,
        fps: float = ASSUMED_FPS,
        classes: Mapping[int, str] | None = None,
        spec: str = "",
    ):
        """truth_of: None where there are no masks. Raises SourceError when there are no images."""
        if not images:
            raise SourceError(f"recording {name} has no images: expected at least one")
        super().__init__(name, data_set, fps, classes, spec)
        self.images, self._truth_of = list(images), truth_of
        self.length, self.has_masks = len(self.images), truth_of is not None

    @property
    def size(self) -> tuple[int, int]:
        if self._probed.size is None:
            why = unreadable(self.images[0])
            raise SourceError(f"{self.images[0]} is not a readable image, and it is the first one of {self.spec}{why}")
        return self._probed.size

    @property
    def sample_bits(self) -> int:
        """Significant bits of 16-bit samples, as a few images have shown; 0 where there are none."""
        return self._probed.bits

    @cached_property
    def _probed(self) -> ProbedImages:
        return probe(self.images)

    @cached_property
    def _names(self) -> list[str]:
        return frame_names(self.images)

    def _own_files(self) -> list[Path]:
        return [*self.images, *(self._truth_of.files(self.images) if self._truth_of else ())]

    def is_annotated(self, index: int) -> bool:
        return self._truth_of is not None and self.images[index] in self._truth_of

    @property
    def binary(self) -> bool:
        return self._truth_of is not None and self._truth_of.binary

    def stem(self, index: int) -> str:
        return self.images[index].stem

    @property
    def object_folders(self) -> dict[int, str]:
        return self._truth_of.folders() if self._truth_of else {}

    def _mask_summary(self) -> str:
        return self._truth_of.describe() if self._truth_of else ""

    def masks_why(self) -> str:
        """Say how the values of its masks are read, without their number. Raises SourceError for what is no mask."""
        return self._truth_of.why() if self._truth_of else ""

    def truth(self, index: int) -> Truth | None:
        return self._truth_of(self.images[index]) if self._truth_of else None

    def frame(self, index: int) -> Frame:
        path = self.images[index]
        image = read_rgb(path, self.sample_bits)
        if image is None:
            raise SourceError(f"{path} is not a readable image{unreadable(path)}")
        truth = self.truth(index)
        wrong = truth.other_size(image.shape[:2]) if truth else None
        if wrong:
            (h, w), (height, width) = wrong, image.shape[:2]
            place = self._truth_of.place(path) if self._truth_of else ""
            raise SourceError(f"{place} is {w}x{h}: expected its image's {width}x{height}")
        return Frame(index, self._stamp(index), self._names[index], image, truth)

    def _frames(self) -> Iterator[Frame]:
        self._mask_summary()  # what can be no masks is refused as a whole, not frame by frame
        for sentence in self._truth_of.unused(self.images) if self._truth_of else ():
            self._note_odd(sentence)
        if self._probed.note and self._probed.note not in self.notes:
            self._note_of_pass(self._probed.note)
        size = self._probed.size
        for index, (path, name) in enumerate(zip(self.images, self._names, strict=True)):
            image = read_rgb(path, self.sample_bits)
            if image is None:
                self._note_odd(f"frame {path.name} cannot be decoded{unreadable(path)}", image=True)
                continue
            size = size or image.shape[:2]
            if not self._fits(path.name, image, size):
                continue
            try:
                truth = self._fitting(self.truth(index), path.name, size)
            except SourceError as error:
                self._note_odd(str(error))
                truth = None
            yield Frame(index, self._stamp(index), name, image, truth)


class ImageFolder(FileRecording):
    """A folder of images, or one with frames/ and masks/ with label images, in natural order (2 before 10), at 25 Hz.

    A mask belongs to the image of the same stem, and an image may have none; a mask that belongs to no image is counted
    in the description, and is not odd. How the values of the masks are read is decided from all of them, see
    `mask_values.decide`. Files that are masks beside their images, by their names, are no frames.

    Raises SourceError when the folder has no images, none of a few of them can be read, or the masks can be no masks.
    """

    def __init__(self, name: str, spec: str, path: Path, mask_values: str = "auto"):
        paired = (path / "frames").is_dir()
        folder = path / "frames" if paired else path
        images, beside = split_masks(images_in(folder))
        if not images:
            raise SourceError(f"{folder} has no images: expected files ending in {', '.join(IMAGE_SUFFIXES)}")
        masks = images_in(path / "masks") if paired and (path / "masks").is_dir() else []
        super().__init__(name, "", images, None, spec=spec)
        if masks:
            self._truth_of, self.has_masks = LabelFiles(spec, masks, images, mask_values, unused_is_odd=False), True
            self.classes = read_classes(path)
        if beside:
            self.notes.append(
                f"{len(beside)} files are masks by their names, the first is {readable(beside[0].name)}: "
                "they are no frames"
            )
        if self._probed.note:
            self.notes.append(self._probed.note)
        twice = [own for own, image in zip(self._names, images, strict=True) if own != readable(image.stem)]
        if twice:
            pair = f"{twice[0]} and {twice[1]}"
            self.notes.append(f"{len(twice)} images share a name but for its suffix, such as {pair}: all are frames")
        self.describe()  # where no image can be read, or masks can be no masks, it raises
