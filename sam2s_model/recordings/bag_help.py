"""What is wrong with a bag that cannot be opened, from its files alone, and the command that helps."""

from __future__ import annotations

from pathlib import Path

import yaml

from sam2s_model.files.substitutes import BEGINNING, substitute_of

STORAGES = {"sqlite3": ".db3", "mcap": ".mcap"}
MCAP, SQLITE, ZSTD = b"\x89MCAP0\r\n", b"SQLite format 3\0", b"\x28\xb5\x2f\xfd"
PACKED = (".mcap.zstd", ".db3.zstd", ".mcap.zst", ".db3.zst")


def is_packed(path: Path) -> bool:
    """Whether a file is of a bag that was compressed as a whole; only metadata.yaml beside it says how."""
    return path.name.endswith(PACKED)


def unpack(path: Path) -> str:
    return f"unpack it with `zstd -d {path}`, or give the folder with its metadata.yaml"


def what_helps(path: Path) -> str:
    """Say what is wrong with a bag and how to mend it, as the end of a sentence; "" where nothing is known.

    path: of a folder, or of a single file
    """
    if not path.is_dir():
        return _of_file(path, path)
    try:
        found = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
        storage, names = found["storage_identifier"], found["relative_file_paths"]
        compressed = found.get("compression_format") or ""
        files = [path / Path(name).name for name in names]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return f"its metadata.yaml cannot be read: make it again with `ros2 bag reindex {path}`"
    kind = next((known for known, suffix in STORAGES.items() if files and files[0].suffix == suffix), "")
    if not storage and kind:
        return f"its metadata.yaml does not say how it is stored: write `storage_identifier: {kind}` there"
    if storage not in STORAGES:
        known = " or ".join(STORAGES)
        mend = "convert it with `ros2 bag convert` where that storage is installed"
        return f"its storage is {storage!r}, expected {known}: {mend}"
    if compressed not in ("", "zstd"):
        mend = "convert it with `ros2 bag convert` where that is installed"
        return f"it is compressed with {compressed!r}, expected zstd: {mend}"
    lost = [file.name for file in files if not file.is_file()]
    if lost:
        plain = [name for name in lost if is_packed(Path(name)) and (path / name.rsplit(".", 1)[0]).is_file()]
        why = ", which is there without compression" if plain else ""
        mend = f"without it, make metadata.yaml again with `ros2 bag reindex -s {storage} {path}`"
        return f"its file {lost[0]} is not there{why}: {mend}"
    return next((help for file in files if (help := _of_file(file, path))), "")


def _of_file(file: Path, bag: Path) -> str:
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            head = opened.read(BEGINNING)
            opened.seek(max(0, size - len(MCAP)))
            tail = opened.read()
    except OSError as error:
        return f"{file.name} cannot be read ({error.strerror})"
    if not size:
        return f"{file.name} is empty: nothing was recorded, or nothing was written"
    if head.startswith(ZSTD):
        return (
            ""
            if is_packed(file)
            else f"{file.name} is compressed as a whole: rename it to {file.name}.zstd and {unpack(file)}"
        )
    instead = substitute_of(head, size)
    if instead:
        return f"{file.name} {instead}"
    if file.suffix == ".mcap":
        if not head.startswith(MCAP):
            return f"{file.name} is not an mcap file: it begins with {head[:8].hex(' ')}"
        if tail != MCAP:
            return (
                f"{file.name} is cut, its end is missing: recover it with `mcap recover {file} -o recovered.mcap`"
                + (f" or `ros2 bag reindex -s mcap {bag}`" if bag.is_dir() else "")
            )
    if file.suffix == ".db3":
        if not head.startswith(SQLITE):
            return f"{file.name} is not an SQLite file: it begins with {head[:8].hex(' ')}"
        page, pages = int.from_bytes(head[16:18], "big"), int.from_bytes(head[28:32], "big")
        whole = (65536 if page == 1 else page) * pages
        if size < whole:
            return (
                f"{file.name} is cut, it has {size:,} of {whole:,} bytes: recover it with "
                f"`sqlite3 {file} .recover | sqlite3 recovered.db3`"
            )
        return f"{file.name} is damaged: recover it with `sqlite3 {file} .recover | sqlite3 recovered.db3`"
    return ""
