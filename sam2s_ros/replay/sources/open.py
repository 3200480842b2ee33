"""Find out what a path or URI is, and open it. Each kind's decoder is imported when it is needed."""

from __future__ import annotations

from pathlib import Path

from sam2s_model.errors import SourceError
from sam2s_model.paths import expanded
from sam2s_model.recordings.image_files import IMAGE_SUFFIXES
from sam2s_model.recordings.source import FrameSource
from sam2s_ros.replay.sources.bag_help import is_packed, unpack

SCENE_SCHEME = "scene:"
BAG_SUFFIXES = (".mcap", ".db3")
KINDS = 'a video, an image folder (or one with frames/ and masks/), a rosbag2 folder or file, or "scene:"'


def open_source(spec: str | Path, *, topic: str = "", mask_topic: str = "", mask_values: str = "auto") -> FrameSource:
    """Open a video file, an image folder, a rosbag2 folder or file, or a "scene:" URI.

    spec: a path, or a URI like scene:?width=640&height=512&frames=120&seed=0
    topic: a bag's image topic; "" means its only image topic
    mask_topic: a bag's topic of mono8 label images with the stamps of the images; "" means none
    mask_values: how the values of masks are read, see `mask_values.decide`

    Raises SourceError, one sentence that names the path and what would be right.
    """
    spec = str(spec)
    if not spec:
        raise SourceError(f"no source was given: expected {KINDS}")
    if spec.startswith(SCENE_SCHEME):
        _no_topic(spec, "the procedural scene", topic, mask_topic)
        from sam2s_model.recordings.scene_source import SceneSource

        return SceneSource(spec)
    path = expanded(spec)
    try:
        exists, is_dir = path.exists(), path.is_dir()
    except (OSError, ValueError) as error:
        raise SourceError(f"{spec} cannot be looked at ({error})") from error
    if not exists:
        raise SourceError(f"{spec} does not exist: expected {KINDS}")
    bag = _bag_in(spec, path, is_dir)
    if bag:
        from sam2s_ros.replay.sources.bag import BagSource

        return BagSource(spec, bag, topic=topic, mask_topic=mask_topic, mask_values=mask_values)
    if is_dir:
        _no_topic(spec, "an image folder", topic, mask_topic)
        from sam2s_model.recordings.folder import FolderSource

        return FolderSource(spec, path, mask_values)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise SourceError(f"{spec} is a single image: give the folder that it is in")
    if path.suffix == ".bag":
        raise SourceError(
            f"{spec} is a ROS 1 bag: convert it to rosbag2 ({' or '.join(BAG_SUFFIXES)}) with rosbags-convert"
        )
    _no_topic(spec, "a video", topic, mask_topic)
    from sam2s_model.recordings.video import VideoSource

    return VideoSource(spec, path)


def _bag_in(spec: str, path: Path, is_dir: bool) -> Path | None:
    """What to hand to a bag reader: the file, the folder with its metadata, or the folder's only bag file."""
    if not is_dir:
        if is_packed(path):
            raise SourceError(f"{spec} is a file of a bag that was compressed: {unpack(path)}")
        return path if path.suffix in BAG_SUFFIXES else None
    if (path / "metadata.yaml").exists():
        return path
    files = sorted(p for suffix in BAG_SUFFIXES for p in path.glob(f"*{suffix}"))
    if len(files) > 1:
        raise SourceError(
            f"{spec} has {len(files)} bag files and no metadata.yaml: give one of the files, or make it with `ros2 bag reindex {path}`"
        )
    packed = next((p for p in sorted(path.iterdir()) if is_packed(p)), None) if not files else None
    if packed is not None:
        raise SourceError(
            f"{spec} has {packed.name}, which was compressed, and no metadata.yaml: unpack it with `zstd -d {packed}`"
        )
    return files[0] if files else None


def _no_topic(spec: str, what: str, topic: str, mask_topic: str) -> None:
    if topic or mask_topic:
        raise SourceError(f"topic {topic or mask_topic!r} was given, but {spec} is {what}: topics are for bags only")
