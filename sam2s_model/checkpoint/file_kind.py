"""What a file is that should be a checkpoint and is none: a pointer, a page, a part."""

from __future__ import annotations

import json
import re
from pathlib import Path

BEGINNING = 4096  # bytes that are looked at
ZIP, ZIP_END = b"PK\x03\x04", b"PK\x05\x06"
ZIP_TAIL = 1 << 16  # bytes from the end in which a zip archive's directory ends
ARCHIVES = {
    b"\x1f\x8b": "gzip",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
}


def what_is_wrong(path: Path) -> str:
    """Say what an unreadable file is, and what to do, as the rest of a sentence; "" if nothing is known."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(BEGINNING)
    if not size:
        return "is empty: 0 bytes"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"version https://git-lfs"):
        wanted = re.search(rb"^size (\d+)", head, re.MULTILINE)
        of = f" to {int(wanted[1]):,} bytes" if wanted else ""
        return f"is a Git LFS pointer{of}, not the file itself: run `git lfs pull` in its folder, or download the file"
    if b"/annex/objects/" in head[:BEGINNING] and size < BEGINNING:
        return "is a git-annex pointer, not the file itself: run `git annex get` in its folder"
    if text[:1] == b"<":
        title = re.search(rb"<title[^>]*>\s*(.{1,80}?)\s*</title>", head, re.DOTALL | re.IGNORECASE)
        named = f" ({' '.join(title[1].decode(errors='replace').split())})" if title else ""
        return (
            f"is an HTML or XML page{named}, not the file itself: the download led to a page, such as a log-in or a "
            "warning"
        )
    if text[:1] in b"{[" and _is_text(head):
        return f"is JSON text, not tensors: it begins with {head[:60].decode(errors='replace').split(chr(10))[0]!r}"
    kind = next((name for magic, name in ARCHIVES.items() if head.startswith(magic)), "")
    if kind:
        return f"is a {kind} archive: unpack it first"
    if not head.strip(b"\0"):
        return f"begins with {len(head)} bytes of 0: it was not written to its end"
    return _what_is_cut(path, head, size)


def _what_is_cut(path: Path, head: bytes, size: int) -> str:
    if head.startswith(ZIP):  # a .pt file, whose directory stands at its end
        with open(path, "rb") as file:
            file.seek(max(0, size - ZIP_TAIL))
            return (
                ""
                if ZIP_END in file.read()
                else f"is cut: it has {size:,} bytes, and its end is missing; download or copy it again"
            )
    length = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{" or length > 1 << 28:
        return ""
    if 8 + length > size:
        return f"is cut: it has {size:,} bytes, and its header alone {8 + length:,}; download or copy it again"
    try:
        with open(path, "rb") as file:
            file.seek(8)
            header = json.loads(file.read(length))
        whole = 8 + length + max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return ""
    return f"is cut: it has {size:,} of {whole:,} bytes; download or copy it again" if size < whole else ""


def _is_text(data: bytes) -> bool:
    return not any(byte < 9 for byte in data)
