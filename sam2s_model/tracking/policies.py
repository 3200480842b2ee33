"""The memory policies by name. Without torch until one is created: command lines and parameters list them at once.

A new one is a module in `memory/` and a line below; one of another package is found by `policy_plugins`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from sam2s_model.errors import ConfigError

if TYPE_CHECKING:
    from sam2s_model.config import ModelConfig, TrackerConfig
    from sam2s_model.tracking.memory.policy import Policy, Pruning

    Create = Callable[[ModelConfig, TrackerConfig], Policy]


def _plain(module: str, name: str) -> Create:
    """Return what creates a policy without options: the class `name` of a module in `memory/`."""

    def create(model: ModelConfig, options: TrackerConfig) -> Policy:
        policy: Policy = getattr(import_module(f"sam2s_model.tracking.memory.{module}"), name)(model)
        return policy

    return create


def _fifo(model: ModelConfig, options: TrackerConfig, pruning: str = "none", match: bool = False) -> Policy:
    from sam2s_model.tracking.memory.fifo import Fifo
    from sam2s_model.tracking.memory.matching import Matching

    return Fifo(model, pruning_of(options, pruning), Matching.of(options) if match else None)


def _divemem(model: ModelConfig, options: TrackerConfig, pruning: str = "none") -> Policy:
    from sam2s_model.tracking.memory.divemem import DiveMem

    return DiveMem(
        model,
        pruning_of(options, pruning),
        long_term=options.long_term_frames,
        buffer=options.long_term_buffer,
        min_iou=options.long_term_min_iou,
        consecutive=options.long_term_consecutive,
    )


def _slm(model: ModelConfig, options: TrackerConfig) -> Policy:
    from sam2s_model.tracking.memory.slm import ShortLong

    return ShortLong(model, pruning_of(options, "none"))


def _match(model: ModelConfig, options: TrackerConfig) -> Policy:
    from sam2s_model.tracking.memory.match import Match
    from sam2s_model.tracking.memory.matching import Matching

    return Match(model, match=Matching.of(options))


def pruning_of(options: TrackerConfig, own: str) -> Pruning | None:
    """Return the pruning of the option, or the policy's own where the option leaves it to the policy."""
    from sam2s_model.tracking.memory.efp import FramePruning
    from sam2s_model.tracking.memory.tsms import SplitHalfPruning

    name = own if options.pruning == "policy" else options.pruning
    return {"none": None, "efp": FramePruning(), "tsms": SplitHalfPruning()}[name]


def check_pruning(name: str, options: TrackerConfig) -> None:
    """Raise ConfigError where the option asks for what a policy of this package would not do."""
    if name in POLICIES and name not in PRUNING and options.pruning not in ("policy", "none"):
        raise ConfigError(
            f"pruning is {options.pruning!r}, and policy {name!r} prunes nothing: expected policy or none, or a policy "
            f"of {', '.join(PRUNING)}"
        )


POLICIES: dict[str, Create] = {
    "fifo": _fifo,
    "efp": partial(_fifo, pruning="efp"),
    "divemem": _divemem,
    "divemem+efp": partial(_divemem, pruning="efp"),
    "tsms": partial(_fifo, pruning="tsms"),
    "samurai": _plain("samurai", "Samurai"),
    "distractor": _plain("distractor", "DistractorAware"),
    "occlusion": _plain("occlusion", "OcclusionAware"),
    "refine": _plain("refine", "Refine"),
    "sam3": _plain("sam3", "Sam3Selection"),
    "slm": _slm,
    "match": _match,
    "fifo+match": partial(_fifo, match=True),
    "none": _plain("none", "PreviousMask"),
}
"""What creates a policy of each name, for a model and the tracker's options."""

POLICY_HELP = f"memory policy: auto, {', '.join(POLICIES)}; or MODULE:CLASS or the name of a plug-in"
"""What an option of a command says of it."""

PRUNING = ("fifo", "efp", "divemem", "divemem+efp", "tsms", "slm", "fifo+match")
"""Policies that the option `pruning` is for; the others choose frames of the short window themselves, or have none."""

WITHOUT_MEMORY = ("match", "none")
"""Policies that need nothing that was trained for memory: any checkpoint can run them."""
