"""Run pytest, with its arguments, on the packages that are installed, not on the sources in this folder.

With --measure first, the lines of both packages that the tests run are counted: SlipCover marks each in the bytecode
and takes the mark away once it was met, so that this costs a tenth of the time, where a tracer took nearly half. Its
plugin does so in the workers of pytest-xdist: give -n.
"""

import importlib.util
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

PACKAGES = ("sam2s_model", "sam2s_ros")
GENERATED = ("*/sam2s_ros/msg/*", "*/sam2s_ros/srv/*")


def folders() -> dict[str, Path]:
    """Return where each package is installed. Raises SystemExit for one that is not."""
    specs = {name: importlib.util.find_spec(name) for name in PACKAGES}
    missing = [name for name, spec in specs.items() if spec is None]
    if missing:
        raise SystemExit(f"run_tests: {', '.join(missing)} is not installed: `make build` does it")
    return {name: Path(spec.origin).parent for name, spec in specs.items()}


def shares(data: Path, packages: dict[str, Path]) -> str:
    """Say how many of each package's lines were run, of SlipCover's data."""
    if not data.is_file():
        return "nothing was measured"
    measured = json.loads(data.read_text())
    run, known = Counter(), Counter()
    for file, lines in measured["files"].items():
        path = Path(file).resolve()
        for name, folder in packages.items():
            if path.is_relative_to(folder.resolve()):
                run[name] += len(lines["executed_lines"])
                known[name] += len(lines["executed_lines"]) + len(lines["missing_lines"])
    return ", ".join(f"{name} {100 * run[name] / known[name]:.0f} %" for name in packages if known[name])


def main(arguments: list[str]) -> int:
    sys.path[:] = [path for path in sys.path if path and Path(path).resolve() != Path(__file__).resolve().parent]
    if arguments[:1] != ["--measure"]:
        return int(pytest.main(arguments))
    packages = folders()
    os.environ["SLIPCOVER_ENABLED"] = "1"
    os.environ["SLIPCOVER_SOURCE"] = ",".join(map(str, packages.values()))
    os.environ["SLIPCOVER_OMIT"] = ",".join(GENERATED)
    code = int(pytest.main(arguments[1:]))
    data = os.environ.get("SLIPCOVER_COVERAGE_DIR")  # which the plugin makes, and leaves to SlipCover's own command
    if data:
        shown = shares(Path(data) / "merged.json", packages)
        shutil.rmtree(data, ignore_errors=True)
        print(f"coverage: {shown} of the lines, without what graphs and child processes run (nodes, commands)")
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
