"""scripts/release.py and wheel.py: what a release is refused for, and that the wheel works where it is installed."""

from __future__ import annotations

import datetime
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TODAY = datetime.date(2026, 3, 4)
CHANGES = """# Changelog

## [Unreleased]

### Added

- A thing.

## [0.9.0] - 2026-01-02

- All.
"""
IS_REPOSITORY = (ROOT / ".git").exists() and shutil.which("git")


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


release = load("release")


def commit(root: Path) -> None:
    release.git(root, "add", "--all")
    author = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    release.git(root, *author, "commit", "--quiet", "--message", "as it is")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with this one's files that name the version; a released 0.9.0, and a change since."""
    for variable in [name for name in os.environ if name.startswith("GIT_")]:  # of a hook that runs the tests
        monkeypatch.delenv(variable)
    for name in ("package.xml", "CITATION.cff"):
        shutil.copy2(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(CHANGES)
    release.git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_is_prepared_and_committed_can_be_released(repository):
    release.prepare(repository, "0.10.0", TODAY)
    commit(repository)
    assert release.check(repository) == "0.10.0"
    assert (
        "## [Unreleased]\n\n## [0.10.0] - 2026-03-04\n\n### Added\n\n- A thing.\n"
        in (repository / "CHANGELOG.md").read_text()
    )
    replace(repository / "CHANGELOG.md", "## [Unreleased]\n", "## [Unreleased]\n\n- Another thing.\n")
    release.prepare(repository, "1.0.0", TODAY)
    commit(repository)
    assert release.check(repository) == "1.0.0"
    assert (repository / "CITATION.cff").read_text().count("version: ") == 2  # cff-version, and the project's


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("package.xml", ">0.10.0<", ">0.10.1<", "CHANGELOG.md: its newest release is 0.10.0, expected 0.10.1"),
        ("CITATION.cff", "\nversion: 0.10.0", "\nversion: 0.9.0", "the version is 0.9.0, expected 0.10.0"),
        ("CITATION.cff", "\ndate-released: 2026-03-04", "", "the date is missing, expected 2026-03-04"),
        ("CHANGELOG.md", "leased]\n", "leased]\n- More.\n", "expected nothing under ## [Unreleased], found '- More.'"),
    ],
)
def test_files_that_disagree_are_named(repository, file, old, new, said):
    release.prepare(repository, "0.10.0", TODAY)
    replace(repository / file, old, new)
    commit(repository)
    with pytest.raises(SystemExit, match=r"expected") as refused:
        release.check(repository)
    assert said in str(refused.value)


def test_what_is_not_committed_or_tagged_already_is_refused(repository):
    release.prepare(repository, "0.10.0", TODAY)
    with pytest.raises(SystemExit, match="3 files are not committed, the first: "):
        release.check(repository)
    commit(repository)
    (repository / "new.py").write_text("")
    with pytest.raises(SystemExit, match="1 files are not committed, the first: new.py"):
        release.check(repository)
    (repository / "new.py").unlink()
    release.git(repository, "tag", "v0.10.0")
    with pytest.raises(SystemExit, match="the tag v0.10.0 is there already"):
        release.check(repository)


@pytest.mark.parametrize(
    ("version", "said"),
    [("0.9.0", "expected one after 0.9.0"), ("0.8.12", "expected one after 0.9.0"), ("1.0", "expected three numbers")],
)
def test_a_version_that_is_none_or_not_newer_is_refused(repository, version, said):
    with pytest.raises(SystemExit, match=said):
        release.prepare(repository, version, TODAY)
    assert not release.git(repository, "status", "--porcelain")


def test_the_bill_of_materials_names_no_folder_of_this_machine():
    links = [{"url": "file:///home/somebody/dist/a.whl"}, {"url": "https://example.org/a"}]
    bill = {"components": [{"name": "a", "externalReferences": links}, {"name": "b", "externalReferences": links[:1]}]}
    kept = [{"name": "a", "externalReferences": links[1:]}, {"name": "b"}]
    assert release.without_local_files(bill) == {"components": kept}


