"""The procedural scene as recordings: every number is another operation, drawn when it is asked for."""

from __future__ import annotations

import numpy as np

from sam2s_model.recordings.scene import SceneConfig
from sam2s_model.recordings.scene_recording import SceneRecording
from sam2s_model.training.data_config import SourceConfig
from sam2s_model.training.datasets.recording import TrainingRecording

FRAMES = 600  # of a recording, at 1.6 to 25 Hz: 24 s to six minutes
FRAME_DISTANCES = (1, 2, 4, 8, 16)  # of a clip's consecutive frames, in frames at 25 Hz


def scene_recording(config: SceneConfig, classes: tuple[str, ...] = ()) -> TrainingRecording:
    """Make a recording of one scene; instruments whose names the class table does not have are of row -1."""
    scene = SceneRecording(config)
    rows = {label: classes.index(name) if name in classes else -1 for label, name in scene.classes.items()}
    return TrainingRecording(scene, rows)


def numbered_scene(source: SourceConfig, number: int, height: int, classes: tuple[str, ...] = ()) -> TrainingRecording:
    """Return the scene of a source with seed `first_seed` + number, always the same.

    height: px, unless the source says another
    """
    rng = np.random.default_rng((number, 2))
    return scene_recording(
        scene_config(rng, source.first_seed + number, source.height or height, source.frames or FRAMES), classes
    )


def scene_config(rng: np.random.Generator, seed: int, height: int, frames: int = FRAMES) -> SceneConfig:
    """Draw a scene of any appearance, proportions, field and motion.

    height: px; seed: of the scene, 1000 and more for training
    """
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
