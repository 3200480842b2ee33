"""What is remembered of each object: a bank of fixed size, and one small object a policy that decides about its slots."""

from __future__ import annotations

from sam2s_model.errors import ConfigError
from sam2s_model.memory.bank import BankLayout, MemoryBank, Rows
from sam2s_model.memory.fifo import Fifo
from sam2s_model.memory.none import PreviousMask

POLICIES = {"fifo": Fifo, "none": PreviousMask}

__all__ = ["POLICIES", "BankLayout", "Fifo", "MemoryBank", "PreviousMask", "Rows", "choose_policy"]


def choose_policy(name: str, has_memory: bool) -> str:
    """Resolve "auto" and check that the checkpoint can run the policy. Raises ConfigError."""
    if name == "auto":
        return "fifo" if has_memory else "none"
    if name not in POLICIES:
        raise ConfigError(f"policy is {name!r}: expected auto, {', '.join(POLICIES)}")
    if POLICIES[name].uses_memory and not has_memory:
        raise ConfigError(f"policy is {name!r}, but the checkpoint has no trained memory: expected 'none' or 'auto'")
    return name
