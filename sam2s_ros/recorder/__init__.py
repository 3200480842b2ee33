"""Record what a tracker publishes."""
