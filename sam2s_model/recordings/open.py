"""Find out what a path or URI is, and open it. Each kind's decoder is imported when it is needed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sam2s_model.errors import SourceError
from sam2s_model.paths import expanded, with_name
from sam2s_model.recordings.bag_help import is_packed, unpack
from sam2s_model.recordings.crop import Crop, CroppedRecording
from sam2s_model.recordings.image_files import IMAGE_SUFFIXES, images_in
from sam2s_model.recordings.layouts import open_layout, recognise_layout
from sam2s_model.recordings.recording import Recording
from sam2s_model.recordings.sequences import incomplete_sequences
from sam2s_model.recordings.stream_spec import STDIN, stream_spec, without_password
from sam2s_model.similar import meant, meant_path

SCENE_SCHEME = "scene:"
BAG_SUFFIXES = (".mcap", ".db3")
ROS1 = ".bag"  # and .bag.active while it is recorded, or when its recorder was killed
KINDS = (
    'a video, an image folder (or one with frames/ and masks/), a rosbag2 folder or file, a URL, /dev/videoN, "-", or '
    '"scene:"'
)
TRUTH_HINTS = {
    "bag": "--mask-topic, or --truth with a folder of masks by stamp or frame number",
    "video": "--truth with a folder of masks by frame number",
    "folder": "frames/ and masks/ in it, or --truth with a folder of masks by the names of the images",
}


@dataclass(frozen=True)
class Source:
    """One SOURCE of the command line `sam2s eval`.

    spec: a path, or a URI like scene:?width=640&height=512&frames=120&seed=0
    data_set: its name in the report, "" for the folder's or file's own
    layout: of a folder, or "auto"
    topic: a bag's image topic, "" for its only one
    mask_topic: of mono8 label images with the stamps of the images, "" for none
    truth: folder of masks of a video (by frame number), of a bag (by stamp) or of images (by name); "" for none
    mask_values: how values of masks are read, see `mask_values.decide`
    """

    spec: str
    data_set: str = ""
    layout: str = "auto"
    topic: str = ""
    mask_topic: str = ""
    truth: str = ""
    mask_values: str = "auto"

    @property
    def shown(self) -> str:
        """The spec for people, reports and messages: without a password."""
        return without_password(self.spec)


def open_recordings(source: Source) -> list[Recording]:
    """Return the recordings of a source, at least one, all with ground truth.

    Raises SourceError or ConfigError, one sentence that names the path and what would be right.
    """
    path = expanded(source.spec)
    found: list[Recording]
    bare = source.truth and source.layout in ("auto", "folder") and _has_frames_alone(path)
    if not bare and (source.layout != "auto" or (path.is_dir() and recognise_layout(path))):
        for option, value in (
            ("--truth", source.truth),
            ("--topic", source.topic),
            ("--mask-topic", source.mask_topic),
        ):
            if value:
                raise SourceError(
                    f"{option} {value} was given, but {source.shown} is laid out as a data set, whose masks lie in it: "
                    "give a video, a bag or a folder of images alone"
                )
        found = [*open_layout(path, source.layout, source.mask_values)]
    else:
        found = [_with_truth(source)]
    for recording in found:
        recording.data_set = source.data_set or recording.data_set
    return found


def _with_truth(source: Source) -> Recording:
    """Return a recording with the masks that the source gives, or its own. Raises SourceError when it has neither."""
    recording = open_recording(
        source.spec, topic=source.topic, mask_topic=source.mask_topic, mask_values=source.mask_values
    )
    if source.truth:
        take_masks(recording, source.truth, source.mask_values)
    if not recording.has_masks:
        hint = TRUTH_HINTS.get(recording.kind, "frames/ and masks/ in it")
        raise SourceError(f"{source.shown} has no ground truth to evaluate with: expected {hint}")
    return recording


def _has_frames_alone(path: Path) -> bool:
    """Whether a folder has frames/ with images, and neither masks/ with something in it nor JSON beside the images."""
    return (path / "frames").is_dir() and recognise_layout(path) == "folder" and not any(path.glob("masks/*"))


def take_masks(recording: Recording, masks: str, mask_values: str = "auto") -> None:
    """Have masks by the names of images, number or stamp as a recording's truth, see `NumberedMasks`.

    Raises SourceError.
    """
    from sam2s_model.recordings.files import FileRecording
    from sam2s_model.recordings.numbered import NumberedMasks

    by_stamp = recording.kind == "bag"
    images = recording.images if isinstance(recording, FileRecording) else ()
    recording.take_truth(NumberedMasks(masks, mask_values, recording.count_frames, by_stamp=by_stamp, images=images))


def describe_incomplete(source: Source) -> str:
    """Describe the recordings of a folder that have images without masks, or masks without images; "" for none."""
    path = expanded(source.spec)
    names = incomplete_sequences(path) if path.is_dir() else []
    some = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"{source.spec}: {len(names)} folders have images or masks alone, and are left out: {some}" if names else ""


def open_recording(
    spec: str | Path, *, topic: str = "", mask_topic: str = "", mask_values: str = "auto", crop: str = ""
) -> Recording:
    """Open a video file, an image folder, a rosbag2 folder or file, a stream, or a "scene:" URI.

    A folder may also be a data set in one of LAYOUTS: then its only recording is opened, or by FOLDER#NAME the one of
    that name. A stream is "-" for standard input, a URL, /dev/videoN or a named pipe, see `stream_spec`.
    crop: part of each picture, see `Crop`; the other arguments are as of `Source`
    Raises SourceError, one sentence that names the path and what would be right, and ConfigError for the crop.
    """
    part = Crop.parse(crop)
    recording = _open(str(spec), topic, mask_topic, mask_values)
    return CroppedRecording(recording, part) if part else recording


def _open(spec: str, topic: str, mask_topic: str, mask_values: str) -> Recording:
    if not spec:
        raise SourceError(f"no source was given: expected {KINDS}")
    name = recording_name(spec)
    stream = stream_spec(spec)
    if stream:
        _no_topic(stream.shown, "a stream", topic, mask_topic)
        from sam2s_model.recordings.stream import StreamRecording

        return StreamRecording(name, stream)
    if spec.startswith(SCENE_SCHEME):
        _no_topic(spec, "the procedural scene", topic, mask_topic)
        from sam2s_model.recordings.scene_recording import SceneRecording

        return SceneRecording.of_uri(name, spec)
    path = expanded(spec)
    try:
        exists, is_dir = path.exists(), path.is_dir()
    except (OSError, ValueError) as error:
        raise SourceError(f"{spec} cannot be looked at ({error})") from error
    if not exists:
        folder, _, only = spec.rpartition("#")
        if folder and expanded(folder).is_dir():
            _no_topic(spec, "of a data set", topic, mask_topic)
            return _in_data_set(spec, expanded(folder), only, mask_values)
        raise SourceError(f"{spec} does not exist: expected {KINDS}{meant_path(path)}")
    bag = _bag_in(spec, path, is_dir)
    if bag:
        from sam2s_model.recordings.bag import BagRecording

        return BagRecording(name, spec, bag, topic=topic, mask_topic=mask_topic, mask_values=mask_values)
    if is_dir:
        ros1 = _only_ros1(path)
        if ros1 is not None:
            raise SourceError(f"{spec} has no images, but {ros1.name}, a ROS 1 bag{_from_ros1(ros1)}")
        _no_topic(spec, "an image folder", topic, mask_topic)
        from sam2s_model.recordings.files import ImageFolder

        if not (path / "frames").is_dir() and not images_in(path) and recognise_layout(path):
            return _in_data_set(spec, path, "", mask_values)
        return ImageFolder(name, spec, path, mask_values)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise SourceError(f"{spec} is a single image: give the folder that it is in")
    if ROS1 in path.suffixes[-2:]:
        raise SourceError(f"{spec} is a ROS 1 bag{_from_ros1(path)}")
    _no_topic(spec, "a video", topic, mask_topic)
    from sam2s_model.recordings.video import VideoRecording

    return VideoRecording(name, spec, path)


def _in_data_set(spec: str, path: Path, only: str, mask_values: str) -> Recording:
    """Open the recording of a data set that has a name, or its only one for "".

    Raises SourceError as `open_layout`, and with the names there are.
    """
    found = {recording.name: recording for recording in open_layout(path, "auto", mask_values)}
    if only not in found and (only or len(found) > 1):
        some = ", ".join([*list(found)[:8], *["..."] * (len(found) > 8)])
        raise SourceError(f"{path} has the recordings {some}: give one of them as {path}#NAME{meant(only, found)}")
    recording = found[only] if only else next(iter(found.values()))
    recording.spec = spec
    recording.describe()  # where no image can be read, or masks can be no masks, it raises
    return recording


def recording_name(spec: str) -> str:
    """Return what a recording is called in reports and files: letters, digits and _ . - alone, and not dots alone."""
    if spec == STDIN:
        return "stdin"
    if spec.startswith(SCENE_SCHEME):
        name = spec.replace("=", "")
    else:
        path = Path(without_password(spec))
        name = path.stem if path.stem.strip(".") else with_name(path).stem
    return re.sub(r"[^\w.-]+", "_", name if name.strip(".") else "recording")


def _bag_in(spec: str, path: Path, is_dir: bool) -> Path | None:
    """Find what to hand to a bag reader: the file, the folder with its metadata, or the folder's only bag file."""
    if not is_dir:
        if is_packed(path):
            raise SourceError(f"{spec} is a file of a bag that was compressed: {unpack(path)}")
        return path if path.suffix in BAG_SUFFIXES else None
    if (path / "metadata.yaml").exists():
        return path
    files = sorted(p for suffix in BAG_SUFFIXES for p in path.glob(f"*{suffix}"))
    if len(files) > 1:
        mend = f"give one of the files, or make it with `ros2 bag reindex {path}`"
        raise SourceError(f"{spec} has {len(files)} bag files and no metadata.yaml: {mend}")
    packed = next((p for p in sorted(path.iterdir()) if is_packed(p)), None) if not files else None
    if packed is not None:
        raise SourceError(
            f"{spec} has {packed.name}, which was compressed, and no metadata.yaml: unpack it with `zstd -d {packed}`"
        )
    return files[0] if files else None


def _only_ros1(path: Path) -> Path | None:
    """Return a ROS 1 bag in a folder that has neither images nor folders, or None."""
    inner = sorted(path.iterdir())
    if any(p.is_dir() or p.suffix.lower() in IMAGE_SUFFIXES for p in inner):
        return None
    return next((p for p in inner if ROS1 in p.suffixes[-2:]), None)


def _from_ros1(path: Path) -> str:
    """Say what to do about it, as the end of a sentence."""
    mend = f" that was not closed: mend it with `rosbag reindex {path}`, then" if path.suffix == ".active" else ":"
    return (
        f"{mend} convert it to rosbag2 ({' or '.join(BAG_SUFFIXES)}) with `rosbags-convert --src {path} --dst FOLDER`"
    )


def _no_topic(spec: str, what: str, topic: str, mask_topic: str) -> None:
    if topic or mask_topic:
        raise SourceError(f"topic {topic or mask_topic!r} was given, but {spec} is {what}: topics are for bags only")
