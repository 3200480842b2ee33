"""A tracker's masks as a bag that opens elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from sam2s_model.errors import ConfigError
from sam2s_ros.processes.dds import share_directory

MASKS_TYPE = "sam2s_ros/msg/TrackedMasks"
OWN_TYPES = ("TrackedObject", "TrackedMasks")


class MasksBag:
    """A single mcap file of TrackedMasks messages with their definitions, so that it opens without this package.

    Other topics can be beside them, of types that every ROS distribution has.
    It is written in a folder beside it and moved to `path` when it is complete. Raises ConfigError when the
    package's message definitions are not installed.
    """

    def __init__(self, path: Path, topic: str, *, compress: bool = False):
        """compress: the file's chunks, with zstd, which takes time while it is written"""
        self._path = path
        self._folder = path.with_name(path.name + ".part")
        self._store = store = masks_typestore()
        if self._folder.exists():
            shutil.rmtree(self._folder)  # left by a recording that was killed
        self._writer = Writer(self._folder, version=9, storage_plugin=StoragePlugin.MCAP)
        if compress:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self._connection = self._writer.add_connection(topic, MASKS_TYPE, typestore=store)
        self._others: dict[str, object] = {}
        self.messages = 0

    def write(self, time_ns: int, message: bytes) -> None:
        """message: a serialised TrackedMasks; time_ns: when it was received."""
        self._writer.write(self._connection, time_ns, message)
        self.messages += 1

    def write_other(self, time_ns: int, topic: str, message_type: str, message: bytes) -> None:
        """message_type: of all messages on this topic, such as sensor_msgs/msg/Image"""
        if topic not in self._others:
            self._others[topic] = self._writer.add_connection(topic, message_type, typestore=self._store)
        self._writer.write(self._others[topic], time_ns, message)

    def close(self) -> None:
        self._writer.close()
        (file,) = self._folder.glob("*.mcap")
        file.replace(self._path)
        shutil.rmtree(self._folder)


def masks_typestore():
    """A `rosbags` type store that knows TrackedMasks. Raises ConfigError when the package is not installed."""
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
