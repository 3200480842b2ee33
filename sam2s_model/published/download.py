"""Download a published checkpoint: resumed where it was cut, checked before it gets its name.

Beside ``NAME`` in the target folder lie ``NAME.part`` (what has arrived), ``NAME.part.json`` (of which version of the
file) and ``NAME.sha256``. Only `download` uses the network, and only `sam2s checkpoint download` calls it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sam2s_model.errors import CheckpointError, DownloadError
from sam2s_model.published.catalog import Published, cache_folder, how_to_get
from sam2s_model.published.part import PartFile
from sam2s_model.published.sha256 import file_sha256, sha256_file, store_sha256, stored_sha256, verify
from sam2s_model.published.transfer import Cut, receive

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


def download(
    entry: Published,
    folder: Path | None = None,
    *,
    mirror: str = "",
    check: Callable[[Path], Any] = lambda path: None,
    progress: Callable[[int, int | None], Any] = lambda done, total: None,
    say: Callable[[str], Any] = lambda line: None,
    attempts: int = 5,
    wait: float = 1.0,
    timeout: float = 30.0,
) -> Path:
    """Make sure that a checkpoint is in a folder, and return its path.

    folder: made if it is not there; default `cache_folder`, where its name finds it
    mirror: address of a folder that has the file under the same name, instead of the official one; https, http or file
    check: called with the complete file before it gets its name; raises CheckpointError if it is the wrong one
    progress: called with the bytes that are there and their number, None if it is not known
    say: told in one line what went wrong and is tried again
    attempts: in a row without a byte gained; wait: s before the second one, doubled each time; timeout: s of silence

    A file that is there already is compared with its size and sha256, without the network.
    Raises CheckpointError: the file is not the right one, or not to be had like this. Raises DownloadError: it did not
    arrive; what has arrived is kept, and the next call goes on there.
    """
    target = (folder or cache_folder()) / entry.file
    if target.exists():
        known = entry.sha256 or stored_sha256(target)
        verify(target, entry.sha256, entry.size)
        said = "and its sha256 is right" if known else "and is trusted now: nothing tells which sha256 it must have"
        say(f"{target} is there already, {said}")
        return target
    url = source_url(entry, mirror)
    expected = entry.sha256 or stored_sha256(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with PartFile.open(target) as part:
            _receive_all(part, url, entry.size, progress, say, attempts, wait, timeout)
            return _accept(part, entry, expected, check)
    except OSError as error:  # of the folder: those of the network are dealt with
        raise DownloadError(
            f"{target.parent} cannot be written to: {error.strerror or error}; what has arrived is kept"
        ) from error


def source_url(entry: Published, mirror: str = "") -> str:
    """Where an entry is downloaded from. Raises CheckpointError for an address that is not safe or not one at all."""
    if not entry.url and not mirror:
        raise CheckpointError(f"{entry.name} cannot be downloaded from here: {how_to_get(entry)}")
    url = f"{mirror.rstrip('/')}/{entry.file}" if mirror else entry.url
    parts = urlsplit(url)
    schemes = ("https", "http", "file") if mirror else ("https",)
    if parts.scheme == "http" and parts.hostname in LOCAL_HOSTS:
        return url
    if parts.scheme not in schemes or not (parts.hostname or parts.scheme == "file"):
        what = f"mirror {mirror!r}" if mirror else f"address {url!r}"
        raise CheckpointError(
            f"{what} is not one to download from: expected {', '.join(s + '://...' for s in schemes)}"
        )
    return url


def _receive_all(
    part: PartFile,
    url: str,
    size: int | None,
    progress: Callable[[int, int | None], Any],
    say: Callable[[str], Any],
    attempts: int,
    wait: float,
    timeout: float,
) -> None:
    part.belongs_to(url)
    most, failed = part.size, 0
    if part.size:
        say(f"{part.path.name} has {part.size / 1e6:.1f} MB already: going on from there")
    while True:
        try:
            return receive(part, url, size, progress, say, timeout)
        except Cut as cut:  # noqa: PERF203 (each turn is a request)
            failed = 0 if part.size > most else failed + 1
            most = max(most, part.size)
            if failed >= attempts:
                whole = f" of {size / 1e6:.1f}" if size else ""
                kept = f"{part.size / 1e6:.1f}{whole} MB are in {part.path}, and the same command goes on from there"
                here = kept if part.size else "nothing has arrived yet"
                raise DownloadError(f"{url}: {cut}; {attempts} attempts in a row brought nothing; {here}") from cut
            pause = min(wait * 2 ** max(failed - 1, 0), 30.0)
            say(f"{cut}; trying again in {pause:g} s")
            time.sleep(pause)
        except CheckpointError:
            part.remove()
            raise


def _accept(part: PartFile, entry: Published, expected: str | None, check: Callable[[Path], Any]) -> Path:
    """Give the complete file its name, if it is the right one."""
    digest = file_sha256(part.path)
    if expected is not None and digest != expected:
        part.remove()
        stored = sha256_file(part.target)
        first = f" by {stored}, written when a file of that name was first here (remove it if that one was not right)"
        origin = "" if entry.sha256 else first
        raise CheckpointError(
            f"{part.url} has sha256 {digest}, and {part.target.name} must have {expected}{origin}: what had arrived is "
            "deleted. The file was damaged on its way, or is not the one that was published"
        )
    try:
        check(part.path)
    except CheckpointError as error:
        rejected = part.finish(part.target.with_name(f"{part.target.name}.rejected"))
        raise CheckpointError(f"{part.url} is not {entry.name}, it is kept as {rejected}: {error}") from error
    store_sha256(part.target, digest)
    return part.finish(part.target)
