"""docs/ agrees with what it is about, and every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import pytest

from sam2s_model.errors import ErrorCode
from sam2s_model.tracks import State
from sam2s_ros.interfaces.image_codec import ENCODINGS
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.interfaces.parameters_doc import parameters_page
from sam2s_ros.msg import TrackerStatus

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (".py", ".msg", ".srv", ".yaml", ".sh")
OF_OTHERS = {"OMP_WAIT_POLICY", "ROS_DISTRO"}  # variables of the environment that nothing here reads
DOCS = sorted((ROOT / "docs").rglob("*.md"))


def first_cells(text: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", text, re.M)


def test_the_parameters_are_those_of_the_dataclasses():
    assert (ROOT / "docs" / "parameters.md").read_text() == parameters_page(), (
        "run sam2s parameters > docs/parameters.md"
    )


@pytest.mark.parametrize("path", [*sorted(ROOT.glob("*.md")), *DOCS], ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path):
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
        assert link.startswith("https://") or (path.parent / link).exists(), link


def test_the_index_leads_to_every_page_and_so_does_the_site():
    index = (ROOT / "docs" / "index.md").read_text() + (ROOT / "docs" / "papers.md").read_text()
    site = (ROOT / "mkdocs.yml").read_text()
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in DOCS]
    assert len(pages) > 20
    assert [page for page in pages if page != "index.md" and f"({page})" not in index] == []
    assert [page for page in pages if page not in site] == []


def test_the_readme_is_one_screen():
    assert len((ROOT / "README.md").read_text().split()) <= 700


def test_pictures_are_light_and_are_shown_somewhere():
    shown = {
        link.split("/")[-1]
        for page in [ROOT / "README.md", *DOCS]
        for link in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text())
    }
    pictures = {path.name: path for path in (ROOT / "docs" / "images").iterdir()}
    assert set(pictures) == {name for name in shown if name.endswith(".webp")}
    for name, path in pictures.items():
        moving = name == "scene.webp"
        assert path.stat().st_size < (4_000_000 if moving else 300_000), name
    assert cv2.imread(str(pictures["console.webp"])).shape[1] == 1280


def test_states_that_are_named_are_there():
    names = {name.removeprefix("STATE_") for name in dir(TrackerStatus) if name.startswith("STATE_")}
    rows = re.findall(r"^\| ([A-Z_]{4,})\b", (ROOT / "docs" / "troubleshooting.md").read_text(), re.M)
    assert len(rows) >= 4 and set(rows) - {"CUDA"} <= names
    folders = ("sam2s_ros", "sam2s_model", "msg", "docker", "config")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in SOURCES]
    known = "\n".join(path.read_text() for path in (*files, ROOT / "docker" / "Dockerfile"))
    said = {word for page in DOCS for word in re.findall(r"\b[A-Z]{2,}(?:_[A-Z]+)+\b", page.read_text())}
    assert said and sorted(word for word in said - OF_OTHERS if word not in known) == []


def test_every_state_is_explained():
    of_objects, of_node = (ROOT / "docs" / "states.md").read_text().split("## Of the node")
    assert set(first_cells(of_objects)) == {state.name for state in State} | {"UNKNOWN"}
    names = {name.removeprefix("STATE_") for name in dir(TrackerStatus) if name.startswith("STATE_")}
    assert set(first_cells(of_node)) == names


@pytest.mark.parametrize("file", ["docs/deploy.md", "examples/sam2s_tracker.service"])
def test_who_names_the_file_of_prompts_for_a_restart_names_what_reads_it(file: str):
    assert NodeConfig().restore is False, "or it is not needed"
    said = (ROOT / file).read_text()
    assert "prompts_file" in said and re.findall(r"prompts_file(?!\W+(?:with|and)\W+restore: true)", said) == []


def test_every_refusal_is_explained():
    refusals = (ROOT / "docs" / "services.md").read_text().split("## Refusals")[1]
    assert set(first_cells(refusals)) == {code.name for code in ErrorCode} - {"NONE"}


def test_every_encoding_is_named():
    text = (ROOT / "docs" / "cameras.md").read_text()
    assert all(name in text or (name.startswith("bayer_") and "bayer_*8" in text) for name in ENCODINGS)


MOST_FILES = {"A memory policy": 6, "An image encoder": 3, "A topic": 6, "A layout of a data set": 3}


def recipes() -> dict[str, list[str]]:
    """The files that each recipe of CONTRIBUTING.md touches, in order."""
    text = (ROOT / "CONTRIBUTING.md").read_text().split("\n## Recipes\n")[1]
    parts = (part.split("\n", 1) for part in text.split("\n### ")[1:])
    return {title: re.findall(r"^\d+\. `([^`]+)`:", steps, re.M) for title, steps in parts}


def test_recipes_touch_few_files():
    found = {title: len(files) for title, files in recipes().items()}
    assert found.keys() == MOST_FILES.keys() and all(0 < count <= MOST_FILES[title] for title, count in found.items())


@pytest.mark.parametrize("file", sorted({file for files in recipes().values() for file in files}))
def test_files_of_recipes_are_there(file: str):
    path = ROOT / file
    if "NAME" in path.name:  # the new one
        assert path.parent.is_dir() and any(path.parent.glob(path.name.replace("NAME", "*")))
    else:
        assert path.is_file()


def test_paths_in_contributing_are_there():
    """Whatever stands in backquotes and begins with a folder of this repository, or is a file in it."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    folders = "|".join(re.escape(path.name) for path in ROOT.iterdir() if path.is_dir())
    named = re.findall(rf"`((?:{folders})/[\w./-]*|[\w-]+\.(?:txt|xml|toml|md))`", text)
    assert len(named) > 10 and [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []
