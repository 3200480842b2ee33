"""J&F while training runs: before it, now and then, and which weights were the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from sam2s_model.network.model import Sam2Model
from sam2s_model.tracking.memory import choose_policy, create_policy
from sam2s_model.training.compare import can_run
from sam2s_model.training.config import EvaluationConfig, TrainConfig, set_options
from sam2s_model.training.evaluate import Score, left_out_lines, open_annotated, score_recordings
from sam2s_model.training.log import Log, alike

POLICY = "scored_under"  # of what figures depend on: the memory policy that `evaluation.policy` stood for


class Validation:
    """The evaluations of a run. What they have found stands in its log, so that a run that is resumed knows of it.

    scores: of the last one in this process
    """

    def __init__(self, config: TrainConfig, log: Log):
        self._config, self._log = config, log
        self._options = _protocol(config.evaluation)
        self.scores: tuple[Score, ...] = ()

    def is_due(self, step: int) -> bool:
        """Whether there is an evaluation after so many steps."""
        options = self._config.evaluation
        if not options.sources:
            return False
        if step == 0:
            return options.before
        return step == self._config.steps or (options.every > 0 and step % options.every == 0)

    def run(self, model: Sam2Model, step: int, seconds: float, policy: str) -> tuple[str, bool]:
        """Evaluate weights and add a line to the log. Returns what is told of it, and whether they are the best.

        policy: that the run's own weights are scored under, see `used_policy`; what it begins with is where it can be
        """
        options, classes = self._config.evaluation, self._config.data.classes
        found = open_annotated(options.sources, classes, options.recordings)
        used = policy_before(policy, model)
        self.scores = tuple(
            score_recordings(model, found, options.prompt, used, classes=classes, max_frames=options.frames)
        )
        jf = {score.name: round(100 * score.jf, 2) for score in self.scores}
        mean = mean_jf(self.scores)
        self._log.write({
            "step": step, "seconds": round(seconds, 1), "of": {**self._options, POLICY: used, "size": model.image_size},
            "jf": None if mean is None else round(100 * mean, 2), "jf_each": jf,
            "scores": [_figures(score) for score in self.scores],
        })  # fmt: skip
        best = self.best()
        said = "no object to be scored" if mean is None else f"J&F {100 * mean:.1f}"
        more = ", ".join(f"{name} {value:.1f}" for name, value in jf.items())
        why = "" if used == policy else f"; {other_policy(used, policy)}"
        lines = [*left_out_lines(found), f"step {step}: {said}, {more}{why}"]
        return "\n".join(lines), best is not None and best["step"] == step

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of the log whose figures compare: of evaluations with the present options, as the newest is.

        What a run began with is not among them where it could not be scored under the policy of what it makes.
        """
        known = self._with_options()
        return [line for line in known if alike(line, known[-1])]

    def before(self) -> dict[str, Any] | None:
        """Return the line of what the run began with, with the present options, under whichever policy; None: none."""
        return next((line for line in self._with_options() if line["step"] == 0), None)

    def has_changed(self) -> bool:
        """Whether there are evaluations with other options, which a run may have been resumed with."""
        return len(self._with_options()) < len(self._all())

    def has_scored(self, step: int) -> bool:
        """Whether weights after so many steps are among those whose figures compare, see `lines`."""
        return any(line["step"] == step for line in self.lines())

    def _with_options(self) -> list[dict[str, Any]]:
        return [line for line in self._all() if alike(line, {"of": self._options})]

    def _all(self) -> list[dict[str, Any]]:
        return [line for line in self._log.lines() if "scores" in line]

    def best(self) -> dict[str, Any] | None:
        """Return the line with the highest J&F, of equal ones the first; None where nothing was scored."""
        known = [line for line in self.lines() if line["jf"] is not None]
        return max(known, key=lambda line: line["jf"], default=None)


def used_policy(asked: str, model: Sam2Model) -> str:
    """Return the memory policy that a model is scored under. asked: a name; "auto": the one that it is used with

    Raises ConfigError when the model cannot run it.
    """
    policy = choose_policy(asked, model.has_memory, model.config)
    create_policy(policy, model.config)
    return policy


def policy_before(policy: str, model: Sam2Model) -> str:
    """Return what a model that a run begins with is scored under: what it makes is, or its own where it cannot be."""
    return policy if can_run(model, policy) else used_policy("auto", model)


def other_policy(used: str, policy: str) -> str:
    """Say that what a run begins with was scored under another policy than what it makes."""
    return f"scored with {used}, as it is used: it cannot run {policy}, with which what is learnt is scored"


def _protocol(options: EvaluationConfig) -> dict[str, Any]:
    """Return the options that figures depend on, as JSON has them."""
    said = {name: getattr(options, name) for name in ("policy", "prompt", "frames", "recordings")}
    return {**said, "sources": [set_options(source) for source in options.sources]}


def mean_jf(scores: Sequence[Score]) -> float | None:
    """Mean J&F, 0..1, of the recordings on which something was scored; None without any."""
    known = [score.jf for score in scores if np.isfinite(score.jf)]
    return float(np.mean(known)) if known else None


def logged_scores(line: dict[str, Any]) -> list[Score]:
    """Return the scores that a line of the log has."""
    nothing = float("nan")
    return [Score(**{**own, **{k: nothing for k in ("j", "f") if own[k] is None}}) for own in line["scores"]]


def _figures(score: Score) -> dict[str, Any]:
    """Return a score as JSON can hold it."""
    known = asdict(score)
    del known["predicted"]
    return {key: None if isinstance(value, float) and not np.isfinite(value) else value for key, value in known.items()}
