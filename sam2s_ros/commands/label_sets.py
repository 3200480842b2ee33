"""Which classes objects may have: the label set that was asked for, or the source's."""

from __future__ import annotations

from pathlib import Path

from sam2s_model.errors import ConfigError, ErrorCode, RequestError
from sam2s_model.paths import expanded
from sam2s_model.prompting.prompt_script import PromptScript
from sam2s_model.semantics import GENERIC, LabelSet
from sam2s_model.similar import meant
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
    known = {label.name: label for label in label_set.classes}
    name = next((entry.class_name for entry in script.entries if entry.class_name not in {"", *known}), "")
    if name:
        others = sorted(other for other in _names() if _has(other, name))
        hint = f"--label-set {' or '.join(others)} has it" if others else "--label-set takes a file of your own"
        raise RequestError(
            ErrorCode.UNKNOWN_CLASS,
            f"class {name!r} is not in label set {label_set.name!r}: expected one of {', '.join(known)}; {hint}",
        )


def _names() -> set[str]:
    return {path.stem for path in Path(label_set_path("generic")).parent.glob("*.yaml")}


def _has(label_set: str, name: str) -> bool:
    return any(label.name == name for label in LabelSet.from_yaml(label_set_path(label_set)).classes)
