"""`sam2s bench`: how long a step takes, how long it would have to take on this machine, and how long others' take."""
