"""Range checks of the simulators' parameters: one sentence, never a silent correction."""

from __future__ import annotations

import math
from numbers import Integral, Real

from deconrec.errors import ParameterError


def check_count(who: str, name: str, value: object, low: int, high: int | None = None) -> int:
    """A whole number in [low, high].

    Raises
    ------
    ParameterError: not a whole number, or outside.
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        count = int(value)
        if low <= count and (high is None or count <= high):
            return count
    wanted = f">= {low}" if high is None else f"in [{low}, {high}]"
    raise ParameterError(f"'{name}' of {who} must be a whole number {wanted}; got {value!r}.")


def check_number(
    who: str,
    name: str,
    value: object,
    low: float,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
    meaning: str = "",
) -> float:
    """A finite number from `low` to `high`, ends included unless open.

    `meaning` is added in brackets: what an end of the range stands for.

    Raises
    ------
    ParameterError: not a finite number, or outside.
    """
    if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
        number = float(value)
        above = number > low if open_low else number >= low
        below = number < high if open_high else number <= high
        if above and below:
            return number
    if math.isinf(high):
        wanted = f"{'>' if open_low else '>='} {low:g}"
    else:
        wanted = f"in {'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
    note = f" ({meaning})" if meaning else ""
    raise ParameterError(f"'{name}' of {who} must be a number {wanted}{note}; got {value!r}.")
