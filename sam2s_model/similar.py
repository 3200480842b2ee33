"""What was meant by a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LIKENESS = 0.6  # of difflib's ratio, 0 to 1, from which a name may be a slip of the hand


def meant(given: str, names: Iterable[str]) -> str:
    """Return " (did you mean NAME?)" with the name that is most like the given one; "" when none is.

    >>> meant("mach", ["fifo", "match"])
    ' (did you mean match?)'
    """
    known = {name.lower(): name for name in names}
    found = get_close_matches(given.lower(), known, n=1, cutoff=LIKENESS)
    return f" (did you mean {known[found[0]]}?)" if found else ""
