"""What is trained on: sources of recordings, how clips are cut from them, how they are changed."""

from __future__ import annotations

from dataclasses import dataclass

from sam2s_model.config import NANO_CLASSES, check_options, option
from sam2s_model.errors import ConfigError
from sam2s_model.recordings.layouts import LAYOUTS
from sam2s_model.recordings.mask_values import HOW

KINDS = (*LAYOUTS, "images", "boxes", "scene", "store")


@dataclass(frozen=True)
class SourceConfig:
    """One kind of data. Raises ConfigError for a value out of its limits.

    davis: sequences in DAVIS's or YouTube-VOS's layout, or folders with frames/ and masks/
    folder: a folder with frames/ and masks/, or several of them in one
    sav, endovis2017, ...: data sets in the other layouts that `sam2s eval` reads, see recordings/layouts
    images: single images in a folder, a folder of folders, or frames of a video; without masks, or with a teacher's
    boxes: as folder, with boxes/ in place of masks/: text files of a line for each box, "class x y width height", class
        from 0, centre and sides as shares of the image (YOLO's). A teacher's store makes masks of them; otherwise they
        are not used
    scene: the procedural scene; every number is another operation
    store: what sam2s_model.training.teach has written: views of images with all that a teacher says of them
    """

    kind: str = option("folder", f"{', '.join(KINDS[:-1])} or {KINDS[-1]}", choices=KINDS)
    path: str = option("", "of the data, relative to the folder that the command runs in; not for scene")
    weight: float = option(1.0, "how often it is drawn, beside the other sources", low=0.0)
    only: tuple[str, ...] = option((), "names of the recordings to take; empty: all")
    without: tuple[str, ...] = option((), "names of recordings that are held out")
    begin: int = option(0, "davis, folder and other layouts: first frame of each recording that is taken", low=0)
    end: int = option(0, "the same: the frame before which it ends; 0: none, to the last", low=0)
    class_name: str = option("", "class of all its objects, where no label set says more; empty: unknown")
    label_set: str = option(
        "", "YAML table of the class of each value in label images, of each box's class + 1; empty: values are objects"
    )
    mask_values: str = option("auto", "how values of masks are read: auto, labels (255 is void) or binary", choices=HOW)
    threshold: int = option(
        0, "label values from this one on are one object, lower ones none; 0: values are as they are", low=0, high=255
    )
    values: tuple[int, ...] = option((), "label values that are objects, others are none; empty: all")
    ignore: tuple[int, ...] = option((), "label values of pixels that are not scored")
    stills: bool = option(False, "davis, folder, boxes: the frames are single images, not a video")
    teacher: str = option(
        "", "pack that a teacher has written for these images: features, and masks where there are none"
    )
    first_seed: int = option(1000, "scene: smaller seeds are for tests and evaluation", low=0)
    scenes: int = option(0, "scene: how many different ones; 0: ever new ones", low=0)
    height: int = option(0, "scene: px that it is drawn at; 0: the side of the clip", low=0, high=4096)
    frames: int = option(0, "scene: length of each; 0: 600", low=0, high=10**9)
    views: int = option(1, "views of each image that a teacher's store keeps: the whole, then crops", low=1, high=64)
    every: int = option(1, "of a recording, each n-th frame that a teacher's store keeps", low=1, high=10**6)
    most: int = option(
        0, "store: the first entries alone, so that one that still grows gives the same clips; 0: all", low=0
    )
    reach: int = option(15, "store: most frames between two views of one video", low=0)


def check_values(source: SourceConfig) -> None:
    """Raise ConfigError for a source that says of the values in its masks what cannot be, or two things at once."""
    for value in (*source.values, *source.ignore):
        if not 0 <= value <= 255:
            raise ConfigError(f"source {source.path} names the label value {value}: expected 0 to 255")
    if source.threshold and source.values:
        raise ConfigError(
            f"source {source.path} has threshold {source.threshold} and values {source.values}: expected one of them"
        )
    if source.mask_values == "binary" and (source.threshold or source.values or source.ignore):
        raise ConfigError(
            f"source {source.path} has mask_values binary, and threshold, values or ignore, which say what each value "
            "is: expected threshold for the least value of the one object, or mask_values binary alone"
        )


