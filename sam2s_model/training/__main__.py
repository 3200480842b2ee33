"""The training loop: clips from the procedural scene, one process, resumable. The checkpoint it writes loads as any other."""

from __future__ import annotations

import json
import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Annotated, List, Optional

import cv2
import numpy as np
import torch
import typer
from safetensors.torch import save_file

from sam2s_model.checkpoint import check_state_dict, read_state_dict
from sam2s_model.config import ModelConfig
from sam2s_model.device import resolve_device
from sam2s_model.errors import ConfigError, Sam2sError
from sam2s_model.model import Sam2Model
from sam2s_model.training.clips import Clip, batch
from sam2s_model.training.rollout import PROMPTS, rollout

RECIPE = ("128,1,5000,12", "192,1,800,12", "256,4,400,8")


@dataclass(frozen=True)
class Phase:
    """size: side of the images, px; length: frames of a clip, 1 for single images; frames: images in a step."""

    size: int
    length: int
    steps: int
    frames: int

    @classmethod
    def parse(cls, text: str) -> Phase:
        """Read "size,length,steps,frames". Raises ConfigError."""
        try:
            phase = cls(*(int(part) for part in text.split(",")))
        except (TypeError, ValueError):
            raise ConfigError(f"phase is {text!r}: expected SIZE,LENGTH,STEPS,FRAMES, four whole numbers") from None
        if phase.length < 1 or phase.steps < 1 or phase.frames < phase.length:
            raise ConfigError(f"phase is {text!r}: expected at least one step and a clip in each")
        return phase


@dataclass(frozen=True)
class Schedule:
    """phases: one after the other, small images first: what an instrument looks like is learned there, cheaply.

    lr: highest learning rate; ema: decay of the average that becomes the checkpoint
    fresh: clips drawn anew at each step, see `clips.batch`
    save_every: steps from one saved state to the next, all that a kill can cost
    """

    phases: tuple[Phase, ...]
    lr: float = 1e-3
    weight_decay: float = 0.02
    ema: float = 0.995
    fresh: int = 1
    save_every: int = 100
    seed: int = 0

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    def phase(self, step: int) -> Phase:
        ends = accumulate(phase.steps for phase in self.phases)
        return next((p for p, end in zip(self.phases, ends) if step < end), self.phases[-1])

    def rate(self, step: int) -> float:
        """Linear warm-up over 100 steps, then a cosine to zero."""
        return self.lr * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / self.steps))

    def draw(self, step: int) -> list[Clip]:
        phase = self.phase(step)
        return batch(
            self.seed, step, fresh=self.fresh, frames=phase.frames, length=phase.length, size=phase.size
        )


def train(model: Sam2Model, schedule: Schedule, folder: Path) -> None:
    """Run a schedule, or what is left of it in `folder`; writes state.pt, log.jsonl and model.safetensors there."""
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.lr, weight_decay=schedule.weight_decay)
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    first = 0
    if (folder / "state.pt").exists():
        saved = torch.load(folder / "state.pt", weights_only=True, map_location=model.device)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average, first = saved["average"], saved["step"]
    began = time.monotonic()
    with ThreadPoolExecutor(1) as artist, open(folder / "log.jsonl", "a") as log:
        upcoming = artist.submit(schedule.draw, first)
        for step in range(first, schedule.steps):
            clips, upcoming = upcoming.result(), artist.submit(schedule.draw, step + 1)
            numbers = train_step(model, optimizer, clips, schedule, step)
            with torch.no_grad():
                decay = min(schedule.ema, (step + 1) / (step + 10))
                for key, value in model.state_dict().items():
                    average[key].lerp_(value, 1 - decay)
            if numbers:
                print(json.dumps({"step": step, "s": round(time.monotonic() - began), **numbers}), file=log, flush=True)
            if (step + 1) % schedule.save_every == 0 or step + 1 == schedule.steps:
                save(folder, model, optimizer, average, step + 1)


def train_step(model: Sam2Model, optimizer, clips: list[Clip], schedule: Schedule, step: int) -> dict[str, float]:
    """One update; returns what goes to the log, nothing when the clips show no object."""
    rng = np.random.default_rng((schedule.seed, step, 1))
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate(step)
    phase = schedule.phase(step)
    model.set_image_size(phase.size)
    # a mask is its own answer: there is nothing to learn from it on a single image
    prompt = str(rng.choice(PROMPTS, p=(0.65, 0.35, 0) if phase.length == 1 else (0.4, 0.2, 0.4)))
    frames = rollout(model, clips, prompt, rng)
    if not frames:
        return {}
    total = torch.stack([f.total for f in frames]).mean()
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    shown = {key: torch.stack([getattr(f, key) for f in frames]).mean().item() for key in ("dice", "presence", "iou_seen")}
    return {"prompt": prompt, "frames": len(frames), "loss": total.item(), **shown}


def save(folder: Path, model: Sam2Model, optimizer, average: dict, step: int) -> None:
    """Write through a second file, so that a kill leaves the old state or the new one."""
    state = dict(model=model.state_dict(), optimizer=optimizer.state_dict(), average=average, step=step)
    torch.save(state, folder / "state.tmp")
    (folder / "state.tmp").rename(folder / "state.pt")
    half = {k: v.half().contiguous() for k, v in average.items()}
    save_file(half, folder / "model.tmp", metadata={"model": model.name, "steps": str(step)})
    (folder / "model.tmp").rename(folder / "model.safetensors")


def main(
    folder: Annotated[Path, typer.Argument(help="where state, log and checkpoint go; a run in it is resumed")],
    model: Annotated[str, typer.Option(help="name of the configuration")] = "sam2s_pico",
    phase: Annotated[List[str], typer.Option(metavar="SIZE,LENGTH,STEPS,FRAMES", help="repeatable")] = list(RECIPE),
    lr: Annotated[float, typer.Option(help="highest learning rate")] = 1e-3,
    init: Annotated[Optional[Path], typer.Option(help="checkpoint to start from; default: random weights")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    seed: int = 0,
) -> None:
    """Train a model on the procedural scene."""
    cv2.setNumThreads(1)
    torch.manual_seed(seed)
    network = Sam2Model(ModelConfig.from_name(model)).to(resolve_device(device)).train()
    if init is not None:
        state = read_state_dict(init)
        check_state_dict(state, network, init)
        network.load_state_dict(state, strict=False)
    schedule = Schedule(tuple(Phase.parse(text) for text in phase), lr=lr, seed=seed)
    print(f"{network.name}, {sum(p.numel() for p in network.parameters()):,} parameters, {schedule}")
    train(network, schedule, folder)


if __name__ == "__main__":
    try:
        typer.run(main)
    except Sam2sError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
