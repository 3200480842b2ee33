"""An annotation in the forms that other programs read. Frames whose masks are missing or stale are left out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from sam2s_model.annotation.folder import FRAMES, MASKS, AnnotationFolder
from sam2s_model.annotation.store import StoredFrame, StoredMask
from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.recordings.class_file import CLASS_FILE
from sam2s_model.results.coco import CocoTracks
from sam2s_model.similar import meant
from sam2s_model.tracks import Tracks

LEAST_POINTS = 3  # of an outline
FINE = 4  # points of an outline to a px
BAG, BAG_IMAGES, BAG_LABELS = "bag", "/camera/image/compressed", "/annotation/label_image"
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
JPEG_OR_PNG = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}  # suffix -> format of a CompressedImage


def export_as(name: str, project: AnnotationFolder) -> Path:
    """Write an annotation in one of EXPORTS. Returns the folder, export/NAME in the annotation's, which is replaced.

    Raises ConfigError for another name or a folder that cannot be written to, SourceError when no frame has its masks.
    """
    check_names([name])
    if not any(True for _ in finished(project)):
        raise SourceError(f"{project.folder} has no frame with all its masks: prompt and track first")
    folder = project.folder / "export" / name
    part = folder.with_name(folder.name + ".part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        EXPORTS[name](project, part)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written to ({error.strerror or error})") from error
    return folder


def check_names(names: Sequence[str]) -> None:
    """Raise ConfigError for a name that is none of EXPORTS."""
    for name in names:
        if name not in EXPORTS:
            expected = f"expected one of {', '.join(EXPORTS)}"
            raise ConfigError(f"export is {name!r}: {expected}{meant(name, EXPORTS)}")


def finished(project: AnnotationFolder) -> Iterator[StoredFrame]:
    """Yield the frames that have their masks, all of them and none of them stale."""
    return (frame for frame in project.frames if (project.folder / MASKS / f"{frame.name}.png").is_file())


def tracks_of(project: AnnotationFolder, frame: StoredFrame) -> Tracks:
    """Return the masks of a frame as a tracker gives them. An object's id and label are its number."""
    masks, objects = project.masks(frame.position), project.objects
    labels = project.labels(masks)
    numbers = sorted(masks)
    own = [project.label_set.by_name(objects[number].class_name) for number in numbers]
    boxes, areas, centroids = (np.array(column) for column in zip(*(_place(labels == n) for n in numbers), strict=True))
    return Tracks(
        stamp=frame.stamp_ns,
        label_map=labels,
        object_ids=np.array(numbers, np.int64),
        labels=np.array(numbers, np.uint8),
        class_ids=np.array([label.id for label in own], np.uint8),
        class_names=tuple(label.name for label in own),
        states=np.array([masks[number].state for number in numbers], np.uint8),
        scores=np.array([masks[number].score for number in numbers], np.float32),
        predicted_ious=np.array([masks[number].iou for number in numbers], np.float32),
        boxes=boxes.astype(np.int32),
        areas=areas.astype(np.int64),
        centroids=centroids.astype(np.float32),
    )


def _place(mask: np.ndarray) -> tuple[Any, int, Any]:
    """Box, area and centroid."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return (0, 0, 0, 0), 0, (np.nan, np.nan)
    box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return box, len(rows), (columns.mean(), rows.mean())


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Return the outlines of the parts of a mask, the largest first. Holes are not told.

    Each is (P, 2), px counted from the image's corner: they run along the edges of pixels, to half a pixel.
    """
    large = cv2.resize(mask.astype(np.uint8), None, fx=FINE, fy=FINE, interpolation=cv2.INTER_NEAREST)
    found, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    parts = [cv2.approxPolyDP(part, 0.5 * FINE, True)[:, 0] for part in sorted(found, key=cv2.contourArea)[::-1]]
    return [(part + 0.5) / FINE for part in parts if len(part) >= LEAST_POINTS]


def _coco(project: AnnotationFolder, folder: Path) -> None:
    coco = CocoTracks(project.label_set)
    (folder / "images").mkdir()
    for frame in finished(project):
        _copy(project, frame, folder / "images")
        coco.add(frame.file, tracks_of(project, frame))
    coco.write(folder / "annotations.json")


