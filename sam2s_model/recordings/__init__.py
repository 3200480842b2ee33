"""Recordings: frames and ground truth from image folders, data sets, videos, bags and scenes. No torch, no ROS."""
