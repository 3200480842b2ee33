"""DiveMem's choice of long-term frames, worked by hand from the paper's rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sam2s_model.tracking.memory import DiveMem, FramePruning

# frame: (predicted IoU, object logit, angle of the image); the prompted frame 0 is at 0 degrees
SCRIPT = {
    1: (0.99, 5, 10), 2: (0.99, 5, 20), 3: (0.99, 5, 50), 4: (0.99, 5, 30), 5: (0.99, 5, 40),
    # candidates 1 to 5: the least like frame 0 is 3, at 50 degrees
    6: (0.99, 5, 55), 7: (0.90, 5, 0), 8: (0.99, -5, 0), 9: (0.99, 5, 45), 10: (0.95, 5, 0), 11: (0.99, 5, 5),
    12: (0.99, 5, 60), 13: (0.99, 5, 52),
    # candidates 6, 9, 11, 12, 13 (7 and 10 are not above 0.95, on 8 the object is gone): the least like 3 is 11
}  # fmt: skip


def play(script, policy, until: int = 13, prompts=()):
    run = script(policy)
    run.prompt(0)
    for frame in range(1, until + 1):
        iou, logit, image = SCRIPT.get(frame, (0.5, 5, 0))
        run.track(frame, iou, logit, image=image, memory=frame % 90)
        if frame in prompts:
            run.prompt(frame)
    return run


@pytest.mark.parametrize("until, long_term, waiting", [
    (4, [], [1, 2, 3, 4]), (5, [3], []), (8, [3], [6]), (12, [3], [6, 9, 11, 12]), (13, [3, 11], []),
])  # fmt: skip
def test_the_least_similar_of_five_candidates_is_kept(script, small, until, long_term, waiting):
    run = play(script, DiveMem(small), until)
    assert run.held("long_term") == long_term and run.held("buffer") == waiting


def test_consecutive_candidates_only(script, small):
    run = play(script, DiveMem(small, consecutive=True))
    assert run.held("long_term") == [3] and run.held("buffer") == [11, 12, 13], "7, 8 and 10 each empty the buffer"


@pytest.mark.parametrize("embedding, code", [(True, 7), (False, 6)])
def test_what_is_attended_to(script, small, embedding, code):
    """11 is in the short window until frame 17, and counts once; its own code comes after that."""
    policy = DiveMem(replace(small, long_term_embedding=embedding))
    run = play(script, policy, until=17)
    window = {17: 0, 16: 1, 15: 2, 14: 3, 13: 4, 12: 5}
    assert run.attended(18) == {0: 6, 3: code, 11: code, **window}
    run = play(script, policy, until=13)
    assert run.attended(14) == {0: 6, 3: code, 8: 5, 9: 4, 10: 3, 11: 2, 12: 1, 13: 0}, "8, without the object, counts"
    assert 3 in run.pointed(18) and 3 not in play(script, DiveMem(small), until=19).pointed(20), (
        "no pointers of their own"
    )


def test_the_window_may_be_pruned(script, small):
    run = play(script, DiveMem(small, FramePruning()), until=17)
    assert run.attended(18) == {0: 6, 3: 6, 11: 6, 17: 0, 14: 3, 13: 4, 12: 5}, "15 and 16 are nearest to 17"


def test_the_oldest_long_term_frame_gives_way_and_the_prompted_ones_never(script, small):
    run = script(DiveMem(small))
    run.prompt(0)
    for frame in range(1, 41):
        run.track(frame, 0.99, image=frame % 2)  # likes are told apart by the order alone
    held = run.held("long_term")
    assert len(held) == 4 and held[0] > 20, "four of eight"
    assert 0 in run.attended(41)


def test_a_late_prompt_forgets_what_is_not_older(script, small):
    run = play(script, DiveMem(small), until=13)
    run.prompt(9)
    assert run.held("long_term") == [3] and run.held("buffer") == []
    run = play(script, DiveMem(small), until=12)
    run.prompt(9)
    assert run.held("long_term") == [3] and run.held("buffer") == [6]
    assert run.attended(13) == {0: 6, 9: 6, 3: 6, 7: 5, 8: 4, 10: 2, 11: 1, 12: 0}


def test_a_frame_that_is_tracked_again_is_no_second_candidate(script, small):
    run = play(script, DiveMem(small), until=4)
    run.track(4, 0.99, image=30)
    assert run.held("buffer") == [1, 2, 3, 4] and run.held("long_term") == []
