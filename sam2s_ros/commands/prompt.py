"""`sam2s prompt`: ask a running tracker to follow an object, or correct one, without ros2cli."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sam2s_model.errors import ConfigError, ErrorCode
from sam2s_ros.commands.arguments import FAILED, line_printer

if TYPE_CHECKING:  # loads OpenCV, which the help of a command does without
    from sam2s_model.prompts import Prompt

Timeout = Annotated[float, typer.Option(min=0.1, max=600.0, help="longest wait for a tracker, and for its answer, s")]


def prompt(
    box: Annotated[str, typer.Option(metavar="X0,Y0,X1,Y1", help="around the object, px of the image")] = "",
    point: Annotated[list[str] | None, typer.Option(metavar="X,Y", help="a point on the object; repeatable")] = None,
    negative: Annotated[list[str] | None, typer.Option(metavar="X,Y", help="a point not on it; repeatable")] = None,
    class_name: Annotated[str, typer.Option("--class", help="its class, a name of the label set")] = "",
    object_id: Annotated[
        int, typer.Option("--object", min=0, max=2**32 - 1, help="id of the object to correct; 0: a new one")
    ] = 0,
    tracker: Annotated[str, typer.Option(metavar="NAME", help="name of the node; default: the only one")] = "",
    timeout: Timeout = 10.0,
) -> None:
    """Prompt one object on the newest image of a running tracker. Prints its id, or why it was refused (exit code 1).

    A box and points that are given together are of the same object.
    """
    from rich.console import Console

    asked = prompt_of(box, point or (), negative or (), class_name, object_id)
    from sam2s_ros.processes.dds import environment

    os.environ.update(environment())  # read when the node's participant is made; the answer has masks
    from sam2s_ros.interfaces.messages import prompt_message, to_ns
    from sam2s_ros.processes.running_trackers import RunningTrackers
    from sam2s_ros.srv import AddPrompts
    from sam2s_ros.tracker.gate import seconds

    say = line_printer(Console())
    with RunningTrackers("sam2s_prompt") as running:
        name = running.the_one(tracker, timeout)
        request = AddPrompts.Request(prompts=[prompt_message(asked)])
        answer = running.call(AddPrompts, name, "add_prompts", request, timeout)
    if not answer.success:
        code = ErrorCode(answer.error).name if answer.error in set(ErrorCode) else f"error {answer.error}"
        say(f"{name} refused, {code}: {answer.message}")
        raise typer.Exit(FAILED)
    names = {found.object_id: found for found in answer.masks.objects}
    for i in answer.object_ids:
        found = names[i]
        say(f"object {i} ({found.class_name}), {found.area} px, on the image of {seconds(to_ns(answer.stamp_used))}")


def prompt_of(
    box: str, points: Sequence[str], negatives: Sequence[str], class_name: str = "", object_id: int = 0
) -> Prompt:
    """Make the prompt of what was typed. Raises ConfigError for text that is not numbers, or when nothing is asked."""
    if not (box or points or negatives or (object_id and class_name)):
        raise ConfigError("nothing was asked: give --box, --point, or --object and --class to rename it")
    import numpy as np

    from sam2s_model.prompts import NEGATIVE, POSITIVE, Prompt
    from sam2s_ros.commands.prompting import parse_numbers

    texts = [*points, *negatives]
    options = ["--point"] * len(points) + ["--negative"] * len(negatives)
    places = [parse_numbers(text, 2, option, "x,y") for text, option in zip(texts, options, strict=True)]
    labels = [POSITIVE] * len(points) + [NEGATIVE] * len(negatives)
    return Prompt(
        object_id,
        class_name,
        points=np.array(places, np.float32) if places else None,
        point_labels=np.array(labels) if places else None,
        box=np.array(parse_numbers(box, 4, "--box", "x0,y0,x1,y1"), np.float32) if box else None,
    )
