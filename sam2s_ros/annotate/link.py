"""An annotation as the console's server wants a tracker, and the thread that tracks on."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np

from sam2s_model.annotation.exports import export_as
from sam2s_model.annotation.project import AnnotationProject
from sam2s_model.errors import ErrorCode, RequestError, Sam2sError
from sam2s_ros.annotate.learn import learning_command
from sam2s_ros.annotate.session import AnnotationSession, TrackingProgress, stamp_of
from sam2s_ros.console.link import LinkPrompt
from sam2s_ros.console.proposals import Discovered, proposed
from sam2s_ros.console.session import SessionDescription

T = TypeVar("T")
log = logging.getLogger(__name__)


class AnnotationLink:
    """A `Link`. What takes time is done in a thread of its own, so that pages are answered meanwhile.

    name: of the recording; changed: called, in any thread, when there is something new to show
    """

    def __init__(self, name: str, project: AnnotationProject, changed: Callable[[], None], device: str = ""):
        self._project = project
        self.session: AnnotationSession = AnnotationSession(name, project, changed=changed, device=device)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="annotation")
        self._stop = threading.Event()
        self._proposals: dict[int, tuple[int, np.ndarray]] = {}  # of the newest look: id -> position, mask
        self._numbers = itertools.count(1)
        self._tracking: threading.Thread | None = None

    async def prompt(self, asked: LinkPrompt) -> int:
        position, mask = self.session.position(asked.stamp), asked.mask
        if asked.proposal:
            known = self._proposals.get(asked.proposal)
            if known is None or known[0] != position:
                raise RequestError(
                    ErrorCode.UNKNOWN_PROPOSAL,
                    f"proposal {asked.proposal} is not known on frame {position}: discover again",
                )
            mask = known[1]
        number = await self._work(
            self._project.prompt, position, asked.object_id, asked.class_name, points=asked.points,
            box=asked.box or None, mask=mask,
        )  # fmt: skip
        self.session.told()
        return number

    async def discover(self, stamp: int, class_name: str = "") -> Discovered:
        position = self.session.position(stamp)
        found = await self._work(self._project.discover, position, class_name)
        numbered = {next(self._numbers): own for own in found}
        self._proposals = {number: (position, own.mask) for number, own in numbered.items()}
        shown = (
            proposed(number, own.mask, tuple(own.box.tolist()), own.class_name, own.score, own.class_score)
            for number, own in numbered.items()
        )
        return Discovered(stamp_of(position), tuple(shown))

    async def remove(self, object_ids: tuple[int, ...]) -> None:
        for number in object_ids:
            await self._work(self._project.remove, number)
        self.session.told()

    async def reset(self) -> str:
        raise RequestError(ErrorCode.EMPTY_REQUEST, "an annotation is not reset: remove its objects")

    async def enable(self, on: bool) -> str:
        raise RequestError(ErrorCode.EMPTY_REQUEST, "an annotation is neither on nor off: track on, and stop")

    def now(self) -> int:
        return 0  # of the frames of a recording nobody asks how old they are

    async def describe(self, number: int, name: str, color: str) -> None:
        """Give an object a name and a colour. That waits for the frame under way, so it is no work for the loop."""
        await self._work(self.session.describe, number, SessionDescription(name, color))

    async def undo(self) -> str:
        """Take the last action back. Returns what that was."""
        said = await self._work(self._project.undo)
        self.session.told()
        return said

    async def export(self, name: str) -> str:
        """Write an export. Returns where."""
        return str(await self._work(export_as, name, self._project))

    async def learn(self) -> tuple[str, str]:
        """Write the data set. Returns the command that learns from it, and what is held out."""
        return await self._work(learning_command, self._project)

    async def track(self) -> str:
        """Begin to track on, in a thread. Returns what is done."""
        if self._tracking is not None and self._tracking.is_alive():
            raise RequestError(ErrorCode.NOT_ACTIVE, "it is tracking already: stop it first")
        if not self._project.objects:
            raise RequestError(ErrorCode.EMPTY_REQUEST, "there are no objects: click on one first")
        self._stop.clear()
        self.session.progress = TrackingProgress(running=True)
        self._tracking = threading.Thread(target=self._track, name="tracking on", daemon=True)
        self._tracking.start()
        return "tracking on"

    async def stop(self) -> str:
        """Stop after the frame that is under way."""
        self._stop.set()
        thread = self._tracking
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, thread.join)
        return "stopped"

    def close(self) -> None:
        """End both threads, after what they are at."""
        self._stop.set()
        if self._tracking is not None:
            self._tracking.join()
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _track(self) -> None:
        progress, session = self.session.progress, self.session

        def on_frame(done: int, total: int) -> None:
            progress.done, progress.total = done, total
            session.cursor = self._project.newest_tracked
            session.told()

        try:
            self._project.track(None, on_frame, self._stop.is_set)
        except Sam2sError as error:
            progress.message = f"tracking ended: {error}"
        except Exception as error:  # a fault of ours, or of the device: what was tracked is there, and people are told
            progress.message = f"tracking ended: {type(error).__name__}: {error}"
        finally:
            progress.running = False
            session.told()

    async def _work(self, what: Callable[..., T], *args: Any, **named: Any) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, partial(what, *args, **named))
        except RequestError:
            raise
        except Sam2sError as error:
            raise RequestError(ErrorCode.INTERNAL, str(error)) from error
        except Exception as error:  # a fault of ours, or of the device, as in `_track`: whoever asked is answered
            log.exception("%s failed", getattr(what, "__name__", what))
            raise RequestError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}") from error
