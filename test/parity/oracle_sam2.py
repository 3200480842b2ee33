"""The reference implementation, PyPI `sam2`: its video predictor, fed frame by frame.

What is changed, and why: memories are kept in fp32 instead of bf16, since errors of 1e-3 are looked for; predicted IoUs
and the decoder's object score are read on the way, since the predictor drops them. A video is the list of its frames
instead of a file, and the list grows.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from oracle import DELTA, THRESHOLD, Answer, Click, Decoding, Oracle, Settings, watch_stability
from sam2.sam2_video_predictor import SAM2VideoPredictor
from torch import Tensor

from sam2s_model.bench.peers.sam2_models import build_predictor, propagate, start_video


class Sam2Oracle(Oracle):
    """state: state dict with published names; name: as in `sam2s_model.config`; image_size: px."""

    def __init__(self, state: dict[str, Tensor], name: str, image_size: int, settings: Settings):
        options = {
            "_target_": f"{__name__}.ExactPredictor",
            "add_all_frames_to_correct_as_cond": True,
            "binarize_mask_from_pts_for_mem_enc": settings.binarise,
            "sam_mask_decoder_extra_args.dynamic_multimask_via_stability": settings.stability,
            "sam_mask_decoder_extra_args.dynamic_multimask_stability_delta": DELTA,
            "sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh": THRESHOLD,
        }
        self._model = self._filled(state, name, image_size, options)
        self._images: list[Tensor] = []
        self._state: dict = {}

    def _filled(self, state: dict[str, Tensor], name: str, image_size: int, options: dict) -> ExactPredictor:
        model = build_predictor(name, image_size, torch.device("cpu"), options)
        model.load_state_dict(state, strict=True)
        return model

    @torch.inference_mode()
    def step(self, image: Tensor) -> dict[int, Answer]:
        self._images.append(image[0])
        if not self._state:
            self._state = start_video(self._model, self._images)
        if not self._state["obj_ids"]:
            return {}
        newest = len(self._images) - 1
        self._model.decodings.clear()
        propagate(self._model, self._state)
        outputs = [o["non_cond_frame_outputs"][newest] for o in self._state["output_dict_per_obj"].values()]
        assert len(self._model.decodings) == len(outputs)
        return dict(zip(self._state["obj_ids"], map(_answer, outputs, self._model.decodings), strict=True))

    @torch.inference_mode()
    def prompt(self, object_id: int, click: Click) -> Answer:
        newest = len(self._images) - 1
        self._model.decodings.clear()
        if click.mask is not None:
            self._model.add_new_mask(self._state, newest, object_id, click.mask)
        else:
            self._model.add_new_points_or_box(
                self._state, newest, object_id, points=click.points, labels=click.labels, box=click.box
            )
        (decoding,) = self._model.decodings
        row = self._state["obj_id_to_idx"][object_id]
        return _answer(self._state["temp_output_dict_per_obj"][row]["cond_frame_outputs"][newest], decoding)


def _answer(output: dict, decoding: Decoding) -> Answer:
    return Answer(
        output["pred_masks"][0, 0], decoding.iou, decoding.object_logit, output["obj_ptr"][0], decoding.distances
    )


class ExactPredictor(SAM2VideoPredictor):
    """decodings: of the newest calls, in their order."""

    def __init__(self, **options):
        super().__init__(**options)
        self.decodings: list[Decoding] = []
        self._memory = None
        self._stability = watch_stability(self.sam_mask_decoder)

    def _forward_sam_heads(self, *args, **kwargs):
        result = super()._forward_sam_heads(*args, **kwargs)
        self.decodings.append(Decoding.of(result[2], result[6], self._stability))
        return result

    def _use_mask_as_output(self, *args, **kwargs):
        result = super()._use_mask_as_output(*args, **kwargs)
        decoding = self.decodings[-1]  # of the pointer: the mask is the prompt, and its decoded one is dropped
        self.decodings[-1] = replace(decoding, iou=result[2].item(), distances={"object": decoding.distances["object"]})
        return result

    def _encode_new_memory(self, *args, **kwargs):
        self._memory, position = super()._encode_new_memory(*args, **kwargs)
        return self._memory, position

    def _run_single_frame_inference(self, *args, **kwargs):
        output, masks = super()._run_single_frame_inference(*args, **kwargs)
        if output["maskmem_features"] is not None:
            output["maskmem_features"] = self._memory
        return output, masks

    def _run_memory_encoder(self, *args, **kwargs):
        _, position = super()._run_memory_encoder(*args, **kwargs)
        return self._memory, position
