"""Options of the tracker as a command line has them: NAME=VALUE."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from sam2s_model.config import TrackerConfig
from sam2s_model.errors import ConfigError
from sam2s_model.similar import meant


def tracker_options(given: Iterable[str]) -> dict[str, Any]:
    """Read NAME=VALUE, of fields of `TrackerConfig`, values as YAML has them. Raises ConfigError.

    >>> tracker_options(["max_objects=4", "pruning=tsms", "stability=false"])
    {'max_objects': 4, 'pruning': 'tsms', 'stability': False}
    """
    return typed_options(given, {field.name: field.default for field in dataclasses.fields(TrackerConfig)})


def typed_options(given: Iterable[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Read NAME=VALUE, values as YAML has them. known: defaults by name, of the types expected. Raises ConfigError."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if name not in known:
            near = meant(name, known)  # after a hundred names nobody would see it
            raise ConfigError(f"option is {name!r}{near}: expected one of {', '.join(sorted(known))}")
        if not equals:
            raise ConfigError(f"option is {text!r}: expected {name}=VALUE, by default {known[name]}")
        found[name] = _of_type(type(known[name]), name, value)
    return found


def _of_type(kind: type, name: str, text: str) -> Any:
    try:
        value = text if kind is str else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # the latter for a date that is none
        value = text
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise ConfigError(f"option {name} is {text!r}: expected {wanted}")
    return value
