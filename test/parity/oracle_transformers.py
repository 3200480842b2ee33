"""An independent implementation: transformers' video models of SAM 2, EdgeTAM and SAM 3, fed frame by frame.

Where transformers differs from the published predictor (PyPI `sam2`, the other oracle, which needs none of this), it is
set right:
- a mask prompt's pointer is that of the single mask, as published; transformers takes the best of three candidates
- the memory of a mask prompt is made of its low-resolution logits, as published
- a correction sees the mask that was there before, clamped to +-32, and its frame becomes conditioning
- objects of one frame are remembered one by one: in a batch, one object's prompt binarises the masks of all
- memories are kept in fp32 instead of bf16; whether prompted masks are binarised is an option
- SAM 3's mask for a memory is stretched to 16 px a place after the sigmoid, as published; transformers does it before
- pointer ages are divided by 15, as in a long video, on frames that were prompted too
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from oracle import DELTA, THRESHOLD, Answer, Click, Decoding, Oracle, Settings, watch_stability
from seeded import config_of
from torch import Tensor

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


class TransformersOracle(Oracle):
    """state: state dict with published names; name: as in `seeded.config_of`; image_size: px."""

    def __init__(self, state: dict[str, Tensor], name: str, image_size: int, settings: Settings):
        config = config_of(name)
        make, model, session = _MAKERS[kind_of(config)]
        decoder = dict(
            dynamic_multimask_via_stability=settings.stability,
            dynamic_multimask_stability_delta=DELTA,
            dynamic_multimask_stability_thresh=THRESHOLD,
        )
        self._model = model(make(config, image_size, **decoder)).eval()
        self._model.load_state_dict(to_transformers(state, kind_of(config)), strict=True)
        self._model.watch(settings)
        self._session = session(video_height=image_size, video_width=image_size, dtype=torch.float32)

    @torch.inference_mode()
    def step(self, image: Tensor) -> dict[int, Answer]:
        if not self._session.obj_ids:
            self._session.add_new_frame(image)
            return {}
        self._model(self._session, frame=image[0])
        return {i: self._answer(i, "non_cond_frame_outputs") for i in self._session.obj_ids}

    @torch.inference_mode()
    def prompt(self, object_id: int, click: Click) -> Answer:
        session, newest = self._session, self._session.num_frames - 1
        row = session.obj_id_to_idx(object_id)
        if click.mask is not None:
            session.add_mask_inputs(row, newest, torch.from_numpy(click.mask)[None, None])
        else:
            session.add_point_inputs(row, newest, _points(click))
        session.obj_with_new_inputs = [object_id]
        self._model(session, frame_idx=newest)
        outputs = session.output_dict_per_obj[row]
        if newest in outputs["non_cond_frame_outputs"]:
            outputs["cond_frame_outputs"][newest] = outputs["non_cond_frame_outputs"].pop(newest)
        return self._answer(object_id, "cond_frame_outputs")

    def _answer(self, object_id: int, kind: str) -> Answer:
        row = self._session.obj_id_to_idx(object_id)
        output = self._session.output_dict_per_obj[row][kind][self._session.num_frames - 1]
        decoding = self._model.decodings[row]
        return Answer(
            output["pred_masks"][0, 0],
            decoding.iou,
            decoding.object_logit,
            output["object_pointer"].flatten(),
            decoding.distances,
        )


def _points(click: Click) -> dict[str, Tensor]:
    """A box is its two corners, with labels of their own."""
    points = torch.from_numpy(click.points if click.box is None else click.box.reshape(2, 2))
    labels = torch.from_numpy(click.labels) if click.box is None else torch.tensor([2, 3])
    return {"point_coords": points[None, None].float(), "point_labels": labels[None, None].int()}


class _AsPublished:
    """What both models have in common. decodings: the newest of each object, by its row."""

    def watch(self, settings: Settings) -> None:
        self.decodings: dict[int, Decoding] = {}
        self._binarise = settings.binarise
        self._stability = watch_stability(self.mask_decoder)
        self._decoding: Decoding | None = None

    def _run_single_frame_inference(self, *, inference_session, obj_idx, frame_idx, point_inputs, **options):
        previous = None
        if point_inputs is not None:
            previous = inference_session.get_output(obj_idx, frame_idx, "pred_masks", is_conditioning_frame=False)
        options.update(
            inference_session=inference_session,
            obj_idx=obj_idx,
            frame_idx=frame_idx,
            point_inputs=point_inputs,
            prev_sam_mask_logits=None if previous is None else previous.clamp(-32, 32),
            streaming=True,
        )
        output = super()._run_single_frame_inference(**options)
        self.decodings[obj_idx] = self._decoding
        return output

    def _single_frame_forward(self, *args, multimask_output=False, **options):
        result = super()._single_frame_forward(*args, multimask_output=multimask_output, **options)
        self._decoding = Decoding.of(result.iou_scores, result.object_score_logits, self._stability)
        return result

    def _use_mask_as_output(self, *args, **options):
        result = super()._use_mask_as_output(*args, **options)
        size = (self.image_size, self.image_size)
        result.high_res_masks = F.interpolate(result.pred_masks, size=size, mode="bilinear")
        result.object_score_logits = result.object_score_logits.reshape(1, 1, 1)  # as of other prompts
        distances = {"object": self._decoding.distances["object"]}  # the decoded mask is dropped
        self._decoding = replace(self._decoding, iou=result.iou_scores.item(), distances=distances)
        return result

    def _encode_new_memory(self, *args, is_mask_from_pts, **options):
        return super()._encode_new_memory(*args, is_mask_from_pts=is_mask_from_pts and self._binarise, **options)


class _Exact(_AsPublished):
    def watch(self, settings: Settings) -> None:
        super().watch(settings)
        self.memory_encoder.register_forward_hook(self._keep)

    def _keep(self, encoder, inputs, outputs) -> None:
        self._memory = outputs[0]

    def _encode_new_memory(self, *args, **options):
        rounded, position = super()._encode_new_memory(*args, **options)
        exact = self._memory.flatten(2).permute(2, 0, 1)
        assert torch.equal(exact.to(rounded.dtype), rounded)
        return exact, position

    def _batch_encode_memories(self, inference_session, frame_idx, **lists):
        for of_one in zip(*lists.values(), strict=True):
            single = {name: [value] for name, value in zip(lists, of_one, strict=True)}
            super()._batch_encode_memories(inference_session=inference_session, frame_idx=frame_idx, **single)


class _Sam2Model(_Exact, Sam2VideoModel):
    pass


class _Sam3Model(_Exact, Sam3TrackerVideoModel):
    def watch(self, settings: Settings) -> None:
        super().watch(settings)
        self.memory_encoder.register_forward_pre_hook(_stretched)

    def _encode_new_memory(self, *args, **options):
        with _at_image_size(self):
            return super()._encode_new_memory(*args, **options)


@contextmanager
def _at_image_size(model: Sam3TrackerVideoModel):
    """Have `_encode_new_memory` see masks of the image's size as those that it wants, and not stretch their logits."""
    prompts, quarter = model.prompt_encoder, model.image_size / 4
    wanted, prompts.mask_input_size = prompts.mask_input_size, (quarter, quarter)
    try:
        yield
    finally:
        prompts.mask_input_size = wanted


def _stretched(encoder, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    features, mask = inputs
    size = [16 * side for side in features.shape[-2:]]
    return features, F.interpolate(mask, size=size, mode="bilinear", antialias=True)


class _EdgeTamModel(_AsPublished, EdgeTamVideoModel):
    pass


_MAKERS = {
    "sam2": (sam2_config, _Sam2Model, Sam2VideoInferenceSession),
    "edgetam": (edgetam_config, _EdgeTamModel, EdgeTamVideoInferenceSession),
    "sam3": (sam3_config, _Sam3Model, Sam3TrackerVideoInferenceSession),
}
