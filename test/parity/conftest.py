"""Parity tests: their helpers are modules of this folder, and their figures are a table at the end of the run."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from comparison import HEADER  # noqa: E402


def pytest_terminal_summary(terminalreporter):
    ended = [report for reports in terminalreporter.stats.values() for report in reports]
    properties = [pair for report in ended if getattr(report, "when", "") == "call" for pair in report.user_properties]
    rows = [value for name, value in properties if name == "parity"]  # of every process that ran tests
    if not rows:
        return
    width = max(len(name) for name, _ in rows) + 2
    terminalreporter.section("parity: worst relative error of each quantity")
    terminalreporter.write_line(f"{'case':{width}}{HEADER}")
    for name, row in rows:
        terminalreporter.write_line(f"{name:{width}}{row}")
