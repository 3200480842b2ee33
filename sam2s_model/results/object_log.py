"""What became of each object: how many frames in which state, and when it was first lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sam2s_model.tracks import State, Tracks


@dataclass
class ObjectStates:
    """One object. frames: state -> how many; first_lost: (frame, stamp in ns), or None while it never was."""

    class_name: str
    frames: dict[State, int] = field(default_factory=lambda: dict.fromkeys(State, 0))
    first_lost: tuple[int, int] | None = None

    def as_dict(self) -> dict[str, Any]:
        counts = {f"frames_{state.name.lower()}": count for state, count in self.frames.items()}
        frame, stamp = self.first_lost or (None, None)
        return {"class": self.class_name, **counts, "first_lost_frame": frame, "first_lost_stamp_ns": stamp}


class ObjectLog:
    """Count states frame by frame."""

    def __init__(self) -> None:
        self.objects: dict[int, ObjectStates] = {}

    def add(self, frame: int, tracks: Tracks) -> None:
        for object_id, name, value in zip(tracks.object_ids.tolist(), tracks.class_names, tracks.states, strict=True):
            known = self.objects.setdefault(object_id, ObjectStates(name))
            known.class_name = name
            state = State(int(value))
            known.frames[state] += 1
            if state == State.LOST and known.first_lost is None:
                known.first_lost = (frame, tracks.stamp)
