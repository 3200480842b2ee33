"""What a tracker finds by itself: prototypes and proposals are kept, and what is asked of classes becomes prompts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sam2s_model.config import TrackerConfig
from sam2s_model.device import upload
from sam2s_model.discovery.discover import Proposal, proposals
from sam2s_model.discovery.features import background_features, masked_features, place_features
from sam2s_model.discovery.learnt import LearntClasses
from sam2s_model.discovery.prototypes import BACKGROUND, PrototypeBank
from sam2s_model.errors import ErrorCode, PrototypeError, RequestError
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.history import ProcessedFrame
from sam2s_model.tracking.presence import TrackedObject

REMEMBERED = 256  # proposals that may be accepted, the newest ones
SAME_OBJECT = 0.5  # IoU of a proposal and an object's mask, from which it is that object


@dataclass(frozen=True)
class Asked:
    """A prompt as the tracker takes it.

    confirmed: whether a person says where it is, so that its looks are learnt
    by_person: whether a person says what this object is; False where it was found to be of a class that was asked for
    """

    prompt: Prompt
    confirmed: bool
    by_person: bool = True


class Discovery:
    """Finds objects on a tracker's frames. Its thread is the tracker's.

    bank: the prototypes; it may be replaced by another one of the same model
    learnt: class prompts that were trained for the model, which find their classes in place of the prototypes
    """

    def __init__(self, model: Sam2Model, config: TrackerConfig):
        self.model, self.config = model, config
        self.bank = PrototypeBank(model.config.dim)
        self.learnt: LearntClasses | None = None
        self._remembered: OrderedDict[int, tuple[int, Proposal]] = OrderedDict()
        self._next_id = 1

    def use(self, bank: PrototypeBank) -> None:
        """Go on with other prototypes. Raises PrototypeError for those of another width."""
        if bank.dim != self.bank.dim:
            raise PrototypeError(
                f"the prototypes are {bank.dim} wide: expected {self.bank.dim}, as the model's features"
            )
        self.bank = bank

    def forget_frames(self) -> None:
        """Drop the proposals, whose frames are gone. Ids go on counting."""
        self._remembered.clear()

    def look(self, frame: ProcessedFrame, class_name: str = "") -> list[Proposal]:
        """Propose the objects of a frame, and remember them under their ids. class_name: of a class alone; "": all"""
        found = []
        for one in proposals(
            self.model, frame.features, frame.size, self.bank, self.config, class_name, self.learnt, frame.field
        ):
            one = replace(one, proposal_id=self._next_id, object_id=covered_object(one.mask, frame))
            self._next_id += 1
            self._remembered[one.proposal_id] = frame.stamp, one
            found.append(one)
        while len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        return found

    def stamp_of(self, prompts: Sequence[Prompt], stamp: int) -> int:
        """Return the stamp, ns, of the frame that prompts are for: that of their proposals where they name some.

        Raises RequestError (UNKNOWN_PROPOSAL, INVALID_PROMPT) for a proposal that is gone, or of another frame.
        """
        for prompt in prompts:
            if prompt.proposal_id:
                of_proposal, _ = self._proposal(prompt.proposal_id)
                if stamp not in (0, of_proposal):
                    raise RequestError(
                        ErrorCode.INVALID_PROMPT,
                        f"proposal {prompt.proposal_id} is of stamp {of_proposal} ns: expected that or 0 instead of "
                        f"{stamp} ns, and proposals of one image in a request",
                    )
                stamp = of_proposal
        return stamp

    def expand(
        self, frame: ProcessedFrame, prompts: Sequence[Prompt], objects: Mapping[int, TrackedObject]
    ) -> list[Asked]:
        """Put masks in place of proposals, and all instances of a class in place of a class alone; others stay.

        objects: that are tracked. An instance that is one of them keeps its id; it is left out where a person has named
        it otherwise. Raises RequestError (NOT_FOUND, UNKNOWN_PROPOSAL,
        INVALID_PROMPT).
        """
        asked: list[Asked] = []
        for prompt in prompts:
            if prompt.proposal_id:
                asked.append(Asked(self._accepted(prompt), confirmed=True))
            elif prompt.asks_for_class:
                found = self._instances(frame, prompt.class_name, objects)
                asked += [Asked(one, confirmed=False, by_person=False) for one in found]
            else:
                asked.append(Asked(prompt, confirmed=prompt.gives_place))
        return asked

    def learn(self, frame: ProcessedFrame, names: dict[int, str]) -> None:
        """Take in objects of a frame that a person has confirmed, all or, when anything is raised, none.

        names: object id -> class. Raises PrototypeError as `PrototypeBank.add`.
        """
        tracks = frame.tracks
        if tracks is None or not names or not self.config.learn_prototypes:
            return
        coarse = frame.features.coarse
        masks = upload(np.stack([tracks.mask(object_id) for object_id in names]), self.model.device)
        with self.bank.all_or_nothing():
            for name, features in zip(names.values(), masked_features(coarse, masks), strict=True):
                self.bank.add(name, features[None])
            if self.bank.class_names:
                covered = upload(tracks.label_map > 0, self.model.device)
                self.bank.add(BACKGROUND, self._unlike_objects(background_features(coarse, covered)))

    def _unlike_objects(self, tiles: Tensor) -> Tensor:
        """Leave out tiles that stand out by their likeness to a class: they may be objects that nobody has prompted."""
        if not len(tiles):
            return tiles
        similar = torch.stack([self.bank.similarity(name, tiles) for name in self.bank.class_names]).amax(0)
        return tiles[similar <= (similar.median() + 1) / 2]

    def _proposal(self, proposal_id: int) -> tuple[int, Proposal]:
        if proposal_id not in self._remembered:
            ids = list(self._remembered)
            known = f"{ids[0]} to {ids[-1]}" if ids else "none"
            raise RequestError(
                ErrorCode.UNKNOWN_PROPOSAL, f"proposal {proposal_id} is not remembered: those that are: {known}"
            )
        return self._remembered[proposal_id]

    def _accepted(self, prompt: Prompt) -> Prompt:
        if prompt.gives_place:
            raise RequestError(
                ErrorCode.INVALID_PROMPT,
                f"a prompt has proposal {prompt.proposal_id} and also points, strokes, a box or a mask: "
                "give the proposal alone",
            )
        _, one = self._proposal(prompt.proposal_id)
        return replace(prompt, proposal_id=0, class_name=prompt.class_name or one.class_name, mask=one.mask)

    def known_class(self, name: str) -> str:
        """Return a class that has prototypes, or "". Raises RequestError (NOT_FOUND) for one that has none."""
        names = *self.bank.class_names, *(self.learnt.names if self.learnt else ())
        if name and name not in names:
            known = ", ".join(dict.fromkeys(names)) or "no class"
            raise RequestError(
                ErrorCode.NOT_FOUND,
                f"class {name!r} has no prototypes to find it by: there are those of {known}; prompt one with its "
                "class",
            )
        return name

    def _instances(self, frame: ProcessedFrame, name: str, objects: Mapping[int, TrackedObject]) -> list[Prompt]:
        found = self.look(frame, self.known_class(name))
        if not found and name not in self.bank.class_names:
            raise RequestError(ErrorCode.NOT_FOUND, f"no {name} was found: its mask is empty")
        if not found:
            places = place_features(frame.features.coarse)
            best, similar = self.bank.likeness(name, places), self.bank.similarity(name, places)
            raise RequestError(
                ErrorCode.NOT_FOUND,
                f"no {name} was found: the most similar place has a cosine of {float(similar.max()):.2f}, and is at "
                f"{float(best.max()):.2f} between background (0) and class (1); expected a region at "
                f"{self.config.discovery_min_margin:g} or more (discovery_min_margin)",
            )
        known_ids: set[int] = set()
        out, otherwise = [], {}
        for one in found:
            if one.object_id in known_ids:
                continue
            known_ids |= {one.object_id} - {0}
            known = objects.get(one.object_id)
            if known is not None and known.by_person and known.class_label.name != name:
                otherwise[one.object_id] = known.class_label.name
                continue
            mask = None if one.object_id else one.mask
            out.append(Prompt(object_id=one.object_id, class_name=name, mask=mask))
        if not out:
            said = ", ".join(f"object {object_id}, which was named {other}" for object_id, other in otherwise.items())
            raise RequestError(
                ErrorCode.NOT_FOUND, f"no {name} was found but {said}: prompt it by its id to give it another class"
            )
        return out


def covered_object(mask: np.ndarray, frame: ProcessedFrame) -> int:
    """Return the id of the object of a frame whose mask a region, (H, W) bool, is; 0 where it is none.

    Of objects that are still tracked: what the tracks of an older frame show may have been removed since.
    """
    tracks = frame.tracks
    if tracks is None or not len(tracks):
        return 0
    inside = np.bincount(tracks.label_map[mask], minlength=256)[tracks.labels]
    iou = inside / np.maximum(mask.sum() + tracks.areas - inside, 1)
    iou[[i not in frame.predictions for i in tracks.object_ids.tolist()]] = 0
    best = int(iou.argmax())
    return int(tracks.object_ids[best]) if iou[best] >= SAME_OBJECT else 0
