"""The procedural scene as recordings: every number is another operation, drawn when it is asked for."""

from __future__ import annotations

import numpy as np

from sam2s_model.recordings.scene import Scene, SceneConfig
from sam2s_model.training.data_config import SourceConfig

FRAMES = 600  # of a recording, at 1.6 to 25 Hz: 24 s to six minutes
FRAME_DISTANCES = (1, 2, 4, 8, 16)  # of a clip's consecutive frames, in frames at 25 Hz


class SceneRecording:
    """One scene. classes: its instruments' rows where the class table has their names, otherwise -1."""

    def __init__(self, config: SceneConfig, classes: tuple[str, ...] = ()):
        self.name = f"scene {config.seed}"
        self._scene = Scene(config)
        names = {row.label: row.class_name for row in self._scene.objects}
        self.classes = {label: classes.index(name) if name in classes else -1 for label, name in names.items()}

    def __len__(self) -> int:
        return len(self._scene)

    def frame(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) uint8 RGB and labels (H, W) uint8, 255 outside the endoscope's field."""
        drawn = self._scene[index]
        return drawn.image, drawn.labels


def numbered_scene(source: SourceConfig, number: int, height: int, classes: tuple[str, ...] = ()) -> SceneRecording:
    """The scene of a source with seed `first_seed` + number, always the same at a height (px) that the source may say."""
    look = np.random.default_rng((number, 2))
    return SceneRecording(
        scene_config(look, source.first_seed + number, source.height or height, source.frames or FRAMES), classes
    )


def scene_config(rng: np.random.Generator, seed: int, height: int, frames: int = FRAMES) -> SceneConfig:
    """A scene of any look, proportions, field and motion. height: px; seed: of the scene, 1000 and more for training."""
    return SceneConfig(
        width=int(rng.choice([1.0, 1.25, 1.78]) * height),
        height=height,
        frames=frames,
        fps=25.0 / float(rng.choice(FRAME_DISTANCES)),
        seed=seed,
        instruments=int(rng.choice([1, 2, 2, 3, 4])),
        event_period=float(rng.uniform(4, 20)),
        smoke=float(rng.uniform(0, 0.8)),
        blood=float(rng.uniform(0, 0.9)),
        camera_motion=float(rng.uniform(0, 1)),
        blur=float(rng.uniform(0, 1)),
        noise=float(rng.uniform(0, 0.8)),
        field=str(rng.choice(["circle", "full"])),
        field_radius=float(rng.uniform(0.45, 0.75)),
    )
