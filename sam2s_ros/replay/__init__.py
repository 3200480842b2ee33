"""A recording as a camera."""
