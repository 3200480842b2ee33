"""cmake/install_folder.cmake with a CMake project of a few files, installed as copies and, as colcon can, as links."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = f"""\
cmake_minimum_required(VERSION 3.16)
project(a_package NONE)
find_package(ament_cmake_core REQUIRED)
include({(ROOT / "cmake" / "install_folder.cmake").as_posix()})
install_folder(config share/a_package)
install_python_main(a_program a_module bin main.py.in)
"""
PREFIXES = [sys.prefix, *filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))]


def program(name: str) -> str:
    """Find a program of the build, beside this Python or on the PATH."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"{name} is not installed: it is what the package is built with, requirements/build.txt")
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    if not any((Path(prefix) / "share" / "ament_cmake_core").is_dir() for prefix in PREFIXES):
        pytest.skip("ament_cmake_core is not installed: it is what the package is built with")
    folder = tmp_path / "project"
    (folder / "config" / "inner" / "__pycache__").mkdir(parents=True)
    for name in ("one.yaml", "inner/two.yaml", "inner/__pycache__/compiled.pyc"):
        (folder / "config" / name).write_text(name)
    shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=lambda _, names: [n for n in names if n[-3:] != ".in"])
    (folder / "CMakeLists.txt").write_text(PROJECT)
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("links", ["OFF", "ON"])
def test_a_folder_is_installed_whole_and_without_what_is_gone_from_it(project, tmp_path, links):
    build, prefix = tmp_path / "build", tmp_path / "prefix"
    cmake, ninja = program("cmake"), program("ninja")
    build.mkdir()

    def run(*words: str) -> None:
        done = subprocess.run([cmake, *words], cwd=build, capture_output=True, text=True)  # where ament leaves a list
        assert done.returncode == 0, done.stdout + done.stderr

    run(
        "-G", "Ninja", "-S", str(project), "-B", str(build), f"-DCMAKE_MAKE_PROGRAM={ninja}",
        f"-DCMAKE_INSTALL_PREFIX={prefix}", f"-DCMAKE_PREFIX_PATH={';'.join(PREFIXES)}",
        f"-DPython3_EXECUTABLE={sys.executable}", f"-DAMENT_CMAKE_SYMLINK_INSTALL={links}",
    )  # fmt: skip
    run("--install", str(build))
    installed = prefix / "share" / "a_package" / "config"
    assert files(installed) == {"one.yaml", "inner/two.yaml"}
    assert (installed / "inner" / "two.yaml").read_text() == "inner/two.yaml"
    assert (installed / "one.yaml").is_symlink() == (links == "ON")
    assert os.access(prefix / "bin" / "a_program", os.X_OK), "also where it is a link"
    (project / "config" / "one.yaml").unlink()
    run("--install", str(build))
    assert files(installed) == {"inner/two.yaml"}
