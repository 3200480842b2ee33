"""Who may use the console, and how much of it: tokens, addresses, limits, rates."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlsplit

from sam2s_model.errors import ConsoleError


class Role(Enum):
    """OPERATOR: sees and changes; VIEWER: sees."""

    OPERATOR = "operator"
    VIEWER = "viewer"


@dataclass(frozen=True)
class Limits:
    """What one console carries.

    clients: browsers at once; message_bytes: of a message from a page
    messages, actions: of one browser, a second; actions are those that ask something of the tracker
    burst: s of them that may come at once
    patience: s that a browser may leave what it was sent unread
    """

    clients: int = 8
    message_bytes: int = 16384
    messages: float = 200.0
    actions: float = 10.0
    burst: float = 2.0
    patience: float = 10.0


class Bucket:
    """Lets through `rate` a second, and `burst` s of them at once after a silence."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic):
        self._rate, self._most, self._clock = rate, rate * burst, clock
        self._left, self._since = self._most, clock()

    def take(self) -> bool:
        """Whether one more is within the rate."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._since) * self._rate)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address. A name other than localhost may lead anywhere."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def new_token() -> str:
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class Access:
    """The door. Without tokens everybody who reaches the address is an operator, which is for loopback alone.

    host: the address that is listened on
    names: further names under which the page may be opened, of Host headers
    operator, viewer: tokens; "": none
    read_only: nobody is an operator
    """

    host: str = "127.0.0.1"
    names: tuple[str, ...] = ()
    operator: str = field(default="", repr=False)
    viewer: str = field(default="", repr=False)
    read_only: bool = False

    def __post_init__(self):
        if not is_loopback(self.host) and not (self.operator and self.viewer):
            raise ConsoleError(f"the console listens on {self.host} without tokens: expected 127.0.0.1, or tokens")

    @property
    def needs_token(self) -> bool:
        return bool(self.operator)

    def role(self, token: str) -> Role | None:
        """Who somebody with this token is; None: nobody. Takes as long for a nearly right one as for a wrong one."""
        if not self.needs_token:
            role = Role.OPERATOR
        else:
            given = token.encode(errors="replace")
            operator = hmac.compare_digest(given, self.operator.encode())
            viewer = hmac.compare_digest(given, self.viewer.encode())
            if not (operator or viewer):
                return None
            role = Role.OPERATOR if operator else Role.VIEWER
        return Role.VIEWER if self.read_only else role

    def check_host(self, header: str) -> None:
        """Refuse a page that was opened under a name of somebody else's (DNS rebinding). Raises ConsoleError."""
        name = _host_name(header)
        if name in self.names or name == self.host or (is_loopback(self.host) and is_loopback(name)):
            return
        if not is_loopback(self.host) and _is_address(name):
            return  # 0.0.0.0 listens on all: an address is no name, so nobody can have pointed it elsewhere
        raise ConsoleError(f"Host is {header[:100]!r}: expected {self.host}, or a name that the console was told")

    def check_origin(self, origin: str, header: str) -> None:
        """Refuse a WebSocket that another site's page opens. header: that of Host. Raises ConsoleError."""
        if origin.lower() not in (f"http://{header.lower()}", f"https://{header.lower()}"):
            raise ConsoleError(f"Origin is {origin[:100]!r}: expected the page's own, http(s)://{header[:100]}")


def _host_name(header: str) -> str:
    """Take the name from a Host header, without the port; "" when it is none."""
    try:
        return (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return ""


def host_port(header: str) -> int:
    """Take the port from a Host header; 0 when it has none."""
    try:
        return urlsplit(f"//{header}").port or 0
    except ValueError:
        return 0


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
