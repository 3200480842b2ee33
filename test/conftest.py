"""For all tests: the keyword `promises`, tables at the end of a run, a web server that serves a file well or badly."""

from __future__ import annotations

import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import hypothesis
import pytest

# An example takes as long as the machine lets it: on a busy one a millisecond became half a second, once.
hypothesis.settings.register_profile("whatever the machine", deadline=None)
hypothesis.settings.load_profile("whatever the machine")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell leaves it to what it starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests interrupt themselves and what they start
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # as nohup leaves it, which the programs obey
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def not_deterministic() -> Iterator[None]:
    """Take back what a command run in this process has set for all of torch, by a fixture or the test before.

    While torch is to be deterministic no step is captured, and each takes more kernels.
    """
    _take_determinism_back()
    yield
    _take_determinism_back()


def _take_determinism_back() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)


@pytest.fixture
def cost() -> Callable[..., float]:
    """How many times as much of the processor's time one function takes as another, at best, called in turns."""

    def spent(function: Callable[[], object]) -> float:
        began = time.process_time()  # of this process: what else the machine does takes caches alone
        function()
        return time.process_time() - began

    def ratio(function: Callable[[], object], other: Callable[[], object], rounds: int = 20) -> float:
        spans = [(spent(function), spent(other)) for _ in range(rounds)]
        return min(own for own, _ in spans) / min(others for _, others in spans)

    return ratio


def pytest_itemcollected(item: pytest.Item) -> None:
    """`-k promises` selects every test with the number of a promise in its name (see docs/promises.md)."""
    if re.match(r"test_p\d\d_", item.name):
        item.extra_keyword_matches.add("promises")


def pytest_terminal_summary(terminalreporter) -> None:
    """Tables of what tests of all processes have recorded as "table": title, header, name of a row, row."""
    ended = [
        report
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
    ]
    tables: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for title, header, name, row in (
        value for report in ended for key, value in report.user_properties if key == "table"
    ):
        tables.setdefault((title, header), []).append((name, row))
    for (title, header), rows in tables.items():
        width = max(len(name) for name, _ in rows) + 2
        terminalreporter.section(title)
        for name, row in (("case", header), *rows):
            terminalreporter.write_line(f"{name:{width}}{row}")


@dataclass
class Answer:
    """How a request is answered, if not properly.

    status: of an error, without a file; location: of a redirect
    cut: bytes of the body that are sent before the connection is closed; stall: s of silence before the body
    ranges, validator, length: whether the server knows Range, sends an ETag, tells a length (otherwise: in chunks)
    shift: added to the offset that a part of the file begins at; blind: If-Range is ignored
    """

    status: int = 200
    location: str = ""
    cut: int | None = None
    stall: float = 0.0
    ranges: bool = True
    validator: bool = True
    length: bool = True
    shift: int = 0
    blind: bool = False


class FileServer(ThreadingHTTPServer):
    """Serves `content` under any path, with Range and If-Range; `plan` holds the answers to the next requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.etag = b"", '"first"'
        self.plan: list[Answer] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.released = threading.Event()  # ends what stalls

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of some tests."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def ranges(self) -> list[str | None]:
        """The header Range of each request."""
        return [headers.get("Range") for _, headers in self.requests]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        server.requests.append((self.path, dict(self.headers)))
        answer = server.plan.pop(0) if server.plan else Answer()
        if answer.location or answer.status != 200:
            self._bare(answer.status, **({"Location": answer.location} if answer.location else {}))
            return
        begin, whole = 0, len(server.content)
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if answer.ranges else None
        if wanted and (answer.blind or self.headers.get("If-Range") == server.etag):
            begin = int(wanted[1])
            if begin >= whole:
                self._bare(416, **{"Content-Range": f"bytes */{whole}"})
                return
        body = server.content[begin + answer.shift :]
        self.send_response(206 if wanted and begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin + answer.shift}-{whole - 1}/{whole}")
        if answer.validator:
            self.send_header("ETag", server.etag)
        if answer.length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if answer.stall:
            server.released.wait(answer.stall)
        sent = body if answer.cut is None else body[: answer.cut]
        if answer.length:
            self.wfile.write(sent)
        else:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(sent), sent))
            if answer.cut is None:
                self.wfile.write(b"0\r\n\r\n")
        if answer.cut is not None:
            self.close_connection = True

    def _bare(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()


@pytest.fixture
def file_server(monkeypatch) -> Iterator[FileServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.released.set()
        server.shutdown()


@pytest.fixture
def answer() -> type[Answer]:
    return Answer


DISCOVERED_SCENE = "scene:?width=160&height=128&frames=20&seed={}"


@pytest.fixture(scope="module")
def pico():
    """The smallest trained model: it makes masks of the procedural scene."""
    from sam2s_model.checkpoint import load_model

    return load_model("sam2s_pico", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def bank(pico):
    """Prototypes of instruments, of three scenes."""
    from sam2s_model.discovery.build import build_bank, open_confirmed

    confirmed = [one for seed in (1, 2, 3) for one in open_confirmed(DISCOVERED_SCENE.format(seed))]
    return build_bank(pico, confirmed, frames=4, class_name="instrument").bank


@pytest.fixture(scope="module")
def unseen_frames() -> list:
    """Frames of a scene that the prototypes are not of."""
    from sam2s_model.discovery.build import open_confirmed

    [found] = open_confirmed(DISCOVERED_SCENE.format(11))
    return [found.recording.frame(i) for i in range(4)]
