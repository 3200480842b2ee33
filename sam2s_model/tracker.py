"""The tracker under the name that programs import it by."""

from sam2s_model.tracking.tracker import Tracker

__all__ = ["Tracker"]
