"""Between the executor's threads and the worker: requests queue, one frame waits, either wakes the worker."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

Frame = TypeVar("Frame")
Request = TypeVar("Request")


class Mailbox(Generic[Frame, Request]):
    """One slot for a frame, in which the newest wins, and a queue of requests, which go first.

    Any number of threads may put and ask; one thread takes. A frame that is put ends in exactly one way:
    it is taken, or it is returned from `put`, `discard` or `close` to the caller, who accounts for it.
    """

    def __init__(self):
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._requests: deque[Request] = deque()
        self._closed = False

    def put(self, frame: Frame) -> Frame | None:
        """Leave a frame for the worker. Return the frame that lost its place by that, or None.

        That is the one that was waiting, or the new one when the mailbox is closed.
        """
        with self._changed:
            if self._closed:
                return frame
            replaced, self._frame = self._frame, frame
            self._changed.notify()
            return replaced

    def ask(self, request: Request) -> bool:
        """Queue a request. Return False when the mailbox is closed: nobody will answer."""
        with self._changed:
            if self._closed:
                return False
            self._requests.append(request)
            self._changed.notify()
            return True

    def take(self, timeout: float | None = None) -> Request | Frame | None:
        """Wait for the oldest request or, when there is none, for the frame.

        Return None when the mailbox is closed or `timeout` seconds have passed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._requests or self._frame is not None or self._closed, timeout)
            if self._requests:
                return self._requests.popleft()
            frame, self._frame = self._frame, None
            return frame

    def discard(self) -> Frame | None:
        """Empty the slot and return the frame that was in it."""
        with self._changed:
            frame, self._frame = self._frame, None
            return frame

    def close(self) -> tuple[list[Request], Frame | None]:
        """Refuse everything from now on and wake the worker. Return what was waiting."""
        with self._changed:
            self._closed = True
            left, frame = list(self._requests), self._frame
            self._requests.clear()
            self._frame = None
            self._changed.notify_all()
            return left, frame

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return self._frame is None and not self._requests

    @property
    def closed(self) -> bool:
        return self._closed

    def __len__(self) -> int:
        """Return the number of frames waiting, 0 or 1."""
        return int(self._frame is not None)
