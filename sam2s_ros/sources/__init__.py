"""Frames from a video, an image folder, a bag or the procedural scene: one interface for all. No ROS import."""

from sam2s_ros.sources.base import Frame, FrameSource
from sam2s_ros.sources.open import open_source

__all__ = ["Frame", "FrameSource", "open_source"]
