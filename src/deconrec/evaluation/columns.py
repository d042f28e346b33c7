"""The checks that every metric makes of its input columns, so that each is worded once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deconrec.errors import DataError


def column(who: str, name: str, values: ArrayLike, length: int | None = None) -> NDArray[Any]:
    """`values` as a one-dimensional array; DataError unless it has `length` rows (where one is given)."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise DataError(
            f"{who} expects `{name}` as one column; got an array of shape {array.shape}: flatten it."
        )
    if length is not None and len(array) != length:
        raise DataError(
            f"{who} expects columns of equal length; `{name}` has {len(array)} rows and the first column "
            f"{length}: pass one value per row."
        )
    return array


def finite(who: str, name: str, values: ArrayLike, length: int | None = None) -> NDArray[np.floating]:
    """A column of finite floats (single precision stays single); DataError counts those that are not."""
    array = floating(column(who, name, values, length))
    bad = len(array) - np.count_nonzero(np.isfinite(array))
    if bad:
        raise DataError(
            f"{who} expects finite values in `{name}`; {bad} of {len(array)} are NaN or infinite: "
            "repair the model or drop these rows."
        )
    return array


def integer(who: str, name: str, values: ArrayLike, length: int | None = None) -> NDArray[np.integer]:
    """A column of integer codes; DataError for any other type (an empty column may have any)."""
    array = column(who, name, values, length)
    if not len(array):
        return array.astype(np.int64)
    if not np.issubdtype(array.dtype, np.integer):
        raise DataError(
            f"{who} expects integer codes in `{name}`; got {array.dtype}: encode the raw ids first."
        )
    return array


def binary(who: str, name: str, values: ArrayLike, length: int | None = None) -> NDArray[np.bool_]:
    """A column of 0 and 1 as booleans; DataError for anything else, ratings and -1/+1 labels included."""
    array = column(who, name, values, length)
    if array.dtype == np.bool_:
        return array
    truth: NDArray[np.bool_] = array == 1
    bad = len(array) - np.count_nonzero(truth | (array == 0))
    if bad:
        raise DataError(
            f"{who} expects 0 or 1 in `{name}`; {bad} of {len(array)} are neither: binarise them first."
        )
    return truth


def share(who: str, name: str, values: ArrayLike, length: int | None = None) -> NDArray[np.float64]:
    """A column of numbers in [0, 1], in double precision; DataError counts those outside."""
    array = finite(who, name, values, length).astype(np.float64, copy=False)
    bad = np.count_nonzero((array < 0) | (array > 1))
    if bad:
        raise DataError(
            f"{who} expects numbers from 0 to 1 in `{name}`; {bad} of {len(array)} lie outside: "
            "pass probabilities, not logits or ratings."
        )
    return array


def floating(array: NDArray[Any]) -> NDArray[np.floating]:
    """The array itself where it holds floats, else a copy in double precision."""
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)
