"""The types of a bag that has TrackedMasks: what those are stands in the bag itself, so that no ROS is needed."""

from __future__ import annotations

from typing import Any

from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from sam2s_model.errors import SourceError

TRACKED_MASKS = "sam2s_ros/msg/TrackedMasks"


def types_of(reader: Reader) -> Any:
    """Return types in which an opened bag's TrackedMasks are read.

    Raises SourceError where the bag has such messages, and no definition of them.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    found = next((c for c in reader.connections if c.msgtype == TRACKED_MASKS), None)
    if found is None:
        return store
    if found.msgdef.format != MessageDefinitionFormat.MSG:
        raise SourceError(
            f"{found.topic} is {TRACKED_MASKS}, and the bag does not define it: expected an mcap file, which does "
            "(`ros2 bag convert` makes one)"
        )
    defined = get_types_from_msg(found.msgdef.data, TRACKED_MASKS)
    store.register({name: fields for name, fields in defined.items() if name not in store.fielddefs})
    return store
