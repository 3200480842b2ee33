"""What people ask for, done: one request, one answer, one line in the log of actions."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

from sam2s_model.errors import ErrorCode, RequestError
from sam2s_ros.console import protocol
from sam2s_ros.console.link import Link, LinkPrompt
from sam2s_ros.console.session import SessionDescription

Answer = dict[str, Any]


@dataclass(frozen=True)
class Actions:
    """The requests of all browsers.

    links: finds the tracker of a camera's name, or None
    log: told each request, as one record: who, what, and what became of it
    """

    links: Callable[[str], Link | None]
    log: Callable[[dict[str, Any]], None]
    _turns: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock), repr=False)

    async def do(self, who: str, request: protocol.Request) -> Answer:
        """Carry a request out. Returns the text message `answer`; what is refused is in it."""
        answer: Answer = {"type": "answer", "request": request.request, "ok": False, "message": "", "error": ""}
        try:
            link = self.links(request.camera)
            if link is None:
                raise RequestError(ErrorCode.NOT_ACTIVE, f"there is no tracker {request.camera!r}")
            # Who looks for objects changes nothing, and may take long: nobody waits for that.
            turn = nullcontext() if isinstance(request, protocol.DiscoverAction) else self._turns[request.camera]
            async with turn:  # two who take back at once take back two actions
                answer |= {"ok": True, **await self._carry_out(link, request)}
        except RequestError as error:
            answer |= {"ok": False, "message": str(error), "error": error.code.name}
        what = {
            key: value
            for key, value in asdict(request).items()
            if key != "request" and value not in ("", ()) and (key, value) != ("proposal", 0)
        }
        self.log({"who": who, "action": _name(request), **what, "ok": answer["ok"],
                  "answer": answer["message"]})  # fmt: skip
        return answer

    async def _carry_out(self, link: Link, request: protocol.Request) -> Answer:
        session = link.session
        if isinstance(request, protocol.PromptAction):
            return await self._prompt(link, request)
        if isinstance(request, protocol.DiscoverAction):
            found = await link.discover(request.stamp, request.class_name)
            count = len(found.proposals)
            said = f"{count} may be objects: a click on one accepts it" if count else "nothing was found that is new"
            shown = [own.shown() for own in found.proposals]
            return {"message": said, "stamp": str(found.stamp), "proposals": shown}
        if isinstance(request, protocol.Remove):
            before = session.before(0)
            await link.remove(request.objects)
            session.removed(before, request.objects)
            return {"message": f"removed: {', '.join(map(str, request.objects))}"}
        if isinstance(request, protocol.UndoAction):
            return await self._undo(link)
        if isinstance(request, protocol.Reset):
            message = await link.reset()
            session.was_reset()
            return {"message": message}
        if isinstance(request, protocol.Enable):
            return {"message": await link.enable(request.on)}
        if not isinstance(request, protocol.Describe):
            raise RequestError(ErrorCode.EMPTY_REQUEST, f"{_name(request)} is for recordings: this is a live tracker")
        session.describe(request.object, SessionDescription(request.name, request.color))
        return {"message": f"object {request.object} is called {request.name or 'as before'}"}

    async def _prompt(self, link: Link, request: protocol.PromptAction) -> Answer:
        before = link.session.before(request.stamp)
        prompt = asked(request)
        object_id = await link.prompt(prompt)
        link.session.prompted(before, object_id, new=not request.object, renamed_only=prompt.only_names)
        return {"message": f"object {object_id}", "objects": [object_id]}

    async def _undo(self, link: Link) -> Answer:
        remedy = link.session.remedy()
        new_id = 0
        try:
            if remedy.remove:
                await link.remove(remedy.remove)
                link.session.take_off(remedy.remove)
            for stamp, object_id, mask, class_name in remedy.prompts:
                given = await link.prompt(LinkPrompt(stamp, object_id, class_name, mask=mask))
                new_id = 0 if object_id else given
        except RequestError as error:
            if error.code in (ErrorCode.UNKNOWN_OBJECT, ErrorCode.TOO_OLD, ErrorCode.UNKNOWN_STAMP):
                link.session.taken_back()  # it never can be: the one before is next
            raise
        link.session.taken_back(new_id)
        return {"message": remedy.says, "objects": [new_id] if new_id else []}


def asked(request: protocol.PromptAction) -> LinkPrompt:
    """Return what a page asks about an object, as a tracker takes it."""
    return LinkPrompt(
        request.stamp, request.object, request.class_name, points=request.points, box=request.box,
        proposal=request.proposal,
    )  # fmt: skip


def _name(request: protocol.Request) -> str:
    """Return what a request is called, in the log and on the wire."""
    return type(request).__name__.removesuffix("Action").lower()
