"""What raises in a callback costs that message or request, and not the process.

rclpy ends `spin` when a callback raises, also one of its own: a transition that does not fit, a parameter of a type
that is none, a /clock before zero. And where a message cannot even be taken, it leaves the callback group locked for
good.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.executors import Executor, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from sam2s_ros.msg import ErrorCode
from sam2s_ros.processes.log import kind_of

MAX_NAMED = 100  # sentences that differ by more than their numbers; what comes after is counted alone


class CallbackFailures:
    """Counts what raised in a node's callbacks, and says each kind once. Any thread may call.

    say: told the sentence, the first time
    count: all so far; last: the newest sentence, "" when there is none
    """

    def __init__(self, say: Callable[[str], None]):
        self._say, self._lock = say, threading.Lock()
        self._named: set[str] = set()
        self.count, self.last = 0, ""
        self._told = 0

    def add(self, what: str, error: Exception) -> str:
        """Count a failure of `what` ("the message on /x"). Return the sentence about it."""
        sentence = f"{what} failed: {_described(error)}"
        kind = kind_of(sentence)
        with self._lock:
            self.count, self.last = self.count + 1, sentence
            new = kind not in self._named and len(self._named) < MAX_NAMED
            if new:
                self._named.add(kind)
        if new:
            self._say(f"{sentence}; its like are counted on /diagnostics (callbacks_failed) and not named again")
        return sentence

    def news(self) -> str:
        """Return a sentence about the failures since the last call, for /diagnostics; "" when there were none."""
        with self._lock:
            new, self._told = self.count - self._told, self.count
            return f"{new} callback{'s' if new > 1 else ''} failed, the last: {self.last}" if new else ""

    def values(self) -> dict[str, str]:
        """Return the count as values for /diagnostics."""
        return dict(callbacks_failed=str(self.count))


def one_line(error: Exception) -> str:
    """Format a library's error for a sentence: its class and text, without line breaks."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _described(error: Exception) -> str:
    """Format an error in one line, with the place that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return one_line(error) + place


class _Lenient(Executor):
    """An executor of `RunnableNode`s that goes on when a callback raises, and answers the request that it was for."""

    def _make_handler(self, entity: Any, node: Any, take: Callable, *execute: Callable) -> Any:
        # `take` gives what is to be run, or, up to Humble, what is given to `execute`; either may raise.
        if isinstance(entity, Service) and not isinstance(entity.callback, _Answer):
            entity.callback = _Answer(entity, node)

        def taken(entity):
            try:
                found = take(entity)
            except Exception as error:
                node.failures.add(_what(entity), error)
                return None
            return found if found is None or execute else guarded(found)

        def guarded(run):
            async def call(*arguments):
                try:
                    await run(*arguments)
                except Exception as error:
                    node.failures.add(_what(entity), error)

            return call

        return super()._make_handler(entity, node, taken, *map(guarded, execute))


class LenientExecutor(_Lenient, SingleThreadedExecutor):
    """See `_Lenient`."""


class LenientMultiThreadedExecutor(_Lenient, MultiThreadedExecutor):
    """See `_Lenient`."""


class _Answer:
    """A service's callback that answers when it raises, too: the client would wait for ever."""

    def __init__(self, service: Service, node: Any):
        self._callback, self._node, self._what = service.callback, node, _what(service)
        kind: Any = service.srv_type  # which rclpy annotates as an object of that type
        self._response: Callable[[], Any] = kind.Response

    def __call__(self, request: Any, response: Any) -> Any:
        if isinstance(request, SetParameters.Request) and len(request.parameters) > 1:
            # each on its own, as rclpy sets them: those before one that raises were set
            singly = [SetParameters.Request(parameters=[parameter]) for parameter in request.parameters]
            response.results = [result for one in singly for result in self(one, self._response()).results]
            return response
        try:
            return self._callback(request, response)
        except Exception as error:
            return _refusal(self._response(), self._node.failures.add(self._what, error))


def _refusal(response: Any, why: str) -> Any:
    """Say no in whatever fields the response has for that."""
    fields = response.get_fields_and_field_types()
    if "success" in fields:
        response.success = False
    if "message" in fields:
        response.message = why
    if fields.get("error") == "uint8":
        response.error = ErrorCode.INTERNAL
    refused = SetParametersResult(successful=False, reason=why)
    if "results" in fields:
        response.results = [refused]
    if "result" in fields and isinstance(response.result, SetParametersResult):
        response.result = refused
    return response


def _what(entity: Any) -> str:
    """Name what a callback was called for. The entity may be destroyed by now."""
    if isinstance(entity, Service):
        return f"a request on {entity.srv_name}"
    if isinstance(entity, Subscription):
        try:
            return f"a message on {entity.topic_name}"
        except Exception:  # InvalidHandle: it was destroyed meanwhile
            kind: Any = entity.msg_type  # likewise
            return f"a message of type {kind.__name__}"
    callback = getattr(entity, "callback", None)
    called = "a timer" if isinstance(entity, Timer) else f"a callback of {type(entity).__name__}"
    return f"{called} ({getattr(callback, '__qualname__', type(callback).__name__)})"
