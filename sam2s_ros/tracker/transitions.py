"""Callbacks of the life cycle that say what raises in them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from sam2s_model.errors import Sam2sError
from sam2s_ros.processes.callbacks import one_line

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
ERROR = TransitionCallbackReturn.ERROR


def transition(callback: Callable[[Any, LifecycleState], Any]) -> Callable[[Any, LifecycleState], Any]:
    """Make a callback of the life cycle say what raises in it: rclpy takes that for ERROR and says nothing."""

    @wraps(callback)
    def wrapped(node: Any, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return callback(node, state)
        except Exception as error:  # whatever torch and rclpy raise: the node stays up and says so
            name = callback.__name__.removeprefix("on_")
            node.fail(name, str(error) if isinstance(error, Sam2sError) else one_line(error))
            return FAILURE if name in ("configure", "error") else ERROR  # nothing is left of a configure that failed

    return wrapped
