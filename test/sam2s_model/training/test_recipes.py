"""Every configuration in config/train and config/teach: its first steps, in its precision, on less of its data."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sam2s_model.published.catalog import packaged_checkpoints
from sam2s_model.training.config import Phase, TrainConfig, load_config, read_config
from sam2s_model.training.data_config import SourceConfig
from sam2s_model.training.loop import run_training
from sam2s_model.training.teach import TeachConfig, teach

ROOT = Path(__file__).resolve().parents[3]
RECIPES = sorted((ROOT / "config" / "train").glob("*.yaml"))
LESSONS = sorted((ROOT / "config" / "teach").glob("*.yaml"))
SIZE, LENGTH, FRAMES = 64, 3, 6


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    """Paths of configurations are relative to the repository."""
    monkeypatch.chdir(ROOT)
    torch.set_num_threads(1)


def need(*paths: str) -> None:
    for path in paths:
        if path and not path.startswith("data/") and not Path(path).exists():
            pytest.skip(f"{path} is not beside the repository")


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A recording for configurations whose own data is the user's."""
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for part in ("frames", "masks"):
        (folder / "clip" / part).mkdir(parents=True)
    for i in range(6):
        image, labels = rng.integers(0, 90, (72, 96, 3), dtype=np.uint8), np.zeros((72, 96), np.uint8)
        image[20:50, 20 + i : 60], labels[20:50, 20 + i : 60] = (220, 160, 60), 1
        cv2.imwrite(str(folder / "clip" / "frames" / f"{i}.jpg"), image)
        cv2.imwrite(str(folder / "clip" / "masks" / f"{i}.png"), labels)
    return folder


def small_store(folder: Path, clip: Path, checkpoint: str) -> str:
    """What the recipe's own teacher says of that recording."""
    sources = (SourceConfig("folder", str(clip)), SourceConfig("images", str(clip / "clip"), views=2))
    teach(TeachConfig(checkpoint=checkpoint, size=SIZE, precision="bf16", coarse=1, fine=2, sources=sources), folder)
    return str(folder)


def shrunk(recipe: TrainConfig, folder: Path, clip: Path) -> TrainConfig:
    """One step of each phase, two of the only one, with few small frames; all that is not size stays as it is."""
    steps = 1 if len(recipe.phases) > 1 else 2

    def smaller(phase: Phase) -> Phase:
        return dataclasses.replace(
            phase,
            steps=steps,
            size=phase.size and SIZE,
            length=min(phase.length, LENGTH),
            frames=phase.frames and FRAMES,
        )

    sources = []
    for source in recipe.data.sources:
        if source.kind == "store":
            source = dataclasses.replace(
                source, path=small_store(folder / Path(source.path).name, clip, recipe.teacher.checkpoint)
            )
        elif source.path.startswith("data/"):
            source = dataclasses.replace(source, path=str(clip))
        elif source.kind == "scene":
            source = dataclasses.replace(source, frames=source.frames or 30)
        sources.append(source)
    data = dataclasses.replace(
        recipe.data,
        sources=tuple(sources),
        size=SIZE,
        length=min(recipe.data.length, LENGTH),
        frames=FRAMES,
        scene_pool=2,
        workers=min(2, recipe.data.workers),
        cache_mb=64,
    )
    own = recipe.init.startswith("output/")  # what the recipe before it leaves
    return dataclasses.replace(
        recipe,
        output=str(folder / "run"),
        init="package" if own else recipe.init,
        phases=tuple(map(smaller, recipe.phases)),
        data=data,
        log_every=1,
        evaluation=dataclasses.replace(recipe.evaluation, sources=()),
    )


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_first_steps_of_a_recipe(path, tmp_path, clip):
    recipe = load_config(path)
    need(*(source.path for source in recipe.data.sources), recipe.teacher.checkpoint, recipe.decoder_from)
    if recipe.init not in ("", "package", *packaged_checkpoints()) and not recipe.init.startswith("output/"):
        need(recipe.init)
    asked = shrunk(recipe, tmp_path, clip)
    outcome = run_training(asked, quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert outcome.steps == len(lines) == asked.steps >= 2 and asked.precision == recipe.precision
    assert all(np.isfinite(line["loss"]) and np.isfinite(line["gradient"]) for line in lines)
    assert any(line["gradient"] > 0 for line in lines)
    if recipe.teacher.checkpoint:
        taught = [line["features"] > 0 for line in lines]
        assert taught == [asked.phase_at(step).learn_encoder for step in range(asked.steps)]
    if recipe.loss.correspondence:
        assert all(line["correspondence"] > 0 for line in lines)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_what_a_lesson_reads_is_there(path, tmp_path):
    lesson = read_config(TeachConfig, path)
    need(*(source.path for source in lesson.sources), lesson.checkpoint)
    used = tuple(source for source in lesson.sources if not source.path.startswith("data/"))
    few = dataclasses.replace(lesson, sources=used, size=SIZE, coarse=1, fine=1)
    count, unreadable = teach(few, tmp_path / "store", stop=lambda count: count >= 3)
    assert count >= 3 and not unreadable
    held_out = ("davinci", "laparoscopy_clip")
    assert not any(name in source.path for source in lesson.sources for name in held_out)


def test_nothing_that_is_kept_for_acceptance_is_taught_or_trained_on():
    """The sequences on which checkpoints are compared."""
    kept = {"camel", "car-roundabout", "dance-twirl", "soapbox"}
    for path in RECIPES + LESSONS:
        kind = TrainConfig if path in RECIPES else TeachConfig
        config = read_config(kind, path)
        sources = config.data.sources if kind is TrainConfig else config.sources
        for source in sources:
            if source.path.endswith("data/davis"):
                assert kept <= set(source.without), path
            if source.path.endswith("m2cai16"):
                assert {"v02", "v07"} <= set(source.without), path
            assert "davinci" not in source.path, path
