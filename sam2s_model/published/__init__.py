"""Checkpoints that others publish: what there is, where it lies, and how to get it. Imports no torch."""
