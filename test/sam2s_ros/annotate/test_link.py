"""What a page is answered when what it asked for ends in an error."""

from __future__ import annotations

import asyncio

import pytest
import torch

from sam2s_model.errors import ConfigError, ErrorCode, RequestError
from sam2s_ros.annotate.link import AnnotationLink
from sam2s_ros.console.link import LinkPrompt


class FailingProject:
    """An annotation of one frame, on which each prompt raises an error."""

    def __init__(self, error: Exception):
        self._error = error

    def __len__(self) -> int:
        return 1

    def prompt(self, *_, **__):
        raise self._error


@pytest.mark.parametrize("error, code, said", [
    (RequestError(ErrorCode.TOO_MANY_OBJECTS, "17 objects"), ErrorCode.TOO_MANY_OBJECTS, "17 objects"),
    (ConfigError("a folder that is full"), ErrorCode.INTERNAL, "a folder that is full"),
    (torch.OutOfMemoryError("CUDA out of memory"), ErrorCode.INTERNAL, "OutOfMemoryError: CUDA out of memory"),
    (RuntimeError("of the device"), ErrorCode.INTERNAL, "RuntimeError: of the device"),
    (OSError(28, "No space left on device"), ErrorCode.INTERNAL, "OSError: [Errno 28] No space left on device"),
])  # fmt: skip
def test_a_click_that_fails_is_answered(error, code, said, caplog):
    link = AnnotationLink("clip", FailingProject(error), lambda: None)
    try:
        with pytest.raises(RequestError) as answer:
            asyncio.run(link.prompt(LinkPrompt(1, 0, "object", points=((5.0, 5.0, 1),))))
    finally:
        link.close()
    assert (answer.value.code, str(answer.value)) == (code, said)
    ours = not isinstance(error, (RequestError, ConfigError))
    assert ours == ("prompt failed" in caplog.text), "a fault of ours has its place in the log"
