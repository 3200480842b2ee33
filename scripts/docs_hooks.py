"""Make links to files of the repository readable on the site, which holds the pages of docs/ alone."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#\s]*)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page, **_) -> str:
    """Replace `[text](../path)` by the text and the path; raise FileNotFoundError for a path that is not there."""
    folder = (ROOT / "docs" / page.file.src_uri).parent

    def named(link: re.Match) -> str:
        text, target = link[1], (folder / link[2]).resolve()
        if not target.exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to {link[2]}, which does not exist")
        if target.is_relative_to(ROOT / "docs"):
            return link[0]
        path = target.relative_to(ROOT).as_posix()
        return f"`{path}`" if text.strip("`") in (path, target.name) else f"{text} (`{path}`)"

    return LINK.sub(named, markdown)
