"""What names a stream instead of a file: a device, a URL, a pipe. Nothing is opened here."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

from sam2s_model.errors import SourceError
from sam2s_model.paths import expanded
from sam2s_model.similar import meant

STDIN = "-"
URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://", re.I)
# A user's name and password, to the last @ before the path, since people write # ? and blanks in passwords as they are.
# What follows host:port?name= is a query, which may have an @ of its own.
QUERY = r"\d+\?[\w.-]+="
PASSWORD = re.compile(rf"(?<=://)([^/@:]*):(?!{QUERY})(?:[^/]*?@(?=[^/@:?#\s]*:{QUERY})|[^/]*@)")
SECRETS = re.compile(r"([?&;](?:[^=&;#\s]*[_.-])?(?:pass(?:word|phrase|wd)?|pwd|token|key|secret)=)[^&;#\s]*", re.I)
FILES = ("http", "https")  # a server waits for whoever reads; the other protocols send what there is, in real time
SCHEMES = (*FILES, "rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "rtp", "tcp")
DEVICES = Path("/dev")
DEVICE_NAMES = Path("/sys/class/video4linux")
OPTIONS = {"size": "video_size", "fps": "framerate", "format": "input_format"}  # of a device -> FFmpeg's
DEVICE_FORM = "/dev/videoN, N, or /dev/videoN?size=1920x1080&fps=60&format=mjpeg"


@dataclass(frozen=True)
class StreamSpec:
    """A stream, ready to be opened.

    shown: for people, without a password; address: for FFmpeg; "-" for standard input
    format: FFmpeg's name of the input, "" for what it finds; options: of it
    live: frames come when they do, and whoever is late misses some
    repeatable: it can be opened again, and is the same then
    """

    shown: str
    address: str
    format: str = ""
    options: dict[str, str] = field(default_factory=dict)
    live: bool = True
    repeatable: bool = False


def stream_spec(spec: str) -> StreamSpec | None:
    """Return the stream that a source is; None where it is none, but a path or a "scene:".

    Raises SourceError for a protocol that is not known, for a device that there is not, or an option that it has not.
    """
    if spec == STDIN:
        return StreamSpec("standard input", STDIN, live=False)
    url = URL.match(spec)
    if url:
        scheme = url["scheme"].lower()
        if scheme not in SCHEMES:
            known = ", ".join(SCHEMES)
            raise SourceError(
                f"{without_password(spec)} is a URL of {scheme}: expected {known}{meant(scheme, SCHEMES)}"
            )
        # over UDP parts are lost and the decoder paints over it; a camera that cannot do TCP is asked by udp://
        options = {"rtsp_transport": "tcp"} if scheme.startswith("rtsp") else {}
        a_file = scheme in FILES
        return StreamSpec(without_password(spec), spec, options=options, live=not a_file, repeatable=a_file)
    name, _, query = spec.partition("?")
    if name.isdecimal() and not Path(spec).exists():
        name = f"{DEVICES}/video{name}"
    path = expanded(name)
    if re.fullmatch(r"/dev/(video\d+|v4l/.+)", str(path)):
        return _device(spec, path, query)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    return StreamSpec(spec, str(path), live=False) if stat.S_ISFIFO(mode) else None


def without_password(spec: str) -> str:
    """Put *** in place of the passwords of a URL, which would stand in logs and reports.

    That is what follows the user's name, to the last @ before the path, and the values of `SECRETS` in the query.
    """
    return SECRETS.sub(r"\1***", PASSWORD.sub(r"\1:***@", spec))


def _device(spec: str, path: Path, query: str) -> StreamSpec:
    if not path.exists():
        raise SourceError(f"{path} does not exist: {_devices()}")
    if not stat.S_ISCHR(path.stat().st_mode):
        raise SourceError(f"{path} is no device: {_devices()}")
    given = dict(parse_qsl(query, keep_blank_values=True))
    for name in given:
        if name not in OPTIONS:
            raise SourceError(f"{spec} has the option {name!r}: expected {', '.join(OPTIONS)}{meant(name, OPTIONS)}")
    return StreamSpec(spec, str(path), "v4l2", {OPTIONS[name]: value for name, value in given.items()})


def _devices() -> str:
    """Say which video devices this machine has."""
    found = sorted(DEVICES.glob("video*"), key=lambda path: (len(path.name), path.name))
    if not found:
        return "this machine has no video device"
    return f"this machine has {', '.join(str(path) + _name_of(path) for path in found)}"


def _name_of(device: Path) -> str:
    try:
        return f" ({(DEVICE_NAMES / device.name / 'name').read_text().strip()})"
    except OSError:
        return ""
