"""What was tracked, as files: a table, COCO, label images with a palette; and what became of each object."""
