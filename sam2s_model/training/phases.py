"""What is looked at of all phases before a run begins: an error at the beginning of a later one would cost the run."""

from __future__ import annotations

from sam2s_model.config import ModelConfig
from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.network.image_input import check_image_size
from sam2s_model.training.batches import check_drawable
from sam2s_model.training.config import TrainConfig
from sam2s_model.training.data_config import DataConfig


def check_phases(config: TrainConfig, model: ModelConfig) -> None:
    """Raise the ConfigError or SourceError, with the phase's number, of an image size or of sources that do not fit."""
    for number, data in enumerate(config.phase_data()):
        _check(f"phases.{number}", data, model)


def _check(where: str, data: DataConfig, model: ModelConfig) -> None:
    try:
        check_image_size(data.size, model)
        check_drawable(data)
    except (ConfigError, SourceError) as error:
        raise type(error)(f"{where}: {error}") from error
