"""How evaluations differ, and how sure that is: paired differences with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sam2s_model.errors import ConfigError
from sam2s_model.evaluation.scores import OF_OBJECTS

CONFIDENCE = 0.95
DRAWS = 10_000
IGNORED = ("overlay", "masks", "masks_bag")  # of a configuration: they do not change what is measured
IGNORED_OF_SOURCE = ("spec", "data_set")  # where it lies, and what it is called; the rest says how it is read


def compare(first: dict[str, Any], other: dict[str, Any], seed: int = 0, draws: int = DRAWS) -> dict[str, Any]:
    """Compute the differences `other` - `first` of two reports, over the objects that both have scored.

    Overall is the mean over data sets of the mean over their objects. Its interval (95 %, percentiles) comes from
    drawing recordings with replacement within each data set: frames and objects of one recording are alike. With a
    single recording per data set the interval says nothing.
    Raises ConfigError when they have no object in common.
    """
    ours, theirs = _objects(first), _objects(other)
    common = [key for key in ours if key in theirs]
    if not common:
        expected = ", ".join(map("/".join, list(ours)[:3])) or "those of a report that has scored any"
        raise ConfigError(f"the reports have no scored object in common: expected some of {expected}")
    values = np.array([[[own[key][name] for name in OF_OBJECTS] for key in common] for own in (ours, theirs)])
    differences = values[1] - values[0]
    recordings = list(dict.fromkeys(key[:2] for key in common))
    of_recording = np.array([recordings.index(key[:2]) for key in common])
    drawn = _drawn(differences, of_recording, [name for name, _ in recordings], seed, draws)
    low, high = np.quantile(drawn, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2), axis=0)
    weights = _weights(of_recording, [name for name, _ in recordings])
    overall = [weights @ table for table in (*values, differences)]
    return dict(
        overall={
            name: dict(zip(("first", "other", "difference", "low", "high"), map(float, row), strict=True))
            for name, row in zip(OF_OBJECTS, np.stack([*overall, low, high], axis=1), strict=True)
        },
        recordings=[
            dict(data_set=data_set, name=recording, **_means(values[:, of_recording == i]))
            for i, (data_set, recording) in enumerate(recordings)
        ],
        objects=len(common),
        left_out=dict(first=len(ours) - len(common), other=len(theirs) - len(common)),
        configurations=changed_settings(*(_measured(report["configuration"]) for report in (first, other))),
        confidence=CONFIDENCE,
        seed=seed,
        draws=draws,
    )


def _objects(report: dict[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Map (data set, recording, object) to the object's figures, for objects that have any."""
    return {
        (recording["data_set"], recording["name"], str(own["object"])): own
        for recording in report["recordings"]
        for own in recording["objects"]
        if own["jf"] is not None
    }


def _weights(of_recording: np.ndarray, data_sets: Sequence[str]) -> np.ndarray:
    """(K,): what each object counts in the mean over data sets of the mean over objects."""
    names = np.array(data_sets)[of_recording]
    sizes = np.array([np.count_nonzero(names == name) for name in names])
    return 1 / sizes / len(set(names.tolist()))


def _drawn(
    differences: np.ndarray, of_recording: np.ndarray, data_sets: Sequence[str], seed: int, draws: int
) -> np.ndarray:
    """(draws, figures): the overall difference of recordings that were drawn with replacement in each data set."""
    rng = np.random.default_rng(seed)
    sums = np.stack([differences[of_recording == i].sum(0) for i in range(len(data_sets))])
    counts = np.bincount(of_recording, minlength=len(data_sets))
    means = []
    for name in sorted(set(data_sets)):
        own = np.flatnonzero(np.array(data_sets) == name)
        chosen = own[rng.integers(len(own), size=(draws, len(own)))]
        means.append(sums[chosen].sum(1) / counts[chosen].sum(1, keepdims=True))
    return np.mean(means, axis=0)


def _means(values: np.ndarray) -> dict[str, dict[str, float]]:
    """values: (2, K, figures)"""
    first, other = values.mean(1)
    return {
        name: dict(first=float(a), other=float(b), difference=float(b - a))
        for name, a, b in zip(OF_OBJECTS, first, other, strict=True)
    }


def _measured(configuration: dict[str, Any]) -> dict[str, Any]:
    """Return what decides the figures: of sources how they are read, each way once, whatever their number."""
    measured = {name: value for name, value in configuration.items() if name not in IGNORED and name != "sources"}
    ways: dict[str, list[Any]] = {}
    for source in configuration.get("sources", ()):
        for name, value in source.items():
            if name not in IGNORED_OF_SOURCE and value not in ways.setdefault(name, []):
                ways[name].append(value)
    measured["sources"] = {name: _one_or_all(values) for name, values in ways.items()}
    return measured


def _one_or_all(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else sorted(values, key=str)


def changed_settings(first: dict[str, Any], other: dict[str, Any]) -> dict[str, list[Any]]:
    """Map the name of each setting in which two configurations differ to its two values; nested ones are "a.b"."""
    names = [name for name in dict.fromkeys([*first, *other]) if first.get(name) != other.get(name)]
    out = {}
    for name in names:
        mine, theirs = first.get(name), other.get(name)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            out.update({f"{name}.{inner}": pair for inner, pair in changed_settings(mine, theirs).items()})
        else:
            out[name] = [mine, theirs]
    return out
