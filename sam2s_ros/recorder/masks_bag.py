"""A tracker's masks as a bag that opens elsewhere."""

from __future__ import annotations

from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from sam2s_model.errors import ConfigError
from sam2s_ros.processes.dds import share_directory
from sam2s_ros.recorder.whole_mcap import WholeMcap

MASKS_TYPE = "sam2s_ros/msg/TrackedMasks"
OWN_TYPES = ("TrackedObject", "TrackedMasks")


class MasksBag:
    """A single mcap file of TrackedMasks messages with their definitions, so that it opens without this package.

    Other topics can be beside them, of types that every ROS distribution has. It opens at any time, see `WholeMcap`,
    and is compressed: masks are hundreds of times smaller then. Raises ConfigError when the package's message
    definitions are not installed, FileExistsError when the file exists.
    """

    def __init__(self, path: Path, topic: str):
        self._store = masks_typestore()
        self._file = WholeMcap(path)
        self._channel = self._add(topic, MASKS_TYPE)
        self._others: dict[str, int] = {}
        self.messages = 0

    def write(self, time_ns: int, message: bytes) -> None:
        """Append masks. message: a serialised TrackedMasks; time_ns: when it was received"""
        self._file.write(self._channel, time_ns, message)
        self.messages += 1

    def write_other(self, time_ns: int, topic: str, message_type: str, message: bytes) -> None:
        """Append a message of another topic. message_type: of all on this topic, such as sensor_msgs/msg/Image"""
        if topic not in self._others:
            self._others[topic] = self._add(topic, message_type)
        self._file.write(self._others[topic], time_ns, message)

    def flush(self) -> None:
        """Put what has come into the file."""
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _add(self, topic: str, message_type: str) -> int:
        definition, _ = self._store.generate_msgdef(message_type, ros_version=2)
        return self._file.add_channel(topic, self._file.add_schema(message_type, "ros2msg", definition.encode()))


def masks_typestore():
    """Make a `rosbags` type store that knows TrackedMasks. Raises ConfigError when the package is not installed."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for name in OWN_TYPES:
        path = share_directory() / "msg" / f"{name}.msg"
        try:
            types.update(get_types_from_msg(path.read_text(), f"sam2s_ros/msg/{name}"))
        except OSError as error:
            raise ConfigError(f"{path} cannot be read ({error.strerror}): install the package again") from error
    store.register(types)
    return store
