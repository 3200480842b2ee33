"""How many operations layers take: a multiplication with its addition are two. All costs are made of these."""

from __future__ import annotations

ZOOM = (16, 4)  # places at 4 and 2 times the resolution of the features, for each place of theirs


def linear(rows: int, d_in: int, d_out: int) -> int:
    """Count a linear layer on that many rows, or a 1x1 convolution on that many places."""
    return 2 * rows * d_in * d_out


def attention(queries: int, keys: int, dim: int) -> int:
    """Count both products of an attention, all heads together."""
    return 4 * queries * keys * dim


def windowed_attention(side: int, window: int, dim: int, padded: bool) -> int:
    """Count both products of an attention of a square grid's places to those in their own window.

    window: its side, in places; 0: one window is all of the grid
    padded: windows that reach over the edge are whole; otherwise they have the places that there are
    """
    window = window or side
    whole, rest = divmod(side, window)
    pairs = ((whole + bool(rest)) * window) ** 2 * window**2 if padded else (whole * window**2 + rest**2) ** 2
    return 4 * pairs * dim
