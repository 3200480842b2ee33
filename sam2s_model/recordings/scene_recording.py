"""The procedural endoscope scene as a recording, with exact ground truth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sam2s_model.errors import SourceError
from sam2s_model.recordings.recording import Frame, IndexedRecording, Truth
from sam2s_model.recordings.scene import Scene, SceneConfig, SceneError


class SceneRecording(IndexedRecording):
    """A scene. Each frame is drawn when it is asked for, and is always the same."""

    kind = "scene"

    def __init__(self, config: SceneConfig, name: str = "", spec: str = ""):
        super().__init__(name or f"scene {config.seed}", fps=config.fps, spec=spec)
        self._scene = Scene(config)
        self._size = (config.height, config.width)
        self.length = config.frames
        self.has_masks = True
        self.label_set = "scene"
        self.classes = {row.label: row.class_name for row in self._scene.objects}

    @classmethod
    def of_uri(cls, name: str, spec: str) -> SceneRecording:
        """Open a "scene:" URI, e.g. scene:?width=640&height=512&frames=120&seed=0.

        Raises SourceError for an option that is not known or out of its range.
        """
        try:
            return cls(SceneConfig.from_uri(spec), name, spec)
        except SceneError as error:
            raise SourceError(f"{spec}: {error}") from error

    def is_annotated(self, index: int) -> bool:
        return True

    def truth(self, index: int) -> Truth:
        return Truth.of_labels(self._scene[index].labels)

    def frame(self, index: int) -> Frame:
        drawn = self._scene[index]
        truth = Truth.of_labels(drawn.labels)
        return Frame(index, self._stamp(index), f"{index:06d}", np.ascontiguousarray(drawn.image), truth)

    def _frames(self) -> Iterator[Frame]:
        return (self.frame(index) for index in range(self.length))
