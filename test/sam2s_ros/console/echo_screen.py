"""A console's server in a thread, on trackers whose answers may be late, and its page in a browser."""

from __future__ import annotations

import asyncio
import threading
import time

from echo_link import EchoLink

from sam2s_model.errors import ErrorCode, RequestError
from sam2s_ros.console.frames import Pictures
from sam2s_ros.console.link import LinkPrompt
from sam2s_ros.console.safety import Access, Limits
from sam2s_ros.console.server import Server, listen

WAIT = 20.0  # s
SHOWN = "sam2s.view.frame?.header"  # sam2s is the page's own object, see static/main.js
PLACE = """([x, y]) => {
  const [scale, left, top] = sam2s.view.fit();
  const stage = document.getElementById("stage").getBoundingClientRect();
  return [stage.left + left + (x + 0.5) * scale, stage.top + top + (y + 0.5) * scale];
}"""
SETTLED = """async (id) => {
  await sam2s.turn;
  return sam2s.act("describe", { object: id, name: "", color: "" });
}"""


class LateLink(EchoLink):
    """One that answers prompts while `free` is set. asked: what it was asked, in order; refused: classes"""

    def __init__(self, name: str = "/echo"):
        super().__init__(name)
        self.asked: list[LinkPrompt] = []
        self.refused: set[str] = set()
        self.free = threading.Event()
        self.free.set()

    async def prompt(self, asked: LinkPrompt) -> int:
        self.asked.append(asked)
        while not self.free.is_set():
            await asyncio.sleep(0.005)
        if asked.class_name in self.refused:
            raise RequestError(ErrorCode.UNKNOWN_CLASS, f"class {asked.class_name!r} is not in the label set")
        return await super().prompt(asked)


class EchoConsole:
    """Serves from its making until `stop`. links: by name, may change meanwhile; port: 0 for a free one"""

    def __init__(self, *links: EchoLink, port: int = 0, access: Access | None = None, limits: Limits | None = None):
        self.links: dict[str, EchoLink] = {}
        self._server = Server(
            lambda: dict(self.links),
            access=access or Access(),
            limits=limits or Limits(),
            pictures=Pictures(),
            log=lambda record: None,
        )
        for own in links:
            self.add(own)
        self._bound = listen("127.0.0.1", port)
        self.port = self._bound.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()

    def add(self, link: EchoLink) -> None:
        link.changed = self._server.changed
        self.links = {**self.links, link.session.name: link}

    def stop(self) -> None:
        while self._thread.is_alive():
            self._server.stop()
            self._thread.join(0.05)

    async def _serve(self) -> None:
        beating = asyncio.create_task(self._beat())
        try:
            await self._server.serve(self._bound)
        finally:
            beating.cancel()

    async def _beat(self) -> None:
        while True:
            for own in self.links.values():
                own.session.on_status({"state": "RUNNING", "message": ""})
            await asyncio.sleep(0.3)


class EchoScreen:
    """The page of an `EchoConsole`. Coordinates are px of the image."""

    def __init__(self, page):
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def get(self, expression: str):
        return self.page.evaluate(expression)

    def until(self, condition: str) -> None:
        """Wait until a condition holds. Asked from here: the page's own rules forbid it to run a text as a program."""
        deadline = time.monotonic() + WAIT
        while not self.get(condition):
            if time.monotonic() > deadline:
                said = self.get(f"[sam2s.state, {SHOWN}, document.body.innerText]")
                raise TimeoutError(f"waited {WAIT} s for {condition}: {said}; {self.errors}")
            self.page.wait_for_timeout(20)

    def step(self, link: EchoLink) -> str:
        """Let the tracker see another image, and wait until the page shows it. Returns its stamp."""
        stamp = str(link.step().stamp)
        self.until(f"{SHOWN}?.stamp === '{stamp}'")
        return stamp

    def place(self, x: float, y: float) -> list[float]:
        return self.page.evaluate(PLACE, [x, y])

    def click(self, x: float, y: float) -> None:
        self.page.mouse.click(*self.place(x, y))

    def start(self, x: float, y: float) -> int:
        """Start an object by a click, and wait until it is there, and chosen. Returns its number."""
        there = self.get(f"{SHOWN}.objects.map((own) => own.id)")
        self.page.keyboard.press("n")
        self.click(x, y)
        self.until(f"{SHOWN}.objects.length === {len(there) + 1} && sam2s.chosen > 0")
        return self.get("sam2s.chosen")

    def hold(self, key: str) -> None:
        """Press a key until it has repeated twice."""
        for _ in range(3):
            self.page.keyboard.down(key)
        self.page.keyboard.up(key)

    def settle(self, number: int) -> None:
        """Return when all that the page has asked before is done, as a change of this object's name would be next."""
        self.page.evaluate(SETTLED, number)

    def unsure(self) -> None:
        """Let the page forget first presses of buttons that want a second one."""
        self.get("document.querySelectorAll('.sure').forEach((button) => button.classList.remove('sure'))")
