"""A run that trains class prompts (SurgicalSAM) over a frozen checkpoint: Dice and NT-Xent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

from sam2s_model.checkpoint import load_model
from sam2s_model.discovery.build import Confirmation
from sam2s_model.discovery.learnt import save_learnt
from sam2s_model.discovery.prototype_file import ModelIdentity
from sam2s_model.discovery.train import ClassPromptTraining, class_samples
from sam2s_model.errors import ConfigError
from sam2s_model.recordings.recording import IndexedRecording
from sam2s_model.training.config import TrainConfig
from sam2s_model.training.data_config import SourceConfig
from sam2s_model.training.datasets import BoxRecording, TrainingRecording, numbered_scene, open_source
from sam2s_model.training.log import Log, TrainingProgress
from sam2s_model.training.optimization import learning_rate
from sam2s_model.training.outcome import TrainingOutcome
from sam2s_model.training.start import init_path
from sam2s_model.training.state import CLASS_PROMPTS, LOG, begin_folder, load_state, save_recipe, save_state


def train_class_prompts_of(
    config: TrainConfig, stop: Callable[[int], bool] | None = None, quiet: bool = False
) -> TrainingOutcome:
    """Run such a training, or what is left of the one in its folder; arguments as of `loop.run_training`.

    Raises ConfigError for sources without recordings, and PrototypeError for data without objects, or when the loss
    is no number.
    """
    folder = begin_folder(config)
    state = load_state(folder, config)
    told, path = config.class_prompts, init_path(config)
    model = load_model(path, config.model, config.data.size, config.device, "fp32")
    samples, names = class_samples(model, [*confirmed(config)], frames=told.frames)
    training = ClassPromptTraining(
        model, samples, names, weight_decay=config.optimizer.weight_decay, clip=config.optimizer.clip,
        tokens=told.tokens, batch=told.batch, seed=config.seed,
    )  # fmt: skip
    before = 0.0
    if state is not None:
        training.load_state_dict(state["class_prompts"])
        before = state["seconds"]
    log, began = Log(folder / LOG), time.monotonic()
    log.forget_from(training.steps + 1)
    save_recipe(folder, config)

    def save() -> None:
        seconds = before + time.monotonic() - began
        save_state(folder, dict(class_prompts=training.state_dict(), seconds=seconds), config)
        save_learnt(training.learnt(), ModelIdentity.of(model), folder / CLASS_PROMPTS)

    with TrainingProgress(config.steps, training.steps, quiet) as shown:
        shown.log(
            f"{model.name} at {model.image_size} px is frozen, {sum(p.numel() for p in training.parameters):,} numbers "
            f"of class prompts are trained on {len(samples)} images of {', '.join(names)}, in {folder}"
        )
        while training.steps < config.steps and not (stop and stop(training.steps)):
            if config.max_minutes and time.monotonic() - began > 60 * config.max_minutes:
                break
            rate = learning_rate(config, training.steps)
            losses = training.step(rate)
            shown.step(training.steps)
            if training.steps % config.log_every == 0 or training.steps == config.steps:
                seconds = round(before + time.monotonic() - began, 1)
                line = dict(step=training.steps, seconds=seconds, lr=rate, **asdict(losses))
                log.write(line)
                shown.line(line)
            if training.steps % config.save_every == 0:
                save()
        save()
    return TrainingOutcome(training.steps, folder / CLASS_PROMPTS)


def confirmed(config: TrainConfig) -> Iterator[Confirmation]:
    """Open the sources of a run, with the class that each says. Raises ConfigError for one without recordings."""
    for source in config.data.sources:
        class_name = "" if source.label_set else source.class_name  # a label set says more, see `SourceConfig`
        for one in _recordings(config, source):
            boxes = one.box_files if isinstance(one, BoxRecording) else None
            yield Confirmation(_named(one, config.data.classes), boxes, class_name, one.indices)


def _named(one: TrainingRecording, classes: Sequence[str]) -> IndexedRecording:
    """Return the recording, which says the classes that the source says of its values."""
    told = {label: classes[row] for label, row in one.classes.items() if row >= 0}
    one.recording.classes = {**one.recording.classes, **told}
    return one.recording


def _recordings(config: TrainConfig, source: SourceConfig) -> Iterator[TrainingRecording]:
    if source.kind == "scene":
        if not source.scenes:
            raise ConfigError("scenes is 0, ever new ones: expected a number, since class prompts keep what they saw")
        for number in range(source.scenes):
            yield numbered_scene(source, number, config.data.size, config.data.classes)
        return
    found = open_source(source, config.data.classes)
    recordings = [one for one in found if isinstance(one, TrainingRecording)]
    if not recordings:
        raise ConfigError(
            f"kind is {source.kind!r}, which has no recordings with classes: expected scene, boxes, davis, folder or a "
            "layout with masks"
        )
    yield from recordings
