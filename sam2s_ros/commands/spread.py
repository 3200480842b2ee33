"""Commands whose parameters are dataclasses: each field becomes an option of the command line."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

import typer

Command = Callable[..., Any]


def spread(command: Command) -> Command:
    """Put the fields of each parameter that is a dataclass in its place, as options of typer.

    A field is annotated as an option, `Annotated[int, typer.Option(...)]`, or made with `sam2s_model.config.option`,
    whose description is its help; one of type `tuple[str, ...]` may be given several times. All fields have defaults.
    What the dataclass raises for its values is raised.

        @app.command()
        @spread
        def track(source: SourceSpec, engine: EngineOptions) -> None: ...  # SOURCE --checkpoint ... --device ...
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            parameters += _options(groups[name])
        else:
            kind = inspect.Parameter.KEYWORD_ONLY  # so that those without a default may follow others
            parameters.append(parameter.replace(annotation=hints[name], kind=kind))

    @wraps(command)
    def called(**given: Any) -> Any:
        made = {}
        for name, group in groups.items():
            values = {own.name: given.pop(own.name) for own in dataclasses.fields(group)}
            listed = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
            made[name] = cast(Any, group)(**{**values, **listed})
        return command(**given, **made)

    spoken = cast(Any, called)
    spoken.__signature__ = inspect.Signature(parameters)
    spoken.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


def _options(group: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in dataclasses.fields(group):
        annotation = hints[field.name]
        if get_origin(annotation) is not Annotated:
            annotation = Annotated[annotation, typer.Option(help=field.metadata["doc"])]
        kind, spoken = get_args(annotation)
        if get_origin(kind) is tuple:  # typer has lists for what is repeatable, which are not hashable
            annotation = Annotated[list[get_args(kind)[0]], spoken]  # type: ignore[misc]
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=annotation
        )
