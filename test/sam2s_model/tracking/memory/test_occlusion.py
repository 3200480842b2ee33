"""Memories of relevance and occlusion: FIFO while all is well, and what stays when the object is hidden."""

from __future__ import annotations

from sam2s_model.tracking.memory import Fifo, OcclusionAware


def test_a_well_seen_object_is_remembered_as_by_fifo(script, small):
    runs = [script(policy(small)) for policy in (OcclusionAware, Fifo)]
    for run in runs:
        run.prompt(0)
    for now in range(1, 20):
        assert runs[0].attended(now) == runs[1].attended(now)
        for run in runs:
            run.track(now)


def test_the_last_good_and_the_last_partly_hidden_views_stay(script, small):
    """Relevance: score 0.993 x IoU. 1 to 8 are good, 9 and 10 partly hidden, 11 is too little, then nothing."""
    run = script(OcclusionAware(small))
    run.prompt(0)
    for frame in range(1, 9):
        run.track(frame, iou=0.9)
    for frame, iou in ((9, 0.5), (10, 0.6), (11, 0.3)):
        run.track(frame, iou=iou)
    for frame in range(12, 60):
        run.track(frame, logit=-5.0)
    assert run.attended(60) == {0: 6, 59: 0, 58: 1, 57: 2, 8: 3, 7: 4, 6: 5, 10: 6, 9: 6}


def test_thresholds_are_inclusive(script, small):
    run = script(OcclusionAware(small, relevant=0.5, partly=0.25))
    run.prompt(0)
    for frame, iou in ((1, 0.5), (2, 0.49), (3, 0.25), (4, 0.24)):
        run.track(frame, iou=iou, logit=1000.0)
    assert run.held("relevant") == [1] and run.held("partly_hidden") == [2, 3]
