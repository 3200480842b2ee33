"""From an annotation to a better model: the command that learns from it, when it is data to learn from."""

from __future__ import annotations

import shlex
from pathlib import Path

from sam2s_model.annotation.folder import FRAMES, MASKS
from sam2s_model.annotation.project import AnnotationProject
from sam2s_model.recordings.class_file import read_classes
from sam2s_model.recordings.sequences import subfolders
from sam2s_model.training.config import load_config, override
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
    folder, annotated = _with_those_beside(project.folder)
    used = [own.class_name for own in project.objects.values()]
    used += [name for own in annotated for name in read_classes(own).values()]
    changes = [override("init", str(project.checkpoint))] if project.checkpoint else []
    if new := [name for name in dict.fromkeys(used) if name not in known]:
        changes.append(override("data.classes", [*known, *new]))
    _, said = with_own_data(load_config(recipe, changes), folder)
    words = ["sam2s", "train", str(recipe), "--data", str(folder)]
    for change in changes:
        words += ["--set", change]
    return shlex.join([*words, "--output", f"output/learnt/{project.folder.resolve().name}"]), said


def _with_those_beside(folder: Path) -> tuple[Path, list[Path]]:
    """Return the folder above where that has several annotations, so that whole clips can be held out; and them all."""
    above = folder.resolve().parent
    others = [own for own in subfolders(above, FRAMES) if any((own / MASKS).glob("*.png"))]
    if len(others) < 2:
        return folder, [folder]
    return (folder.parent if folder.parent.resolve() == above else above), others
