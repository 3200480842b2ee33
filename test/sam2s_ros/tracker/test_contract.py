"""Whatever stands for a tracker keeps the contract that the worker relies on."""

import inspect
from pathlib import Path

import pytest
from echo_worker import EchoTracker
from said_log import SaidLog

from sam2s_model.config import PICO
from sam2s_model.network.model import Sam2Model
from sam2s_model.tracking.tracker import Tracker
from sam2s_ros.soak.timed_tracker import TimedTracker
from sam2s_ros.tracker.contract import TrackerLike
from sam2s_ros.tracker.prompt_file import PromptFile
from sam2s_ros.tracker.saving import SavingTracker


@pytest.mark.parametrize(
    "make",
    [
        lambda: Tracker(Sam2Model(PICO, 64).eval()),
        lambda: SavingTracker(EchoTracker(), PromptFile(Path("none")), kept=1, saved=None, log=SaidLog()),
        lambda: TimedTracker(0.0),
        EchoTracker,
    ],
)
def test_whatever_stands_for_a_tracker_keeps_its_contract(make):
    """Members and their arguments; mypy holds the types of those in the packages to it."""
    tracker = make()
    assert isinstance(tracker, TrackerLike)
    for name in ("step", "prompt", "remove", "reset", "set_policy", "prepare", "memory_bytes", "device_description"):
        wanted = list(inspect.signature(getattr(TrackerLike, name)).parameters)[1:]
        assert list(inspect.signature(getattr(tracker, name)).parameters) == wanted, name
