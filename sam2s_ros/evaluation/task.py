"""What is to be done with one recording. Small, so that it travels to other processes; torch is not imported here."""

from __future__ import annotations

from dataclasses import dataclass

from sam2s_model.errors import ConfigError
from sam2s_model.evaluation.protocol import EvaluationProtocol
from sam2s_model.recordings.open import Source
from sam2s_ros.commands.engine import EngineOptions

MASKS = "masks"  # in the folder of an evaluation, with all that `StepOutput` removes


@dataclass(frozen=True)
class Task:
    """One recording, and how it is evaluated. Raises ConfigError for names that cannot be those of folder and file.

    output: folder of the evaluation, which all that is written lies in
    prompts: file of prompts in place of the protocol's, as of `PromptScript`, "" for none
    threads: of torch in each process, since the last bits depend on it; 0, live only: the node's own default
    overlay: file to write the video to, masks: folder for a PNG a frame, masks_bag: file for a bag, table: file for a
        CSV with a row for each object of each frame; "" for none
    made_of: stamp of the files of recording and truth, of before they are read: a result of others does not count
    rate: at which it is played to the node, as a multiple of its own; 0: offline, every frame
    """

    source: Source
    data_set: str
    name: str
    engine: EngineOptions
    protocol: EvaluationProtocol
    output: str = ""
    overlay: str = ""
    masks: str = ""
    masks_bag: str = ""
    table: str = ""
    prompts: str = ""
    rate: float = 0.0
    threads: int = 1
    made_of: tuple[int, ...] = ()

    def __post_init__(self):
        for what, name in (("data set", self.data_set), ("recording", self.name)):
            if not name.strip(".") or "/" in name:  # it would lead out of the output folder
                raise ConfigError(
                    f"{self.source.shown} has a {what} named {name!r}: expected a name without /, and not dots alone"
                )

    @property
    def key(self) -> str:
        return f"{self.data_set}/{self.name}"


def overlay_of(key: str) -> str:
    """Say where the video of a recording is, in the folder of an evaluation. key: of its task"""
    return f"overlay/{key}.mp4"


def table_of(key: str) -> str:
    """Say where the table of what was tracked in a recording is, in the folder of an evaluation."""
    return f"tracks/{key}.csv"
