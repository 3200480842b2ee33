"""Checkpoint files: read them without running code, recognise the model, load it strictly, describe, convert."""

from sam2s_model.checkpoint.adapter_files import with_adapter
from sam2s_model.checkpoint.loading import compile_where_it_pays, load_model
from sam2s_model.checkpoint.reading import read_checkpoint, read_state_dict
from sam2s_model.checkpoint.recognition import check_state_dict, recognise
from sam2s_model.published.catalog import default_checkpoint
from sam2s_model.published.sha256 import file_sha256

__all__ = [
    "check_state_dict",
    "compile_where_it_pays",
    "default_checkpoint",
    "file_sha256",
    "load_model",
    "read_checkpoint",
    "read_state_dict",
    "recognise",
    "with_adapter",
]
