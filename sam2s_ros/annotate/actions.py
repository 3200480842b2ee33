"""What people ask for on an annotation. The answers and the log are the console's."""

from __future__ import annotations

from typing import cast

from sam2s_ros.annotate.link import AnnotationLink
from sam2s_ros.console import protocol
from sam2s_ros.console.actions import Actions, Answer, asked
from sam2s_ros.console.link import Link


class AnnotationActions(Actions):
    """The requests of all browsers, of `AnnotationLink`s."""

    async def _carry_out(self, link: Link, request: protocol.Request) -> Answer:
        own = cast(AnnotationLink, link)
        if isinstance(request, protocol.TrackAction):
            return {"message": await own.track()}
        if isinstance(request, protocol.StopAction):
            return {"message": await own.stop()}
        if isinstance(request, protocol.ExportAction):
            return {"message": f"{request.name}: {await own.export(request.name)}"}
        if isinstance(request, protocol.LearnAction):
            command, said = await own.learn()
            return {"message": said, "command": command}
        if isinstance(request, protocol.Remove):
            await own.remove(request.objects)
            return {"message": f"removed: {', '.join(map(str, request.objects))}"}
        if isinstance(request, protocol.Describe):
            await own.describe(request.object, request.name, request.color)
            return {"message": f"object {request.object} is called {request.name or 'as before'}"}
        return await super()._carry_out(link, request)

    async def _prompt(self, link: Link, request: protocol.PromptAction) -> Answer:
        number = await link.prompt(asked(request))
        return {"message": f"object {number}", "objects": [number]}

    async def _undo(self, link: Link) -> Answer:
        return {"message": await cast(AnnotationLink, link).undo(), "objects": []}
