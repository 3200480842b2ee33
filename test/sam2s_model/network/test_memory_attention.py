"""The fast way through the memory attention equals the one that reads like the paper."""

from __future__ import annotations

import pytest
import torch

from sam2s_model.acceleration.attention import QUERIES, as_it_is, attend, attend_in_blocks, fastest, with_wide_values
from sam2s_model.network.memory_attention import KeyRotation, MemoryAttention, RotaryAttention, rotary_table


@pytest.mark.parametrize("key_dim, batch, masked", [(32, 3, True), (64, 2, False), (64, 1, True)])
def test_folded_projections_and_values_that_stay_as_they_are(key_dim, batch, masked):
    torch.manual_seed(0)
    attention = RotaryAttention(64, key_dim).requires_grad_(False)
    table = rotary_table(4, 5, 64)
    q, k, v = torch.randn(1, 20, 64), torch.randn(batch, 2 * 20 + 3, key_dim), torch.randn(batch, 2 * 20 + 3, key_dim)
    mask = torch.rand(batch, 1, 43) > 0.3 if masked else None
    turn = KeyRotation(table, 0, 3)
    with torch.enable_grad():
        plain = attention(q, k, v, table, turn, mask)
    with torch.no_grad():
        fast = attention(q, k, v, table, turn, mask)
    assert plain.shape == fast.shape == (batch, 20, 64)
    assert (plain - fast).abs().max() < 2e-6 * plain.abs().max()


@pytest.mark.parametrize("dtype, allowed", [(torch.float32, 1e-6), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("seen", [1, 2])
@pytest.mark.parametrize("at_once", [1, 1 << 30])
def test_blocks_of_queries(dtype, allowed, seen, at_once, monkeypatch):
    monkeypatch.setattr("sam2s_model.acceleration.attention.SCORES", at_once)
    torch.manual_seed(0)
    q, k, v = (torch.randn(b, n, d).to(dtype) for b, n, d in ((seen, 2 * QUERIES + 7, 32), (2, 90, 32), (2, 90, 16)))
    mask = torch.rand(2, 1, 90) > 0.5
    exact = attend(q.double(), k.double(), v.double(), mask)
    assert (attend_in_blocks(q, k, v, mask) - exact).abs().max() < allowed


def test_values_with_zeros_after_them_give_the_same():
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 9, 32), torch.randn(2, 50, 32), torch.randn(2, 50, 16)
    assert with_wide_values(q, k, v).shape == (2, 9, 16)
    torch.testing.assert_close(with_wide_values(q, k, v), as_it_is(q, k, v))


def test_the_fastest_way_is_measured_once():
    asked, kind = [], object()
    ways = (as_it_is, with_wide_values)

    def seconds(way):
        asked.append(way)
        return {as_it_is: 2e-3, with_wide_values: 1e-3}[way]

    assert [fastest(kind, ways, seconds=seconds) for _ in range(3)] == [with_wide_values] * 3 and asked == list(ways)
    assert fastest(object(), ways[::-1], seconds=lambda way: 1.0) is with_wide_values, "the first of equals"


def test_the_frame_is_seen_once_for_all_objects(monkeypatch):
    """What has not met an object's memory yet is a batch of one; the result is that of each object by itself."""
    torch.manual_seed(0)
    model = MemoryAttention(2, 32, 16, ffn_dim=64).requires_grad_(False)
    features, position, memory, place = (
        torch.randn(1, 12, 32),
        torch.randn(1, 12, 32),
        torch.randn(3, 26, 16),
        torch.randn(3, 26, 16),
    )
    allowed = torch.rand(3, 26) > 0.3
    seen, first = [], model.layers[0].self_attn
    monkeypatch.setattr(
        first, "_projected", lambda q, *rest: seen.append(len(q)) or RotaryAttention._projected(first, q, *rest)
    )
    with torch.no_grad():
        together = model(features, position, memory, place, allowed, (3, 4), 2)
    assert seen == [1]
    for i in range(3):
        alone = model(features, position, memory[i : i + 1], place[i : i + 1], allowed[i : i + 1], (3, 4), 2)
        assert torch.allclose(together[i], alone[0], atol=1e-5)
