"""What policies cost, on a small model whose numbers can be worked by hand."""

from __future__ import annotations

import pytest

from sam2s_model.bench.memory_costs import costs, print_costs, published_growth, step_ms
from sam2s_model.config import POLICY_NAMES, ModelConfig
from sam2s_model.errors import ConfigError
from sam2s_model.network.model import Sam2Model

PLACES = 4 * 4  # at 64 px; a memory is 32 numbers for each, a pointer 96 numbers, which are 3 tokens


@pytest.fixture(scope="module")
def pico():
    return Sam2Model(ModelConfig.from_name("sam2s_pico"), 64).eval().requires_grad_(False)


def test_keys_and_bytes_of_a_full_memory(pico):
    found = {cost.policy: cost for cost in costs(pico)}
    assert list(found) == [name for name in POLICY_NAMES if name != "slm"], "pico has no second attention"
    keys = {name: cost.keys for name, cost in found.items()}
    pointers = 3 * 16  # the prompted one and the 15 newest
    assert (
        keys["none"] == 0 and keys["fifo"] == (1 + 6) * PLACES + pointers and keys["efp"] == (1 + 4) * PLACES + pointers
    )
    kept = 4 * PLACES  # long-term frames, without pointers
    assert keys["divemem"] == keys["fifo"] + kept and keys["divemem+efp"] == keys["efp"] + kept
    assert found["efp"].object_bytes == found["fifo"].object_bytes < found["divemem"].object_bytes
    assert found["none"].object_bytes < found["fifo"].object_bytes


def test_published_growth(pico):
    """A memory of 32 numbers in bf16 for each place, and 16 logits in fp32."""
    assert published_growth(pico) == PLACES * (32 * 2 + 16 * 4)


def test_times_of_steps(pico):
    found = step_ms(pico, ["fifo", "slm", "none"], 2)
    assert list(found) == ["fifo", "none"] and all(ms > 0 for ms in found.values())


def test_what_is_no_policy_is_refused_and_one_that_the_model_cannot_run_is_said(pico, capsys):
    with pytest.raises(ConfigError, match="policy is 'fifoo': expected auto, .*did you mean fifo"):
        print_costs("sam2s_pico", [64], ["fifo", "fifoo"], 0, "fp32")
    with pytest.raises(ConfigError, match="sam2s_pico can run no policy of slm"):
        print_costs("sam2s_pico", [64], ["slm"], 0, "fp32")
    assert capsys.readouterr().out == ""
    print_costs("sam2s_pico", [64], ["none", "slm"], 0, "fp32")
    said = capsys.readouterr().out
    assert "\n| none | 0 | " in said and "\nLeft out, as sam2s_pico cannot run them: slm.\n" in said
