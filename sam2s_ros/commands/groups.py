"""Groups of commands: one with a command that needs no name, what was meant by a name that is none, and plain help."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperGroup

from sam2s_model.errors import ConfigError
from sam2s_model.similar import meant

DEFAULT = "run"


def plainly_shown(parameters: list[Any], ctx: Any) -> list[Any]:
    """Let the help show nothing for the type of a flag, which takes no value, and `<int>` for `<list[int]>`.

    Newer releases of typer show both otherwise; older ones have no `display_type` and need nothing.
    """
    for parameter in parameters:
        if hasattr(parameter, "display_type"):
            flag = getattr(parameter, "is_flag", False)
            shown = "" if flag else re.sub(r"list\[(.*)\]", r"\1", parameter.display_type(ctx))
            parameter.display_type = lambda ctx, shown=shown: shown
    return parameters


class CommandGroup(TyperGroup):
    """A group that names the nearest command for one that it does not have, and whose help shows types plainly."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the group's own options."""
        return plainly_shown(super().get_params(ctx), ctx)

    def get_command(self, ctx: Any, name: str) -> Any:
        """Return the command, or None."""
        command = super().get_command(ctx, name)
        if command is not None:
            plainly_shown(command.get_params(ctx), ctx)  # with --help, which is made once and kept
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command. Raises ConfigError for a name that is none."""
        name = args[0]
        if name not in self.commands and not name.startswith("-"):
            hint, known = meant(name, self.commands), ", ".join(sorted(self.commands))
            raise ConfigError(f"there is no command {ctx.command_path} {name}{hint}: expected one of {known}")
        return super().resolve_command(ctx, args)


class MainGroup(CommandGroup):
    """The group of all commands: its help shows first what most people want."""

    FIRST = ("demo", "track", "annotate", "eval", "train", "node", "replay", "console", "prompt", "status", "doctor")

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names as the help shows them."""
        names = super().list_commands(ctx)
        return [*(name for name in self.FIRST if name in names), *(name for name in names if name not in self.FIRST)]


class DefaultGroup(CommandGroup):
    """A group in which `sam2s eval SOURCE` is `sam2s eval run SOURCE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name of the command in where none is given."""
        return super().parse_args(ctx, args if args and args[0] in self.commands else [DEFAULT, *args])
