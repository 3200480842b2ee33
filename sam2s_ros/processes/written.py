"""What a command has written, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text


def written_files(files: Sequence[tuple[Path, str]]) -> Text:
    """Say where files are, a line each. Print it without `crop`.

    Lines are as long as the paths: a terminal wraps them, and copies them whole. A table would cut or fold them.
    files: paths and what they hold
    """
    width = max(len(str(path)) for path, _ in files)
    lines = [f"  {str(path):{width}}  {what}" for path, what in files]
    return Text("\n".join(["where to look", *lines]), no_wrap=True, overflow="ignore")
