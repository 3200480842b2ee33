"""Files as programs leave them: whole or not at all, locked, known for what they are where they are something else."""
