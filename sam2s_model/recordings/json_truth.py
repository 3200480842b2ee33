"""Ground truth as JSON: labelme, a file of polygons for each image; COCO or YouTube-VIS, one file of polygons or RLE.

Areas are filled and RLE is decoded by pycocotools. Objects of a recording have ids from 1 on, in the order of the file.
Annotations of one object have in labelme the same label and group_id, in COCO the same track or, where there is none,
category. A track that changes its category is one object, of the most frequent one; where an image has it with two
categories, as with parts of an instrument, it is one for each.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sam2s_model.errors import SourceError
from sam2s_model.recordings.coco_file import CocoAnnotation, CocoFile
from sam2s_model.recordings.image_files import natural_key, read_rgb
from sam2s_model.recordings.recording import Truth
from sam2s_model.recordings.truth_files import TruthOf

VOID_LABELS = {"__ignore__", "ignore", "void"}
NO_LABELS = {"_background_", "background"}
AREAS = {
    "polygon": 3,
    "rectangle": 2,
    "circle": 2,
    "mask": 2,
    "rotation": 4,
    "oriented_rectangle": 4,
}  # shape -> least points
KINDS = {"label": (str, int, float), "group_id": (str, int, float, type(None)), "shape_type": (str, type(None))}
MAX_OBJECTS = 254
MAX_SIDE = 1 << 16  # px of an image


def json_files(folder: Path) -> list[Path]:
    try:
        return sorted(
            (p for p in folder.glob("*.json") if not p.name.startswith(".")), key=lambda p: natural_key(p.name)
        )
    except OSError as error:
        raise SourceError(f"{folder} cannot be read ({error.strerror})") from error


def is_coco(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and isinstance(content.get("annotations"), list)
        and ("images" in content or "videos" in content)
    )


def json_truth(name: str, files: Sequence[Path]) -> JsonTruth:
    """Read one file of COCO or YouTube-VIS, or a file of labelme for each image. Raises SourceError."""
    if len(files) == 1 and is_coco(content := read_json(files[0])):
        return CocoTruth(CocoFile.of(files[0], content))
    return LabelmeTruth(name, files)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise SourceError(f"{path} is not JSON ({error})") from error


class JsonTruth(TruthOf):
    """classes: object -> name of its class; names: of the images that are annotated, as the files have them"""

    def __init__(self) -> None:
        self._ids: dict[tuple, int] = {}
        self.classes: dict[int, str] = {}
        self.names: list[str] = []
        self._summary: list[str] = []
        self._read: list[Path] = []
        self._shared = 0  # images on which several annotations are one object, since nothing tells them apart

    def describe(self) -> str:
        shared = f"{self._shared} times annotations that nothing tells apart are one object" if self._shared else ""
        return "; ".join(filter(None, [*self._summary, f"{len(self.classes)} objects", shared]))

    def files(self, images: Sequence[Path]) -> list[Path]:
        return self._read

    @abstractmethod
    def name_of(self, image: Path) -> str | None:
        """Find the name that an image has in the files, None where it is not in them."""

    @abstractmethod
    def of_name(self, name: str, size: tuple[int, int] | None) -> Truth | None:
        """Return the truth of an image by its name in the files. size: (H, W), where the files do not tell it"""

    def _object(self, key: tuple, class_name: str) -> int:
        if key not in self._ids:
            if len(self._ids) == MAX_OBJECTS:
                raise SourceError(
                    f"there are more than {MAX_OBJECTS} objects: expected at most as many in one recording"
                )
            self._ids[key] = len(self._ids) + 1
            self.classes[self._ids[key]] = class_name
        return self._ids[key]


class LabelmeTruth(JsonTruth):
    """A file for each image, of the same stem: shapes with a label, and a group_id for one of several of a label."""

    def __init__(self, name: str, files: Sequence[Path]):
        super().__init__()
        self._files, self._read = {path.stem: path for path in files}, list(files)
        self.names = list(self._files)
        self.name = name
        for path in files:
            with contextlib.suppress(SourceError):  # named when its image is read
                keys = [
                    (s["label"], s.get("group_id"))
                    for s in self._shapes(path)[1]
                    if s["label"] not in VOID_LABELS | NO_LABELS
                ]
                self._shared += len(keys) > len(set(keys)) and any(group is None for _, group in keys)
                for key in keys:
                    self._object(key, key[0])
        self._summary = [f"{len(self._files)} files of labelme"]

    def name_of(self, image: Path) -> str | None:
        return image.stem if image.stem in self._files else None

    def __call__(self, image: Path) -> Truth | None:
        path = self._files.get(image.stem)
        if path is None:
            return None
        size = self._shapes(path)[0]
        if size is None:
            pixels = read_rgb(image)
            size = None if pixels is None else pixels.shape[:2]
        return self.of_name(image.stem, size)

    def of_name(self, name: str, size: tuple[int, int] | None) -> Truth | None:
        path = self._files.get(name)
        if path is None:
            return None
        own, shapes = self._shapes(path)
        size = own or size
        if size is None:
            raise SourceError(f"{path} does not say imageHeight and imageWidth, and its image cannot be read")
        masks: dict[int, np.ndarray] = {}
        void = np.zeros(size, bool)
        for shape in shapes:
            if shape["label"] in NO_LABELS:
                continue
            area = _labelme_area(shape, size, path)
            if shape["label"] in VOID_LABELS:
                void |= area
            else:
                label = self._object((shape["label"], shape.get("group_id")), shape["label"])
                masks[label] = masks.get(label, False) | area
        return Truth(masks, void if void.any() else None, size=void.shape)

    def __contains__(self, image: Path) -> bool:
        return image.stem in self._files

    def unused(self, images: Sequence[Path]) -> list[str]:
        stems = {image.stem for image in images}
        return [f"{path.name} has the name of no image" for stem, path in self._files.items() if stem not in stems]

    def _shapes(self, path: Path) -> tuple[tuple[int, int] | None, list[dict]]:
        """Size (H, W) of the image, as far as it is told, and the shapes, their labels as text. Raises SourceError."""
        content = read_json(path)
        shapes = content.get("shapes") if isinstance(content, dict) else None
        if not isinstance(shapes, list) or not all(
            isinstance(s, dict) and "label" in s and "points" in s for s in shapes
        ):
            keys = ", ".join(map(repr, list(content)[:6])) if isinstance(content, dict) and content else "nothing"
            expected = "shapes with label and points"
            raise SourceError(f"{path} is not a file of labelme, nor of COCO: expected {expected}, and it has {keys}")
        for shape in shapes:
            for key, kinds in KINDS.items():
                if not isinstance(shape.get(key), kinds):
                    raise SourceError(f"{path}: a shape has {key} {shape.get(key)!r}: expected a text or a number")
        shapes = [{**shape, "label": str(shape["label"])} for shape in shapes]
        height, width = content.get("imageHeight"), content.get("imageWidth")
        if not height or not width:
            return None, shapes
        if not all(isinstance(side, (int, float)) and 1 <= side <= MAX_SIDE for side in (height, width)):
            raise SourceError(f"{path} says that its image is {width!r} x {height!r}: expected px, 1 to {MAX_SIDE}")
        return (int(height), int(width)), shapes


def _labelme_area(shape: dict, size: tuple[int, int], path: Path) -> np.ndarray:
    """(H, W) bool of a shape. Raises SourceError for one without an area, or with too few points."""
    kind = shape.get("shape_type") or "polygon"
    try:
        points = np.array(shape["points"], np.float64).reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise SourceError(f"{path}: shape {shape['label']!r} has points that are no x, y ({error})") from error
    if not np.isfinite(points).all():
        raise SourceError(f"{path}: shape {shape['label']!r} has points that are not finite")
    if kind not in AREAS or len(points) < AREAS[kind]:
        many = f"{len(points)} points" if kind in AREAS else "no area"
        raise SourceError(
            f"{path}: shape {shape['label']!r} is a {kind} with {many}: expected one of {', '.join(AREAS)}"
        )
    if kind == "mask":
        return _labelme_mask(shape, points, size, path)
    if kind == "circle":
        (x, y), edge = points[0], points[1]
        turn = np.linspace(0, 2 * np.pi, 90, endpoint=False)
        points = np.stack(
            (x + np.hypot(*(edge - (x, y))) * np.cos(turn), y + np.hypot(*(edge - (x, y))) * np.sin(turn)), 1
        )
    elif kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        points = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    return filled([points.ravel().tolist()], size, path)


def _labelme_mask(shape: dict, points: np.ndarray, size: tuple[int, int], path: Path) -> np.ndarray:
    try:
        inside = cv2.imdecode(np.frombuffer(base64.b64decode(shape["mask"]), np.uint8), cv2.IMREAD_GRAYSCALE)
        if inside is None:
            raise ValueError("it is not PNG")
    except (KeyError, TypeError, ValueError, binascii.Error, cv2.error) as error:
        raise SourceError(f"{path}: the mask of shape {shape['label']!r} cannot be decoded ({error})") from error
    x, y = (int(round(v)) for v in points.min(0))
    out = np.zeros(size, bool)
    place = out[max(0, y) : max(0, y + inside.shape[0]), max(0, x) : max(0, x + inside.shape[1])]
    place |= inside[max(0, -y) :, max(0, -x) :][: place.shape[0], : place.shape[1]] > 0
    return out


def filled(polygons: list[list[float]], size: tuple[int, int], where: object) -> np.ndarray:
    """(H, W) bool of polygons x, y, x, y, ... that are one area. Raises SourceError."""
    return decoded(polygons, size, where)


def decoded(segmentation: Any, size: tuple[int, int], where: object) -> np.ndarray:
    """(H, W) bool of a segmentation as COCO has it: polygons, counts, or compressed counts. Raises SourceError."""
    mask = _pycocotools()
    height, width = size
    try:
        if isinstance(segmentation, list):
            parts = [part for part in segmentation if len(part) >= 6]
            if not parts:
                raise ValueError("it has no polygon of three points; a box alone does not say which pixels are meant")
            if not any(_reaches(part, size) for part in parts):
                raise ValueError(f"its polygons are outside the image, which is {width}x{height}")
            rle = mask.merge(mask.frPyObjects(parts, height, width))
        else:
            counts = segmentation["counts"]
            given = tuple(int(v) for v in segmentation.get("size", size))
            if given != size:
                raise ValueError(f"its size is {given[1]}x{given[0]}, and its image's {width}x{height}")
            plain = {"size": list(size), "counts": counts}
            rle = mask.frPyObjects(plain, height, width) if isinstance(counts, list) else plain
        return mask.decode(rle).astype(bool)
    except Exception as error:  # junk makes its C code raise anything, also bare exceptions
        raise SourceError(f"{where}: a segmentation cannot be decoded ({type(error).__name__}: {error})") from error


def _reaches(polygon: list[float], size: tuple[int, int]) -> bool:
    """Tell whether the rectangle around a polygon x, y, x, y, ... has something in common with an image (H, W)."""
    return all(max(polygon[at::2]) >= 0 and min(polygon[at::2]) < side for at, side in ((0, size[1]), (1, size[0])))


def _pycocotools():
    try:
        from pycocotools import mask
    except ImportError as error:
        raise SourceError(f"ground truth in JSON needs pycocotools ({error}): pip install pycocotools") from error
    return mask


class CocoTruth(JsonTruth):
    """The images of one recording in a file of COCO or YouTube-VIS; its objects are numbered from 1.

    names: of the images, None: all of the file; lost: images that are not there, to be said with this recording
    """

    def __init__(self, file: CocoFile, names: Collection[str] | None = None, lost: Sequence[str] = ()):
        """Raise SourceError when the recording has too many objects."""
        super().__init__()
        self.path, self._read, self._lost = file.path, [file.path], lost
        self._sizes = {name: file.sizes[name] for name in (file.sizes if names is None else names)}
        self.names = sorted(self._sizes, key=natural_key)
        self._annotations: dict[str, list[tuple[int, Any]]] = {name: [] for name in self.names}
        of_these = [(name, one) for name in self.names for one in file.annotations.get(name, ())]
        apart = _tracks_apart(of_these)
        said: dict[int, Counter[str]] = defaultdict(Counter)  # label -> names of its annotations
        for name, one in sorted(of_these, key=lambda pair: pair[1].place):
            label, own = 0, self._annotations[name]
            if one.key is not None:
                label = self._object(_object_key(one.key, apart), one.class_name)
                self._shared += one.key[1] is None and any(known == label for known, _ in own)
                said[label][one.class_name] += 1
            own.append((label, one.segmentation))
        self.classes.update({label: counts.most_common(1)[0][0] for label, counts in said.items()})
        how = "an id of a track" if file.tracked else "the category"
        count = sum(map(len, self._annotations.values()))
        self._summary = [f"COCO, {len(self.names)} images, {count} annotations, {how} says which object each is of"]
        if changed := sum(len(counts) > 1 for counts in said.values()):
            self._summary.append(
                f"{changed} tracks change their category: each is one object, of the most frequent one"
            )

    def __call__(self, image: Path) -> Truth | None:
        name = self.name_of(image)
        return None if name is None else self.of_name(name, None)

    def name_of(self, image: Path) -> str | None:
        """Find an image's name in the file: the longest end of its path that is there, or the only one of its stem."""
        for count in range(len(image.parts), 0, -1):
            end = "/".join(image.parts[-count:])
            if end in self._sizes:
                return end
        alike = [name for name in self.names if Path(name).stem == image.stem]
        if len(alike) > 1:
            alike = [name for name in alike if Path(name).parent.name == image.parent.name]
        return alike[0] if len(alike) == 1 else None

    def of_name(self, name: str, size: tuple[int, int] | None) -> Truth | None:
        masks: dict[int, np.ndarray] = {}
        void = np.zeros(self._sizes[name], bool)
        for label, segmentation in self._annotations[name]:
            area = decoded(segmentation, self._sizes[name], f"{self.path}, {name}")
            if label:
                masks[label] = masks.get(label, False) | area
            else:
                void |= area
        return Truth(masks, void if void.any() else None, size=void.shape)

    def __contains__(self, image: Path) -> bool:
        return self.name_of(image) is not None

    def unused(self, images: Sequence[Path]) -> list[str]:
        found = {self.name_of(image) for image in images}
        unused = [*(name for name in self.names if name not in found), *self._lost]
        return [f"{name} of {self.path.name} has the name of no image" for name in unused]


def _tracks_apart(annotations: Iterable[tuple[str, CocoAnnotation]]) -> set[Any]:
    """Return the tracks that one image, by its name, has with several categories."""
    found: dict[tuple, set] = defaultdict(set)
    for name, one in annotations:
        if one.key is not None and one.key[1] is not None:
            found[name, one.key[1]].add(one.key[0])
    return {track for (_, track), categories in found.items() if len(categories) > 1}


def _object_key(key: tuple, apart: Collection[Any]) -> tuple:
    """Return what is the same for annotations of one object: the track, with the category where it takes both."""
    category, track = key
    return key if track is None or track in apart else (None, track)
