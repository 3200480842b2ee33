"""Semantic maps of any segmentation network, made better by objects that are tracked: each has one class all over."""
