"""What is held in memory over a long stream: this tracker beside transformers' streaming, on the same frames."""

from __future__ import annotations

import gc
import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
from seeded import NARROW, seeded_weights

from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.recordings.scene import Scene, SceneConfig
from sam2s_model.tracking.tracker import Tracker

TABLE = "growth: MB of tensors held, by frames"
SIZE = 84
SETTLED, FRAMES = 100, 2000


def held_bytes() -> int:
    """Of all tensors that are alive, each storage once."""
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor):  # asks nothing of objects that answer with a warning
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


@pytest.mark.full
@pytest.mark.parametrize("policy", ["sam3"])
def test_sam3_stays_as_it_is_and_transformers_grows(policy, record_property):
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed: see requirements/oracles.txt")
    from sam2s_model.bench.peers.transformers_models import (
        Sam3TrackerVideoInferenceSession,
        Sam3TrackerVideoModel,
        sam3_config,
    )
    from sam2s_model.checkpoint.transformers_names import to_transformers

    config = replace(NARROW["sam3_narrow"], embed_dim=32, stages=(2,), global_blocks=(1,))
    scene = Scene(SceneConfig(width=SIZE, height=SIZE, frames=20, fps=12.5, field="full", seed=3))
    images = [scene[i].image for i in range(20)]
    box = np.array(scene[0].objects[0].box, np.float32)
    model = Sam2Model(config, SIZE).eval().requires_grad_(False)
    weights = seeded_weights(model.state_dict(), seed=1, score_bias=3.0)
    model.load_state_dict(weights, strict=True)

    tracker = Tracker(model, policy)
    ours = []
    for frame in range(FRAMES + 1):
        tracker.step(frame + 1, images[frame % 20])
        if frame == 0:
            tracker.prompt(0, [Prompt(box=box)])
        if frame in (SETTLED, FRAMES):
            ours.append(held_bytes())
    shown = [model.prepare_image(torch.from_numpy(image))[0] for image in images]
    del tracker

    their = Sam3TrackerVideoModel(sam3_config(config, SIZE)).eval().requires_grad_(False)
    their.load_state_dict(to_transformers(weights, "sam3"), strict=True)
    session = Sam3TrackerVideoInferenceSession(video_height=SIZE, video_width=SIZE, dtype=torch.float32)
    theirs = []
    with torch.inference_mode():
        session.add_new_frame(shown[0][None])
        points = {"point_coords": torch.from_numpy(box).view(1, 1, 2, 2), "point_labels": torch.tensor([[[2, 3]]])}
        session.add_point_inputs(session.obj_id_to_idx(1), 0, points)
        session.obj_with_new_inputs = [1]
        their(session, frame_idx=0)
        for frame in range(1, FRAMES + 1):
            their(session, frame=shown[frame % 20])
            if frame in (SETTLED, FRAMES):
                theirs.append(held_bytes())
    grown = [(after - before) / (FRAMES - SETTLED) for before, after in (ours, theirs)]
    header = f"{'':10}{SETTLED:>10}{FRAMES:>10}{'bytes a frame':>16}"
    for name, (before, after), each in (("ours", ours, grown[0]), ("theirs", theirs, grown[1])):
        row = f"{before / 1e6:10.1f}{after / 1e6:10.1f}{each:16.0f}"
        record_property("table", (TABLE, header, f"{policy}-{name}", row))
    assert ours[0] == ours[1], "nothing is held that was not held before"
    assert grown[1] > 2 * 4 * 64 * (SIZE // 14) ** 2, "a memory and more for each frame"
