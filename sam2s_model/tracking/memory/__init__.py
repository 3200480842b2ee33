"""What is remembered of each object: a bank of fixed size, and a small policy object that decides about its slots."""

from __future__ import annotations

from sam2s_model.config import ModelConfig, TrackerConfig
from sam2s_model.errors import ConfigError
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
from sam2s_model.tracking.policies import POLICIES, WITHOUT_MEMORY, check_pruning
from sam2s_model.tracking.policy_plugins import check_policy_name, create_plugged_in

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
    check_policy_name(name)
    if not has_memory and _needs_memory(name, model):
        raise ConfigError(
            f"policy is {name!r}, but the checkpoint has no trained memory: expected 'match', 'none' or 'auto'"
        )
    return name


def create_policy(name: str, model: ModelConfig, options: TrackerConfig | None = None) -> Policy:
    """Create the policy of a name in `POLICIES`, or one of another package, see `policy_plugins`.

    options: of the tracker, None for the defaults
    Raises ConfigError when the model lacks a part it needs, for a plug-in that is none, and for a `pruning` that
    it does not do.
    """
    create = POLICIES.get(name)
    options = options or TrackerConfig()
    check_pruning(name, options)
    return create(model, options) if create else create_plugged_in(name, model, options)


def _needs_memory(name: str, model: ModelConfig) -> bool:
    return name not in WITHOUT_MEMORY if name in POLICIES else create_policy(name, model).uses_memory
