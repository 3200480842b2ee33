"""One browser's WebSocket: commands in, the newest frame out when it has drawn the last, and never two at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from sam2s_model.errors import ConsoleError, ImageError
from sam2s_ros.console import protocol
from sam2s_ros.console.actions import Actions
from sam2s_ros.console.frames import Picture, ShownFrame
from sam2s_ros.console.link import Link
from sam2s_ros.console.protocol import Request
from sam2s_ros.console.safety import Bucket, Limits, Role
from sam2s_ros.console.session import NO_TRACKER

STATE_EVERY = 0.25  # s between two `state` messages at most
ANSWERS = 32  # requests of one browser that may be under way
FORGIVEN = 1000  # messages over the rate, or malformed, after which the connection ends
NOTHING_SENT = ("", 0, -1)  # camera, stamp, version
GONE = (asyncio.TimeoutError, ConnectionError)  # what sending to a browser raises that is no longer there


@dataclass
class House:
    """What all browsers share. picture: encodes a frame, in a thread of its own"""

    links: Callable[[], dict[str, Link]]
    actions: Actions
    limits: Limits
    picture: Callable[[str, ShownFrame], Any]  # awaitable Picture


class Browser:
    """Use `run` once. `wake` says, in the server's loop, that there may be something new.

    address: stands in the log of actions; may: what this browser may do
    abort: ends the connection without a word, which close() would wait to be answered
    """

    def __init__(self, socket: web.WebSocketResponse, house: House, address: str, may: Role, abort: Callable[[], Any]):
        self._socket, self._house, self._address, self._may, self._abort = socket, house, address, may, abort
        self._name = ""
        self._news = asyncio.Event()
        self._wanted = ""  # the camera that it has asked for, which may not be found yet
        self._camera, self._stamp = "", 0  # what it looks at; stamp 0: live
        self._count = self._acked = 0
        self._sent = NOTHING_SENT  # camera, stamp, version of the newest frame that was sent
        self._state_at, self._state_said = -1e9, ""
        self._tasks: set[asyncio.Task] = set()
        self._messages = Bucket(house.limits.messages, house.limits.burst)
        self._requests = Bucket(house.limits.actions, house.limits.burst)
        self._bad = 0

    @property
    def who(self) -> str:
        return f"{self._may.value} {self._name or 'without a name'} at {self._address}"

    def wake(self) -> None:
        self._news.set()

    async def run(self) -> None:
        """Until the browser leaves, or leaves unread what it was sent."""
        writer = asyncio.create_task(self._write())
        writer.add_done_callback(lambda task: task.cancelled() or self._abort())
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT:
                    await self._take(message.data)
                else:
                    await self._refuse("binary messages are not read: expected JSON")
                if self._bad > FORGIVEN:
                    await self._socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"too many bad messages")
        except GONE:
            pass  # the refusal itself was left unread
        finally:
            ends = (writer, *self._tasks)
            for task in ends:
                task.cancel()
            for error in await asyncio.gather(*ends, return_exceptions=True):
                if isinstance(error, Exception) and not isinstance(error, GONE):
                    raise error  # a fault of ours: the server logs it

    # In

    async def _take(self, text: str) -> None:
        if not self._messages.take():
            self._bad += 1
            if self._bad % 100 == 1:  # a refusal for each would be a flood as well
                await self._refuse(f"too many messages: expected at most {self._house.limits.messages:g} a second")
            return
        try:
            command = protocol.read_command(text)
        except ConsoleError as error:
            self._bad += 1
            await self._refuse(str(error))
            return
        if isinstance(command, protocol.Ack):
            self._acked = max(self._acked, min(command.count, self._count))
        elif isinstance(command, protocol.Hello):
            self._name = command.name
        elif isinstance(command, protocol.Watch):
            self._wanted = self._camera = command.camera
            self._stamp, self._state_at = 0, -1e9
            self._sent = NOTHING_SENT  # the page has dropped what it showed
        elif isinstance(command, protocol.ShowAction):
            self._stamp = command.stamp
            self._sent = NOTHING_SENT  # the page may have dropped the same one, that was under way between two of these
        else:
            await self._request(command)
        self.wake()

    async def _request(self, request: Request) -> None:
        if self._may is not Role.OPERATOR:
            await self._answer(request, "this page may only look: open it with the operator's token")
        elif not self._requests.take() or len(self._tasks) >= ANSWERS:
            await self._answer(request, f"too many requests: expected at most {self._house.limits.actions:g} a second")
        else:
            task = asyncio.create_task(self._carry_out(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, request: Request) -> None:
        await self._say(await self._house.actions.do(self.who, request))

    async def _answer(self, request: Request, refusal: str) -> None:
        await self._say({"type": "answer", "request": request.request, "ok": False, "message": refusal, "error": ""})

    async def _refuse(self, why: str) -> None:
        await self._say({"type": "refused", "message": why})

    # Out

    async def _say(self, message: dict[str, Any]) -> None:
        await self._patiently(self._socket.send_str(json.dumps(message)))

    async def _patiently(self, sending: Any) -> None:
        """Send, or end the connection when what was sent before is left unread for too long."""
        try:
            await asyncio.wait_for(sending, self._house.limits.patience)
        except asyncio.TimeoutError:
            self._abort()
            raise

    async def _write(self) -> None:
        try:
            while not self._socket.closed:
                with contextlib.suppress(asyncio.TimeoutError):  # ages go on when nothing comes
                    await asyncio.wait_for(self._news.wait(), STATE_EVERY)
                self._news.clear()
                await self._send_state()
                await self._send_frame()
        except GONE:
            pass  # `run` ends with the socket

    async def _send_state(self) -> None:
        if time.monotonic() - self._state_at < STATE_EVERY:
            return
        links = self._house.links()
        camera = next((name for name in (self._wanted, self._camera) if name in links), next(iter(links), ""))
        if camera != self._camera:  # that page wants it, or it is shown for want of that
            self._camera, self._stamp = camera, 0
        link = links.get(self._camera)
        state: dict[str, Any] = link.session.state() if link else dict(NO_TRACKER)
        state["cameras"] = [[name, own.session.alive] for name, own in links.items()]
        state["may"] = self._may.value
        self._state_at = time.monotonic()
        await self._patiently(self._socket.send_str(json.dumps(state)))

    async def _send_frame(self) -> None:
        """Send the newest frame, or the one asked for, unless it is there already or another is under way."""
        link = self._house.links().get(self._camera)
        if link is None or self._acked < self._count:
            return
        frame = link.session.frame(self._stamp)
        if frame is None and self._stamp:  # it can no longer be prompted; the page says so, from the state's history
            return
        if frame is None or (key := (self._camera, frame.stamp, frame.version)) == self._sent:
            return
        self._sent = key
        try:
            picture: Picture = await self._house.picture(self._camera, frame)
        except ImageError as error:
            await self._refuse(f"the image of {frame.stamp} is not shown: {error}")
            return
        self._count += 1
        await self._patiently(self._socket.send_bytes(self._message(link, frame, picture)))

    def _message(self, link: Link, frame: ShownFrame, picture: Picture) -> bytes:
        age = (link.now() - frame.stamp) / 1e6
        (height, width), (mask_height, mask_width) = picture.size, picture.label_map.shape
        header = {
            "count": self._count, "camera": self._camera, "stamp": str(frame.stamp), "sequence": frame.sequence,
            "width": width, "height": height, "mask": [mask_width, mask_height], "frozen": bool(self._stamp),
            "tracked": frame.tracked, "late": frame.late,
            "age": round(age, 1) if 0 <= age < 3.6e6 else None,  # of a recording's stamps it says nothing
            "objects": [seen.shown() for seen in frame.objects],
        }  # fmt: skip
        return protocol.frame_message(header, picture.jpeg, picture.label_map)
