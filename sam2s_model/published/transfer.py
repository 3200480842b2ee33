"""One request: the bytes of a file that are not there yet, over http(s) or from a mounted folder."""

from __future__ import annotations

import re
import shutil
import ssl
from collections.abc import Callable
from email.message import Message
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from sam2s_model.errors import CheckpointError, DownloadError
from sam2s_model.published.part import PartFile

BLOCK = 1 << 18  # bytes
TEMPORARY = (408, 425, 429, 500, 502, 503, 504)  # answers after which it is worth asking again


class Cut(Exception):
    """The transfer ended early, and may go on when it is tried again."""


def receive(
    part: PartFile,
    url: str,
    size: int | None,
    progress: Callable[[int, int | None], Any],
    say: Callable[[str], Any],
    timeout: float,
) -> None:
    """Append to a part what is missing, or begin anew where the server cannot resume or has another version by now.

    size: bytes that the whole file must have, None: as the server says
    Raises Cut; DownloadError (refused by the server, no space); CheckpointError (another size); OSError (of the part).
    """
    if not part.validator:
        part.restart("")
    offset = part.size
    headers = {"User-Agent": "sam2s", "Accept-Encoding": "identity"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": part.validator}
    try:
        response = build_opener(_SafeRedirects).open(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        _refused(error, part, url, offset)
        return
    except (OSError, HTTPException) as error:
        raise _unreachable(error, url) from error
    with response:
        total = _begin(response, part, offset, say)
        if size is not None and total not in (None, size):
            raise CheckpointError(f"{url} has {total:,} bytes, and {part.target.name} must have {size:,}")
        total = total or size
        _check_space(part, total)
        _copy(response, part, total, progress)
    if total is not None and part.size < total:
        raise Cut(f"the connection was cut after {part.size / 1e6:.1f} of {total / 1e6:.1f} MB")


class _SafeRedirects(HTTPRedirectHandler):
    """An address that was https stays https, and none leads to a file."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after != "https" and not before == after == "http":
            raise DownloadError(
                f"{req.full_url} leads to {newurl}: a download does not follow from {before} to {after}"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _refused(error: HTTPError, part: PartFile, url: str, offset: int) -> None:
    """Return when the answer means that everything is there already; raise otherwise."""
    with error:
        if error.code == 416 and offset:
            if _number(r"bytes \*/(\d+)$", error.headers.get("Content-Range")) == offset:
                return
            part.restart("")
            raise Cut(f"the server has no bytes after the {offset} that are here: beginning anew")
        if error.code in TEMPORARY:
            raise Cut(f"the server answered {error.code} {error.reason}")
        raise DownloadError(f"{url}: the server answered {error.code} {error.reason}")


def _unreachable(error: Exception, url: str) -> Exception:
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return DownloadError(f"{url}: the server's certificate is not valid: {reason.verify_message}")
    if isinstance(reason, (FileNotFoundError, IsADirectoryError, PermissionError)):
        return DownloadError(f"{url}: {reason.strerror}")
    return Cut(f"{urlsplit(url).hostname} cannot be reached ({reason or type(error).__name__})")


def _begin(response: Any, part: PartFile, offset: int, say: Callable[[str], Any]) -> int | None:
    """Prepare the part for what the server sends; return the size of the whole file, None if it is not told."""
    validator = _validator(response.headers)
    if response.status == 206 and offset:
        told = response.headers.get("Content-Range")
        if _number(r"bytes (\d+)-", told) == offset and validator in ("", part.validator):
            return _number(r"/(\d+)$", told)
        part.restart("")
        raise Cut("the server sent something else than the rest of the file: beginning anew")
    if offset:
        changed = validator != part.validator
        say(f"the file {'has changed' if changed else 'cannot be resumed'} at the server: beginning anew")
    part.restart(validator)
    return _number(r"(\d+)$", response.headers.get("Content-Length"))


def _validator(headers: Message) -> str:
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


def _number(pattern: str, text: str | None) -> int | None:
    match = re.search(pattern, text or "")
    return int(match[1]) if match else None


def _check_space(part: PartFile, total: int | None) -> None:
    needed, free = (total or 0) - part.size, shutil.disk_usage(part.path.parent).free
    if needed > free:
        raise DownloadError(f"{part.path.parent} has {free / 1e6:.0f} MB free, and {needed / 1e6:.0f} MB are needed")


def _copy(response: Any, part: PartFile, total: int | None, progress: Callable[[int, int | None], Any]) -> None:
    done = part.size
    progress(done, total)
    while True:
        try:
            block = response.read(BLOCK)
        except (OSError, HTTPException) as error:
            raise Cut(f"the connection was cut after {done / 1e6:.1f} MB ({error or type(error).__name__})") from error
        if not block:
            return
        part.write(block)
        done += len(block)
        progress(done, total)
        if total is not None and done > total:
            raise CheckpointError(f"{part.url} sends more than the {total:,} bytes that {part.target.name} must have")