def _yolo(project: AnnotationFolder, folder: Path) -> None:
    """Write a line for each object: class from 0, and its outline as shares of the image's sides."""
    height, width = project.size
    names = [label.name for label in project.label_set.classes]
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for frame in finished(project):
        _copy(project, frame, folder / "images")
        objects, lines = project.objects, []
        for number, mask in _apart(project, frame).items():
            if parts := outlines(mask):
                line = _one_outline(parts) / (width, height)
                numbers = " ".join(f"{value:.6f}" for value in line.clip(0, 1).ravel())
                lines.append(f"{names.index(objects[number].class_name)} {numbers}\n")
        (folder / "labels" / f"{Path(frame.file).stem}.txt").write_text("".join(lines))
    table = dict(path=".", train="images", val="images", names=dict(enumerate(names)))
    (folder / "data.yaml").write_text(yaml.safe_dump(table, sort_keys=False))


def _one_outline(parts: list[np.ndarray]) -> np.ndarray:
    """Join outlines to one, by lines that go there and back and so enclose nothing."""
    begin = parts[0][:1]
    path = [parts[0], begin]
    for part in parts[1:]:
        path += [part, part[:1], begin]
    return np.concatenate(path if len(parts) > 1 else parts[:1])


def _davis(project: AnnotationFolder, folder: Path) -> None:
    name = project.folder.resolve().name
    images, masks = folder / "JPEGImages" / "480p" / name, folder / "Annotations" / "480p" / name
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    for frame in finished(project):
        _copy(project, frame, images)
        label = project.folder / MASKS / f"{frame.name}.png"
        shutil.copyfile(label, masks / f"{Path(frame.file).stem}.png")


def _labelme(project: AnnotationFolder, folder: Path) -> None:
    height, width = project.size
    for frame in finished(project):
        _copy(project, frame, folder)
        objects = project.objects
        shapes = [
            dict(label=objects[number].class_name, points=part.tolist(), group_id=number, shape_type="polygon",
                 description="", flags={})
            for number, mask in _apart(project, frame).items()
            for part in outlines(mask)
        ]  # fmt: skip
        content: dict[str, Any] = dict(
            version="5.4.1", flags={}, shapes=shapes, imagePath=frame.file, imageData=None, imageHeight=height,
            imageWidth=width,
        )  # fmt: skip
        (folder / f"{Path(frame.file).stem}.json").write_text(json.dumps(content))


def _bag(project: AnnotationFolder, folder: Path) -> None:
    """Write all images as they are, and label images (mono8, an object's number) of the frames that are finished."""
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    stamp_type, header_type = store.types["builtin_interfaces/msg/Time"], store.types["std_msgs/msg/Header"]
    done = {frame.position for frame in finished(project)}
    with Writer(folder / BAG, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topics = {
            topic: writer.add_connection(topic, kind, typestore=store)
            for topic, kind in ((BAG_IMAGES, COMPRESSED), (BAG_LABELS, IMAGE))
        }
        for frame in project.frames:
            header = header_type(stamp_type(*divmod(frame.stamp_ns, 10**9)), "camera")
            kind, data = _compressed(project, frame)
            message = store.types[COMPRESSED](header, kind, np.frombuffer(data, np.uint8))
            writer.write(topics[BAG_IMAGES], frame.stamp_ns, store.serialize_cdr(message, COMPRESSED))
            if frame.position in done:
                labels = project.labels(project.masks(frame.position))
                height, width = labels.shape
                label_image = store.types[IMAGE](header, height, width, "mono8", 0, width, labels.ravel())
                writer.write(topics[BAG_LABELS], frame.stamp_ns, store.serialize_cdr(label_image, IMAGE))
    shutil.copyfile(project.folder / CLASS_FILE, folder / CLASS_FILE)


def _compressed(project: AnnotationFolder, frame: StoredFrame) -> tuple[str, bytes]:
    """Return format and bytes of a frame's image: its file's, or PNG."""
    path = project.folder / FRAMES / frame.file
    if (known := JPEG_OR_PNG.get(path.suffix.lower())) is not None:
        return known, path.read_bytes()
    bgr = cv2.cvtColor(project.image(frame.position), cv2.COLOR_RGB2BGR)
    return "png", cv2.imencode(".png", bgr)[1].tobytes()


def _apart(project: AnnotationFolder, frame: StoredFrame) -> dict[int, np.ndarray]:
    """Return the masks of a frame as the label image has them: a pixel belongs to one object."""
    found: dict[int, StoredMask] = project.masks(frame.position)
    labels = project.labels(found)
    return {number: labels == number for number in found}


def _copy(project: AnnotationFolder, frame: StoredFrame, folder: Path) -> None:
    """Put a frame's image into a folder, without taking room where the disk can."""
    source, target = project.folder / FRAMES / frame.file, folder / frame.file
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


EXPORTS: dict[str, Callable[[AnnotationFolder, Path], None]] = {
    "coco": _coco,
    "yolo": _yolo,
    "davis": _davis,
    "labelme": _labelme,
    "bag": _bag,
}
