"""Objects of an earlier run: what is remembered of them is saved, and goes on without a prompt."""
