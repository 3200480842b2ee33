"""What a graph of processes leaves in its folder."""

from __future__ import annotations

import os
from pathlib import Path

from sam2s_ros.processes.graph import Graph

SOURCE = "http://user:secret@camera/live.mp4"


def test_parameters_are_for_their_owner_alone_since_a_source_may_have_a_password(tmp_path: Path):
    file = tmp_path / "logs" / "replay.yaml"
    for _ in range(2):
        with Graph(file.parent, os.environ) as graph:
            graph.start("replay", "this", dict(source=SOURCE))  # any module that ends by itself
            assert graph.stop("replay", timeout=30.0).keys() == {"replay"}
        assert SOURCE in file.read_text() and file.stat().st_mode & 0o777 == 0o600
        file.chmod(0o644)  # as of an earlier version, or of a user who shared it
