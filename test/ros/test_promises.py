"""docs/promises.md lists all promises, each with tests that exist, and with parameters as they are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from sam2s_ros.interfaces.parameters import TRACKER

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = (*range(1, 40), *range(41, 50))
KEPT, IN_PART, NOT_YET = "kept", "in part", "not yet"


@dataclass(frozen=True)
class Row:
    """A promise as it stands in the table. defaults: of its parameters, as written."""

    number: int
    text: str
    state: str
    defaults: dict[str, str]
    tests: tuple[str, ...]


def read(page: str) -> list[Row]:
    rows = re.findall(r"^\| P(\d+) \| (.*?) \| (.*?) \| (.*?) ?\| (.*?) ?\|$", page, re.M)
    return [
        Row(
            int(number),
            text,
            state,
            dict(re.findall(r"`(\w+)` \[(.*?)\]", parameters)),
            tuple(re.findall(r"`(test_\w+)`", tests)),
        )
        for number, text, state, parameters, tests in rows
    ]


ROWS = read((ROOT / "docs" / "promises.md").read_text())
TESTS = {
    name
    for path in (ROOT / "test").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.M)
}


def test_promises_are_all_in_the_table_once_and_in_order():
    assert [row.number for row in ROWS] == list(NUMBERS)
    assert {row.state for row in ROWS} <= {KEPT, IN_PART, NOT_YET}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"p{row.number:02}")
def test_promises(row):
    """A promise that is kept has tests of its number; its parameters have the defaults that are written there."""
    assert bool(row.tests) == (row.state != NOT_YET), f"P{row.number} is {row.state}, with {len(row.tests)} tests"
    for name in row.tests:
        assert name in TESTS, f"P{row.number}: there is no {name}"
        assert f"_p{row.number:02}_" in name, f"P{row.number}: {name} has not its number"
    for name, written in row.defaults.items():
        assert TRACKER.specs()[name].default == yaml.safe_load(written), f"P{row.number}: {name} is not {written}"


def test_a_number_in_the_name_of_a_test_is_that_of_a_promise():
    found = {int(number) for name in TESTS for number in re.findall(r"_p(\d\d)(?=_)", name)}
    assert found <= set(NUMBERS) and {row.number for row in ROWS if row.state != NOT_YET} <= found
