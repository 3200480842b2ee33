"""Which classes objects may have: the label set that was asked for, or the source's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from sam2s_model.errors import ConfigError, ErrorCode, RequestError
from sam2s_model.paths import expanded
from sam2s_model.prompting.prompt_script import PromptScript
from sam2s_model.semantics import GENERIC, LabelSet
from sam2s_model.similar import meant
from sam2s_model.tracks import Tracks
from sam2s_ros.processes.dds import label_set_path


def label_set_file(given: str, of_source: str = "") -> str:
    """Return the path of a label set's YAML file; "" for the generic table, which is built in.

    given: a name in config/labels, or a file; "": of_source, the name of the source's own, "" for none
    Raises ConfigError for a name that is none.
    """
    if not given:
        return label_set_path(of_source)
    path = expanded(given)
    if path.is_file():
        return str(path)
    names = _names()
    if given not in names:
        known = ", ".join(sorted(names))
        raise ConfigError(f"there is no label set {given}{meant(given, names)}: expected a file or one of {known}")
    return label_set_path(given)


def open_label_set(file: str) -> LabelSet:
    """Read what `label_set_file` has found. Raises ConfigError."""
    return LabelSet.from_yaml(file) if file else GENERIC


def check_classes(script: PromptScript, label_set: LabelSet) -> None:
    """Raise RequestError for a class of a script that is not in the label set; it names the sets that have it."""
    known = {label.name for label in label_set.classes}
    name = next((entry.class_name for entry in script.entries if entry.class_name not in {"", *known}), "")
    if name:
        raise RequestError(ErrorCode.UNKNOWN_CLASS, f"class {name!r} {_is_not_in(label_set, name)}")


def renumbered(tracks: Tracks, label_set: LabelSet) -> Tracks:
    """Give objects the numbers that their classes have in a label set, by name, or a name where they have none.

    Raises ConfigError for a class that is not in it; it names the sets that have it.
    """
    by_name = {label.name: label for label in label_set.classes}
    by_id = {label.id: label for label in label_set.classes}
    found = []
    for name, number in zip(tracks.class_names, tracks.class_ids.tolist(), strict=True):
        label = by_name.get(name) if name else by_id.get(number)
        if label is None:
            raise ConfigError(f"class {name or number!r} of what was tracked {_is_not_in(label_set, name)}")
        found.append(label)
    ids = np.array([label.id for label in found], np.uint8)
    return replace(tracks, class_ids=ids, class_names=tuple(label.name for label in found))


def _is_not_in(label_set: LabelSet, name: str) -> str:
    others = sorted(other for other in _names() if _has(other, name))
    hint = f"--label-set {' or '.join(others)} has it" if others else "--label-set takes a file of your own"
    known = ", ".join(label.name for label in label_set.classes)
    return f"is not in label set {label_set.name!r}: expected one of {known}; {hint}"


def _names() -> set[str]:
    return {path.stem for path in Path(label_set_path("generic")).parent.glob("*.yaml")}


def _has(label_set: str, name: str) -> bool:
    return any(label.name == name for label in LabelSet.from_yaml(label_set_path(label_set)).classes)
