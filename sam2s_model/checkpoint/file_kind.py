"""What a file is that should be a checkpoint and is none: a pointer, a page, a part."""

from __future__ import annotations

import json
from pathlib import Path

from sam2s_model.files.substitutes import BEGINNING, substitute_of

ZIP, ZIP_END = b"PK\x03\x04", b"PK\x05\x06"
ZIP_TAIL = 1 << 16  # bytes from the end in which a zip archive's directory ends


def what_is_wrong(path: Path) -> str:
    """Say what an unreadable file is, and what to do, as the rest of a sentence; "" if nothing is known."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(BEGINNING)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] in b"{[" and size and _is_text(head):
        return f"is JSON text, not tensors: it begins with {head[:60].decode(errors='replace').split(chr(10))[0]!r}"
    instead = substitute_of(head, size)
    if instead:
        return instead
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
