"""The procedural endoscope scene as a source, with exact ground truth."""

from __future__ import annotations

from collections.abc import Iterator

from sam2s_model.errors import SourceError
from sam2s_model.recordings.scene import Scene, SceneConfig, SceneError
from sam2s_model.recordings.source import FIRST_STAMP_NS, Frame, FrameSource


class SceneSource(FrameSource):
    """A "scene:" URI, e.g. scene:?width=640&height=512&frames=120&seed=0. Each frame is drawn when it is asked for.

    Raises SourceError for an option that is not known or out of its range.
    """

    kind = "scene"

    def __init__(self, spec: str):
        super().__init__(spec)
        try:
            config = SceneConfig.from_uri(spec)
        except SceneError as error:
            raise SourceError(f"{spec}: {error}") from error
        self._scene = Scene(config)
        self.fps = config.fps
        self.size = (config.height, config.width)
        self.length = config.frames
        self.has_masks = True
        self.label_set = "scene"
        self.class_names = {row.label: row.class_name for row in self._scene.objects}

    def _frames(self) -> Iterator[Frame]:
        for index in range(self.length):
            drawn = self._scene[index]
            stamp = FIRST_STAMP_NS + round(index * 1e9 / self.fps)
            yield Frame(index, stamp, drawn.image, drawn.labels, f"{index:06d}")
