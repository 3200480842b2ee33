"""Discovery between frames: propose or start what nobody prompted, find what was lost, renew what has drifted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sam2s_model.prompts import Prompt
from sam2s_model.tracks import Return, State, Tracks
from sam2s_ros.interfaces.parameters import NodeConfig

if TYPE_CHECKING:  # loads torch
    from sam2s_model.discovery.discover import Proposal

COVERED = 0.5  # share of a proposal that tracked objects cover, from which it is no new object


class TrackedResult(Protocol):
    """What is looked at, such as the worker's `Result`."""

    @property
    def config(self) -> NodeConfig: ...

    @property
    def tracks(self) -> Tracks: ...


class AutoPrompt:
    """What the parameters auto_prompt, refind and recondition ask for. It is called after a frame, in the worker.

    propose: publishes what was found on a frame, and returns whether it did: nothing is started where it did not
    event: told what was started, found or renewed
    """

    def __init__(self, propose: Callable[[Any, Sequence[Proposal]], bool], event: Callable[[str], None]):
        self._propose, self._event = propose, event
        self._since_look = self._since_review = sys.maxsize  # the first look is at once

    def __call__(self, tracker: Any, result: TrackedResult) -> bool:
        """Look at the frame that was just tracked, where it is time. Return whether it did: once a frame at most."""
        config, tracks = result.config, result.tracks
        self._since_look += 1
        self._since_review += 1
        find = config.refind and bool((tracks.states == State.LOST).any())
        recondition = config.recondition and len(tracks) > 0
        if (find or recondition) and self._since_review >= config.discovery_every:
            self._since_review = 0
            for one in tracker.rediscover(find=find, recondition=recondition):
                self._event(_said(one, tracker.newest))
            return True
        if config.auto_prompt == "off" or self._since_look < config.discovery_every:
            return False
        self._since_look = 0
        found = tracker.discover()
        published = self._propose(result, found)
        if published and config.auto_prompt == "track":
            self._start(tracker, found, config)
        return True

    def _start(self, tracker: Any, found: Sequence[Proposal], config: NodeConfig) -> None:
        room = tracker.config.max_objects - len(tracker.object_ids)
        new = [one for one in found if _is_new(one, tracker.newest, config) and one.class_name in _names(tracker)][
            :room
        ]
        if not new:
            return
        prompts = [Prompt(class_name=one.class_name, mask=one.mask) for one in new]
        ids = tracker.prompt(tracker.newest.stamp, prompts, learn=False).object_ids
        named = ", ".join(f"{i} ({one.class_name}, {one.margin:.2f})" for i, one in zip(ids, new, strict=True))
        self._event(f"auto_prompt started objects {named}")


def _is_new(one: Proposal, tracks: Tracks, config: NodeConfig) -> bool:
    inside = (tracks.label_map[one.mask] > 0) & (tracks.label_map[one.mask] < 255)
    return one.score >= config.auto_prompt_score and not one.object_id and float(np.mean(inside)) < COVERED


def _names(tracker: Any) -> set[str]:
    return {label.name for label in tracker.label_set.classes}


def _said(one: Any, tracks: Tracks) -> str:
    name = tracks.class_names[tracks.index(one.object_id)]
    if one.kind is Return.FOUND:
        return f"object {one.object_id} ({name}) was lost, and discovery found it: similarity {one.similarity:.2f}"
    return f"object {one.object_id} ({name}) was prompted anew by discovery: its mask is better by {one.gain:.2f}"