@pytest.mark.skipif(not IS_REPOSITORY, reason="not a git repository: what is in it is not known")
def test_the_sdist_has_every_file_of_the_repository(tmp_path):
    tree = tmp_path / "tree"
    listed = release.git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    names = [name for name in listed if (ROOT / name).is_file()]
    for name in names:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(ROOT / name)
    command = [sys.executable, "setup.py", "--quiet", "sdist", "--formats=tar", "--dist-dir", str(tmp_path)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar"))) as sdist:
        packed = {name.split("/", 1)[1] for name in sdist.getnames() if "/" in name}
    assert not set(names) - packed


GENERATED = """: ${AMENT_CURRENT_PREFIX:="/tmp/build-env-x"}
if [ ! -d "$AMENT_CURRENT_PREFIX" ]; then
  if [ -z "$COLCON_CURRENT_PREFIX" ]; then
    echo "The compile time prefix path '$AMENT_CURRENT_PREFIX' doesn't exist."
  fi
fi
echo "found $AMENT_CURRENT_PREFIX"
"""


def test_what_a_shell_sources_finds_the_environment_it_is_installed_in(tmp_path):
    setup = tmp_path / "local_setup.sh"
    setup.write_text(GENERATED)
    load("relocated").relocated(setup, Path("/tmp/build-env-x"))
    for own, expected in (
        (dict(VIRTUAL_ENV=str(tmp_path)), f"found {tmp_path}\n"),
        (dict(VIRTUAL_ENV="/elsewhere", AMENT_CURRENT_PREFIX=str(tmp_path)), f"found {tmp_path}\n"),
        ({}, "The compile time prefix path '' doesn't exist.\nfound \n"),
    ):
        shown = subprocess.run(
            ["sh", str(setup)], env={"PATH": os.environ["PATH"], **own}, capture_output=True, text=True
        )
        assert shown.stdout == expected and not shown.stderr


def test_exported_targets_name_no_folder_of_the_build(tmp_path):
    headers = sysconfig.get_paths()["include"]
    line = 'INTERFACE_INCLUDE_DIRECTORIES "{}"\n'
    for folders, expected in (
        (f"{headers};/b/env/lib/python3/numpy/include", "${_IMPORT_PREFIX}/lib/python3/numpy/include"),
        (f"/b/env/include/a;{headers}", "${_IMPORT_PREFIX}/include/a"),
        (
            "${_IMPORT_PREFIX}/include/sam2s_ros;/other/b/env/lib",
            "${_IMPORT_PREFIX}/include/sam2s_ros;/other/b/env/lib",
        ),
    ):
        exported = tmp_path / "export.cmake"
        exported.write_text(line.format(folders))
        load("relocated").relocated(exported, Path("/b/env"))
        assert exported.read_text() == line.format(expected)


def names_of_the_build(wheel: Path, *folders: Path) -> list[str]:
    """The files of a wheel in which one of these folders, or a temporary one, is named."""
    with zipfile.ZipFile(wheel) as packed:
        wanted = [f"{folder}/".encode() for folder in (tempfile.gettempdir(), *folders)]
        return [name for name in packed.namelist() if any(one in packed.read(name) for one in wanted)]


@pytest.mark.full
def test_the_wheel_does_the_main_job_in_a_clean_environment(tmp_path):
    wheel = load("wheel")
    made = wheel.build(ROOT, tmp_path / "dist", tmp_path / "work")
    assert names_of_the_build(made, ROOT, tmp_path, Path(sys.prefix)) == []
    programs = wheel.install(made, tmp_path / "work")
    assert wheel.try_out(programs, wheel.version_of(ROOT))["counts"]["published"] > 0
    release.bill_of_materials(programs, tmp_path / "sbom.json", tmp_path / "work")
    found = {part["name"]: part["version"] for part in json.loads((tmp_path / "sbom.json").read_text())["components"]}
    assert {"torch", "numpy", "ros-rclpy", "sam2s-ros"} <= {name.replace("_", "-") for name in found}
