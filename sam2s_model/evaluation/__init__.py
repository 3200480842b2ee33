"""Evaluation without ROS: recordings with ground truth, the protocols that papers use, scores and their comparison."""
