"""A console's server on a port of its own, in this process, with a tracker at its boundary."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # echo_link.py
from echo_link import EchoLink  # noqa: E402

from sam2s_ros.console.frames import Pictures  # noqa: E402
from sam2s_ros.console.safety import Access, Limits  # noqa: E402


@pytest.fixture
def link() -> EchoLink:
    return EchoLink()


@pytest.fixture
def serving(link):
    """`async with serving(access=..., limits=...) as (address, log):` a server on a free port.

    also: told each action, beside the log
    """
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'sam2s_ros[console]'")
    from sam2s_ros.console.server import Server, listen

    @contextlib.asynccontextmanager
    async def serve(
        access: Access | None = None,
        limits: Limits | None = None,
        others: tuple[EchoLink, ...] = (),
        also: Callable[[dict], None] = lambda record: None,
    ):
        log: list[dict] = []

        def note(record: dict) -> None:
            log.append(record)
            also(record)

        links = {own.session.name: own for own in (link, *others)}
        server = Server(
            lambda: links,
            access=access or Access(),
            limits=limits or Limits(),
            pictures=Pictures(),
            log=note,
        )
        for own in links.values():
            own.changed = server.changed
        bound = listen("127.0.0.1", 0)
        task = asyncio.create_task(server.serve(bound))
        await asyncio.sleep(0)
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}", log
        finally:
            while not task.done():
                server.stop()
                await asyncio.sleep(0.01)
            await task

    return serve
