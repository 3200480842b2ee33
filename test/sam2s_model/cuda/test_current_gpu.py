"""A model on a GPU that is not the current one, on which Triton and compiled programs would launch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from unittest import mock

import pytest
import torch
from stand_in import SMALL, cuda, on_cuda

from sam2s_model.acceleration import exporting
from sam2s_model.acceleration.exporting import EncoderFile, beside, use_exported_encoder
from sam2s_model.network.model import Sam2Model


@pytest.fixture
def current() -> Iterator[list[int]]:
    """Yield the number of the current GPU, as the last of a list; outside of everything that is another."""
    numbers = [1]

    @contextmanager
    def switched(device):
        numbers.append(torch.device(device).index)
        yield
        numbers.pop()

    with cuda(), mock.patch.object(torch.cuda, "device", switched):
        yield numbers


@pytest.fixture
def network(current) -> Sam2Model:
    return on_cuda(Sam2Model(SMALL, 64).eval().requires_grad_(False))


def test_an_encoder_is_compiled_there(current, network, monkeypatch):
    seen = []

    def encode(self, image):
        seen.append(current[-1])
        raise KeyError("as far as this goes without a compiler")

    monkeypatch.setattr(Sam2Model, "_encode", encode)
    with pytest.raises(KeyError, match="as far as"):
        network.compile_encoder()
    assert seen == [0]


def test_an_exported_encoder_is_loaded_and_run_there(current, network, monkeypatch, tmp_path):
    seen, path = [], tmp_path / "encoder.pt2"

    def load(path):
        seen.append(current[-1])
        return lambda image: seen.append(current[-1]) or [image] * 3

    monkeypatch.setattr(torch._inductor, "aoti_load_package", load)
    monkeypatch.setattr(exporting, "_digest", lambda model: "of its weights")
    beside(path).write_text(json.dumps(asdict(EncoderFile.of(network))))
    use_exported_encoder(network, path)
    with torch.inference_mode():
        network.encode_image(exporting._example(network))
    assert seen == [0, 0, 0] and current == [1]
