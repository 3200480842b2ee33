"""How a run ends: what it has changed, and the commands to use and to compare what it has made."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from sam2s_model.checkpoint import load_model, with_adapter
from sam2s_model.errors import ConfigError
from sam2s_model.network.model import Sam2Model
from sam2s_model.training.config import TrainConfig, load_config
from sam2s_model.training.evaluate import Score, left_out_lines, open_annotated, score_recordings, score_table
from sam2s_model.training.log import Log, alike
from sam2s_model.training.start import init_name, init_path, model_before
from sam2s_model.training.state import LOG, RECIPE, result_path
from sam2s_model.training.validation import POLICY, Validation, logged_scores, other_policy, policy_before, used_policy


def closing_lines(config: TrainConfig) -> list[str]:
    """Say what a run has changed, of its log, and the commands to use its result and to compare it with its start.

    Nothing where the run has not evaluated itself before its first step, a sentence where nothing could be scored, or
    not always with the present options.
    """
    validation = Validation(config, Log(Path(config.output) / LOG))
    known, before, best = validation.lines(), validation.before(), validation.best()
    if known and best is None:
        return [
            f"nothing was scored in {len(known)} evaluations: expected an object, and at least 2 frames with masks "
            f"after its first, among the first {config.evaluation.frames} frames (evaluation.frames) of a recording"
        ]
    if config.evaluation.sources and validation.has_changed():
        return [
            "the options of the evaluation have changed on the way, and figures from before are not compared with the "
            f"others; both under the present ones: sam2s train compare {shlex.quote(config.output)}"
        ]
    if best is None or before is None or before["jf"] is None:
        return []
    last = known[-1]
    own = others = ""
    if not alike(before, last):  # the difference is not training's alone
        own, others = (f" with {line['of'][POLICY]}" for line in (before, last))
    shown = {f"after {line['step']} steps{others}": logged_scores(line) for line in (best, last) if line["step"]}
    lines = ["", score_table({f"before{own}": logged_scores(before), **shown}), ""]
    path, size = result_path(config), config.data_at(config.steps - 1).size
    if best["step"]:
        lines.append(
            f"J&F {before['jf']:.1f} before{own}, {best['jf']:.1f} after {best['step']} steps{others}: {path} has these"
        )
        use = _checkpoint(config, path)
    else:
        lines.append(
            f"no step was better than before (J&F {before['jf']:.1f}): try more clips, or a lower optimizer.lr"
        )
        use = f"--checkpoint {shlex.quote(init_name(config))}" if config.init else _checkpoint(config, path)
    return [
        *lines,
        f"to use it:     sam2s track VIDEO {use} --image-size {size}",
        f"to compare it: sam2s train compare {shlex.quote(config.output)}",
    ]


def _checkpoint(config: TrainConfig, path: Path) -> str:
    if not config.adapter.kind:
        return f"--checkpoint {shlex.quote(str(path))}"
    return f"--checkpoint {shlex.quote(init_name(config))} --adapter {shlex.quote(str(path))}"


def run_config(folder: Path) -> TrainConfig:
    """Read what the run in a folder was told. Raises ConfigError for a folder without one."""
    if not (folder / RECIPE).is_file():
        raise ConfigError(f"{folder} has no run: expected a folder that `sam2s train` has written, with {RECIPE}")
    return load_config(folder / RECIPE, output=folder)


def compare_run(
    folder: Path,
    *,
    policies: list[str],
    prompt: str = "",
    frames: int = 0,
    device: str = "auto",
    say: Callable[[str], object] = print,
) -> dict[str, list[Score]]:
    """Score what a run began with and what it made, on what it held out.

    policies: of memory; none: the run's; prompt: "" for the run's; frames: most of a recording, 0: all
    say: told of each file that is left out, and of each policy that what the run began with cannot run: that is scored
        as it is used
    Returns before or after, and the policy -> scores. Raises ConfigError for a folder without a run that holds
    something out or has made anything yet, SourceError where the recordings are gone, and what `load_model` raises.
    """
    config = run_config(folder)
    options = config.evaluation
    if config.class_prompts.tokens:
        raise ConfigError(
            f"the run in {folder} has made class prompts, which have no J&F: expected one that trains a model or an "
            "adapter; how good class prompts are `sam2s prototypes score` says"
        )
    if not options.sources:
        raise ConfigError(f"the run in {folder} has no evaluation.sources: expected one of `sam2s train --data`")
    path = result_path(config)
    if not path.is_file():
        raise ConfigError(f"{path} is not there yet: expected a run that has been saved")
    size = config.data_at(config.steps - 1).size
    found = open_annotated(options.sources, config.data.classes, options.recordings)
    start, after = model_before(config, size, device), _after(config, path, size, device)
    under = [used_policy(policy, after) for policy in policies or [options.policy]]
    before = [policy_before(policy, start) for policy in under]
    for used, policy in zip(before, under, strict=True):
        if used != policy:
            say(f"before: {other_policy(used, policy)}")
    columns = {}
    for name, model, used_by in (("before", start, before), ("after", after, under)):
        for policy in dict.fromkeys(used_by):
            columns[f"{name}, {policy}"] = score_recordings(
                model, found, prompt or options.prompt, policy, classes=config.data.classes, max_frames=frames
            )
    for line in left_out_lines(found):
        say(line)
    return columns


def _after(config: TrainConfig, path: Path, size: int, device: str) -> Sam2Model:
    if not config.adapter.kind:
        return load_model(path, image_size=size, device=device)
    return with_adapter(load_model(init_path(config), image_size=size, device=device), path)
