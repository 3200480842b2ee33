"""Files that a tracker writes, where several trackers are in one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sam2s_model.errors import ConfigError
from sam2s_model.paths import expanded
from sam2s_ros.interfaces.parameters import NodeConfig


class OwnFiles:
    """The files of a tracker, which the trackers beside it must not write as well; they may read them.

    name: of the node; config: as it is now; beside: those of the other trackers of this process
    """

    def __init__(self, name: str, config: Callable[[], NodeConfig]):
        self._name, self._config = name, config
        self.beside: Sequence[OwnFiles] = ()

    def check(self, parameter: str) -> None:
        """Raise ConfigError when another tracker has the same file as this parameter."""
        path = getattr(self._config(), parameter)
        for other in self.beside if path else ():
            theirs = getattr(other._config(), parameter)
            if theirs and expanded(theirs).resolve() == expanded(path).resolve():
                raise ConfigError(
                    f"{parameter} is {path} for {self._name} and {other._name}: each would overwrite what the other "
                    "keeps; give each its own"
                )
