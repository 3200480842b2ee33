"""Parity tests: their helpers are modules of this folder, and their figures are a table at the end of the run."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from comparison import HEADER, results  # noqa: E402


def pytest_terminal_summary(terminalreporter):
    if not results:
        return
    width = max(len(name) for name, _ in results) + 2
    terminalreporter.section("parity: worst relative error of each quantity")
    terminalreporter.write_line(f"{'case':{width}}{HEADER}")
    for name, comparison in results:
        terminalreporter.write_line(f"{name:{width}}{comparison.row()}")
