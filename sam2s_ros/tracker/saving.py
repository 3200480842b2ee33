"""A tracker that saves the prompts it was given, and can begin with those that were saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from sam2s_model.errors import ConfigError, Sam2sError
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.tracker import PromptResult, Tracker
from sam2s_model.tracks import Tracks
from sam2s_ros.tracker.prompt_file import PromptFile, PromptSet


class SavingTracker(Tracker):
    """As `Tracker`. From `save_to` on, a file has the prompts of the objects that are tracked.

    Of each object it has as many as the tracker remembers, `max_conditioning`: the first and the newest.
    chosen: which checkpoint it is, in half a sentence, where the parameters name none; for the node's status
    unsaved: why the file does not have the prompts, "" when it has
    """

    chosen: str = ""
    unsaved: str = ""
    _file: PromptFile | None = None
    _saved: PromptSet | None = None

    def save_to(self, file: PromptFile, saved: PromptSet | None, event: Callable[[str], None]) -> None:
        """Keep prompts in this file. Call it when the tracker is warmed up.

        saved: prompts to begin with: they are applied to the first image, in the order they were given
        event: told what was restored, or why not
        """
        self._file, self._saved, self._event = file, saved, event
        self._given: dict[int, list[Prompt]] = {}

    def step(self, stamp: int, image: np.ndarray, following: np.ndarray | None = None) -> Tracks:
        tracks = super().step(stamp, image, following)
        if self._saved is None:
            return tracks
        saved, self._saved = self._saved, None
        self._restore(saved, tracks.size)
        return self.newest

    def prompt(self, stamp: int, prompts: Sequence[Prompt], *, learn: bool = True) -> PromptResult:
        result = super().prompt(stamp, prompts, learn=learn)
        if self._file is not None:
            for object_id, prompt in zip(result.object_ids, result.prompts, strict=True):
                given = self._given.setdefault(object_id, [])
                if prompt.only_names:
                    given[:] = [replace(earlier, class_name=prompt.class_name) for earlier in given]
                    continue
                given.append(prompt)
                del given[1 : len(given) - self.config.max_conditioning + 1]
            self._save()
        return result

    def remove(self, object_ids: Sequence[int]) -> Tracks | None:
        tracks = super().remove(object_ids)
        if self._file is not None:
            self._given = {i: given for i, given in self._given.items() if i in self.object_ids}
            self._save()
        return tracks

    def reset(self) -> None:
        size = self.newest.size if self.newest else None
        super().reset()
        self._saved = None
        if self._file is not None and self._given:
            self._given = {}
            self._save(size)

    def _save(self, size: tuple[int, int] | None = None) -> None:
        try:
            self._file.write(PromptSet(size or self.newest.size, self._given))
        except OSError as error:
            self.unsaved = f"the prompts were not saved to {self._file.path}: {error}"
        else:
            self.unsaved = ""

    def _restore(self, saved: PromptSet, size: tuple[int, int]) -> None:
        """Apply the first prompts of all objects, then the second ones, and so on; all, or none."""
        ids: dict[int, int] = {}
        try:
            if saved.size != size:
                shown = "{1}x{0}".format
                raise ConfigError(f"they are of images of {shown(*saved.size)}, this one is {shown(*size)}")
            for turn in range(max(map(len, saved.prompts.values()), default=0)):
                old = [i for i, given in saved.prompts.items() if turn < len(given)]
                prompts = [replace(saved.prompts[i][turn], object_id=ids.get(i, 0)) for i in old]
                ids.update(zip(old, self.prompt(0, prompts, learn=False).object_ids))
        except Exception as error:
            if ids:
                self.remove(list(ids.values()))
            self._event(f"the prompts in {self._file.path} were not restored: {error}")
            if not isinstance(error, Sam2sError):
                raise
        else:
            self._event(
                f"{len(ids)} objects were restored from {self._file.path}, where they were prompted then: "
                "check that their masks are right now"
            )
