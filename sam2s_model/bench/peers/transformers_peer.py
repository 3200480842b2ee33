"""transformers, fed frame by frame as its documentation says for streaming."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import transformers
from torch import Tensor

from sam2s_model.bench.peers.base import Peer
from sam2s_model.bench.peers.transformers_models import (
    EdgeTamVideoInferenceSession,
    EdgeTamVideoModel,
    Sam2VideoInferenceSession,
    Sam2VideoModel,
    Sam3TrackerVideoInferenceSession,
    Sam3TrackerVideoModel,
    edgetam_config,
    sam2_config,
    sam3_config,
)
from sam2s_model.checkpoint.transformers_names import kind_of, to_transformers
from sam2s_model.config import ModelConfig
from sam2s_model.network.model import Sam2Model

_KINDS: dict[str, tuple[type, Callable[[ModelConfig, int], object], type]] = {
    "sam2": (Sam2VideoModel, sam2_config, Sam2VideoInferenceSession),
    "edgetam": (EdgeTamVideoModel, edgetam_config, EdgeTamVideoInferenceSession),
    "sam3": (Sam3TrackerVideoModel, sam3_config, Sam3TrackerVideoInferenceSession),
}


class TransformersPeer(Peer):
    version = transformers.__version__

    def __init__(self, model: Sam2Model, weights: dict[str, Tensor]):
        super().__init__(model)
        kind = kind_of(model.config)
        their, make, session = _KINDS[kind]
        self._model = their(make(model.config, model.image_size)).eval().requires_grad_(False)
        self._model.load_state_dict(to_transformers(weights, kind), strict=True)
        self._model.to(device=model.device, dtype=model.dtype)
        device = model.device
        self._session = session(
            video_height=model.image_size, video_width=model.image_size, dtype=model.dtype,
            inference_device=device, inference_state_device=device, video_storage_device=device,
        )  # fmt: skip
        attention = self._model.config._attn_implementation
        self.how = f"weights converted to {str(model.dtype).removeprefix('torch.')}, {attention} attention"

    @torch.inference_mode()
    def start(self, image: np.ndarray, boxes: Sequence[np.ndarray]) -> None:
        session = self._session
        session.add_new_frame(self.prepare(image))
        for row, box in enumerate(boxes):
            corners = torch.from_numpy(box).reshape(1, 1, 2, 2).to(self._model.dtype)
            session.add_point_inputs(
                session.obj_id_to_idx(row + 1), 0, {"point_coords": corners, "point_labels": torch.tensor([[[2, 3]]])}
            )
        session.obj_with_new_inputs = list(session.obj_ids)
        self._model(session, frame_idx=0)

    def track(self, image: Tensor) -> Tensor:
        return self._model(self._session, frame=image).pred_masks


make = TransformersPeer
