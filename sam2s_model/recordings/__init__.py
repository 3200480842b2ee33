"""Recordings: frames and truth out of image folders, videos and the procedural scene. No torch, no ROS."""
