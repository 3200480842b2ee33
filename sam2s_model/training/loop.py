"""The training loop: batches in, a checkpoint out, and at any moment a state to go on from."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import torch

from sam2s_model.checkpoint.adapter_files import ALPHA_KEY, BASE, BASE_SHA256, save_adapter
from sam2s_model.checkpoint.reading import CLASSES
from sam2s_model.device import resolve_device, resolve_dtype
from sam2s_model.errors import TrainingError
from sam2s_model.network.model import Sam2Model
from sam2s_model.training.adapters import adapter_tensors, add_adapter
from sam2s_model.training.batches import batch, clip_numbers, opened
from sam2s_model.training.class_prompts import train_class_prompts_of
from sam2s_model.training.clip import Clip
from sam2s_model.training.config import TrainConfig
from sam2s_model.training.datasets import mask_lines
from sam2s_model.training.distillation import Distillation
from sam2s_model.training.distributed import World
from sam2s_model.training.freezing import freeze, train_mode
from sam2s_model.training.log import Log, TrainingProgress, plot_log
from sam2s_model.training.losses import FrameLosses, LossCounts
from sam2s_model.training.objects import Objects, choose_objects
from sam2s_model.training.optimization import Average, learning_rate, make_optimizer, set_learning_rate
from sam2s_model.training.outcome import TrainingOutcome
from sam2s_model.training.phases import check_phases
from sam2s_model.training.prompting import Plan, draw_plan
from sam2s_model.training.rollout import Roles, Rollout, encode_clips, events
from sam2s_model.training.sampling import roles
from sam2s_model.training.start import model_before, start_model
from sam2s_model.training.state import (
    ADAPTER,
    BEST,
    CHECKPOINT,
    LOG,
    PLOT,
    begin_folder,
    claimed_run,
    keep_other_best,
    load_state,
    result_path,
    save_checkpoint,
    save_recipe,
    save_state,
)  # fmt: skip
from sam2s_model.training.validation import Validation, used_policy

AHEAD = 2  # batches that are drawn while one is learnt from
BAD_STEPS = 20  # in a row whose gradient is not finite: then the run has failed
STATISTICS = ("running_mean", "running_var")
PROMPTS, ROLES, OBJECTS = 1, 2, 3  # third part of a random generator's key, after (seed, step)


def run_training(
    config: TrainConfig, stop: Callable[[int], bool] | None = None, quiet: bool = False
) -> TrainingOutcome:
    """Run a training, or what is left of the one in its folder.

    stop: asked before each step, True ends the run there after saving
    Raises ConfigError, CheckpointError, SourceError, and TrainingError when the loss stays not finite, or while another
    process runs one in the folder.
    """
    cv2.setNumThreads(1)
    if config.class_prompts.tokens:
        with claimed_run(config):
            return train_class_prompts_of(config, stop, quiet)
    device = resolve_device(World.local_device(config.device))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    world = World.join(device)
    try:
        with claimed_run(config) if world.rank == 0 else nullcontext():
            return Trainer(config, world, quiet or world.rank > 0).run(stop)
    finally:
        world.leave()


class Trainer:
    """A run in its folder.

    step: number of updates done; average: of the weights, what the checkpoint is made of
    """

    def __init__(self, config: TrainConfig, world: World, quiet: bool = False):
        self.config, self.world, self.quiet = config, world, quiet
        self.folder = begin_folder(config)
        self.precision = resolve_dtype(config.precision, world.device)
        self.model = start_model(config, (lambda text: None) if quiet else print)
        check_phases(config, self.model.config)
        self.learning = (
            add_adapter(self.model, config.adapter) if config.adapter.kind else freeze(self.model, config.freeze)
        )
        self.model.to(world.device)
        # convolutions in bf16 are twice as fast so; torch's annotations do not know this form of `to`
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.distillation = Distillation(self.model, config)
        named = [*self.model.named_parameters(), *self.distillation.named_parameters()]
        self.parameters = [p for _, p in named if p.requires_grad]
        self.optimizer = make_optimizer(named, config)
        self.average = Average(self.model.state_dict(), config.optimizer.ema)
        self.step, self.seconds, self.bad = 0, 0.0, 0
        self._pending: dict[str, float] = {}
        self._told: set[str] = set()  # files that are left out
        self._log = Log(self.folder / LOG)
        self._validation = Validation(config, self._log)
        self._policy = used_policy(config.evaluation.policy, self.model) if config.evaluation.sources else ""
        self._resume()

    def run(self, stop: Callable[[int], bool] | None = None) -> TrainingOutcome:
        """Do the steps that are left, as far as time allows."""
        began, before = time.monotonic(), self.seconds
        shown = TrainingProgress(self.config.steps, self.step, self.quiet)
        with shown, ThreadPoolExecutor(AHEAD) as workers:
            shown.log(
                f"{self.model.name}, {self.learning:,} of {_size(self.model):,} parameters are trainable, "
                f"steps {self.step} to {self.config.steps}, {self.world.device}, {self.world.size} process(es), "
                f"in {self.folder}"
            )
            for line in mask_lines(r for _, found in opened(self.config.data_at(self.step)).sources for r in found):
                shown.log(line)
            if self._begins:
                self._evaluate(shown)
            upcoming = deque(workers.submit(self._draw, self.step + i) for i in range(AHEAD))
            while self.step < self.config.steps:
                if self._stopped(stop, began):
                    break
                clips = upcoming.popleft().result()
                self._name_unreadable(shown)
                upcoming.append(workers.submit(self._draw, self.step + AHEAD))
                self._collect(self.update(clips))
                self.step += 1
                self.seconds = before + time.monotonic() - began
                shown.step(self.step)
                if self.step % self.config.log_every == 0 or self.step == self.config.steps:
                    self._tell(shown)
                self._evaluate(shown)
                if self.step % self.config.save_every == 0:
                    self.save()
            for drawn in upcoming:
                drawn.cancel()
            self.save()
            self._plot(shown)
        return TrainingOutcome(self.step, result_path(self.config), self._validation.scores)

    def update(self, clips: list[Clip]) -> dict[str, float]:
        """Do a step on this process's clips of the batch; return its numbers, summed over all processes."""
        config, world, step = self.config, self.world, self.step
        data = config.data_at(step)
        self.model.set_image_size(data.size)
        train_mode(self.model, config.phase_at(step).learn_statistics)
        set_learning_rate(self.optimizer, learning_rate(config, step))
        self.optimizer.zero_grad(set_to_none=True)
        length = len(clips[0]) if clips else 1
        plan = draw_plan(np.random.default_rng((config.seed, step, PROMPTS)), config.prompts, length)
        numbers = clip_numbers(data, clips, (world.rank, world.size))
        parts = [
            (
                part,
                choose_objects(
                    part, part_numbers, (config.seed, step, OBJECTS), config.rollout.max_objects, data.min_area
                ),
            )
            for part, part_numbers in _split(clips, numbers, config.optimizer.accumulate)
        ]
        each = events(plan, length, config.prompts.clicks)
        counted = LossCounts(
            each * sum(len(objects) for _, objects in parts),
            sum(self.distillation.frames(part) for part, _ in parts),
            sum(self.distillation.pairs(part) for part, _ in parts),
            len(clips),
            sum(clip.annotated and k not in objects.owner for part, objects in parts for k, clip in enumerate(part)),
        )
        counted = LossCounts(*world.sum([float(count) for count in dataclasses.astuple(counted)]))
        total, taught = None, [0.0, 0.0]
        for part, objects in parts:
            found, told = self._learn(part, objects, plan, self._roles(length, data.sampling), counted)
            total = total if found is None else found if total is None else total + found
            taught = [before + more for before, more in zip(taught, told, strict=True)]
        return self._apply(total, taught, counted)

    def _learn(
        self, clips: Sequence[Clip], objects: Objects, plan: Plan, held: Roles, counted: LossCounts
    ) -> tuple[FrameLosses | None, tuple[float, float]]:
        """Add the gradients of a part of the batch.

        Returns its losses, not divided yet: of masks, None without objects, and of features and affinities.
        """
        config, model = self.config, self.model
        if not len(objects) and not self.distillation.frames(clips):
            return None, (0.0, 0.0)
        learn_encoder = config.phase_at(self.step).learn_encoder
        with torch.autocast(self.world.device.type, self.precision, enabled=self.precision != torch.float32):
            seen = self.distillation.teacher_features(clips) if learn_encoder else None
            encoded = encode_clips(model, clips, learn_encoder)
            unlike = self.distillation.feature_loss(model, clips, encoded, seen)
            apart = self.distillation.correspondence_loss(clips, encoded, seen)
            found = None
            if events(plan, len(clips[0]), config.prompts.clicks) and len(objects):
                teacher = (
                    self.distillation.masks(seen, objects, len(clips[0]), model.image_size)
                    if config.loss.masks
                    else None
                )
                found = Rollout(model, clips, encoded, objects, plan, held, config, teacher).run()
        loss = config.loss.features * unlike / max(1.0, counted.frames)
        loss = loss + config.loss.correspondence * apart / max(1.0, counted.related)
        if found is not None:
            loss = loss + found.total(config.loss, self.step) / max(1.0, counted.pairs)
        if loss.requires_grad:
            loss.backward()
        return found, (float(unlike.detach()), float(apart.detach()))

    def _apply(self, total: FrameLosses | None, taught: Sequence[float], counted: LossCounts) -> dict[str, float]:
        names = [spec.name for spec in fields(FrameLosses)]
        sums = [0.0] * (len(names) + 1)
        if total is not None:
            parts = [getattr(total, name).detach().float() for name in names]
            sums = torch.stack([*parts, total.total(self.config.loss, self.step).detach()]).tolist()
        *sums, weighted, features, correspondence = self.world.sum([*sums, *taught])
        self.world.sum_gradients(self.parameters)
        length = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.config.optimizer.clip))
        if math.isfinite(length):
            self.bad = 0
            self.optimizer.step()
            if self.config.phase_at(self.step).learn_statistics:
                self.world.average([b for name, b in self.model.named_buffers() if name.endswith(STATISTICS)])
            self.average.update(self.model.state_dict(), self.step)
        else:
            self.bad += 1
            if self.bad >= BAD_STEPS:
                raise TrainingError(
                    f"the gradient was not finite for {self.bad} steps, at step {self.step}: lower optimizer.lr"
                )
        numbers = dict(zip(names, sums, strict=True))
        numbers |= {"weighted": weighted, "features": features, "correspondence": correspondence, "gradient": length}
        return {**numbers, "steps": 1.0, **dataclasses.asdict(counted)}

    def _roles(self, length: int, sampling: str) -> Roles:
        names = roles(length, sampling)
        rng = np.random.default_rng((self.config.seed, self.step, ROLES))
        if "long" not in names:
            return Roles(names)
        if rng.random() < self.config.rollout.short_only:
            return Roles((names[0],) + ("short",) * (length - 1))
        return Roles(names, self.config.rollout.longest_gap)

    def _draw(self, step: int) -> list[Clip]:
        if step >= self.config.steps:
            return []
        return batch(self.config.data_at(step), self.config.seed, step, (self.world.rank, self.world.size))

    def _name_unreadable(self, shown: TrainingProgress) -> None:
        for problem in list(opened(self.config.data_at(self.step)).unreadable):
            if problem not in self._told:
                self._told.add(problem)
                shown.log(f"left out: {problem}")

    def _stopped(self, stop, began: float) -> bool:
        """Whether to stop, at the same step in all processes."""
        limit = self.config.max_minutes
        late = bool(limit) and time.monotonic() - began > 60 * limit
        return self.world.sum([float(late or bool(stop and stop(self.step)))])[0] > 0

    # ---- what is told

    def _collect(self, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            self._pending[name] = self._pending.get(name, 0.0) + value

    def _tell(self, shown: TrainingProgress) -> None:
        """Write a line of means since the last one."""
        sums, self._pending = self._pending, {}
        pairs, seen = max(1.0, sums["pairs"]), max(1.0, sums["seen"])
        line: dict[str, float | None] = {"step": self.step, "seconds": round(self.seconds, 1)}
        line["lr"] = learning_rate(self.config, self.step - 1)
        taught = {"features": sums["features"] / max(1.0, sums["frames"])}
        taught["correspondence"] = sums["correspondence"] / max(1.0, sums["related"])
        line["loss"] = sums["weighted"] / pairs + sum(
            getattr(self.config.loss, name) * value for name, value in taught.items()
        )
        for name in ("arl", "entropy", "dice", "iou", "occlusion", "tsl", "masks"):
            line[name] = sums[name] / pairs
        line |= taught
        line["iou_seen"] = sums["achieved"] / seen if sums["seen"] else None
        line["class_right"] = sums["right"] / sums["classified"] if sums["classified"] else None
        line["gradient"] = sums["gradient"] / sums["steps"]
        line["empty"] = sums["empty"] / max(1.0, sums["clips"])
        line["unreadable"] = len(self._told)
        line = {name: float(f"{v:.6g}") if isinstance(v, float) else v for name, v in line.items()}
        if self.world.rank == 0:
            self._log.write(line)
            shown.line({name: v for name, v in line.items() if v is not None})

    def _evaluate(self, shown: TrainingProgress) -> None:
        """Evaluate where it is time to. Weights that are the best so far are kept."""
        if not self._validation.is_due(self.step):
            return
        if self.world.rank == 0:
            model = self.averaged_model() if self.step or not self.config.init else self._model_before()
            said, best = self._validation.run(model, self.step, self.seconds, self._policy)
            shown.log(said)
            if best and self.step and self.config.evaluation.best:
                if kept := keep_other_best(self.folder, self._validation.has_scored):
                    shown.log(kept)
                self._save_result(BEST)
            self._plot(shown)
        self.world.wait()

    def _plot(self, shown: TrainingProgress) -> None:
        problem = plot_log(self._log, self.folder / PLOT) if self.world.rank == 0 else ""
        if problem and self.step == self.config.steps:
            shown.log(problem)

    def _model_before(self) -> Sam2Model:
        """Load what the run begins with, as it is used without it: nothing random stands for what its file lacks."""
        return model_before(self.config, self._evaluated_size(), str(self.world.device), "fp32")

    def averaged_model(self) -> Sam2Model:
        """Return the model as the checkpoint has it, ready for inference."""
        model = Sam2Model(self.model.config, self._evaluated_size())
        if self.config.adapter.kind:
            add_adapter(model, self.config.adapter)
        model.load_state_dict(self.average.state)
        model.missing = self.model.missing
        return model.to(self.world.device).eval().requires_grad_(False)

    def _evaluated_size(self) -> int:
        """Return px: what is compared with one another is all seen at the size of the end."""
        options = self.config.evaluation
        return self.config.data_at(self.config.steps if options.before or options.best else self.step).size

    # ---- what is kept

    def save(self) -> None:
        """Write state and checkpoint."""
        if self.world.rank == 0:
            state = dict(
                model=self.model.state_dict(),
                distillation=self.distillation.state_dict(),
                optimizer=self.optimizer.state_dict(),
                average=self.average.state,
                step=self.step,
                seconds=self.seconds,
                pending=self._pending,
                bad=self.bad,
                base_sha256=self.model.source_sha256,
            )
            save_state(self.folder, state, self.config)
            self._save_result()
        self.world.wait()

    def _save_result(self, name: str = "") -> None:
        """Write the checkpoint, or the adapter alone. name: of the file; "": the one of the newest weights"""
        told = {"model": self.model.name, "steps": str(self.step)}
        if not self.config.adapter.kind:
            told[CLASSES] = ",".join(self.config.data.classes)
            save_checkpoint(self.folder / (name or CHECKPOINT), self.average.state, told, self.config.half)
            return
        base = Path(self.model.source).name
        told |= {BASE: base, BASE_SHA256: self.model.source_sha256, ALPHA_KEY: str(self.config.adapter.alpha)}
        save_adapter(self.folder / (name or ADAPTER), adapter_tensors(self.average.state), told, half=self.config.half)

    def _resume(self) -> None:
        state = load_state(self.folder, self.config)
        self._begins = state is None
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.model.source_sha256 = state.get("base_sha256", self.model.source_sha256)  # whose weights these are
            self.distillation.load_state_dict(state["distillation"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.average.load(state["average"])
            self.step, self.seconds, self._pending, self.bad = (state[k] for k in ("step", "seconds", "pending", "bad"))
        self.world.wait()
        if self.world.rank == 0:
            if self._begins:
                (self.folder / BEST).unlink(missing_ok=True)  # of another run
            self._log.forget_from(0 if self._begins else self.step + 1)
            save_recipe(self.folder, self.config)


def _split(clips: list[Clip], numbers: list[int], parts: int) -> list[tuple[list[Clip], list[int]]]:
    size = max(1, math.ceil(len(clips) / parts))
    return [(clips[i : i + size], numbers[i : i + size]) for i in range(0, len(clips), size)]


def _size(model: Sam2Model) -> int:
    return sum(p.numel() for p in model.parameters())
