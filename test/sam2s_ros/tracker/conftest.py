"""What the tests of the worker share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the tests' helpers are modules of this folder

import pytest
from echo_worker import Bench


@pytest.fixture
def bench():
    made = []

    def make(*args, **kwargs):
        made.append(Bench(*args, **kwargs))
        return made[-1]

    yield make
    for one in made:
        assert one.worker.stop(5)
