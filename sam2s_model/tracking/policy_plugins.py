"""Memory policies of other packages: MODULE:CLASS, FILE.py:CLASS, and entry points of the group `sam2s.policies`.

What stands behind such a name is a subclass of `memory.Policy`, or a function that takes the model's `ModelConfig` and
the tracker's `TrackerConfig` and returns a policy. Neither torch nor a module of a plug-in is imported until one is
created, so that command lines and parameters can check a name at once.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sam2s_model.errors import ConfigError
from sam2s_model.paths import expanded
from sam2s_model.similar import meant
from sam2s_model.tracking.policies import POLICIES, pruning_of

if TYPE_CHECKING:  # loads torch
    from sam2s_model.config import ModelConfig, TrackerConfig
    from sam2s_model.tracking.memory.policy import Policy

GROUP = "sam2s.policies"
SUFFIX = ".py"
PLACE = re.compile(r"(?P<module>[^:]+):(?P<name>[A-Za-z_]\w*)")
FORMS = f"MODULE:CLASS, FILE{SUFFIX}:CLASS or a name that an installed package has in {GROUP}"
KIND = "a subclass of sam2s_model.tracking.memory.Policy, or a function of (ModelConfig, TrackerConfig)"


def installed_policies() -> dict[str, EntryPoint]:
    """Return the entry points of installed packages by name, without those that are called as a policy of this one.

    Raises ConfigError when two packages have different ones of a name.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        if point.name in POLICIES or point.name == "auto":
            continue
        other = found.setdefault(point.name, point)
        if other.value != point.value:  # one that is installed twice, as by a workspace over another, is the same
            raise ConfigError(
                f"policy {point.name!r} is in two packages, {_package(other)} and {_package(point)}: uninstall one, or "
                f"give {other.value} or {point.value}"
            )
    return found


def check_policy_name(name: str) -> None:
    """Raise ConfigError for what is no policy's name, as far as that can be said without importing one."""
    if name == "auto" or name in POLICIES:
        return
    place = PLACE.fullmatch(name)
    if place:
        _check_there(name, place["module"])
        return
    installed = installed_policies()
    if name not in installed:
        known = ["auto", *POLICIES, *installed]
        raise ConfigError(f"policy is {name!r}: expected {', '.join(known)}; or {FORMS}{meant(name, known)}")


def create_plugged_in(name: str, model: ModelConfig, options: TrackerConfig) -> Policy:
    """Create the policy of a name that is none of POLICIES. Raises ConfigError that says what is wrong with it."""
    from sam2s_model.tracking.memory.policy import Policy

    made = found = _find(name)
    if isinstance(found, type) and not issubclass(found, Policy) or not callable(found):
        raise ConfigError(f"policy is {name!r}, which is {_described(found)}: expected {KIND}")
    try:
        made = found(model, **_pruning(options)) if isinstance(found, type) else found(model, options)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"policy {name!r} cannot be created ({type(error).__name__}: {error})") from error
    if not isinstance(made, Policy):
        raise ConfigError(f"policy is {name!r}, which returned {_described(made)}: expected {KIND}")
    return made


def policy_digest(name: str) -> str:
    """Return the SHA-256 of the file that a plugged-in policy is in; "" for one of POLICIES, whose code is ours.

    Raises ConfigError as `create_plugged_in`.
    """
    if name == "auto" or name in POLICIES:
        return ""
    found = _find(name)
    path = inspect.getsourcefile(found) if inspect.isclass(found) or inspect.isfunction(found) else None
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""


def _pruning(options: TrackerConfig) -> dict[str, Any]:
    """Return the tracker's option as an argument, where it names a pruning: a policy's own is its default."""
    return {} if options.pruning == "policy" else dict(pruning=pruning_of(options, "none"))


def _find(name: str) -> Any:
    """Import what a name stands for. Raises ConfigError."""
    check_policy_name(name)
    place = PLACE.fullmatch(name)
    if place is None:
        point = installed_policies()[name]
        with _said(name, f" of the package {_package(point)}"):
            return point.load()
    with _said(name):
        module = _import(place["module"])
    if not hasattr(module, place["name"]):
        raise ConfigError(
            f"policy is {name!r}, but {module.__file__ or place['module']} has no {place['name']}: expected {KIND}"
            f"{meant(place['name'], _own_names(module))}"
        )
    return getattr(module, place["name"])


@contextmanager
def _said(name: str, of: str = "") -> Iterator[None]:
    """Turn whatever the import of a plug-in raises into a ConfigError."""
    try:
        yield
    except Exception as error:
        raise ConfigError(f"policy {name!r}{of} cannot be imported ({type(error).__name__}: {error})") from error


def _import(module: str) -> ModuleType:
    if not module.endswith(SUFFIX):
        _look_in(Path.cwd())  # an installed command does not look there by itself
        return importlib.import_module(module)
    path = expanded(module).resolve()
    known = f"sam2s_policy_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    if known in sys.modules:
        return sys.modules[known]
    spec = importlib.util.spec_from_file_location(known, path)
    assert spec is not None and spec.loader is not None  # it has the suffix of a Python file
    made = importlib.util.module_from_spec(spec)
    _look_in(path.parent)  # as a script finds what is beside it
    sys.modules[known] = made  # dataclasses look their module up
    try:
        spec.loader.exec_module(made)
    except BaseException:
        del sys.modules[known]
        raise
    return made


def _look_in(folder: Path) -> None:
    """Find modules of a folder, too, after all others; for good, since a plug-in may import later."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    importlib.invalidate_caches()  # the file may be newer than the last look


def _check_there(name: str, module: str) -> None:
    """Raise ConfigError when there is no such file, or no such top-level module."""
    if module.endswith(SUFFIX):
        try:
            there = expanded(module).is_file()
        except OSError as error:
            raise ConfigError(f"policy is {name!r}, and {module} cannot be read: {error.strerror}") from error
        if not there:
            raise ConfigError(f"policy is {name!r}, but there is no file {module}: expected {FORMS}")
        return
    if not all(part.isidentifier() for part in module.split(".")):
        raise ConfigError(f"policy is {name!r}, and {module!r} is no module: expected {FORMS}")
    top = module.split(".")[0]
    importlib.invalidate_caches()
    if top not in sys.modules and PathFinder.find_spec(top, [*sys.path, str(Path.cwd())]) is None:
        raise ConfigError(
            f"policy is {name!r}, but there is no module {top!r}, neither installed nor in {Path.cwd()}: "
            f"expected {FORMS}"
        )


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "?"


def _own_names(module: ModuleType) -> list[str]:
    return [name for name in vars(module) if not name.startswith("_")]


def _described(found: object) -> str:
    return f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"
