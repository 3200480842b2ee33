"""Boxes of a detector to start from: YOLO's text files, or a file of COCO."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sam2s_model.annotation.project import AnnotationProject
from sam2s_model.annotation.store import StoredMask
from sam2s_model.errors import SourceError
from sam2s_model.paths import expanded
from sam2s_model.recordings.json_truth import read_json
from sam2s_model.recordings.numbered import (
    NUMBERED_FROM_ONE,
    NUMBERED_FROM_ZERO,
    counts_from_one,
    name_number,
    number_in,
)
from sam2s_model.recordings.open import recording_name
from sam2s_model.tracking.association import PROMPTED, Detection, Fate, KnownObject, associate, within
from sam2s_model.training.datasets.boxes import read_boxes

UNLIKE = (0, 0)
MIN_IOU = 0.5  # of a box and an object's, from which it is of this object

Boxes = dict[int, list[Detection]]  # position -> what was detected there


def read_detections(
    path: str | Path, project: AnnotationProject, say: Callable[[str], Any] = lambda line: None
) -> Boxes:
    """Read the boxes that a detector found in the frames of an annotation.

    path: a folder of text files of lines "class x y width height [score]" (YOLO's, shares of the image, classes from 0:
        of data.yaml in it or above it, else of the label set), or a JSON file of COCO: annotations, or a list of
        results. A file or image belongs to the frame of its name, else to that of the number in its name. Those of all
        files, also without a box, say whether they are numbered from 1
    say: told how they are numbered, where that is guessed, and which images of COCO are taken for the recording's
    Raises SourceError for what cannot be read, for boxes of images that nothing tells apart, and where none is of a
    frame.
    """
    path = expanded(path)
    if path.is_dir():
        named = {file.stem: _of_yolo(file, path, project) for file in sorted(path.glob("*.txt"))}
    else:
        named = _of_coco(path, project, lambda how: say(f"{path}: {how}"))
    places = _positions(named, project, lambda how: say(f"{path}: {how}"))
    found = {places[name]: own for name, own in named.items() if own and name in places}
    if not found:
        raise SourceError(
            f"{path} has no box of a frame: expected YOLO's NAME.txt in a folder, or COCO's JSON, named as frames are"
        )
    return found


def begin_with_boxes(
    project: AnnotationProject, boxes: Mapping[int, Sequence[Detection]], min_score: float = 0.0
) -> tuple[list[int], Counter[Fate]]:
    """Start an object with each box on a frame that is of none yet; between the frames all are tracked.

    A box is of an object whose mask's box it overlaps with, IoU 0.5, where their classes agree.
    Returns their numbers, and how many boxes became what. Raises RequestError for more than `max_objects`.
    """
    numbers, fates = [], Counter[Fate]()
    classes = {label.name for label in project.label_set.classes}
    for position, detections in sorted(boxes.items()):
        if project.objects:
            project.track(position + 1)
        known = [
            KnownObject(number, project.objects[number].class_name, found.state, (_box_of(found),))
            for number, found in project.masks(position).items()
            if found.mask.any()
        ]
        said = associate(detections, known, min_iou=MIN_IOU, min_score=min_score, prompt_lost=False)
        for detection, (fate, _) in zip(detections, said, strict=True):
            fates[fate] += 1
            if fate in PROMPTED:
                name = detection.class_name if detection.class_name in classes else ""
                numbers.append(project.prompt(position, 0, name, box=within(detection.box, project.size)))
    return numbers, fates


def _box_of(found: StoredMask) -> tuple[float, ...]:
    rows, columns = np.flatnonzero(found.mask.any(1)), np.flatnonzero(found.mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _positions(
    named: Mapping[str, Sequence[Detection]], project: AnnotationProject, say: Callable[[str], Any]
) -> dict[str, int]:
    """Find the frames of files by their names, or, where no name is a frame's, by numbers. Returns name -> position.

    Of frames that are named by their numbers from 0, as those of a video, files that count from 1 have other names.
    """
    by_name = {frame.name: frame.position for frame in project.frames}
    are_numbers = all(frame.name == f"{frame.number:06d}" for frame in project.frames)
    decimal = {int(name) for name in named if name.isdecimal()}
    if not by_name.keys().isdisjoint(named) and not (are_numbers and counts_from_one(decimal, project.count_recorded)):
        return {name: by_name[name] for name in named if name in by_name}
    needed = (name for name, own in named.items() if own or number_in(Path(name)) is not None)
    numbers = {name: name_number(Path(name), "box file") for name in needed}
    from_one = counts_from_one(set(numbers.values()), project.count_recorded)
    if numbers and 0 not in numbers.values():
        say(NUMBERED_FROM_ONE if from_one else NUMBERED_FROM_ZERO)
    by_number = {frame.number: frame.position for frame in project.frames}
    return {name: by_number[n - from_one] for name, n in numbers.items() if n - from_one in by_number}


def _of_yolo(file: Path, folder: Path, project: AnnotationProject) -> list[Detection]:
    names = _yolo_names(folder) or [label.name for label in project.label_set.classes]
    height, width = project.size
    found = []
    for box in read_boxes(file):
        if box.value > len(names):
            raise SourceError(f"{file} has class {box.value - 1}: expected 0 to {len(names) - 1}, {', '.join(names)}")
        (x0, y0), (x1, y1) = (box.corners * (width, height) - 0.5).tolist()
        found.append(Detection((x0, y0, x1, y1), names[box.value - 1], box.score))
    return found


def _yolo_names(folder: Path) -> list[str]:
    """Return the classes of data.yaml. Raises SourceError."""
    path = next((own for own in (folder / "data.yaml", folder.parent / "data.yaml") if own.is_file()), None)
    if path is None:
        return []
    try:
        names = yaml.safe_load(path.read_text())["names"]
        return [str(name) for name in (names.values() if isinstance(names, dict) else names)]
    except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise SourceError(f"{path} has no names of classes ({error})") from error


def _of_coco(path: Path, project: AnnotationProject, say: Callable[[str], Any]) -> dict[str, list[Detection]]:
    content = read_json(path)
    try:
        rows, files, classes = _coco_rows(content, project)
        names = _of_recording(path, files, {row["image_id"] for row in rows}, project, say)
        found: dict[str, list[Detection]] = {name: [] for name in names.values()}
        for row in rows:
            x, y, width, height = map(float, row["bbox"])
            if not np.isfinite((x, y, width, height)).all():
                raise ValueError(f"bbox {row['bbox']} of image {row['image_id']} is not finite")
            box = (x - 0.5, y - 0.5, x + width - 0.5, y + height - 0.5)
            image = row["image_id"]
            score = float(row.get("score", 1.0))
            if image in names:
                found[names[image]].append(Detection(box, classes.get(row.get("category_id"), ""), score))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(
            f"{path} has no boxes of COCO ({type(error).__name__}: {error}): expected annotations, or a list of "
            "results, with image_id, bbox and category_id"
        ) from error
    return found


def _coco_rows(content: Any, project: AnnotationProject) -> tuple[Sequence[dict], dict, dict]:
    """Return annotations, image -> its file, category -> class. An image that is not described is its own file."""
    if isinstance(content, list):
        rows, files = content, {}
        classes = {label.id: label.name for label in project.label_set.classes}
    else:
        rows, files = content["annotations"], {image["id"]: str(image["file_name"]) for image in content["images"]}
        classes = {own["id"]: str(own["name"]) for own in content.get("categories", [])}
    return rows, {**{row["image_id"]: str(row["image_id"]) for row in rows}, **files}, classes


def _of_recording(
    path: Path, files: Mapping[Any, str], boxed: Set[Any], project: AnnotationProject, say: Callable[[str], Any]
) -> dict[Any, str]:
    """Return image -> its file's stem, of those that are of the recording, which is known by the names of folders.

    They are those whose folders are most like the recording's path. Where no folder has its name all are, as long as
    no two files with boxes have one stem. boxed: images that have boxes
    Raises SourceError.
    """
    name, tail = project.recording_name, _tail(project)
    folders = {image: tuple(p for p in Path(file).parent.parts if p.strip("./")) for image, file in files.items()}
    likeness = {parts: _likeness(parts, tail, name) for parts in {*folders.values()}}
    most = max(likeness.values(), default=UNLIKE)
    own = {image for image, parts in folders.items() if likeness[parts] == most != UNLIKE}
    by_stem: dict[str, dict[tuple[str, ...], list[Any]]] = {}  # a file may be there under several ids
    for image, parts in folders.items():
        if image in own or not (own and parts):
            file = Path(files[image])
            by_stem.setdefault(file.stem, {}).setdefault((*parts, file.name), []).append(image)
    found: dict[Any, str] = {}
    for stem, same in by_stem.items():
        chosen = [images for images in same.values() if not boxed.isdisjoint(images)] or [*same.values()][:1]
        if len(chosen) > 1:
            chosen = [images for images in chosen if own.issuperset(images)] or chosen
        if len(chosen) > 1:
            first, second = (files[images[0]] for images in chosen[:2])
            raise SourceError(
                f"{path} has boxes of the images {first} and {second}, which are one frame by their names: leave "
                f"out those of one, or begin the file_name of the recording's images with its folders, {'/'.join(tail)}"
            )
        found |= dict.fromkeys(chosen[0], stem)
    if own and (left := len(files) - len(found)):
        say(f"{left} of {len(files)} images are of other recordings by their folders, and are left out")
    if not own and len(likeness) > 1:
        say(f"no folder of an image is named as the recording, {name}: those of all {len(likeness)} folders are taken")
    return found


def _tail(project: AnnotationProject) -> tuple[str, ...]:
    """Return the parts of the recording's path up to the one that it is named by; its name where none is."""
    parts, name = project.recording_path.parts, project.recording_name
    named = [at for at, part in enumerate(parts) if name in (part, recording_name(part))]
    return tuple(part for part in parts[: named[-1] + 1] if part.strip("/")) if named else (name,)


def _likeness(parts: Sequence[str], tail: Sequence[str], name: str) -> tuple[int, int]:
    """Tell how much of the end of a recording's path is in the folders of an image, and how like its name a part is."""
    found = UNLIKE
    for at, part in enumerate(parts):
        alike = (part == tail[-1]) + (part in (tail[-1], name)) + (name in (part, recording_name(part)))
        if alike:
            pairs = zip(reversed(parts[:at]), reversed(tail[:-1]), strict=False)
            before = len([*takewhile(lambda pair: pair[0] == pair[1], pairs)])
            found = max(found, (before, alike))
    return found
