"""What holds for every policy, whatever it sees: bounds, prompted frames protected, order, objects independent."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st

from sam2s_model.config import MODELS, TrackerConfig
from sam2s_model.errors import ConfigError
from sam2s_model.tracking.memory import POLICIES, BankView, choose_policy, create_policy
from sam2s_model.tracking.policies import PRUNING

REMEMBERING = [name for name in POLICIES if name != "none"]
CONDITIONING = 3
SCORES = st.tuples(
    st.sampled_from([0.1, 0.45, 0.6, 0.85, 0.97, 0.99]),  # predicted IoU
    st.sampled_from([-4.0, 0.5, 5.0]),  # object logit
    st.sampled_from([0, 10, 20, 45, 80]),  # angle of the memory
)
STEPS = st.lists(st.tuples(st.lists(SCORES, min_size=3, max_size=3), st.integers(0, 90)), min_size=1, max_size=30)


def make(name, small, **options):
    return create_policy(name, replace(small, short_attention=name == "slm"), TrackerConfig(**options))


def play(run, steps, prompts):
    """Three objects; prompts: row -> later frames on which it is prompted again."""
    for row in range(3):
        run.prompt(0, row)
    for frame, (scores, image) in enumerate(steps, start=1):
        iou, logit, memory = (list(values) for values in zip(*scores, strict=True))
        run.track(frame, iou, logit, memory, image)
        for row, frames in prompts.items():
            if frame in frames:
                run.prompt(frame, row, memory[row], image)


@pytest.mark.parametrize("name", REMEMBERING)
@settings(max_examples=12)
@given(steps=STEPS, again=st.sets(st.integers(1, 30), max_size=CONDITIONING - 1), order=st.permutations(range(3)))
def test_what_every_policy_promises(script, small, name, steps, again, order):
    policy = make(name, small)
    run, shuffled = script(policy, 3, CONDITIONING), script(policy, 3, CONDITIONING)
    play(run, steps, {0: again})
    play(shuffled, [([scores[i] for i in order], image) for scores, image in steps], {order.index(0): again})
    now = len(steps) + 1
    chosen = policy.select(BankView(run.bank, slice(0, 3)), now)
    assert chosen.spatial.columns.shape[1] <= CONDITIONING + policy.max_frames
    assert len(run.bank.frames[0]) == run.bank.layout.spatial_slots
    for row in range(3):
        attended = run.attended(now, row)
        prompted = {0, *(frame for frame in again if frame < now)} if row == 0 else {0}
        assert all(attended[frame] == policy.prompted_code for frame in prompted), "prompted frames are never left out"
        assert now - 1 in attended, "the newest is there"
        window = sorted((code, now - frame) for frame, code in attended.items() if code < policy.prompted_code)
        assert len({code for code, _ in window}) == len(window) and [a for _, a in window] == sorted(
            a for _, a in window
        )
        assert shuffled.attended(now, order.index(row)) == attended, "an object's row says nothing"


@pytest.mark.parametrize("name", REMEMBERING)
def test_a_view_of_some_rows_decides_as_one_of_all(script, small, name):
    run = script(make(name, small), 3)
    steps = [([(0.97, 5.0, 10 * (frame % 7)), (0.3, 5.0, 0), (0.97, -4.0, 50)], frame) for frame in range(1, 15)]
    play(run, steps, {})
    policy, now = run.policy, 15
    for rows in ([1], [2, 0]):
        chosen = policy.select(BankView(run.bank, rows), now).spatial
        for place, row in enumerate(rows):
            allowed = slice(None) if chosen.allowed is None else chosen.allowed[place]
            assert set(run.bank.frames[row, chosen.columns[place][allowed]].tolist()) == set(run.attended(now, row))


def endure(run, steps: int, seed: int) -> None:
    """Objects come, go, hide and are prompted, at random; what is allocated and attended to is bounded, and stays."""
    rng, bank, policy = random.Random(seed), run.bank, run.policy
    for row in range(4):
        run.prompt(0, row)
    next_id, bytes_held, settled = 10, 0, 0
    hidden: set[int] = set()
    for frame in range(1, steps + 1):
        event = rng.random()
        if event < 0.02 and len(bank) < 8:
            run.prompt(frame - 1, bank.add(next_id), memory=rng.uniform(0, 90))
            next_id += 1
        elif event < 0.04 and len(bank) > 1:
            bank.remove(rng.choice(bank.ids))
        elif event < 0.1:
            hidden ^= {rng.choice(bank.ids)}
        hidden &= set(bank.ids)
        n = len(bank)
        chosen = policy.select(BankView(bank, slice(0, n)), frame)
        assert chosen.spatial.columns.shape[1] <= bank.layout.conditioning + policy.max_frames
        assert chosen.pointer_columns.shape[1] <= bank.layout.pointer_slots
        run.track(
            frame,
            iou=[rng.uniform(0.2, 1.0) for _ in range(n)],
            logit=[-3.0 if i in hidden else 3.0 for i in bank.ids],
            memory=[rng.uniform(0, 90) for _ in range(n)],
            image=rng.uniform(0, 90),
            box=(4, 4, 4 + rng.randint(1, 8), 9),
        )
        if event > 0.98:
            run.prompt(frame, rng.randrange(n))
        if frame == steps // 4:
            gc.collect()
            bank.reserve(8)
            bytes_held, settled = bank.memory_bytes(), len(gc.get_objects())
    assert bank.memory_bytes() == bytes_held == 8 * bank.layout.bytes_per_object(4)
    gc.collect()
    assert len(gc.get_objects()) < 1.01 * settled
    assert all(torch.isfinite(t[: len(bank)]).all() for t in (bank.spatial, bank.pointers))


@pytest.mark.parametrize("name", REMEMBERING)
def test_nothing_grows_in_80_steps(script, small, name):
    endure(script(make(name, small), 4), 80, seed=1)


@pytest.mark.full
@pytest.mark.parametrize("name", REMEMBERING)
def test_p25_nothing_grows_in_20000_steps(script, small, name):
    endure(script(make(name, small), 4), 20_000, seed=2)


def test_names_are_known_without_torch():
    seen = "import sys; from sam2s_model.config import POLICY_NAMES; print(*POLICY_NAMES, 'torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True).stdout.split()
    assert shown == [*POLICIES, "False"]


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_prunes_what_the_option_says_or_refuses_it(small, name):
    if name in PRUNING:
        assert type(make(name, small, pruning="efp").pruning).__name__ == "FramePruning"
        return
    with pytest.raises(ConfigError, match=rf"pruning is 'efp', and policy '{name}' prunes nothing: expected policy or"):
        make(name, small, pruning="efp")
    assert make(name, small, pruning="none") == make(name, small)


def test_pruning_is_an_option_of_policies_with_a_complete_window(script, small):
    assert make("divemem", small, pruning="efp") == make("divemem+efp", small)
    assert make("fifo", small, pruning="tsms") == make("tsms", small)
    assert make("efp", small, pruning="none") == make("fifo", small)


def test_which_policy_a_checkpoint_runs(small):
    both = replace(small, short_attention=True)
    cases = (True, small), (False, small), (True, both), (True, MODELS["sam2s_nano"])
    assert [choose_policy("auto", *case) for case in cases] == ["fifo", "match", "slm", "match"]
    with pytest.raises(ConfigError, match="policy is 'lifo': expected auto, fifo, efp, divemem"):
        choose_policy("lifo", True, small)
    with pytest.raises(ConfigError, match="policy is 'efp', but the checkpoint has no trained memory"):
        choose_policy("efp", False, small)
