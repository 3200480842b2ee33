"""What is remembered of each object: a bank of fixed size, and a small policy object that decides about its slots."""

from __future__ import annotations

from sam2s_model.config import ModelConfig, TrackerConfig
from sam2s_model.errors import ConfigError
from sam2s_model.similar import meant
from sam2s_model.tracking.memory.bank import MemoryBank, Rows
from sam2s_model.tracking.memory.distractor import DistractorAware
from sam2s_model.tracking.memory.divemem import DiveMem
from sam2s_model.tracking.memory.efp import FramePruning
from sam2s_model.tracking.memory.evidence import Evidence
from sam2s_model.tracking.memory.fifo import Fifo
from sam2s_model.tracking.memory.frame_store import FrameStore
from sam2s_model.tracking.memory.layout import BankLayout, PolicyState
from sam2s_model.tracking.memory.match import Match
from sam2s_model.tracking.memory.matching import Matching
from sam2s_model.tracking.memory.none import PreviousMask
from sam2s_model.tracking.memory.occlusion import OcclusionAware
from sam2s_model.tracking.memory.policy import MemorySubset, Policy, Selection
from sam2s_model.tracking.memory.refine import Refine
from sam2s_model.tracking.memory.sam3 import Sam3Selection
from sam2s_model.tracking.memory.samurai import Samurai
from sam2s_model.tracking.memory.slm import ShortLong
from sam2s_model.tracking.memory.step_time import StepTime
from sam2s_model.tracking.memory.tsms import SplitHalfPruning
from sam2s_model.tracking.memory.view import BankView
from sam2s_model.tracking.policies import POLICIES, WITHOUT_MEMORY

__all__ = [
    "POLICIES",
    "BankLayout",
    "StepTime",
    "DistractorAware",
    "DiveMem",
    "Evidence",
    "Fifo",
    "FramePruning",
    "FrameStore",
    "Match",
    "Matching",
    "MemoryBank",
    "PolicyState",
    "OcclusionAware",
    "MemorySubset",
    "Policy",
    "PreviousMask",
    "Refine",
    "Rows",
    "Sam3Selection",
    "Samurai",
    "Selection",
    "ShortLong",
    "SplitHalfPruning",
    "BankView",
    "choose_policy",
    "create_policy",
]


def choose_policy(name: str, has_memory: bool, model: ModelConfig) -> str:
    """Resolve "auto" and check that the checkpoint can run the policy. Raises ConfigError."""
    if name == "auto":
        return "match" if not has_memory else "slm" if model.short_attention else model.policy
    if name not in POLICIES:
        raise ConfigError(f"policy is {name!r}: expected auto, {', '.join(POLICIES)}{meant(name, POLICIES)}")
    if name not in WITHOUT_MEMORY and not has_memory:
        raise ConfigError(
            f"policy is {name!r}, but the checkpoint has no trained memory: expected 'match', 'none' or 'auto'"
        )
    return name


def create_policy(name: str, model: ModelConfig, options: TrackerConfig | None = None) -> Policy:
    """Create the policy of a name in `POLICIES`. Raises ConfigError when the model lacks a part it needs.

    options: of the tracker, None for the defaults
    """
    return POLICIES[name](model, options or TrackerConfig())
