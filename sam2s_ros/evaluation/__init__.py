"""`sam2s eval`: data sets, videos and bags in; figures, tables and pictures out. A node is started by `live` only."""
