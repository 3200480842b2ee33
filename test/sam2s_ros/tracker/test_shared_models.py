"""Weights are loaded once while they are in use, by however many threads, and let go of afterwards."""

from __future__ import annotations

import gc
import os
import shutil
import threading
import weakref

import pytest
import torch

from sam2s_model.checkpoint import file_sha256
from sam2s_model.checkpoint.adapter_files import BASE_SHA256, save_adapter
from sam2s_model.errors import CheckpointError
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_ros.tracker.shared_models import shared_model

OPTIONS = dict(device="cpu", image_size=64)


@pytest.fixture
def path(tmp_path):
    return shutil.copy(resolve_checkpoint("sam2s_pico"), tmp_path / "model.safetensors")


def test_p31_threads_that_ask_at_once_get_the_same_weights(path):
    found = []
    threads = [threading.Thread(target=lambda: found.append(shared_model(path, **OPTIONS))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3 and all(model is found[0] for model in found)
    assert shared_model(path, device="cpu", image_size=96) is not found[0]


def test_weights_that_nobody_uses_are_let_go_and_a_new_file_is_loaded(path):
    first = shared_model(path, **OPTIONS)
    os.utime(path, ns=(1, 1))
    assert shared_model(path, **OPTIONS) is not first
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None


def test_a_file_that_is_missing_is_named():
    with pytest.raises(CheckpointError, match="'/no/such.pt' does not exist"):
        shared_model("/no/such.pt", **OPTIONS)


def test_adapters_over_one_base_share_its_weights(path, tmp_path):
    shape = {"pw1": (12, 24, 1, 1), "dw2_1": (12, 1, 3, 3), "dw2_2": (12, 1, 3, 3), "pw2": (24, 12, 1, 1)}
    for name in ("a", "b"):
        tensors = {}
        for layer, size in shape.items():
            place = f"image_encoder.trunk.blocks.0.adapter.{layer}.0"
            tensors |= {f"{place}.weight": torch.randn(size), f"{place}.bias": torch.randn(size[0])}
        save_adapter(tmp_path / f"{name}.safetensors", tensors, {BASE_SHA256: file_sha256(path)})
    a, again, b = (shared_model(path, adapter=tmp_path / f"{name}.safetensors", **OPTIONS) for name in "aab")
    assert a is again and a is not b
    assert (
        a.no_mem_embed.data_ptr() == b.no_mem_embed.data_ptr() == shared_model(path, **OPTIONS).no_mem_embed.data_ptr()
    )
    with pytest.raises(CheckpointError, match="no.safetensors' does not exist"):
        shared_model(path, adapter=tmp_path / "no.safetensors", **OPTIONS)
