"""`LayerList`: torch's ModuleList, which a type checker takes as a list of modules of one class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar, overload

from torch import nn

if TYPE_CHECKING:
    Layer = TypeVar("Layer", bound=nn.Module)

    class LayerList(nn.ModuleList, Generic[Layer]):
        def __init__(self, modules: Iterable[Layer]) -> None: ...

        def __iter__(self) -> Iterator[Layer]: ...

        @overload
        def __getitem__(self, index: slice) -> LayerList[Layer]: ...

        @overload
        def __getitem__(self, index: int) -> Layer: ...

        def __getitem__(self, index: int | slice) -> Layer | LayerList[Layer]:
            raise NotImplementedError
else:
    LayerList = nn.ModuleList
