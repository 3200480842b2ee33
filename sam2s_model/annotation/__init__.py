"""Annotating a recording: prompts on any frame, masks on all, kept on disk after each action; and data sets of it."""
