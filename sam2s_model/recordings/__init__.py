"""Recordings: frames and truth out of image folders, data sets, videos, bags and the procedural scene. No torch, no ROS."""
