"""What is to be done with one recording of an archive. Small, so that it travels; torch is not imported here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2s_model.recordings.stream_spec import without_password
from sam2s_ros.commands.options import TrackOptions

WHOLE = "whole.json"  # in the folder of a recording that is done: what it was made of, and its row of the report


@dataclass(frozen=True)
class ArchiveTask:
    """One recording.

    key: its name in the report and of its folder; options: its own source, prompts and output
    stamp: of the recording's files, of before they are read, so that one that grows meanwhile is tracked again
    prompts_sha256: of its prompts and their masks, of before they are read as well; "" without a file of prompts
    """

    key: str
    options: TrackOptions
    stamp: tuple[int, ...] = ()
    prompts_sha256: str = ""

    @property
    def folder(self) -> Path:
        return self.options.output

    def made_of(self) -> dict[str, Any]:
        """Describe recording and prompts, so that a change of either is noticed: it is tracked anew then."""
        return dict(
            source=without_password(self.options.source),
            recording=list(self.stamp),
            prompts_sha256=self.prompts_sha256,
        )

    def finished(self) -> dict[str, Any] | None:
        """Return what an earlier run has found of the same recording with the same prompts; None where it has not."""
        try:
            known = json.loads((self.folder / WHOLE).read_text())
        except (OSError, ValueError):
            return None
        return known["result"] if known.get("made_of") == self.made_of() else None
