"""A stand-in for torchvision, for as long as timm is being imported.

timm imports torchvision for data sets, image transforms and feature extraction by tracing, none of which is called
here. The stand-in answers to any name with an empty class, and it is gone afterwards, so that no other library finds
it: transformers, for one, takes another path where it believes that torchvision is installed.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

NAME = "torchvision"


@contextmanager
def torchvision_stand_in() -> Iterator[None]:
    """Make ``import torchvision`` and its submodules succeed inside the block. Does nothing where it is installed."""
    if importlib.util.find_spec(NAME) is not None:
        yield
        return
    finder = _Finder()
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n in sys.modules if n.split(".")[0] == NAME]:
            del sys.modules[name]


class _Finder(MetaPathFinder, Loader):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.split(".")[0] == NAME else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class _Module(ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Empty(name, (), {})


class _Empty(type):
    """A class without content, such as FrozenBatchNorm2d, or an enumeration, whose members are their own names."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name
