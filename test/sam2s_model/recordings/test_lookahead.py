"""Each frame with the one after it, of a recording that is read once."""

from __future__ import annotations

import pytest

from sam2s_model.recordings.lookahead import with_next


def test_each_comes_with_the_next_and_no_more_is_read():
    read = []
    pairs = with_next(read.append(i) or i + 10 for i in range(3))
    assert read == [] and next(pairs) == (10, 11) and read == [0, 1]
    assert list(pairs) == [(11, 12), (12, None)]
    assert list(with_next([])) == []


def test_what_cannot_be_read_is_raised_when_what_came_before_is_done():
    def broken():
        yield 1
        yield 2
        raise OSError("the file ends here")

    pairs = with_next(broken())
    assert next(pairs) == (1, 2) and next(pairs) == (2, None)
    with pytest.raises(OSError, match="ends here"):
        next(pairs)
