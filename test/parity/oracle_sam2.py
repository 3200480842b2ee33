"""The reference implementation, PyPI `sam2`: its video predictor, fed frame by frame.

What is changed, and why: memories are kept in fp32 instead of bf16, since errors of 1e-3 are looked for; predicted IoUs
and the decoder's object score are read on the way, since the predictor drops them. The loader of video files is left
out: frames are appended to the list it would have filled.
"""

from __future__ import annotations

import torch
from sam2.build_sam import build_sam2_video_predictor
from sam2.sam2_video_predictor import SAM2VideoPredictor
from torch import Tensor

from oracle import VIDEO_LENGTH, Answer, Click, Oracle, Settings

SIZES = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}


class Sam2Oracle(Oracle):
    """state: state dict with published names; name: as in `sam2s_model.config`; image_size: px."""

    def __init__(self, state: dict[str, Tensor], name: str, image_size: int, settings: Settings):
        version, _, size = name.split("_", 2)
        delta, threshold = 0.05, 0.98
        options = {
            "_target_": f"{__name__}.{ExactPredictor.__name__}",
            "image_size": image_size,
            "add_all_frames_to_correct_as_cond": True,
            "binarize_mask_from_pts_for_mem_enc": settings.binarise,
            "sam_mask_decoder_extra_args.dynamic_multimask_via_stability": settings.stability,
            "sam_mask_decoder_extra_args.dynamic_multimask_stability_delta": delta,
            "sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh": threshold,
        }
        self._model = build_sam2_video_predictor(
            f"configs/{version}/{version}_hiera_{SIZES[size]}.yaml",
            device="cpu",
            hydra_overrides_extra=[f"++model.{key}={value}" for key, value in options.items()],
            apply_postprocessing=False,
        )
        self._model.load_state_dict(state, strict=True)
        self._images: list[Tensor] = []
        self._state = _empty_state(self._images, image_size)

    @torch.inference_mode()
    def step(self, image: Tensor) -> dict[int, Answer]:
        self._images.append(image[0])
        self._model.seen.clear()
        if not self._state["obj_ids"]:
            return {}
        newest = len(self._images) - 1
        for _ in self._model.propagate_in_video(self._state, newest, max_frame_num_to_track=0):
            pass
        seen = [s for s in self._model.seen]
        outputs = self._state["output_dict_per_obj"].values()
        answers = (_answer(o["non_cond_frame_outputs"][newest], s) for o, s in zip(outputs, seen, strict=True))
        return dict(zip(self._state["obj_ids"], answers))

    @torch.inference_mode()
    def prompt(self, object_id: int, click: Click) -> Answer:
        newest = len(self._images) - 1
        self._model.seen.clear()
        if click.mask is not None:
            self._model.add_new_mask(self._state, newest, object_id, click.mask)
        else:
            self._model.add_new_points_or_box(
                self._state, newest, object_id, points=click.points, labels=click.labels, box=click.box
            )
        (seen,) = self._model.seen
        row = self._state["obj_id_to_idx"][object_id]
        return _answer(self._state["temp_output_dict_per_obj"][row]["cond_frame_outputs"][newest], seen)
