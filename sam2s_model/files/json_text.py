"""Figures as JSON, which has no NaN: what is not known is null there."""

from __future__ import annotations

import json
import math
from typing import Any


def json_text(figures: Any) -> str:
    """Write tables and lists as indented JSON, a number that is not finite as null, with a line's end."""
    return json.dumps(_known(figures), indent=1, allow_nan=False) + "\n"


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _known(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_known(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
