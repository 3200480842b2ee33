"""Which frames are matched with the newest, and how labels follow from it: the constants of `memory.match`."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sam2s_model.config import TrackerConfig


@dataclass(frozen=True)
class Matching:
    """Which frames are matched, and how labels follow from it. See the options `match_*` of `TrackerConfig`.

    newest: frames of the window, of which only places within `radius` (image sides) are looked at
    older: further frames, one of which may be kept every `every` frames
    keep: "diverse", those that are least alike, or "newest"
    neighbours: most similar places of each frame that vote; temperature: of their weights
    threshold: least share of votes for the object; gain: logits of the dense prompt for each share more
    map_share: part of the propagated map, beside the mask, in what is remembered
    prompted: how far a prompted frame is trusted, where 1 is a tracked frame of which everything is sure
    missed: how much more a place of the object counts that is not in a mask, than one in the mask that is not the
        object's
    """

    newest: int = 4
    older: int = 4
    every: int = 10
    keep: str = "diverse"
    radius: float = 0.3
    neighbours: int = 2
    temperature: float = 0.05
    threshold: float = 0.4
    gain: float = 10.0
    map_share: float = 0.5
    missed: float = 1.1
    prompted: float = 1.25

    @classmethod
    def of(cls, options: TrackerConfig) -> Matching:
        return cls(**{field.name: getattr(options, f"match_{field.name}") for field in fields(cls)})
