"""Results as JSON."""

from __future__ import annotations

import json
import math

import numpy as np

from deconrec.records import finite


def test_what_is_not_finite_is_null() -> None:
    given = {"a": [float("nan"), np.float32(1.5), math.inf], "b": (1, "x"), "c": {"d": np.float64("-inf")}}
    assert finite(given) == {"a": [None, 1.5, None], "b": [1, "x"], "c": {"d": None}}


def test_numbers_are_plain() -> None:
    """json refuses numpy's; a count stays a whole number."""
    assert json.dumps(finite([np.int64(3), np.float32(0.5), True])) == "[3, 0.5, true]"
