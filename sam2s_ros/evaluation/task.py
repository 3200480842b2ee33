"""What is to be done with one recording. Small, so that it travels to other processes; torch is not imported here."""

from __future__ import annotations

from dataclasses import dataclass

from sam2s_model.evaluation.protocol import EvaluationProtocol
from sam2s_model.recordings.open import Source


@dataclass(frozen=True)
class Engine:
    """What tracks. Fields as of `load_model`.

    threads: of torch in each process, since the last bits depend on it; 0, in the live mode only: the node's own default
    """

    checkpoint: str
    model: str = "auto"
    policy: str = "auto"
    image_size: int = 0
    device: str = "auto"
    precision: str = "auto"
    threads: int = 1
    adapter: str = ""


@dataclass(frozen=True)
class Task:
    """overlay: file to write the video to, masks: folder for a PNG a frame, masks_bag: file for a bag; "" for none
    rate: at which it is played to the node, as a multiple of its own; 0: offline, every frame
    """

    source: Source
    data_set: str
    name: str
    engine: Engine
    protocol: EvaluationProtocol
    overlay: str = ""
    masks: str = ""
    masks_bag: str = ""
    rate: float = 0.0

    @property
    def key(self) -> str:
        return f"{self.data_set}/{self.name}"
