"""From an annotation to a better model: the command that learns from it, when it is data to learn from."""

from __future__ import annotations

import shlex
from pathlib import Path

from sam2s_model.annotation.folder import FRAMES, MASKS
from sam2s_model.annotation.project import AnnotationProject
from sam2s_model.recordings.sequences import subfolders
from sam2s_model.training.config import as_yaml, load_config
from sam2s_model.training.holdout import with_own_data
from sam2s_ros.processes.dds import share_directory

RECIPE = Path("config/train/finetune.yaml")


def learning_command(project: AnnotationProject) -> tuple[str, str]:
    """Bring the folder's data set up to date. Returns the command that learns from it, and what is held out.

    Annotations that lie in folders beside this one are learnt from, too. Raises ConfigError and SourceError for what
    cannot be learnt from, see `with_own_data`.
    """
    project.flush()
    recipe = RECIPE if RECIPE.is_file() else share_directory() / RECIPE
    asked = load_config(recipe)
    known = asked.data.classes
    used = dict.fromkeys(own.class_name for own in project.objects.values())
    changes = [f"init={as_yaml(str(project.checkpoint))}"] if project.checkpoint else []
    if new := [name for name in used if name not in known]:
        changes.append(f"data.classes=[{','.join(map(as_yaml, [*known, *new]))}]")
    folder = _with_those_beside(project.folder)
    _, said = with_own_data(load_config(recipe, changes), folder)
    words = ["sam2s", "train", str(recipe), "--data", str(folder)]
    for change in changes:
        words += ["--set", change]
    return shlex.join([*words, "--output", f"output/learnt/{project.folder.resolve().name}"]), said


def _with_those_beside(folder: Path) -> Path:
    """Return the folder above where that has several annotations, so that whole clips can be held out."""
    above = folder.resolve().parent
    others = [own for own in subfolders(above, FRAMES) if any((own / MASKS).glob("*.png"))]
    return folder.parent if len(others) > 1 else folder
