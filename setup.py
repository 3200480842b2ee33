"""`pip install .`: run CMakeLists.txt and wrap what it installs as a wheel.

CMake decides what the package consists of. This file adds what pip must know: the dependencies, from requirements/,
and the command `sam2s`. Where no ROS distribution is sourced, ROS itself is a dependency, from PyPI; its wheels make
the environment an ament prefix, and the libraries, interfaces, launch and config files of this package are put beside
theirs.
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
MACHINE = runpy.run_path(str(ROOT / "scripts" / "check_machine.py"))
RELOCATED = runpy.run_path(str(ROOT / "scripts" / "relocated.py"))
ROS_SOURCED = MACHINE["ros_sourced"]()
EXTRAS = ("console", "export", "ray", "parquet", "tubes", "browser", "docs", "test", "lint")
ROS_DISTRO = os.environ.get("SAM2S_ROS_DISTRO", "jazzy")


def requirements(name: str) -> list[str]:
    """The requirements of requirements/<name>.txt and of the files that it includes."""
    path = ROOT / "requirements" / f"{name}.txt"
    if not path.is_file():
        known = sorted(p.stem[4:] for p in path.parent.glob("ros-*.txt") if not p.stem.endswith("-build"))
        raise SystemExit(f"SAM2S_ROS_DISTRO is {ROS_DISTRO!r}: expected one of {', '.join(known)}")
    found = []
    for line in path.read_text().splitlines():
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        if line.startswith("-r "):
            found += requirements(line[3:].strip().removesuffix(".txt"))
        elif line:
            found.append(line)
    return found


def ros_prefixes() -> list[Path]:
    """The folders in which CMake finds ROS: those of the sourced distribution, or the one that holds the wheels."""
    if ROS_SOURCED:
        return [Path(p) for p in os.environ["AMENT_PREFIX_PATH"].split(os.pathsep) if p]
    import ament_package  # of the build environment, see setup_requires

    for folder in Path(ament_package.__file__).parents:
        if (folder / "share" / "ament_cmake").is_dir():
            return [folder]
    found = ament_package.__file__
    raise SystemExit(f"{found} is not part of an ament prefix: expected share/ament_cmake in a folder above it")


def build_environment() -> dict[str, str]:
    """The environment that CMake and the generators run in."""
    env = dict(os.environ)
    if ROS_SOURCED:
        # pip's build isolation has replaced PYTHONPATH: the distribution's generators need the distribution's.
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        folders = [p / "lib" / version / name for p in ros_prefixes() for name in ("site-packages", "dist-packages")]
        env["PYTHONPATH"] = os.pathsep.join(map(str, filter(Path.is_dir, folders)))
        env.pop("PYTHONNOUSERSITE", None)
        check = subprocess.run([sys.executable, "-c", "import ament_package, catkin_pkg, em, lark, numpy"], env=env)
        if check.returncode:
            raise SystemExit(
                f"the sourced ROS distribution cannot be used by {sys.executable} (Python {version[6:]}): use the "
                "distribution's Python, in an environment made with `python3 -m venv --system-site-packages`"
            )
    return env


def run_by_its_environment(program: Path) -> None:
    """Have a program run by the Python of the prefix that it lies in, instead of the one that built the wheel.

    pip writes such a line into the scripts in bin/, but not into these, which `ros2 run` looks for. A shell reads the
    two lines as a command, Python as a string.
    """
    lines = program.read_text().split("\n", 1)
    find = 'p="$(dirname -- "$0")/../../bin/python3"; [ -x "$p" ] || p=python3; printf %s "$p"'
    program.write_text(f"#!/bin/sh\n'''exec' \"$({find})\" \"$0\" \"$@\"\n' '''\n{lines[1]}")


class CMakeBuild(build_ext):
    """Build and install with CMake into a folder of its own, and hand its contents over to setuptools."""

    def run(self) -> None:
        if self.editable_mode:
            raise SystemExit("an editable install cannot hold the interfaces: use `make build` or `pip install .`")
        problem = MACHINE["missing"]()
        if problem:
            raise SystemExit(problem)
        shutil.rmtree(self.build_lib, ignore_errors=True)  # or files of an earlier build would go into the wheel
        # A new folder each time: the prefix of an isolated build is another one each time.
        with tempfile.TemporaryDirectory(prefix="sam2s_ros-") as folder:
            prefix = Path(sys.prefix)  # some of the installed files name it
            self.cmake(Path(folder) / "build", prefix, Path(folder) / "stage")
            self.hand_over(Path(folder) / "stage" / prefix.relative_to(prefix.anchor))

    def cmake(self, build: Path, prefix: Path, stage: Path) -> None:
        """Configure and build for `prefix`, but install below `stage`."""
        options = dict(
            CMAKE_INSTALL_PREFIX=prefix,
            CMAKE_PREFIX_PATH=";".join(map(str, ros_prefixes())),
            Python3_EXECUTABLE=sys.executable,
            BUILD_TESTING="OFF",
        )
        env = build_environment() | {"DESTDIR": str(stage)}
        define = [f"-D{name}={value}" for name, value in options.items()]
        for command in (["-G", "Ninja", "-S", ROOT, "-B", build, *define], ["--build", build, "--target", "install"]):
            if subprocess.run(["cmake", *map(str, command)], env=env).returncode:
                raise SystemExit("CMake failed: the reason is in the lines above")

    def hand_over(self, stage: Path) -> None:
        """Python packages become those of the wheel; everything else goes into the environment's prefix."""
        site = next(stage.glob("lib/python*/site-packages"))
        unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(site, self.build_lib, dirs_exist_ok=True, ignore=unwanted)
        kept = Path("build") / "prefix"  # the staging folder is gone when setuptools copies
        shutil.rmtree(kept, ignore_errors=True)
        skipped = {site, stage / "bin"}  # bin: the command `sam2s` is an entry point
        files: dict[str, list[str]] = {}
        for path in sorted(p for p in stage.rglob("*") if p.is_file() and not skipped.intersection(p.parents)):
            place = path.relative_to(stage)
            (kept / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, kept / place)
            RELOCATED["relocated"](kept / place, Path(sys.prefix))
            if place.parent == Path("lib", "sam2s_ros"):
                run_by_its_environment(kept / place)
            files.setdefault(str(place.parent), []).append(str(kept / place))
        self.distribution.data_files = list(files.items())


class BinaryDistribution(Distribution):
    """A wheel for this Python and machine, although setuptools is told of no extension module."""

    def has_ext_modules(self) -> bool:
        return True


package = ElementTree.parse(ROOT / "package.xml").getroot()
setup(
    name=package.findtext("name"),
    version=package.findtext("version"),
    description=" ".join(package.findtext("description").split()),
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license=package.findtext("license"),
    python_requires=">=3.10",
    packages=[],  # CMake says what is installed
    setup_requires=requirements("build") + ([] if ROS_SOURCED else requirements(f"ros-{ROS_DISTRO}-build")),
    install_requires=requirements("runtime") + ([] if ROS_SOURCED else requirements(f"ros-{ROS_DISTRO}")),
    extras_require={name: requirements(name) for name in EXTRAS} | {"annotate": requirements("console")},  # one page
    entry_points={"console_scripts": ["sam2s = sam2s_ros.commands.cli:main"]},
    cmdclass={"build_ext": CMakeBuild},
    distclass=BinaryDistribution,
)
