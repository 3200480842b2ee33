"""A page's messages over a real WebSocket, sound ones and any others. For the servers of console and annotate."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import tracemalloc
from collections.abc import Callable, Sequence

import aiohttp
from hypothesis import HealthCheck, given, settings, strategies as st

from sam2s_ros.console.protocol import TYPES, read_frame
from sam2s_ros.console.safety import Limits

WAIT = 20.0  # s
GROWTH = 1 << 20  # bytes


def connect(session, address, **more):
    return session.ws_connect(f"{address}/socket", **{"headers": {"Origin": address}, **more})


async def next_of(socket, kind: str, timeout: float = WAIT):
    """The next message of a kind: "frame" for the header of one, else the text message's type."""
    while True:
        message = await socket.receive(timeout=timeout)
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        if message.type is aiohttp.WSMsgType.BINARY:
            if kind == "frame":
                return read_frame(message.data)[0]
        elif json.loads(message.data)["type"] == kind:
            return json.loads(message.data)


def wild(camera: str, values: Sequence[object] = (), without: Sequence[str] = ()) -> st.SearchStrategy:
    """Messages of all types that there are and of others, with fields that are right, wrong, or missing.

    camera: that many of them are for; values: that fields have, beside any; without: types that are left out
    """
    kinds = [*(kind for kind in TYPES if kind not in without), "frame", "", 5, None]
    value = (
        st.none() | st.booleans() | st.integers(-5, 300) | st.floats() | st.text(max_size=8)
        | st.sampled_from([camera, "0", "1", "99999999999", "#112233", *values])
        | st.lists(st.integers(-5, 70), max_size=4) | st.just([[20, 24, 1]]) | st.just([2, 2, 30, 40])
    )  # fmt: skip
    names = [
        "request", "camera", "stamp", "object", "class", "proposal", "points", "box", "objects", "name", "color", "on",
        "count", "shown", "x",
    ]  # fmt: skip
    fields = st.dictionaries(st.sampled_from(names), value, max_size=7)
    sound = {"request": 1, "camera": camera, "stamp": "0", "object": 0}
    return st.one_of(
        st.builds(lambda kind, own: json.dumps({"type": kind, **own}), st.sampled_from(kinds), fields),
        st.builds(lambda kind, own: json.dumps({**sound, "type": kind, **own}), st.sampled_from(kinds), fields),
        st.text(max_size=40),
        st.binary(max_size=40),
    )


def bombard(
    serve: Callable,
    messages: st.SearchStrategy,
    caplog,
    *,
    batches: int,
    size: int,
    each: Callable[[], object] = lambda: None,
    patience: float = WAIT,
) -> None:
    """Send 2 x `batches` x `size` messages of any kind. Nothing may crash, print a traceback, or grow.

    serve: `async with serve(limits=...) as (address, log)`; each: called before each message
    patience: s for what was asked before the last message
    """
    sent = 0

    async def fire(address, log, batch):
        nonlocal sent
        async with aiohttp.ClientSession() as session, connect(session, address) as socket:
            for message in batch:
                each()
                await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
                sent += 1
            request = 2**50
            await socket.send_str(json.dumps({"type": "undo", "request": request, "camera": "/nowhere"}))
            while (await next_of(socket, "answer", patience))["request"] != request:
                pass  # it is alive, and has taken all before
        log.clear()

    @settings(max_examples=batches, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(messages, min_size=size, max_size=size))
    def run(batch):
        loop.run_until_complete(fire(*served, batch))

    def traced() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        server = serve(limits=Limits(messages=1e9, actions=1e9))
        served = loop.run_until_complete(server.__aenter__())
        tracemalloc.start()
        run()
        before = traced()
        run()
        after = traced()
        tracemalloc.stop()
        loop.run_until_complete(server.__aexit__(None, None, None))
    assert sent >= 2 * batches * size
    print(f"{sent} messages; {before} bytes of memory after the first half, {after} after the second")
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")], caplog.text
    assert after - before < GROWTH, f"{before} bytes before, {after} after"
