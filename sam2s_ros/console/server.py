"""The web server: the page, its files, and a WebSocket for each browser. Without ROS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sam2s_model.errors import ConfigError, ConsoleError
from sam2s_ros.console.actions import Actions
from sam2s_ros.console.frames import Picture, Pictures, ShownFrame
from sam2s_ros.console.link import Link
from sam2s_ros.console.safety import Access, Limits, Role, host_port

try:
    from aiohttp import web

    from sam2s_ros.console.browser import Browser, House
except ImportError as error:
    raise ConfigError("the console needs aiohttp: pip install 'sam2s_ros[console]', or pip install aiohttp") from error

NO_TOKEN = "a token is needed: open the address that the console printed at its start"
STATIC = Path(__file__).with_name("static")
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
COOKIE = "sam2s_console"  # and the port, see `Server._cookie`
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
CLOSE_TIMEOUT = 0.5  # s that browsers have to close, at the end or when they are refused
REFUSED, FULL = 4403, 4503  # codes of a WebSocket's end: 403 and 503, of which a page would not be told
MOST_REASON = 123  # bytes, of a WebSocket's end


def listen(host: str, port: int) -> socket.socket:
    """Bind a socket and listen. port: 0 for a free one. Raises ConfigError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(64)  # from here on a browser is let wait, not refused
    except (OSError, OverflowError) as error:
        bound.close()
        raise ConfigError(f"the console cannot listen on {host}:{port} ({error}): give another host or port") from error
    return bound


def encryption(certificate: str, key: str) -> ssl.SSLContext | None:
    """TLS with these PEM files; None for none. Raises ConfigError for files that cannot be used."""
    if not certificate and not key:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key or None)
    except OSError as error:  # of which SSLError is one
        raise ConfigError(f"certificate {certificate!r} with key {key!r} cannot be used: {error}") from error
    return context


