"""`sam2s eval`: data sets, videos and bags in; figures, tables and pictures out. No node is started."""
