"""The tracker: four calls, `prompt`, `step`, `remove`, `reset`. The loop of SAM2 for a live stream.

An image is encoded once, the rest is one batch over the objects, memory has a fixed size. One thread owns a tracker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch

from sam2s_model.acceleration.graphs import Capture, as_cuda_graphs
from sam2s_model.config import TrackerConfig
from sam2s_model.device import describe_device, for_inference
from sam2s_model.discovery.discover import Proposal
from sam2s_model.discovery.finder import Discovery
from sam2s_model.discovery.rediscovery import Rediscovered, review, tell_rediscovered
from sam2s_model.errors import ErrorCode, RequestError
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.recall.memories import SavedObjects, check_saved, collect, go_on
from sam2s_model.semantics import GENERIC, ClassLabel, LabelSet
from sam2s_model.tracking.correspondence import Correspondence
from sam2s_model.tracking.field_of_view import endoscope_field, reduced
from sam2s_model.tracking.history import History, ProcessedFrame
from sam2s_model.tracking.label_maps import Answer, read_answers
from sam2s_model.tracking.memory import choose_policy
from sam2s_model.tracking.outputs import Outputs
from sam2s_model.tracking.policy_change import go_on_under
from sam2s_model.tracking.presence import TrackedObject, describe_frame
from sam2s_model.tracking.requests import PromptResult, check_chosen, check_frame, check_prompts, prompted_frame
from sam2s_model.tracking.segmenter import Segmenter
from sam2s_model.tracking.stepping import Stepper
from sam2s_model.tracks import MAX_LABEL, Return, Tracks


class Tracker:
    """Track objects through a stream of images.

    model: from `checkpoint.load_model`
    policy: a name of `memory.POLICIES`, "auto": fifo, or what the checkpoint was made for, or one of `policy_plugins`
    config: the options, None for the defaults; label_set: the classes that objects may have
    first_id: the first object id to give, so that a tracker that follows another gives no id twice
    capture: makes what captures steps on a device; None: CUDA graphs on a GPU where the options have them, else nothing
    Raises ConfigError when the checkpoint cannot run the policy.
    """

    def __init__(
        self,
        model: Sam2Model,
        policy: str = "auto",
        config: TrackerConfig | None = None,
        label_set: LabelSet = GENERIC,
        first_id: int = 1,
        capture: Callable[[torch.device], Capture] | None = None,
    ):
        self.config = config = config or TrackerConfig()
        self.model = model
        self.policy_name = choose_policy(policy, model.has_memory, model.config)
        self.label_set = label_set
        self.revision = 0
        # Its own, so that it neither waits for other trackers of the process nor they for it.
        self.stream = torch.cuda.Stream(model.device) if model.device.type == "cuda" else None
        self._segmenter = Segmenter(model, self.policy_name, config)
        if capture is None and config.cuda_graphs and model.device.type == "cuda":
            capture = as_cuda_graphs
        self._stepper = Stepper(model, capture)
        self._history = History(config.prompt_history)
        self.discovery = Discovery(model, config)
        self._objects: dict[int, TrackedObject] = {}
        self._next_id = first_id
        self._outputs: Outputs | None = None
        self._rediscovered: dict[int, Return] = {}  # since the newest frame
        in_set = {label.name: label for label in label_set.classes}
        self._class_head_labels = tuple(in_set.get(name) for name in model.class_names)

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
        """The model's answers for the newest frame's objects, with all prompts in effect; None when there are none."""
        return self._outputs

    @for_inference
    def step(self, stamp: int, image: np.ndarray, following: np.ndarray | None = None) -> Tracks:
        """Track all objects into the next frame.

        stamp: ns, greater than the previous; image: (H, W, 3) uint8 RGB, of the size of the frames before
        following: the array that the next step will be given, where it is there already and stays as it is: a GPU
            begins with it while it tracks. Ignored if the next step gets a different array
        Raises StampError or ImageError; the tracker is then as it was.
        """
        newest = self._history.newest
        check_frame(stamp, image, newest)
        index = newest.index + 1 if newest else 0
        frame = ProcessedFrame(
            index=index,
            stamp=stamp,
            size=image.shape[:2],
            features=self._history.hold(index, self._stepper.encode(image)),
            field_mask=endoscope_field(image) if self.config.field_of_view == "auto" else None,
            reduced=reduced(image),
            previous=newest.histories if newest else {},
        )
        try:
            fits = following is not None and (following.shape, following.dtype) == (image.shape, image.dtype)
            outputs, label_map = self._stepper.track(self._segmenter, frame, self._labels, following if fits else None)
            tell_rediscovered(frame, self._rediscovered)
            tracks = self._describe(frame, label_map)
        except BaseException:
            self._segmenter.forget(frame.index)
            raise
        self._history.append(frame)
        self._outputs, self._rediscovered = outputs, {}
        return tracks

    @for_inference
    def prompt(self, stamp: int, prompts: Sequence[Prompt], *, learn: bool = True) -> PromptResult:
        """Start, correct or name objects on the newest frame, or on a remembered one (`prompt_history`).

        All prompts take effect, or none. What a prompt on an earlier frame changes is propagated to the newest: the
        objects are then as if it had come in time.

        stamp: ns, of a remembered frame, or 0 for the newest; what only names is of no frame, see `prompted_frame`
        learn: whether a person says it: looks of objects with a class are added to the prototypes, and the class stays
        A class alone prompts all its instances that discovery finds there; a proposal is prompted on its own frame.

        Raises RequestError with its code; nothing is changed then, nor when anything else is raised.
        """
        frame = prompted_frame(self._history, prompts, self.discovery.stamp_of(prompts, stamp))
        for prompt in prompts:  # before anything is looked for
            self.label_set.by_name(prompt.class_name)
        asked = self.discovery.expand(frame, prompts, self._objects)
        prompts = [one.prompt.validated(*frame.size) for one in asked]
        class_labels = check_prompts(prompts, self._objects, self.config, self.label_set)
        later = self._history.since(frame)[1:]
        with self._all_or_nothing([frame, *later], [p.object_id for p in prompts if p.object_id]):
            ids, answers = [p.object_id or self._new_object() for p in prompts], []
            for object_id, one, prompt, class_label in zip(ids, asked, prompts, class_labels, strict=True):
                if class_label is not None:
                    tracked = self._objects[object_id].with_class(class_label, by_person=learn and one.by_person)
                    self._objects[object_id] = tracked
                if prompt.only_names:
                    continue
                outputs = self._segmenter.prompt(frame, object_id, prompt)
                answers.append(Answer(frame, outputs, prompt))
                if not later:
                    self._outputs = self._outputs.merged(outputs) if self._outputs else outputs
            self.revision += 1
            answers += self._propagate(frame, later, [one.outputs.object_ids[0] for one in answers])
            maps = read_answers(self._segmenter, [frame, *later], answers, self._labels)
            tracks = self._describe(frame, maps[0])
            for (previous, following), label_map in zip(pairwise([frame, *later]), maps[1:], strict=True):
                following.previous = {**following.previous, **previous.histories}  # of loaded objects there are none
                self._describe(following, label_map)
            if learn:
                taught = [i for i, one in zip(ids, asked, strict=True) if one.confirmed and self._objects[i].named]
                self.discovery.learn(frame, {i: self._objects[i].class_label.name for i in taught})
        told = () if self.model.config.granularity else zip(ids, prompts, strict=True)
        approximate = tuple(i for i, prompt in told if prompt.granularity)
        by_person = tuple(i for i in ids if self._objects[i].by_person)
        return PromptResult(frame.stamp, tuple(ids), tracks, tuple(prompts), approximate, by_person)

    @for_inference
    def discover(self, class_name: str = "", stamp: int = 0) -> list[Proposal]:
        """Propose objects on the newest frame, or on another that is remembered, the best first; nothing is tracked.

        class_name: only those of a class that has prototypes, "": all; stamp: ns, 0: the newest
        Each can be accepted by `Prompt(proposal_id=...)`. Raises RequestError (NO_IMAGE, NOT_FOUND and the like).
        """
        frame = self._history.find(stamp)
        self.label_set.by_name(class_name)
        return self.discovery.look(frame, self.discovery.known_class(class_name))

    @for_inference
    def rediscover(self, *, find: bool = True, recondition: bool = True) -> list[Rediscovered]:
        """Look at the newest frame again, and prompt what was LOST and is found, and what has drifted.

        find, recondition: which of the two. The newest frame's tracks, and the next one's, say so in `returns`.
        """
        frame = self._history.find(0)
        found = review(self.discovery, frame, self._segmenter, self._objects, find=find, recondition=recondition)
        if found:
            again = [Prompt(object_id=one.object_id, mask=one.proposal.mask) for one in found]
            self.prompt(frame.stamp, again, learn=False)
            self._rediscovered |= {one.object_id: one.kind for one in found}
            tell_rediscovered(frame, self._rediscovered)
            self._describe(frame)
        return found

    @for_inference
    def remove(self, object_ids: Sequence[int]) -> Tracks | None:
        """Stop tracking objects. Returns the newest frame without them, None before the first frame.

        Raises RequestError; nothing is changed then.
        """
        check_chosen(object_ids, self._objects)
        for object_id in set(object_ids):
            self._segmenter.bank.remove(object_id)
            del self._objects[object_id]
        self._history.forget(object_ids)
        self._outputs = self._outputs.only(self.object_ids) if self._outputs and self._objects else None
        self.revision += 1
        if self._history.newest:
            self._describe(self._history.newest)
        return self.newest

    @for_inference
    def saved_objects(self, object_ids: Sequence[int] = ()) -> SavedObjects:
        """Copy what is remembered of some objects, (): all, for `restore_objects`. Raises as `memories.collect`."""
        return collect(self._segmenter, self._objects, object_ids or self.object_ids, self.policy_name)

    @for_inference
    def restore_objects(self, saved: SavedObjects) -> tuple[int, ...]:
        """Go on with objects of another run, under new ids: each is LOST until it is seen, on the newest or later.

        All of them begin, or none. Raises RequestError (NO_IMAGE and the like), and as `memories.check_saved` does.
        """
        frame, tracked = self._history.find(0), len(self._objects)
        labels = check_saved(saved, self._segmenter, tracked, self.config, self.label_set, self.policy_name)
        with self._all_or_nothing([frame], []):
            ids = tuple(map(self._new_object, labels))
            outputs = go_on(self._segmenter, frame, ids, saved, self.config.lost_after)
            self._outputs = self._outputs.merged(outputs) if self._outputs else outputs
            self.revision += 1
            self._describe(frame)
        return ids

    @for_inference
    def reset(self) -> None:
        """Forget all objects and frames. Ids go on counting: none is ever given twice."""
        self._segmenter.clear()
        self._history.clear()
        self.discovery.forget_frames()
        self._objects.clear()
        self._outputs, self._rediscovered = None, {}
        self.revision += 1

    @for_inference
    def set_policy(self, policy: str) -> None:
        """Follow another memory policy from the next frame on; takes a name as the constructor does.

        Objects stay, see `policy_change.go_on_under`. Raises ConfigError; nothing changes then, nor by the same name.
        """
        if (name := choose_policy(policy, self.model.has_memory, self.model.config)) == self.policy_name:
            return
        segmenter = Segmenter(self.model, name, self.config)
        go_on_under(name, segmenter, self._segmenter, [*self._history])
        self._segmenter, self.policy_name = segmenter, name
        self._stepper.forget()

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
        """Do now what the next step would stop for: capture CUDA graphs.

        That takes some 50 to 400 ms in which the GPU does nothing else. For a caller with nothing else to do, after a
        step. Once it was called, steps leave captures to it as long as they can.
        What the GPU has no room for is not captured, and is launched kernel by kernel; a warning says so.
        """
        if self._history.newest:
            self._stepper.prepare(self._segmenter, self._history.newest)

    def memory_bytes(self) -> int:
        """Count the bytes on the device that depend on the stream: bank and features of the remembered frames.

        capacity x `BankLayout.bytes_per_object` + (`prompt_history` + 1) x `ImageFeatures.memory_bytes`, where the
        capacity is the power of two that holds the most objects there were.
        """
        return self._segmenter.memory_bytes() + self._history.memory_bytes()

    def bytes_per_object(self, element_size: int = 0) -> int:
        """Count the bytes of an object's row of the bank, with numbers of `element_size` bytes, 0: the model's own."""
        return self._segmenter.bank.layout.bytes_per_object(element_size or self.model.no_mem_embed.element_size())

    @property
    def keys_attended(self) -> int:
        """Keys of an object's memory attention on the last frame; 0 without a memory, or without objects.

        Steps that are captured, and so may be replayed, have as many as there may be; what an object lacks is masked.
        """
        return self._outputs.keys if self._outputs else 0

    @property
    def matches(self) -> Correspondence | None:
        """The memory by correspondences, of a policy that has one."""
        return self._segmenter.matches

    @property
    def captured(self) -> int:
        """CUDA graphs that there are; 0 where steps are launched kernel by kernel."""
        return self._stepper.captured

    @property
    def refused(self) -> str:
        """Why nothing more is captured as a CUDA graph; "" as long as it is, or where nothing is to be captured."""
        return self._stepper.refused

    @property
    def capture_seconds(self) -> tuple[float, ...]:
        """S that each of the last captures took."""
        return self._stepper.capture_seconds

    def device_description(self) -> str:
        return describe_device(self.model.device)

    @property
    def _labels(self) -> dict[int, int]:
        """Each object's value in the label image."""
        return {object_id: tracked.label for object_id, tracked in self._objects.items()}

    def _propagate(
        self, frame: ProcessedFrame, later: Sequence[ProcessedFrame], object_ids: Sequence[int]
    ) -> list[Answer]:
        """Track objects that were prompted on a frame through all later ones; what was prompted there stays."""
        if not later:
            return []
        tracked = self._stepper.propagate(self._segmenter, frame, later, object_ids)
        if newest := tracked[-1]:
            self._outputs = (self._outputs.merged(newest) if self._outputs else newest).only(self.object_ids)
        return [Answer(shown, outputs) for shown, outputs in zip(later, tracked, strict=True) if outputs]

    def _describe(self, frame: ProcessedFrame, label_map: np.ndarray | None = None) -> Tracks:
        """Compute a frame's tracks and histories. label_map: of all its objects, None to compose it."""
        ids = [i for i in self._segmenter.bank.ids if i in frame.predictions]
        if label_map is None:
            (label_map,) = read_answers(self._segmenter, [frame], [], self._labels)
        frame.predictions = {i: frame.predictions[i] for i in ids}
        frame.tracks, frame.histories = describe_frame(
            stamp=frame.stamp,
            label_map=label_map,
            field_mask=frame.field_mask,
            objects=[self._objects[i] for i in sorted(ids)],
            predictions=frame.predictions,
            previous=frame.previous,
            config=self.config,
            revision=self.revision,
            class_head_labels=self._class_head_labels,
        )
        return frame.tracks

    def _new_object(self, named: ClassLabel | None = None) -> int:
        object_id, self._next_id = self._next_id, self._next_id + 1
        taken = {tracked.label for tracked in self._objects.values()}
        label = next(v for v in range(1, MAX_LABEL + 1) if v not in taken)
        one = TrackedObject(object_id, label, self.label_set.classes[0])
        self._objects[object_id] = one.with_class(named, by_person=True) if named else one
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
            for frame, saved in zip(frames, kept, strict=True):
                frame.restore(saved)
            self._objects, self._next_id, self.revision, self._outputs = objects, next_id, revision, outputs
            raise