@dataclass(frozen=True)
class AugmentConfig:
    """How clips are changed. Geometry and colour are drawn once a clip; jitter is added for each frame."""

    zoom: float = option(2.0, "most enlargement of a crop", low=1.0, high=8.0)
    stretch: float = option(1.25, "most change of the aspect ratio", low=1.0, high=4.0)
    rotation: float = option(15.0, "most rotation to either side, degrees", low=0.0, high=180.0)
    mirror: float = option(0.5, "probability of each of the two mirrorings", low=0.0, high=1.0)
    colour: float = option(0.4, "strength of changes of gain, gamma, saturation and balance", low=0.0, high=1.0)
    gray: float = option(0.15, "probability of a clip without colour", low=0.0, high=1.0)
    blur: float = option(0.15, "probability of a blurred clip", low=0.0, high=1.0)
    highlights: float = option(0.2, "probability of specular highlights", low=0.0, high=1.0)
    jitter: float = option(0.01, "movement from frame to frame, in image sides", low=0.0, high=0.5)
    still_motion: float = option(0.06, "the same for a still that stands in for a video", low=0.0, high=0.5)
    noise: float = option(
        0.0, "most standard deviation of noise, of the range of values; drawn for a clip", low=0.0, high=0.5
    )

    def __post_init__(self):
        check_options(self)


NO_AUGMENTATION = AugmentConfig(1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class DataConfig:
    """The batches of a run. Raises ConfigError for a value out of its limits."""

    sources: tuple[SourceConfig, ...] = ()
    classes: tuple[str, ...] = option(NANO_CLASSES, "rows of the class table")
    size: int = option(512, "side of the square images, px", low=32, high=4096)
    length: int = option(8, "frames of a clip", low=1, high=64)
    frames: int = option(32, "images in a batch: frames // length clips, or as many single images", low=1, high=4096)
    views: int = option(
        1,
        "of a batch of single images, how many in a row are of one image or video, where a source is a store",
        low=1,
        high=64,
    )
    image_share: float = option(
        0.2, "share of batches that are single images; 0.2 is images:video 1:4", low=0.0, high=1.0
    )
    sampling: str = option("divemem", "which frames make a clip", choices=("vanilla", "tsms", "divemem"))
    stride: int = option(1, "vanilla: most frames from one to the next", low=1, high=64)
    reverse: float = option(0.5, "probability of a clip that runs backwards", low=0.0, high=1.0)
    min_area: float = option(0.003, "least share of the first frame that an object must cover", low=0.0, high=1.0)
    pool: int = option(0, "different batches of single images; after them they come again. 0: ever new ones", low=0)
    scene_pool: int = option(64, "drawn scene clips to choose from at a step", low=1, high=100_000)
    scene_fresh: float = option(
        0.5, "new scene clips in the pool at each step; others are seen again", low=0.0, high=1000.0
    )
    cache_mb: int = option(
        1024, "memory for frames and scene clips that are ready; more is only faster", low=0, high=1_000_000
    )
    workers: int = option(1, "threads that draw the clips of a batch; the clips do not depend on it", low=1, high=256)
    augment: AugmentConfig = AugmentConfig()

    def __post_init__(self):
        check_options(self)
        for source in self.sources:
            check_options(source)
            if bool(source.path) == (source.kind == "scene"):
                expected = "none" if source.path else "one"
                raise ConfigError(f"source {source.kind} has path {source.path!r}: expected {expected}")
            check_values(source)
            if source.end and source.end <= source.begin:
                raise ConfigError(f"source {source.path} has begin {source.begin} and end {source.end}: expected more")
            if source.class_name and source.class_name not in self.classes:
                raise ConfigError(f"class_name is {source.class_name!r}: expected one of {', '.join(self.classes)}")
        if self.frames < self.length:
            raise ConfigError(f"frames is {self.frames}: expected at least length = {self.length}")
        if self.frames < self.views:  # batches would be empty
            raise ConfigError(f"frames is {self.frames}: expected at least views = {self.views}")
