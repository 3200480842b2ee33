"""The console as a ROS 2 node and a process of its own: it joins the graph, finds the trackers, and serves the page."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from dataclasses import dataclass
from functools import partial
from typing import Any

from sam2s_model.config import check_options, option
from sam2s_model.errors import ConfigError
from sam2s_ros.console.action_log import ActionLog
from sam2s_ros.console.camera import TrackerLink
from sam2s_ros.console.frames import Pictures
from sam2s_ros.console.link import Link
from sam2s_ros.console.safety import Access, Limits, is_loopback, new_token
from sam2s_ros.interfaces.parameters import Parameters
from sam2s_ros.processes.process import run
from sam2s_ros.processes.runnable import RunnableNode

LOOK = 0.5  # s between two looks at the graph
MASKS = "sam2s_ros/msg/TrackedMasks"


@dataclass(frozen=True)
class ConsoleConfig:
    """The node's parameters."""

    host: str = option("127.0.0.1", "address to listen on; another than this machine's own asks for a token")
    port: int = option(8765, "port; 0 takes a free one, and the log says which", low=0, high=65535)
    names: str = option("", "further names that the page is opened under, with spaces between")
    token: str = option("", "what an operator opens the page with; empty: made anew where one is needed")
    viewer_token: str = option("", "the same for those who may only look")
    require_token: bool = option(False, "whether a token is needed on this machine's own address, too")
    read_only: bool = option(False, "whether everybody may only look")
    certificate: str = option("", "PEM file; with it the page is served over TLS")
    key: str = option("", "PEM file with the certificate's key; empty: it is in the certificate's file")
    trackers: str = option("", "trackers by name, with spaces between; empty: all that are found")
    image: str = option("", "topic of the images; empty: what the tracker is subscribed to")
    action_log: str = option("", "file to which each action is added as a line of JSON; empty: the node's log alone")
    clients: int = option(8, "browsers at once", low=1, high=100)
    timeout: float = option(10.0, "longest wait for a tracker's answer, s", low=0.1, high=3600.0)
    image_side: int = option(1280, "px; the picture's longest side in the browser", low=64, high=8192)
    mask_side: int = option(640, "px; the masks' longest side in the browser", low=64, high=8192)
    quality: int = option(80, "of the JPEG", low=10, high=100)
    image_memory: int = option(256, "MiB of images that are kept until their masks come", low=1, high=65536)

    def __post_init__(self):
        check_options(self)
        if self.key and not self.certificate:
            raise ConfigError("a key is given without a certificate: give both, or neither")


PARAMETERS = Parameters((ConsoleConfig,))


class ConsoleNode(RunnableNode):
    """Raises ConfigError when aiohttp is missing or the address cannot be listened on."""

    def __init__(self):
        super().__init__("console")
        (self._config,) = PARAMETERS.declare(self)
        config = self._config
        self._image = self.full_topic_name("image", config.image) if config.image else ""
        from sam2s_ros.console.server import Server, encryption, listen  # says so where aiohttp is missing

        tokens = self._tokens()
        self._access = Access(config.host, tuple(config.names.lower().split()), *tokens, read_only=config.read_only)
        encrypted, bound = encryption(config.certificate, config.key), listen(config.host, config.port)
        self._links: dict[str, TrackerLink] = {}
        self._actions = ActionLog("action_log", config.action_log, lambda why: self.get_logger().warning(why))
        self._server = Server(
            self._by_name,
            access=self._access,
            limits=Limits(clients=config.clients),
            pictures=Pictures(config.image_side, config.mask_side, config.quality),
            log=self._log,
        )
        for name in config.trackers.split():
            self._add(name if name.startswith("/") else f"/{name}")
        self._thread = threading.Thread(target=self._serve, args=(bound, encrypted), name="console server", daemon=True)
        self._thread.start()
        self.steady_timer(LOOK, self._look)
        self._say_where("https" if encrypted else "http", bound.getsockname()[1])

    def close(self, timeout: float | None) -> bool:
        """Let the browsers go, who then try to reach the next one."""
        self._server.stop()
        self._thread.join(timeout)
        ended = not self._thread.is_alive()
        if ended:
            self._actions.close()
        return ended

    def _tokens(self) -> tuple[str, str]:
        config = self._config
        given = config.token or config.viewer_token
        if is_loopback(config.host) and not (config.require_token or given):
            return "", ""
        for token in (config.token, config.viewer_token):
            if token and (len(token) < 16 or not token.isascii() or not token.isprintable()):
                raise ConfigError(
                    "a token is too weak: expected at least 16 characters of ASCII, or none for a new one"
                )
        if given and config.token == config.viewer_token:
            raise ConfigError("token and viewer_token are the same: give each its own")
        return config.token or new_token(), config.viewer_token or new_token()

    def _say_where(self, scheme: str, port: int) -> None:
        host = f"[{self._config.host}]" if ":" in self._config.host else self._config.host
        address = f"{scheme}://{host}:{port}/"
        access = self._access
        if not access.needs_token:
            print(f"console: {address}", flush=True)
            return
        if scheme == "http" and not is_loopback(self._config.host):
            self.get_logger().warning("without a certificate everybody on the way can read the tokens and the pictures")
        print(f"console: {address}?token={access.operator}", flush=True)
        print(f"console, to look only: {address}?token={access.viewer}", flush=True)

    def _serve(self, bound: Any, encrypted: Any) -> None:
        try:
            asyncio.run(self._server.serve(bound, encrypted))
        except Exception as error:
            self.get_logger().fatal(f"the console's server ended: {type(error).__name__}: {error}")
            self.finish(1)

    def _log(self, record: dict[str, Any]) -> None:
        """Log an action; called in the server's thread."""
        record = {"time": self.get_clock().now().nanoseconds, **record}
        self.get_logger().info(json.dumps(record))
        self._actions.add(record)

    def _by_name(self) -> dict[str, Link]:
        return dict(self._links)

    def _look(self) -> None:
        if not self._config.trackers:
            services = {name for name, _ in self.get_service_names_and_types()}
            for topic, kinds in self.get_topic_names_and_types():
                name = topic.removesuffix("/masks")
                if MASKS in kinds and topic != name and f"{name}/add_prompts" in services and name not in self._links:
                    self._add(name)
        for link in self._links.values():
            link.look()

    def _add(self, name: str) -> None:
        config = self._config
        self._links = {
            **self._links,
            name: TrackerLink(
                self,
                name,
                partial(self._changed),
                image=self._image,
                image_memory=config.image_memory << 20,
                timeout=config.timeout,
            ),
        }
        self.get_logger().info(f"tracker {name}")

    def _changed(self) -> None:
        self._server.changed()


def main(args: list[str] | None = None) -> int:
    """Entry point: 0 after SIGINT, SIGTERM or a hang-up, otherwise 2.

    2: a bad parameter, a missing aiohttp, or an address that is taken
    """
    return run(ConsoleNode, args)


if __name__ == "__main__":
    sys.exit(main())
