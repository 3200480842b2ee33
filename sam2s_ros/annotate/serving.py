"""The page of an annotation, served until a signal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sam2s_model.annotation.project import AnnotationProject
from sam2s_model.errors import ConfigError
from sam2s_ros.annotate.actions import AnnotationActions
from sam2s_ros.annotate.link import AnnotationLink
from sam2s_ros.console.action_log import ActionLog
from sam2s_ros.console.frames import Pictures
from sam2s_ros.console.link import Link
from sam2s_ros.console.safety import Access, Limits, is_loopback, new_token
from sam2s_ros.console.server import Server, encryption, listen

if TYPE_CHECKING:
    from sam2s_ros.commands.annotate import PageOptions


class AnnotationServer:
    """The console's server with one annotation. access, limits: as of `Server`; log: told each action, as a record"""

    def __init__(
        self,
        project: AnnotationProject,
        *,
        access: Access,
        limits: Limits | None = None,
        log: Callable[[dict[str, Any]], None],
        device: str = "",
    ):
        name = project.folder.resolve().name
        self.link = AnnotationLink(name, project, self._changed, device)
        links: dict[str, Link] = {name: self.link}
        self.server = Server(
            lambda: links,
            access=access,
            limits=limits or Limits(),
            pictures=Pictures(),
            log=log,
            actions=AnnotationActions(lambda given: links.get(given), log),
            thumbnail=self.link.session.thumbnail,
        )

    def _changed(self) -> None:
        self.server.changed()


def serve_annotation(project: AnnotationProject, page: PageOptions, say: Callable[[str], Any]) -> None:
    """Serve until SIGINT, which is not raised: all is on disk. Raises ConfigError for an address that is taken."""
    tokens = ("", "") if is_loopback(page.host) and not page.token else (new_token(), new_token())
    access = Access(page.host, (), *tokens)
    encrypted = encryption(str(page.certificate or ""), str(page.key or ""))
    bound = listen(page.host, page.port)
    try:
        actions = ActionLog("log", page.log, say)
    except ConfigError:
        bound.close()
        raise

    def log(record: dict[str, Any]) -> None:
        actions.add({"time": time.time_ns(), **record})

    serving = AnnotationServer(project, access=access, log=log, device=project.device_description())
    scheme, host = "https" if encrypted else "http", f"[{page.host}]" if ":" in page.host else page.host
    address = f"{scheme}://{host}:{bound.getsockname()[1]}/"
    if access.needs_token:
        if not encrypted and not is_loopback(page.host):
            say("without a certificate everybody on the way can read the tokens and the pictures")
        say(f"annotate: {address}?token={access.operator}")
        say(f"annotate, to look only: {address}?token={access.viewer}")
    else:
        say(f"annotate: {address}")
    try:
        asyncio.run(serving.server.serve(bound, encrypted))
    except KeyboardInterrupt:
        pass
    finally:
        serving.link.close()
        actions.close()
