"""A streaming surgical instrument tracker: SAM2 with bounded memory. torch and numpy, no ROS.

Import the parts by their own names (``from sam2s_model.tracker import Tracker``): this file imports
nothing, so that the procedural scene and the value objects load without torch.
"""
