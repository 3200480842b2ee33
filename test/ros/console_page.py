"""The console as a process, and a browser's side of it without one: the same messages, over a real WebSocket."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import deque
from pathlib import Path

import aiohttp
import numpy as np

from sam2s_ros.console.protocol import read_frame
from sam2s_ros.console.runs import decode_runs


class Console:
    """The console's process, and where its page is. start: the fixture"""

    def __init__(self, start, **parameters):
        self.process = start(self.command(**parameters))
        self.process.wait_for_output("console: http", 60)
        self.address = re.search(r"console: (https?://[^/\s]+)", self.process.output)[1]

    @staticmethod
    def command(**parameters) -> list[str]:
        rules = [part for name, value in parameters.items() for part in ("-p", f"{name}:={json.dumps(value)}")]
        return [sys.executable, "-m", "sam2s_ros.console.node", "--ros-args", "-p", "port:=0", *rules]

    def page(self, **options) -> Page:
        return Page(self.address, **options)

    def actions(self) -> list[dict]:
        """What was logged of actions."""
        found = [json.loads(text) for text in re.findall(r"(\{\"time\".*\})", self.process.output)]
        return [record for record in found if record["action"] not in ("connect", "disconnect")]


class Page:
    """Use as an async context. frames: the newest, as (header, jpeg, label map); states, refusals: as they came.

    acks: whether frames are answered, so that the next may come; headers: sent when it connects
    """

    def __init__(self, address: str, *, acks: bool = True, query: str = "", headers: dict[str, str] | None = None):
        self._address, self._acks, self._query = address.rstrip("/"), acks, query
        self._headers = {"Origin": self._address, **(headers or {})}
        self.frames: deque = deque(maxlen=200)
        self.states: deque = deque(maxlen=200)
        self.refusals: list[str] = []
        self._answers: dict[int, asyncio.Future] = {}
        self._next = 1
        self.camera = ""
        self.bytes = 0  # of frames
        self.ages: list[float] = []  # ms, of the images when they were sent

    async def __aenter__(self) -> Page:
        self._session = aiohttp.ClientSession()
        try:
            self.socket = await self._session.ws_connect(
                f"{self._address}/socket{self._query}", headers=self._headers, max_msg_size=0
            )
        except BaseException:
            await self._session.close()
            raise
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.cancel()
        await self.socket.close()
        await self._session.close()

    async def _read(self) -> None:
        async for message in self.socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                header, jpeg, lengths, labels = read_frame(message.data)
                width, height = header["mask"]
                self.bytes += len(message.data)
                self.ages.append(header["age"])
                self.frames.append((header, jpeg, decode_runs(lengths, labels, height, width)))
                if self._acks:
                    await self.send(type="ack", count=header["count"], shown=1.0)
            else:
                self._take(json.loads(message.data))

    def _take(self, fields: dict) -> None:
        if fields["type"] == "answer":
            self._answers.pop(fields["request"]).set_result(fields)
        elif fields["type"] == "refused":
            self.refusals.append(fields["message"])
        else:
            self.states.append(fields)
            self.camera = fields["camera"]

    async def send(self, **fields: object) -> None:
        await self.socket.send_str(json.dumps(fields))

    async def ask(self, kind: str, timeout: float = 30.0, **fields: object) -> dict:
        """The answer to a request."""
        request, self._next = self._next, self._next + 1
        self._answers[request] = asyncio.get_running_loop().create_future()
        await self.send(type=kind, request=request, **{"camera": self.camera, **fields})
        return await asyncio.wait_for(self._answers[request], timeout)

    async def until(self, condition, timeout: float = 30.0, what: str = "it"):
        """The condition's first true value; raises AssertionError after `timeout` s."""
        deadline = asyncio.get_running_loop().time() + timeout
        while not (value := condition(self)):
            assert asyncio.get_running_loop().time() < deadline, (
                f"waited {timeout} s for {what}; {self.refusals}; {self.header}; {self.state}"
            )
            await asyncio.sleep(0.01)
        return value

    @property
    def header(self) -> dict:
        return self.frames[-1][0] if self.frames else {}

    @property
    def state(self) -> dict:
        return self.states[-1] if self.states else {}

    def label_at(self, x: float, y: float) -> int:
        """The label of the newest frame at px of the image."""
        header, _, label_map = self.frames[-1]
        step = -(-header["width"] // header["mask"][0])
        return int(label_map[round(y / step), round(x / step)])

    def label_map_of(self, stamp: str) -> np.ndarray:
        return next(label_map for header, _, label_map in reversed(self.frames) if header["stamp"] == stamp)


STOPPED = """
import asyncio, os, signal, sys
sys.path.insert(0, sys.argv[2])
from console_page import Page

async def look():
    async with Page(sys.argv[1]) as page:
        await page.until(lambda p: p.frames)
        print("stopping", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)

asyncio.run(look())
"""


def stopped_page(start, address: str):
    """A page in a process of its own that has stopped (SIGSTOP) with its connection open."""
    process = start([sys.executable, "-c", STOPPED, address, str(Path(__file__).parent)])
    process.wait_for_output("stopping", 60)
    return process
