"""A file of COCO or YouTube-VIS as it is: images, and annotations of objects that have no number yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sam2s_model.errors import SourceError

TRACKS = ("track_id", "instance_id", "object_id", "obj_id", "tracking_id")  # of annotations, or of their attributes


class CocoAnnotation(NamedTuple):
    """One of a file.

    place: in the file's order; key: its category and its track, which may be None; None where it is void
    """

    place: int
    key: tuple | None
    class_name: str
    segmentation: Any


@dataclass(frozen=True)
class CocoFile:
    """What a file has: images, annotations and categories, or videos. Crowds are void, unless all are crowds.

    sizes: image -> (H, W)
    annotations: image -> its own, in their order, since a recording may have few of many images; without it: none
    tracked: whether ids of tracks say which object each is of, not the categories
    """

    path: Path
    sizes: dict[str, tuple[int, int]]
    annotations: Mapping[str, Sequence[CocoAnnotation]]
    tracked: bool

    @classmethod
    def of(cls, path: Path, content: dict) -> CocoFile:
        """Take what a file contains. Raises SourceError where it is not what it should be, or ambiguous."""
        try:
            images, annotations = (
                _of_videos(content) if "videos" in content else (content["images"], content["annotations"])
            )
            sizes = {image["file_name"]: (int(image["height"]), int(image["width"])) for image in images}
            names = _names_by_id(path, images)
            categories = {c["id"]: str(c["name"]) for c in content.get("categories", [])}
            crowds = [bool(a.get("iscrowd")) for a in annotations]
            as_void = any(crowds) and not all(crowds)
            found: dict[str, list[CocoAnnotation]] = defaultdict(list)
            tracked = False
            for place, (annotation, crowd) in enumerate(zip(annotations, crowds, strict=True)):
                category, track = annotation.get("category_id"), _track(annotation)
                tracked |= track is not None
                if annotation["image_id"] not in names:
                    raise ValueError(f"an annotation is of image {annotation['image_id']!r}, which it does not have")
                key = None if crowd and as_void else (category, track)
                hash(key)  # raises TypeError for a track that is no number or text
                segmentation = annotation.get("segmentation") or []  # a box alone: said where it is looked at
                found[names[annotation["image_id"]]].append(
                    CocoAnnotation(place, key, categories.get(category, str(category)), segmentation)
                )
        except SourceError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SourceError(f"{path} is not a file of COCO ({type(error).__name__}: {error})") from error
        return cls(path, sizes, dict(found), tracked)


def _names_by_id(path: Path, images: list[dict]) -> dict[Any, str]:
    """Return id -> name of each image. Raises SourceError where one name is of two ids, or one id of two names."""
    names: dict[Any, str] = {}
    ids: dict[str, Any] = {}
    for image in images:
        number, name = image["id"], image["file_name"]
        if not isinstance(name, str):
            raise ValueError(f"an image is named {name!r}: expected a text")
        if names.setdefault(number, name) != name:
            raise SourceError(f"{path} has two images of id {number!r}, {names[number]} and {name}: expected one")
        if ids.setdefault(name, number) != number:
            both = f"{ids[name]!r} and {number!r}"
            raise SourceError(f"{path} has two images named {name}, of id {both}: expected names that tell them apart")
    return names


def _track(annotation: dict) -> Any:
    places = (annotation, annotation.get("attributes") or {})
    return next((place[key] for place in places for key in TRACKS if place.get(key) is not None), None)


def _of_videos(content: dict) -> tuple[list[dict], list[dict]]:
    """Return images and annotations of YouTube-VIS, whose annotations are objects with a segmentation a frame."""
    images, annotations = [], []
    for video in content["videos"]:
        size = dict(height=video["height"], width=video["width"])
        images += [dict(id=(video["id"], i), file_name=name, **size) for i, name in enumerate(video["file_names"])]
    for own in content["annotations"]:
        for i, segmentation in enumerate(own["segmentations"]):
            if segmentation:
                annotations.append(
                    dict(
                        image_id=(own["video_id"], i),
                        category_id=own["category_id"],
                        track_id=own["id"],
                        iscrowd=own.get("iscrowd", 0),
                        segmentation=segmentation,
                    )
                )
    return images, annotations