class Server:
    """Serves until `stop`. All but `changed` is called in the loop that `serve` runs in.

    links: the trackers by name, as they are now
    log: told each action, as a record
    actions: carries out what browsers ask for; None: as it is done on a live tracker
    thumbnail: makes the JPEG of a number, None for a number that there is not; None: there are no thumbnails
    """

    def __init__(
        self,
        links: Callable[[], dict[str, Link]],
        *,
        access: Access,
        limits: Limits,
        pictures: Pictures,
        log: Callable[[dict[str, Any]], None],
        actions: Actions | None = None,
        thumbnail: Callable[[int], bytes | None] | None = None,
    ):
        self._links, self._access, self._limits, self._log = links, access, limits, log
        self._pictures, self._thumbnail = pictures, thumbnail
        self._artist = ThreadPoolExecutor(1, thread_name_prefix="console pictures")
        self._house = House(links, actions or Actions(lambda name: links().get(name), log), limits, self._picture)
        # Read once: nothing that a browser asks for is ever a path.
        self._files = {
            path.name: (path.read_bytes(), KINDS[path.suffix]) for path in STATIC.iterdir() if path.suffix in KINDS
        }
        self._browsers: set[Browser] = set()
        self._connected = self._opened = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    def changed(self) -> None:
        """There may be something new to show. May be called from any thread, before, while and after it serves."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(self._wake)

    def stop(self) -> None:
        """End `serve` soon. May be called from any thread."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._stopping.set)

    async def serve(self, bound: socket.socket, encrypted: ssl.SSLContext | None = None) -> None:
        """Serve on a socket of `listen` until `stop`."""
        app = web.Application(client_max_size=self._limits.message_bytes, middlewares=[self._check])
        app.router.add_get("/", self._page)
        app.router.add_get("/socket", self._socket)
        app.router.add_get("/{name:[a-z0-9_]+\\.[a-z]+}", self._file)
        app.router.add_get("/thumbnail/{number:[0-9]{1,9}}", self._small_picture)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_TIMEOUT)
        await runner.setup()
        try:
            await web.SockSite(runner, bound, ssl_context=encrypted).start()
            self._loop = asyncio.get_running_loop()
            await self._stopping.wait()
        finally:
            self._loop = None
            await runner.cleanup()
            self._artist.shutdown(wait=False, cancel_futures=True)

    def _wake(self) -> None:
        for browser in self._browsers:
            browser.wake()

    async def _picture(self, camera: str, frame: ShownFrame) -> Picture:
        return await asyncio.get_running_loop().run_in_executor(self._artist, self._pictures.picture, camera, frame)

    @web.middleware
    async def _check(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Refuse a wrong Host before anything else, and put the safety headers on every answer."""
        try:
            self._access.check_host(request.headers.get("Host", ""))
            response = await handler(request)
        except ConsoleError as error:
            response = _sentence(403, str(error))
        except web.HTTPException as error:
            response = _sentence(error.status, error.reason)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    def _role(self, request: web.Request) -> Role | None:
        role = self._access.role(request.cookies.get(self._cookie(request), ""))
        return Role.VIEWER if role and "look" in request.query else role

    @staticmethod
    def _cookie(request: web.Request) -> str:
        """Name the cookie with the port of the page: browsers give a cookie to all ports of a host."""
        return f"{COOKIE}_{host_port(request.headers.get('Host', ''))}"

    async def _page(self, request: web.Request) -> web.StreamResponse:
        if "token" in request.query:  # into a cookie, so that it stands in no history and no log
            token = request.query["token"]
            if self._access.role(token) is None:
                return _sentence(403, "this token is not the console's: it is in the line that it printed at its start")
            leave = web.Response(status=303, headers={"Location": "/"})
            leave.set_cookie(self._cookie(request), token, httponly=True, samesite="Strict", secure=request.secure)
            return leave
        if self._role(request) is None:
            return _sentence(403, NO_TOKEN)
        return self._of("index.html")

    async def _file(self, request: web.Request) -> web.Response:
        if self._role(request) is None:
            return _sentence(403, "a token is needed")
        return self._of(request.match_info["name"])

    async def _small_picture(self, request: web.Request) -> web.Response:
        if self._role(request) is None:
            return _sentence(403, "a token is needed")
        number, make = int(request.match_info["number"]), self._thumbnail
        jpeg = None
        if make is not None:
            jpeg = await asyncio.get_running_loop().run_in_executor(self._artist, make, number)
        if not jpeg:
            return _sentence(404, f"there is no thumbnail {number}")
        return web.Response(body=jpeg, content_type="image/jpeg")

    def _of(self, name: str) -> web.Response:
        if name not in self._files:
            return _sentence(404, f"there is no {name}")
        body, kind = self._files[name]
        return web.Response(body=body, content_type=kind, charset="utf-8")

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        try:
            self._access.check_origin(request.headers.get("Origin", ""), request.headers.get("Host", ""))
        except ConsoleError as error:
            return await self._refused(request, REFUSED, str(error))
        role = self._role(request)
        if role is None:
            return await self._refused(request, REFUSED, NO_TOKEN)
        if self._connected >= self._limits.clients:
            said = f"{self._connected} browsers are connected: expected at most {self._limits.clients}"
            return await self._refused(request, FULL, said)
        self._connected += 1
        try:
            return await self._connect(request, role)
        finally:
            self._connected -= 1

    async def _refused(self, request: web.Request, code: int, why: str) -> web.StreamResponse:
        """Say no. Of an answer before the WebSocket a page is told nothing, of a reason at its end it is.

        Nothing else is sent, and what comes meanwhile is dropped.
        """
        channel = web.WebSocketResponse(timeout=CLOSE_TIMEOUT, max_msg_size=self._limits.message_bytes, compress=False)
        if not channel.can_prepare(request).ok:  # it asks for no WebSocket
            return _sentence(code - 4000, why)
        await channel.prepare(request)
        await channel.close(code=code, message=why.encode()[:MOST_REASON].decode(errors="ignore").encode())
        return channel

    async def _connect(self, request: web.Request, role: Role) -> web.WebSocketResponse:
        channel = web.WebSocketResponse(
            max_msg_size=self._limits.message_bytes, heartbeat=2 * self._limits.patience, compress=False
        )
        await channel.prepare(request)
        self._opened += 1
        transport = request.transport
        abort = transport.abort if transport is not None else lambda: None
        browser = Browser(channel, self._house, f"{request.remote} #{self._opened}", role, abort)
        try:
            self._browsers.add(browser)
            self._log({"who": browser.who, "action": "connect"})
            await browser.run()
        finally:
            self._browsers.discard(browser)
            self._log({"who": browser.who, "action": "disconnect"})
        return channel


def _sentence(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text + "\n")
