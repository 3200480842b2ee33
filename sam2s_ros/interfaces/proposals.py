"""Proposals to messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import Header

from sam2s_model.discovery.discover import Proposal
from sam2s_model.semantics import LabelSet
from sam2s_model.tracks import MAX_LABEL
from sam2s_ros.interfaces import image_codec
from sam2s_ros.msg import Proposal as ProposalMsg, Proposals


def proposals_message(
    proposals: Sequence[Proposal], header: Header, labels: LabelSet, size: tuple[int, int]
) -> Proposals:
    """Proposals of one image, by descending score, at most 254.

    header: the source image's, used as it is; labels: a class that is not in it has the class id 0; size: (H, W), px
    """
    ids = {label.name: label.id for label in labels.classes}
    ordered = sorted(proposals, key=lambda one: -one.score)[:MAX_LABEL]
    painted = np.zeros(size, np.uint8)
    for label in range(len(ordered), 0, -1):  # so that the better one is on top
        painted[ordered[label - 1].mask] = label
    return Proposals(
        header=header,
        proposals=[_message(one, label, ids) for label, one in enumerate(ordered, start=1)],
        label_image=image_codec.to_message(painted, header, "mono8"),
    )


def _message(one: Proposal, label: int, ids: dict[str, int]) -> ProposalMsg:
    x0, y0, x1, y1 = (int(v) for v in one.box)
    return ProposalMsg(
        proposal_id=one.proposal_id,
        label=label,
        class_id=ids.get(one.class_name, 0),
        class_name=one.class_name,
        class_score=float(one.class_score),
        class_margin=float(one.margin),
        score=float(one.score),
        object_id=one.object_id,
        bounding_box=RegionOfInterest(x_offset=x0, y_offset=y0, width=x1 - x0, height=y1 - y0),
        area=one.area,
    )
