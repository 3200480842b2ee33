"""Which frames of a recording make a clip: pure functions of a random generator."""

from __future__ import annotations

import numpy as np

from sam2s_model.errors import ConfigError

TSMS_STRIDES, TSMS_ODDS = (1, 2, 3), (0.8, 0.1, 0.1)  # TSMS-SAM2
LONG_TERM = 2  # frames of a DiveMem clip between the conditional one and the consecutive ones


def draw_indices(
    rng: np.random.Generator, how: str, frames: int, length: int, stride: int = 1, reverse: float = 0.0
) -> list[int]:
    """Draw `length` indices of a recording of `frames`.

    how: "vanilla", "tsms" or "divemem"; stride: most frames from one to the next, for vanilla
    reverse: probability of running backwards; the first index is then that of the latest frame
    Raises ConfigError for another `how`, or a recording without frames.
    """
    if frames < 1:
        raise ConfigError(f"a recording has {frames} frames: expected at least 1")
    if how == "vanilla":
        indices = vanilla(rng, frames, length, int(rng.integers(1, stride + 1)))
    elif how == "tsms":
        indices = tsms(rng, frames, length)
    elif how == "divemem":
        indices = divemem(rng, frames, length)
    else:
        raise ConfigError(f"sampling is {how!r}: expected vanilla, tsms or divemem")
    return [frames - 1 - i for i in indices] if rng.random() < reverse else indices


def vanilla(rng: np.random.Generator, frames: int, length: int, stride: int = 1) -> list[int]:
    """Draw evenly spaced frames. A recording that is too short takes a smaller stride, then runs to and fro."""
    stride = max(1, min(stride, (frames - 1) // max(1, length - 1)))
    span = stride * (length - 1)
    first = int(rng.integers(0, max(1, frames - span)))
    return [_to_and_fro(first + stride * i, frames) for i in range(length)]


def tsms(rng: np.random.Generator, frames: int, length: int) -> list[int]:
    """Multi-temporal-scale sampling (TSMS-SAM2): evenly spaced by 1, 2 or 3."""
    return vanilla(rng, frames, length, int(rng.choice(TSMS_STRIDES, p=TSMS_ODDS)))


def divemem(rng: np.random.Generator, frames: int, length: int = 8) -> list[int]:
    """SAM2S's clips: a conditional frame, two long-term ones drawn over what follows it, then consecutive ones.

    Shorter clips have fewer consecutive frames, and below 4 fewer long-term ones; see `roles`. A recording that is too
    short for distinct frames gives consecutive ones.
    """
    early = length - roles(length, "divemem").count("short")
    recent = length - early
    if frames < length:
        return vanilla(rng, frames, length)
    start = int(rng.integers(early, frames - recent + 1))
    before = np.sort(rng.choice(start, early, replace=False))
    return [int(i) for i in before] + list(range(start, start + recent))


def roles(length: int, how: str) -> tuple[str, ...]:
    """Say what the frames of a clip are to the last of them: "conditional", "long" or "short"."""
    long = min(LONG_TERM, max(0, length - 2)) if how == "divemem" else 0
    return ("conditional",) + ("long",) * long + ("short",) * (length - 1 - long)


def _to_and_fro(index: int, frames: int) -> int:
    period = max(1, 2 * (frames - 1))
    index %= period
    return index if index < frames else period - index
