"""`sam2s soak`: the node under load for hours, counted to the frame."""
