"""A small scene, the smallest model, and an annotation of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2s_model.annotation.project import AnnotationEngine, AnnotationProject
from sam2s_model.checkpoint import load_model
from sam2s_model.config import TrackerConfig
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.recordings.open import open_recording
from sam2s_model.semantics import GENERIC

SCENE = "scene:?width=160&height=128&frames=8&seed=0"


@pytest.fixture(scope="session")
def engine() -> AnnotationEngine:
    model = load_model(resolve_checkpoint("sam2s_pico"), image_size=128, device="cpu", precision="fp32")
    return AnnotationEngine(model, "auto", TrackerConfig(max_objects=4))


@pytest.fixture
def opened(tmp_path, engine):
    """Open the annotation of the scene in a folder; by default always the same."""
    made = []

    def open_project(
        folder: Path = tmp_path / "annotation", spec: str = SCENE, topic: str = "", **options
    ) -> AnnotationProject:
        made.append(AnnotationProject(folder, open_recording(spec, topic=topic), engine, GENERIC, **options))
        return made[-1]

    yield open_project
    for project in made:
        project.close()


@pytest.fixture(scope="session")
def truth():
    """Label -> (H, W) bool, of each frame of the scene."""
    return [frame.truth.masks for frame in open_recording(SCENE)]
