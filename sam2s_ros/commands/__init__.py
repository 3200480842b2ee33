"""The command line `sam2s`."""
