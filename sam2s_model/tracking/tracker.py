"""The tracker: four calls, `prompt`, `step`, `remove`, `reset`. The loop of SAM2 for a live stream.

Image features are computed once a frame, everything after that is one batch over the objects, and what is remembered
has a fixed size. One thread owns a tracker; it is not thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sam2s_model.config import TrackerConfig
from sam2s_model.device import as_tensor, describe_device, for_inference, upload
from sam2s_model.errors import ErrorCode, ImageError, RequestError, StampError
from sam2s_model.network.image_features import ImageFeatures
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.semantics import GENERIC, ClassLabel, LabelSet
from sam2s_model.tracking.correspondence import Correspondence
from sam2s_model.tracking.field_of_view import endoscope_field
from sam2s_model.tracking.graphed_step import GraphedStep
from sam2s_model.tracking.history import History, ProcessedFrame
from sam2s_model.tracking.holes import fill_holes
from sam2s_model.tracking.memory import choose_policy
from sam2s_model.tracking.outputs import Outputs, compose, predictions
from sam2s_model.tracking.presence import TrackedObject, describe_frame
from sam2s_model.tracking.segmenter import Segmenter
from sam2s_model.tracks import MAX_LABEL, Tracks


@dataclass(frozen=True)
class PromptResult:
    """stamp: ns, of the frame the prompts were applied to; object_ids: one for each prompt; tracks: that frame, anew.

    approximate: those whose granularity was met by a choice among candidate masks, since the model has no token of it
    """

    stamp: int
    object_ids: tuple[int, ...]
    tracks: Tracks
    approximate: tuple[int, ...] = ()


class Tracker:
    """Track objects through a stream of images.

    model: from `checkpoint.load_model`; policy: a name of `memory.POLICIES`, or "auto": fifo, or what the checkpoint was made for
    first_id: the first object id to give, so that a tracker that follows another gives no id twice
    Raises ConfigError when the checkpoint cannot run the policy.
    """

    def __init__(
        self,
        model: Sam2Model,
        policy: str = "auto",
        config: TrackerConfig = TrackerConfig(),
        label_set: LabelSet = GENERIC,
        first_id: int = 1,
    ):
        self.model = model
        self.policy_name = choose_policy(policy, model.has_memory, model.config)
        self.config = config
        self.label_set = label_set
        self.revision = 0
        # Its own, so that it neither waits for other trackers of the process nor they for it.
        self.stream = torch.cuda.Stream(model.device) if model.device.type == "cuda" else None
        self._segmenter = Segmenter(model, self.policy_name, config)
        self._graphed = GraphedStep(model) if config.cuda_graphs and model.device.type == "cuda" else None
        self._history = History(config.prompt_history)
        self._objects: dict[int, TrackedObject] = {}
        self._next_id = first_id
        self._outputs: Outputs | None = None
        in_set = {label.name: label for label in label_set.classes}
        self._head = tuple(in_set.get(name) for name in model.class_names)

    @property
    def name(self) -> str:
        """Model and policy, "sam2_hiera_tiny/none"."""
        return f"{self.model.name}/{self.policy_name}"

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(sorted(self._objects))

    @property
    def next_id(self) -> int:
        """The id that the next new object will have."""
        return self._next_id

    @property
    def newest(self) -> Tracks | None:
        """The newest frame's tracks, with all prompts in effect; None before the first frame."""
        return self._history.newest.tracks if self._history.newest else None

    @property
    def outputs(self) -> Outputs | None:
        """What the model said of the newest frame's objects, with all prompts in effect; None when there are none."""
        return self._outputs

    @for_inference
    def step(self, stamp: int, image: np.ndarray, following: np.ndarray | None = None) -> Tracks:
        """Track all objects into the next frame.

        stamp: ns, greater than the previous; image: (H, W, 3) uint8 RGB, of the size of the frames before
        following: the array that the next step will be given, where it is there already and stays as it is: a GPU begins
            with it while it tracks. Of another one, that was for nothing
        Raises StampError or ImageError; the tracker is then as it was.
        """
        newest = self._history.newest
        self._check(stamp, image, newest)
        index = newest.index + 1 if newest else 0
        frame = ProcessedFrame(
            index=index,
            stamp=stamp,
            size=image.shape[:2],
            features=self._history.hold(index, self._encode(image)),
            view=endoscope_field(image) if self.config.field_of_view == "auto" else None,
        )
        try:
            fits = following is not None and (following.shape, following.dtype) == (image.shape, image.dtype)
            outputs, label_map = self._track_all(frame, newest, following if fits else None)
            self._describe(frame, label_map)
        except BaseException:
            self._segmenter.forget(frame.index)
            raise
        self._history.append(frame)
        self._outputs = outputs
        return frame.tracks

    @for_inference
    def prompt(self, stamp: int, prompts: Sequence[Prompt]) -> PromptResult:
        """Start, correct or name objects on the newest frame, or on one of the `prompt_history` frames that are remembered.

        All prompts take effect, or none. What a prompt on an earlier frame changes is propagated to the newest: the
        objects are then as if it had come in time.

        stamp: ns, of a remembered frame, or 0 for the newest
        Raises RequestError with its code; nothing is changed then, nor when anything else is raised.
        """
        frame = self._history.find(stamp)
        prompts = [p.validated(*frame.size) for p in prompts]
        class_labels = self._check_prompts(prompts)
        later = self._history.since(frame)[1:]
        with self._all_or_nothing([frame, *later], [p.object_id for p in prompts if p.object_id]):
            ids = [p.object_id or self._new_object() for p in prompts]
            for object_id, prompt, class_label in zip(ids, prompts, class_labels):
                if class_label is not None:
                    self._objects[object_id] = replace(self._objects[object_id], class_label=class_label, named=True)
                if prompt.only_names:
                    continue
                outputs = self._segmenter.prompt(frame, object_id, prompt)
                frame.predictions[object_id] = self._segmenter.predictions(outputs, prompt)[0]
                if not later:
                    self._outputs = self._outputs.merged(outputs) if self._outputs else outputs
            self.revision += 1
            self._describe(frame)
            self._propagate(frame, later, [i for i, prompt in zip(ids, prompts) if not prompt.only_names])
        guessed = () if self.model.config.granularity else (i for i, p in zip(ids, prompts, strict=True) if p.granularity)
        return PromptResult(frame.stamp, tuple(ids), frame.tracks, tuple(guessed))

    @for_inference
    def remove(self, object_ids: Sequence[int]) -> Tracks | None:
        """Stop tracking objects; returns the newest frame without them. Raises RequestError; nothing is changed then."""
        if not len(object_ids):
            raise RequestError(ErrorCode.EMPTY_REQUEST, "no object ids were given: expected at least one")
        for object_id in object_ids:
            self._check_known(object_id)
        for object_id in set(object_ids):
            self._segmenter.bank.remove(object_id)
            del self._objects[object_id]
        self._outputs = self._outputs.only(self.object_ids) if self._outputs and self._objects else None
        self.revision += 1
        if self._history.newest:
            self._describe(self._history.newest)
        return self.newest

    @for_inference
    def reset(self) -> None:
        """Forget all objects and frames. Ids go on counting: none is ever given twice."""
        self._segmenter.clear()
        self._history.clear()
        self._objects.clear()
        self._outputs = None
        self.revision += 1

    @for_inference
    def set_policy(self, policy: str) -> None:
        """Follow another memory policy from the next frame on; takes a name as the constructor does.

        Objects stay, with their prompted frames, the newest frames' memories and their masks. What the former policy
        kept besides is forgotten. After "none", which remembers nothing, the newest masks stand for prompted frames.
        Raises ConfigError; nothing is changed then.
        """
        name = choose_policy(policy, self.model.has_memory, self.model.config)
        segmenter = Segmenter(self.model, name, self.config)
        segmenter.take_over(self._segmenter, self._history.newest)
        self._segmenter, self.policy_name = segmenter, name
        if self._graphed:
            self._graphed.forget()

    def warm_up(self, height: int, width: int) -> None:
        """Run one throw-away frame with one object, so that the first real frame is as fast as the others.

        Raises RequestError when objects are tracked already.
        """
        if len(self._history):
            raise RequestError(ErrorCode.INTERNAL, "warm_up was called on a tracker that is in use: call it first")
        next_id, revision = self._next_id, self.revision
        image = np.zeros((height, width, 3), np.uint8)
        self.step(1, image)
        self.prompt(0, [Prompt(box=np.array([0, 0, width / 2, height / 2], np.float32))])
        self.step(2, image)
        self.reset()
        self._next_id, self.revision = next_id, revision

    @for_inference
    def prepare(self) -> None:
        """Do now what the next step would stop for: capture CUDA graphs, some 50 to 400 ms in which the GPU does nothing else.

        For a caller with nothing else to do, after a step. Once it was called, steps leave captures to it as long as they can.
        Raises torch.OutOfMemoryError; the tracker is as it was.
        """
        if self._graphed and self._history.newest:
            self._graphed.prepare(self._segmenter, self._history.newest, self.config.fill_holes)

    def memory_bytes(self) -> int:
        """Bytes on the device that depend on the stream: the bank and the features of the remembered frames.

        capacity x `BankLayout.bytes_per_object` + (`prompt_history` + 1) x `ImageFeatures.memory_bytes`, where the
        capacity is the power of two that holds the most objects there were.
        """
        return self._segmenter.memory_bytes() + self._history.memory_bytes()

    def bytes_per_object(self, element_size: int = 0) -> int:
        """Bytes of one object's row of the bank; of one whose numbers take `element_size` bytes, 0: the model's own."""
        return self._segmenter.bank.layout.bytes_per_object(element_size or self.model.no_mem_embed.element_size())

    @property
    def keys_attended(self) -> int:
        """Keys of an object's memory attention on the last frame; 0 without a memory."""
        return self._segmenter.keys

    @property
    def matches(self) -> Correspondence | None:
        """The memory by correspondences, of a policy that has one."""
        return self._segmenter.matches

    @property
    def captured(self) -> int:
        """CUDA graphs that there are; 0 where steps are launched kernel by kernel."""
        return self._graphed.captured if self._graphed else 0

    @property
    def refused(self) -> str:
        """Why nothing more is captured as a CUDA graph; "" as long as it is, or where nothing is to be captured."""
        return self._graphed.refused if self._graphed else ""

    @property
    def capture_seconds(self) -> tuple[float, ...]:
        """S that each of the last captures took."""
        return self._graphed.capture_seconds if self._graphed else ()

    def device_description(self) -> str:
        return describe_device(self.model.device)

    # ---- frames

    def _check(self, stamp: int, image: np.ndarray, newest: ProcessedFrame | None) -> None:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ImageError(f"image is {image.dtype} {image.shape}: expected uint8 (H, W, 3), RGB")
        if stamp <= 0:
            raise StampError(f"stamp is {stamp} ns: expected more than 0")
        if newest and stamp <= newest.stamp:
            raise StampError(f"stamp {stamp} ns is not after the previous one, {newest.stamp} ns")
        if newest and image.shape[:2] != newest.size:
            (h, w), (h0, w0) = image.shape[:2], newest.size
            raise ImageError(f"image is {w}x{h}, but the stream is {w0}x{h0}: reset the tracker to change the size")

    def _encode(self, image: np.ndarray) -> ImageFeatures:
        if self._graphed:
            return self._graphed.encode(image)
        return self.model.encode_image(self.model.prepare_image(as_tensor(image)))

    def _track_all(
        self, frame: ProcessedFrame, previous: ProcessedFrame | None, following: np.ndarray | None
    ) -> tuple[Outputs | None, np.ndarray | None]:
        """Track all objects into a new frame, and compose its label image where that is part of what is captured."""
        ids = self._segmenter.bank.ids
        if not (self._graphed and ids):
            return self._track(frame, ids, previous), None
        frame.before = previous.histories if previous else {}
        labels = [self._objects[i].label for i in ids]
        outputs, predictions, label_map = self._graphed.track(
            self._segmenter, frame, labels, self.config.fill_holes, following
        )
        frame.predictions.update(zip(ids, predictions))
        return outputs, label_map

    def _track(
        self, frame: ProcessedFrame, object_ids: Sequence[int], previous: ProcessedFrame | None
    ) -> Outputs | None:
        """Track some objects into a frame, whose predictions they become."""
        frame.before = previous.histories if previous else {}
        if not object_ids:
            return None
        outputs = self._segmenter.track(frame, list(object_ids))
        frame.predictions.update(zip(object_ids, self._segmenter.predictions(outputs)))
        return outputs

    def _propagate(self, frame: ProcessedFrame, later: Sequence[ProcessedFrame], object_ids: Sequence[int]) -> None:
        """Track objects that were prompted on a frame through all later ones; what was prompted there stays."""
        if self.config.non_overlap_memory and object_ids:  # then no object is on its own
            object_ids = self._segmenter.bank.ids
        if not later:
            return
        there, tracked = set(frame.predictions), []
        for following in later:  # all of it is queued before the first result is waited for
            free = [i for i in object_ids if not (i in following.predictions and following.predictions[i].prompted)]
            free = [i for i in free if i in there]
            tracked.append((free, self._track_again(following, free) if free else None))
            there = {*following.predictions, *free}
        self._read(later, tracked)
        maps = self._label_maps(later)
        for previous, following, label_map in zip([frame, *later], later, maps):
            following.before = previous.histories
            self._describe(following, label_map)
        newest = tracked[-1][1]
        if newest:
            newest = self._outputs.merged(newest) if self._outputs else newest
            self._outputs = newest.only(self.object_ids)

    def _track_again(self, frame: ProcessedFrame, object_ids: list[int]) -> Outputs:
        """Track some objects into a frame that was tracked before: captured, as steps are, where their rows follow one another."""
        segmenter = self._segmenter
        captured = self._graphed and not (segmenter.matches or torch.are_deterministic_algorithms_enabled())
        if captured and isinstance(segmenter.bank.rows(object_ids), slice):
            return self._graphed.track_again(segmenter, frame, object_ids)
        return segmenter.track(frame, object_ids)

    def _read(self, frames: Sequence[ProcessedFrame], tracked: Sequence[tuple[list[int], Outputs | None]]) -> None:
        """Take down what was said of the objects that were tracked into some frames, waiting for the device once."""
        summaries = [self._segmenter.summary(outputs) for _, outputs in tracked if outputs]
        if not summaries:
            return
        rows = iter(predictions(torch.cat(summaries).cpu()))
        for frame, (ids, outputs) in zip(frames, tracked):
            if outputs:
                frame.predictions.update((i, next(rows)) for i in ids)

    def _label_maps(self, frames: Sequence[ProcessedFrame]) -> list[np.ndarray]:
        """The label images of some frames of one size, waiting for the device once."""
        of_frames = [[i for i in self._segmenter.bank.ids if i in frame.predictions] for frame in frames]
        composed = [self._composed(frame, ids) for frame, ids in zip(frames, of_frames) if ids]
        rows = iter(torch.stack(composed).cpu().numpy() if composed else ())
        return [next(rows).copy() if ids else np.zeros(frame.size, np.uint8) for frame, ids in zip(frames, of_frames)]

    def _label_map(self, frame: ProcessedFrame, object_ids: Sequence[int]) -> np.ndarray:
        """(H, W) uint8, composed of the masks that are remembered of a frame."""
        return self._composed(frame, object_ids).cpu().numpy() if object_ids else np.zeros(frame.size, np.uint8)

    def _composed(self, frame: ProcessedFrame, object_ids: Sequence[int]) -> Tensor:
        """The same on the device, for at least one object."""
        bank = self._segmenter.bank
        logits = fill_holes(bank.mask(bank.rows(object_ids), frame.index), self.config.fill_holes)
        told = [[frame.predictions[i].present for i in object_ids], [self._objects[i].label for i in object_ids]]
        present, labels = upload(np.array(told, np.uint8), logits.device)
        return compose(logits, present.view(torch.bool), labels, frame.size)

    def _describe(self, frame: ProcessedFrame, label_map: np.ndarray | None = None) -> None:
        """What is to be said of a frame; label_map: of all its objects, where that is known."""
        ids = [i for i in self._segmenter.bank.ids if i in frame.predictions]
        if label_map is None:
            label_map = self._label_map(frame, ids)
        frame.predictions = {i: frame.predictions[i] for i in ids}
        frame.tracks, frame.histories = describe_frame(
            frame.stamp,
            label_map,
            frame.view,
            [self._objects[i] for i in sorted(ids)],
            frame.predictions,
            frame.before,
            self.config,
            self.revision,
            self._head,
        )

    # ---- requests

    def _check_prompts(self, prompts: Sequence[Prompt]) -> list[ClassLabel | None]:
        """The class that each prompt gives, or None. Raises RequestError."""
        if not prompts:
            raise RequestError(ErrorCode.EMPTY_REQUEST, "no prompts were given: expected at least one")
        corrected = [p.object_id for p in prompts if p.object_id]
        for object_id in corrected:
            self._check_known(object_id)
            if corrected.count(object_id) > 1:
                raise RequestError(
                    ErrorCode.INVALID_PROMPT, f"object {object_id} has several prompts in one request: give it one"
                )
        total = len(self._objects) + len(prompts) - len(corrected)
        if total > self.config.max_objects:
            raise RequestError(
                ErrorCode.TOO_MANY_OBJECTS,
                f"the request would make {total} objects: expected at most max_objects = {self.config.max_objects}",
            )
        return [self.label_set.by_name(p.class_name) if p.class_name else None for p in prompts]

    def _check_known(self, object_id: int) -> None:
        if object_id not in self._objects:
            known = ", ".join(map(str, self.object_ids)) or "none"
            raise RequestError(ErrorCode.UNKNOWN_OBJECT, f"object {object_id} is not tracked: tracked are {known}")

    def _new_object(self) -> int:
        object_id, self._next_id = self._next_id, self._next_id + 1
        taken = {known.label for known in self._objects.values()}
        label = next(v for v in range(1, MAX_LABEL + 1) if v not in taken)
        self._objects[object_id] = TrackedObject(object_id, label, self.label_set.classes[0])
        self._segmenter.bank.add(object_id)
        return object_id

    @contextmanager
    def _all_or_nothing(self, frames: Sequence[ProcessedFrame], changed_ids: Sequence[int]) -> Iterator[None]:
        """Undo what is done inside to these frames and objects, and to new objects, when anything is raised."""
        changed = self._segmenter.bank.ids if self.config.non_overlap_memory else changed_ids
        memory, kept = self._segmenter.save(changed), [frame.saved() for frame in frames]
        objects, next_id, revision, outputs = dict(self._objects), self._next_id, self.revision, self._outputs
        try:
            yield
        except BaseException:
            self._segmenter.restore(memory)
            for frame, saved in zip(frames, kept):
                frame.restore(saved)
            self._objects, self._next_id, self.revision, self._outputs = objects, next_id, revision, outputs
            raise
