"""What lies where a file was expected, of any kind: a pointer, a web page, an archive, nothing."""

from __future__ import annotations

import re
from pathlib import Path

BEGINNING = 4096  # bytes that are looked at
ARCHIVES = {
    b"\x1f\x8b": "gzip",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
}


def substitute(path: Path) -> str:
    """Say what a file is instead of its content and what helps, as the rest of a sentence; "" where it is not known."""
    try:
        with open(path, "rb") as file:
            head = file.read(BEGINNING)
        size = path.stat().st_size
    except FileNotFoundError:
        return f"is a link to {path.readlink()}, which is not there" if path.is_symlink() else ""
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return substitute_of(head, size)


def substitute_of(head: bytes, size: int) -> str:
    """Say the same of a file's first bytes. size: bytes of the whole file"""
    if not size:
        return "is empty: 0 bytes"
    if head.startswith(b"version https://git-lfs"):
        wanted = re.search(rb"^size (\d+)", head, re.MULTILINE)
        of = f" to {int(wanted[1]):,} bytes" if wanted else ""
        return f"is a Git LFS pointer{of}, not the file itself: run `git lfs pull` in its folder, or download the file"
    if b"/annex/objects/" in head and size < BEGINNING:
        return "is a git-annex pointer, not the file itself: run `git annex get` in its folder"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
        title = re.search(rb"<title[^>]*>\s*(.{1,80}?)\s*</title>", head, re.DOTALL | re.IGNORECASE)
        named = f" ({' '.join(title[1].decode(errors='replace').split())})" if title else ""
        return (
            f"is an HTML or XML page{named}, not the file itself: the download led to a page, such as a log-in "
            "or a warning"
        )
    kind = next((name for magic, name in ARCHIVES.items() if head.startswith(magic)), "")
    if kind:
        return f"is a {kind} archive: unpack it first"
    if not head.strip(b"\0"):
        return f"begins with {len(head)} bytes of 0: it was not written to its end"
    return ""
