"""What a tracker's heartbeat says, in words: the names of states, and what to do about images that are dropped."""

from __future__ import annotations

from dataclasses import dataclass

from sam2s_ros.msg import TrackerStatus

STATES: dict[int, str] = {
    getattr(TrackerStatus, name): name.removeprefix("STATE_")
    for name in dir(TrackerStatus)
    if name.startswith("STATE_")
}
FINE = (TrackerStatus.STATE_WAITING, TrackerStatus.STATE_RUNNING, TrackerStatus.STATE_INACTIVE)


@dataclass(frozen=True)
class DropCause:
    """Why images are dropped, for a person.

    why: half a sentence; advice: what to change, with the parameter; expected: whether that is what the node is for
    """

    why: str
    advice: str
    expected: bool = False


# By the counter's name in TrackerStatus.
DROP_CAUSES: dict[str, DropCause] = {
    "dropped_overload": DropCause(
        "a newer image came before its turn, the tracker being slower than the camera",
        "lower the camera's rate, or set image_size lower, or checkpoint to a smaller one",
        expected=True,
    ),
    "dropped_stamp": DropCause(
        "its stamp is zero, was there before, or does not follow the one before",
        "correct the driver's stamps; on_time_jump and time_jump say what a jump back does",
    ),
    "dropped_image": DropCause(
        "it could not be read, or is of another size or frame_id",
        "see to compressed and image_encoding; on_size_change says what another size does",
    ),
    "dropped_disabled": DropCause(
        "the node was switched off", "call ~/enable with true, or activate the node", expected=True
    ),
    "dropped_error": DropCause(
        "the step raised", "the log has the reason; after max_step_errors in a row only ~/reset goes on"
    ),
    "dropped_late": DropCause(
        "its masks were ready later than max_output_age allows",
        "lower image_size, raise max_output_age (config/tracker_cpu.yaml has 1 s), or set on_late to flag",
    ),
}


def state_name(state: int) -> str:
    """Return the name of a state, also of one that this version does not know."""
    return STATES.get(state, f"state {state}")


def dropped(status: TrackerStatus) -> dict[str, int]:
    """Return how many images were dropped, by the counter's name."""
    return {name: int(getattr(status, name)) for name in DROP_CAUSES}
