"""Frames from a video, an image folder, a bag or the procedural scene: one interface for all. No ROS import."""

from sam2s_model.recordings.source import Frame, FrameSource
from sam2s_ros.replay.sources.open import open_source

__all__ = ["Frame", "FrameSource", "open_source"]
