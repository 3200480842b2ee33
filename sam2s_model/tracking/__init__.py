"""The tracker's loop: objects, memory, the tracks that they give, from frame to frame."""
