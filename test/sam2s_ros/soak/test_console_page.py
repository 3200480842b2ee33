"""`sam2s bench console`: what it needs is said; with it, its figures are those of the page."""

from __future__ import annotations

import re
import shutil
import sys
from types import ModuleType

import pytest

from sam2s_ros.commands.cli import main


def test_what_is_missing_is_said(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    assert main(["bench", "console"]) == 2
    assert "pip install 'sam2s_ros[browser]'" in capsys.readouterr().err
    there = ModuleType("playwright.sync_api")
    there.sync_playwright = object()
    monkeypatch.setitem(sys.modules, "playwright", ModuleType("playwright"))
    monkeypatch.setitem(sys.modules, "playwright.sync_api", there)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main(["bench", "console"]) == 2
    assert "there is no chromium or chromium-browser or google-chrome: install it" in capsys.readouterr().err
    assert main(["bench", "console", "--size", "big"]) == 2
    assert "size is 'big': expected WIDTHxHEIGHT" in capsys.readouterr().err


@pytest.mark.full
def test_figures_of_a_page(capsys):
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'sam2s_ros[browser]'")
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("there is no Chromium: install it (Debian: apt-get install chromium)")
    assert main(["bench", "console", "--seconds", "5", "--size", "640x480"]) == 0
    found = re.search(r"p50 (\d+) ms, p95 (\d+) ms; ([\d.]+) pictures/s, (\d+) KiB/s", capsys.readouterr().out)
    p50, p95, pictures, sent = map(float, found.groups())
    assert 0 < p50 <= p95 < 10_000 and 0 < pictures <= 31 and sent > 0
