"""Results as JSON: no NaN, and plain Python numbers."""

from __future__ import annotations

import math
from typing import Any


def finite(value: Any) -> Any:
    """The same structure with None for every number that is not finite, and plain Python numbers."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, float) or (hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0):
        number = value.item() if hasattr(value, "item") else value
        return None if isinstance(number, float) and not math.isfinite(number) else number
    return value
