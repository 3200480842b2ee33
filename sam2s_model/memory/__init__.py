"""What is remembered of each object: a bank of fixed size, and one small object a policy that decides about its slots."""

from __future__ import annotations

from collections.abc import Callable

from sam2s_model.config import ModelConfig, TrackerConfig
from sam2s_model.errors import ConfigError
from sam2s_model.memory.bank import MemoryBank, Rows
from sam2s_model.memory.evidence import Evidence
from sam2s_model.memory.fifo import Fifo
from sam2s_model.memory.layout import BankLayout, Note
from sam2s_model.memory.none import PreviousMask
from sam2s_model.memory.policy import Part, Policy, Selection
from sam2s_model.memory.view import View

POLICIES: dict[str, Callable[[ModelConfig, TrackerConfig], Policy]] = {
    "fifo": lambda model, options: Fifo(model),
    "none": lambda model, options: PreviousMask(model),
}
"""A policy of each name, for a model and the tracker's options."""

__all__ = [
    "POLICIES",
    "BankLayout",
    "Evidence",
    "Fifo",
    "MemoryBank",
    "Note",
    "Part",
    "Policy",
    "PreviousMask",
    "Rows",
    "Selection",
    "View",
    "choose_policy",
    "create_policy",
]


def choose_policy(name: str, has_memory: bool) -> str:
    """Resolve "auto" and check that the checkpoint can run the policy. Raises ConfigError."""
    if name == "auto":
        return "fifo" if has_memory else "none"
    if name not in POLICIES:
        raise ConfigError(f"policy is {name!r}: expected auto, {', '.join(POLICIES)}")
    if name != "none" and not has_memory:
        raise ConfigError(f"policy is {name!r}, but the checkpoint has no trained memory: expected 'none' or 'auto'")
    return name


def create_policy(name: str, model: ModelConfig, options: TrackerConfig = TrackerConfig()) -> Policy:
    """The policy of a name in `POLICIES`, as the options say. Raises ConfigError when the model lacks a part it needs."""
    return POLICIES[name](model, options)
