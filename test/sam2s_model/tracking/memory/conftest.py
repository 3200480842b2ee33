"""A script for policies: objects whose memories, images and scores are written down instead of computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sam2s_model.config import MODELS, ModelConfig
from sam2s_model.tracking.memory import BankLayout, BankView, Evidence, MemoryBank, Policy
from sam2s_model.tracking.outputs import Outputs

SMALL = replace(MODELS["sam2.1_hiera_tiny"], dim=8, memory_dim=4)
SIZE = 16  # px, of the masks


class Script:
    """A bank and a policy for objects 1, 2, ...; angles are in degrees, 0 to 90.

    Two memories of angles a and b have the cosine cos(a - b), over channels as over places; so have two images.
    """

    def __init__(self, policy: Policy, objects: int = 1, conditioning: int = 3):
        layout = BankLayout(
            conditioning=conditioning,
            recent=policy.window + 1,
            recent_pointers=policy.pointer_window + 1,
            masks=1,
            tokens=2,
            memory_dim=4,
            dim=8,
            logits=(SIZE, SIZE),
            kept=policy.kept,
            states=policy.states,
        )
        self.policy, self.bank = policy, MemoryBank(layout, torch.device("cpu"), torch.float32)
        for object_id in range(1, objects + 1):
            self.bank.add(object_id)

    def prompt(self, frame: int, row: int = 0, memory: float = 0.0, image: float = 0.0, box=(4, 4, 8, 8)) -> None:
        evidence = self._evidence(frame, [memory], image, [1.0], [5.0], [True], [box], None)
        self.bank.drop_kept([row], frame)
        self.bank.write_conditioning(row, frame, evidence.spatial[0], evidence.outputs.pointers[0])
        self.policy.prompted(BankView(self.bank, [row]), evidence)

    def track(
        self,
        frame: int,
        iou: float | Sequence[float] = 0.9,
        logit: float | Sequence[float] = 5.0,
        memory: float | Sequence[float] = 0.0,
        image: float = 0.0,
        box: Sequence = (4, 4, 8, 8),
        candidates: Tensor | None = None,
    ) -> None:
        """Values: for all objects, or one for each. An object with a logit of at most 0 is absent, its mask empty."""
        n, rows = len(self.bank), slice(0, len(self.bank))
        ious, logits, memories = (list(v) if isinstance(v, Sequence) else [v] * n for v in (iou, logit, memory))
        evidence = self._evidence(frame, memories, image, ious, logits, [v > 0 for v in logits], [box] * n, candidates)
        self.bank.drop_kept(rows, frame)
        self.bank.write_recent(rows, frame, evidence.spatial, evidence.outputs.pointers)
        self.policy.remember(BankView(self.bank, rows), evidence)

    def attended(self, now: int, row: int = 0) -> dict[int, int]:
        """Frame -> code of what an object attends to, asked together with all others; no frame is there twice."""
        chosen = self.policy.select(BankView(self.bank, slice(0, len(self.bank))), now)
        part = chosen.spatial
        allowed = torch.ones_like(part.columns, dtype=torch.bool) if part.allowed is None else part.allowed
        frames = self.bank.frames[row, part.columns[row][allowed[row]]].tolist()
        assert len(set(frames)) == len(frames) and -1 not in frames, f"attended to {frames}"
        return dict(zip(frames, part.codes[row][allowed[row]].tolist(), strict=True))

    def pointed(self, now: int) -> dict[int, int]:
        """Frame -> age of the first object's pointers."""
        chosen = self.policy.select(BankView(self.bank, slice(0, len(self.bank))), now)
        frames = self.bank.pointer_frames[0, chosen.pointer_columns[0]].tolist()
        allowed = [True] * len(frames) if chosen.pointer_allowed is None else chosen.pointer_allowed[0].tolist()
        ages = chosen.ages[0].tolist()
        return {frame: int(age) for frame, age, there in zip(frames, ages, allowed, strict=True) if there}

    def held(self, name: str, row: int = 0) -> list[int]:
        """Frames in the slots of a kind."""
        frames = self.bank.frames[row, self.bank.layout.columns(name)].tolist()
        return sorted(frame for frame in frames if frame >= 0)

    def _evidence(self, frame, memories, image, ious, logits, present, boxes, candidates) -> Evidence:
        masks = torch.full((len(boxes), 1, SIZE, SIZE), -1.0)
        for mask, (x0, y0, x1, y1), there in zip(masks, boxes, present, strict=True):
            if there:
                mask[0, y0:y1, x0:x1] = 1.0
        angle = torch.tensor([math.radians(a) for a in memories])
        direction = torch.stack((angle.cos(), angle.sin()), dim=1)
        spatial = torch.zeros(len(boxes), 2, 4)
        spatial[:, :, :2] = direction[:, :, None] * direction[:, None]
        features = torch.zeros(1, 8, 4, 4)
        features[:, 0], features[:, 1] = math.cos(math.radians(image)), math.sin(math.radians(image))
        outputs = Outputs(
            object_ids=tuple(self.bank.ids[: len(boxes)]),
            logits=masks,
            iou=torch.tensor(ious, dtype=torch.float32),
            object_logit=torch.tensor(logits, dtype=torch.float32),
            pointers=torch.full((len(boxes), 8), float(frame)),
            present=torch.tensor(present),
            class_logits=torch.zeros(len(boxes), 0),
            similarity=torch.full((len(boxes),), torch.nan),
            rejected=torch.zeros(len(boxes), dtype=torch.bool),
        )
        return Evidence(
            frame, outputs, spatial, features, masks.expand(-1, 3, -1, -1) if candidates is None else candidates
        )


@pytest.fixture(scope="session")
def script() -> type[Script]:
    return Script


@pytest.fixture(scope="session")
def small() -> ModelConfig:
    """SAM 2.1's windows with narrow memories: 6 frames and 15 pointers beside the prompted ones."""
    return SMALL
