"""Build the sdist and the wheel into a folder, install the wheel into a clean environment, and do the main job there.

    python scripts/wheel.py                  # into dist/; the environments are made in build/wheel, 3 GB on a CPU

The wheel is the one for ROS 2 from PyPI, whatever is sourced: with a distribution, build with colcon.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST, WORK = ROOT / "dist", ROOT / "build" / "wheel"
OF_A_SOURCED_ROS = ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "ROS_DISTRO")
OF_THE_WHEELS_HOOK = "_ROS_WHEELS_BOOTSTRAP_COMPLETE"  # the ROS wheels set it once for their own environment
CONSTRAINTS = ROOT / "requirements" / "constraints.txt"
EXTRAS = "console"
DEMO_FRAMES = 5


def version_of(root: Path) -> str:
    """The version, which stands in package.xml."""
    return str(ElementTree.parse(root / "package.xml").findtext("version"))


def environment() -> dict[str, str]:
    """This process's, without what a sourced ROS or another environment has set."""
    left_out = {*OF_A_SOURCED_ROS, OF_THE_WHEELS_HOOK}
    return {name: value for name, value in os.environ.items() if name not in left_out}


def run(*command: object, **options) -> str:
    """Run a command; return what it printed. Raises SystemExit, with the end of that, when it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL, **options,
    )  # fmt: skip
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-40:])
        raise SystemExit(f"{end}\n{' '.join(words)} ended with {done.returncode}: the reason is in the lines above")
    return done.stdout


def make_environment(folder: Path, *requirements: object) -> Path:
    """Make a new environment with nothing but these; return its bin/."""
    shutil.rmtree(folder, ignore_errors=True)
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)
    return folder / "bin"


def build(root: Path, dist: Path, work: Path) -> Path:
    """Build the sdist, and the wheel from the sdist, into `dist`; return the wheel."""
    programs = make_environment(work / "build", "build>=1.2")
    made = work / "made"
    shutil.rmtree(made, ignore_errors=True)
    run(programs / "python", "-m", "build", "--outdir", made, root)
    (wheel,) = made.glob("*.whl")
    dist.mkdir(parents=True, exist_ok=True)
    for path in made.iterdir():
        shutil.move(path, dist / path.name)
    return dist / wheel.name


def install(wheel: Path, work: Path) -> Path:
    """Install a wheel into a clean environment; return its bin/."""
    return make_environment(work / "clean", "-c", CONSTRAINTS, f"{wheel}[{EXTRAS}]")


def try_out(programs: Path, version: str) -> dict:
    """Run the main job with what is installed there, from an empty folder; return the demo's summary.

    Raises SystemExit when something fails.
    """
    with tempfile.TemporaryDirectory() as empty:
        shown = run(programs / "sam2s", "--version", cwd=empty).strip()
        if shown != version:
            raise SystemExit(f"the installed `sam2s --version` says {shown!r}: expected {version}")
        # Three nodes in processes of their own, over DDS: the interfaces, the programs in lib/, the files in share/.
        demo = ("demo", "--checkpoint", "sam2s_pico", "--device", "cpu", "--frames", DEMO_FRAMES, "--rate", 1)
        run(programs / "sam2s", *demo, "--output", "demo", cwd=empty)
        return json.loads((Path(empty) / "demo" / "summary.json").read_text())


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    options.add_argument("--dist", type=Path, default=DIST, help="folder for sdist and wheel")
    options.add_argument("--work", type=Path, default=WORK, help="folder for the environments, which stay there")
    given = options.parse_args()
    print("wheel: building (a minute)", flush=True)
    wheel = build(ROOT, given.dist.resolve(), given.work.resolve())
    print(f"wheel: {wheel}\nwheel: installing it into a clean environment (torch is large: some minutes)", flush=True)
    programs = install(wheel, given.work.resolve())
    counts = try_out(programs, version_of(ROOT))["counts"]
    print(f"wheel: installed in {programs.parent}, and its demo has published {counts['published']} masks")


if __name__ == "__main__":
    main()
