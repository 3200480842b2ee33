"""`sam2s track A B C...`: many recordings, in processes or on a cluster, gone on with, and one report over all."""
