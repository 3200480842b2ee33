"""The tracker's loop: objects, memory, what is said of them, from frame to frame."""
