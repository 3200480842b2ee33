"""Where a download may come from: mirrors, addresses and redirects."""

from __future__ import annotations

import pytest
from downloads import CONTENT, NAME, SUM, assert_complete, files, get, made_at

from sam2s_model.errors import CheckpointError, DownloadError
from sam2s_model.published.catalog import Published
from sam2s_model.published.download import source_url


def test_a_mirror_has_the_same_file_name(server, tmp_path):
    entry = made_at("https://official.example.com/models/v1")
    get(entry, tmp_path, mirror=f"{server.url}/our/mirror/")
    assert_complete(tmp_path)
    assert server.requests[0][0] == f"/our/mirror/{NAME}"


def test_a_mirror_can_be_a_folder(tmp_path):
    share, target = tmp_path / "share", tmp_path / "target"
    share.mkdir()
    (share / NAME).write_bytes(CONTENT)
    get(made_at("https://official.example.com"), target, mirror=share.as_uri())
    assert_complete(target)
    (target / NAME).unlink()
    with pytest.raises(DownloadError, match="No such file or directory"):
        get(made_at("https://official.example.com"), target, mirror=(tmp_path / "nowhere").as_uri())
    assert files(target) == {SUM}


HTTPS = "https://a.example.com/weights.pt"


@pytest.mark.parametrize("url, mirror, expected", [
    (HTTPS, "", HTTPS),
    (HTTPS, "https://b.example.com/x", "https://b.example.com/x/weights.pt"),
    (HTTPS, "http://10.0.0.1:8000", "http://10.0.0.1:8000/weights.pt"),
    (HTTPS, "file:///mnt/share/", "file:///mnt/share/weights.pt"),
    ("http://localhost:80/weights.pt", "", "http://localhost:80/weights.pt"),
    ("", "https://b.example.com", "https://b.example.com/weights.pt"),
    ("http://a.example.com/weights.pt", "", "expected https://"),
    ("file:///weights.pt", "", "expected https://"),
    (HTTPS, "ftp://b.example.com", "mirror 'ftp://b.example.com' is not one .*: expected https://..., http://..., file://"),
    (HTTPS, "/mnt/share", "mirror '/mnt/share' is not one to download from"),
    (HTTPS, "https:///x", "is not one to download from"),
    ("", "", "cannot be downloaded from here: get weights.pt from https://example.com and put it into"),
])  # fmt: skip
def test_addresses(url, mirror, expected):
    entry = Published("weights", NAME, "sam2s_pico", "MIT", "https://example.com", url)
    if "://" in expected and expected.endswith(NAME):
        assert source_url(entry, mirror) == expected
    else:
        with pytest.raises(CheckpointError, match=expected):
            source_url(entry, mirror)


def test_redirects(server, entry, answer, tmp_path):
    server.plan = [answer(status=302, location=f"{server.url}/cdn/x")]
    get(entry, tmp_path)
    assert_complete(tmp_path)
    assert [path for path, _ in server.requests] == [f"/{NAME}", "/cdn/x"]
    (tmp_path / NAME).unlink()
    for location in ("file:///etc/hostname", "ftp://127.0.0.1/x"):
        server.plan = [answer(status=302, location=location)]
        with pytest.raises(DownloadError, match=f"leads to {location}: a download|url '{location}' is not allowed"):
            get(entry, tmp_path)
    assert files(tmp_path) == {SUM}


def test_a_redirect_from_https_to_http_is_refused():
    from urllib.request import Request

    from sam2s_model.published.transfer import _SafeRedirects

    with pytest.raises(DownloadError, match="does not follow from https to http"):
        _SafeRedirects().redirect_request(Request(HTTPS), None, 302, "", {}, "http://a.example.com/weights.pt")
