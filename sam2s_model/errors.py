"""Every exception this package raises on purpose. Each message names the value and the limit."""

from enum import IntEnum


class ErrorCode(IntEnum):
    """Why a request was refused. The same numbers as ``sam2s_ros/msg/ErrorCode``."""

    NONE = 0
    NOT_ACTIVE = 1
    NO_IMAGE = 2
    UNKNOWN_STAMP = 3
    EMPTY_REQUEST = 4
    INVALID_PROMPT = 5
    UNKNOWN_OBJECT = 6
    UNKNOWN_CLASS = 7
    TOO_MANY_OBJECTS = 8
    TIMEOUT = 9
    INTERNAL = 10
    TOO_OLD = 11
    NOT_FOUND = 12
    UNKNOWN_PROPOSAL = 13


class Sam2sError(ValueError):
    """Base of all errors below: bad input, said in one sentence."""


class ConfigError(Sam2sError):
    """A parameter is unknown, of the wrong type or out of its range."""


class WriteError(ConfigError):
    """A result cannot be written where it should go, by what the system says: for good, or for the moment alone."""


class CheckpointError(Sam2sError):
    """A file is not a checkpoint, or not one of the model asked for."""


class PrototypeError(Sam2sError):
    """Prototypes are malformed, of another model, or there are none of the class that was asked for."""


class ObjectMemoryError(Sam2sError):
    """Saved objects are malformed, of another model, or of a kind of memory that a policy does not have."""


class DownloadError(Sam2sError):
    """A download did not arrive, for a reason outside this program; the next one goes on where it stopped."""


class SourceError(Sam2sError):
    """A video, folder or bag cannot be read."""


class ImageError(Sam2sError):
    """An image is malformed, or of an encoding or size that cannot be processed."""


class StampError(Sam2sError):
    """A stamp does not follow the one before it."""


class RequestError(Sam2sError):
    """A prompt or remove request was refused; nothing was changed.

    code: the reason, as an :class:`ErrorCode`.
    """

    def __init__(self, code: ErrorCode, message: str):
        super().__init__(message)
        self.code = code

    def __reduce__(self):
        return type(self), (self.code, str(self))  # so that it comes back from another process


class ConsoleError(Sam2sError):
    """What a browser asks of the console is malformed or not allowed."""


class TrainingError(Sam2sError):
    """A training run cannot go on: its state is unreadable, or its loss is no number."""
