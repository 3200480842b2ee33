"""The tracker node: its thread, what it publishes, and what keeps it alive."""
