"""Of the tests of downloads, whose common parts are in this folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from downloads import CONTENT, made  # noqa: E402 (of the folder that is added above)


@pytest.fixture
def server(file_server):
    file_server.content = CONTENT
    return file_server


@pytest.fixture
def entry(server):
    """An entry of which size and sha256 are known."""
    return made(server)
