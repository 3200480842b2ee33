"""The model's answers: what the summary says is what predictions hold, and rows are those of their objects."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam2s_model.tracking.outputs import Outputs, predictions


def outputs(*object_ids: int, classes: int = 2, keys: int = 0) -> Outputs:
    """Every number tells its object: the id, and a place after the point that tells the output."""
    n, ids = len(object_ids), torch.tensor(object_ids, dtype=torch.float32)
    return Outputs(
        object_ids=object_ids,
        logits=ids.view(n, 1, 1, 1).expand(n, 1, 2, 3) + 0.1,
        iou=ids + 0.2,
        object_logit=ids + 0.3,
        pointers=ids[:, None].expand(n, 4) + 0.4,
        present=ids > 1,
        class_logits=ids[:, None].expand(n, classes) * torch.arange(classes),
        similarity=ids + 0.5,
        rejected=ids > 2,
        keys=keys,
    )


def test_predictions_hold_what_was_summarised():
    found = predictions(outputs(1, 2, 3).summary(score=torch.tensor([0.7, 0.8, 0.9])), prompted=True)
    assert [p.score for p in found] == pytest.approx([0.7, 0.8, 0.9])
    assert [p.predicted_iou for p in found] == pytest.approx([1.2, 2.2, 3.2])
    assert [p.similarity for p in found] == pytest.approx([1.5, 2.5, 3.5])
    assert [p.present for p in found] == [False, True, True] and [p.rejected for p in found] == [False, False, True]
    assert all(p.prompted for p in found)
    for object_id, prediction in enumerate(found, start=1):
        expected = np.exp([0, object_id]) / np.exp([0, object_id]).sum()
        assert prediction.classes == pytest.approx(expected)


def test_without_a_class_head_there_are_no_classes():
    (found,) = predictions(outputs(1, classes=0).summary(score=torch.ones(1)))
    assert found.classes is None and not found.prompted


def test_rows_stay_with_their_objects():
    merged = outputs(1, 3, keys=5).merged(outputs(2, 3, keys=7))
    assert merged.object_ids == (1, 2, 3) and merged.keys == 7
    for name, tensor in outputs(1, 2, 3).tensors.items():
        assert torch.equal(merged.tensors[name], tensor), name
    kept = merged.only([3, 1])
    assert kept.object_ids == (3, 1) and kept.keys == 7
    for name, tensor in outputs(3, 1).tensors.items():
        assert torch.equal(kept.tensors[name], tensor), name


def test_a_copy_stays_when_the_tensors_are_overwritten():
    own = outputs(1, 2)
    copied = own.copied()
    own.iou.zero_()
    assert copied.iou.tolist() == pytest.approx([1.2, 2.2]) and copied.object_ids == (1, 2)
