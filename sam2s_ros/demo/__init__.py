"""`sam2s demo`: the main job as real processes."""
