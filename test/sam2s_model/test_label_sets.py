"""The label sets in config/labels: each can be read, and those of data sets agree with what reads the data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2s_model.recordings.layouts.cholec import COLOURS
from sam2s_model.recordings.layouts.endovis import TYPES_2018
from sam2s_model.recordings.scene.catalogue import CLASS_IDS
from sam2s_model.recordings.scene.thin import THIN_IDS
from sam2s_model.semantics import GENERIC, LabelSet

FOLDER = Path(__file__).parents[2] / "config" / "labels"
FILES = sorted(FOLDER.glob("*.yaml"))
SIZES = dict(cholecseg8k=12, endovis2017=7, endovis2018=11, endovis2018_types=7, generic=2, m2cai16=7, scene=8)


def read(name: str) -> LabelSet:
    return LabelSet.from_yaml(FOLDER / f"{name}.yaml")


def test_all_are_there():
    assert [path.stem for path in FILES] == sorted(SIZES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_a_table_of_its_name_with_distinct_colours(path: Path):
    labels = LabelSet.from_yaml(path)  # which refuses ids and names that are not unique
    assert (labels.name, len(labels.classes)) == (path.stem, SIZES[path.stem])
    colours = [label.color for label in labels.classes]
    assert len(set(colours)) == len(colours) and all(len(c) == 3 and min(c) >= 0 and max(c) <= 255 for c in colours)


def test_they_agree_with_the_readers_of_the_data():
    assert read("generic") == GENERIC
    assert {label.name: label.id for label in read("scene").classes} == CLASS_IDS | THIN_IDS
    assert tuple(label.name for label in read("endovis2018_types").classes) == TYPES_2018
    by_name = {label.name: label.color for label in read("cholecseg8k").classes}
    assert COLOURS[by_name["grasper"]] == 1 and COLOURS[by_name["l-hook electrocautery"]] == 2
