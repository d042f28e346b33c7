"""Raw ids in, raw ids out: the one place where codes and ids meet."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from deconrec.errors import DataError

CodeArray = np.ndarray  # (n,) int32 codes, -1 where unknown


class Vocabulary:
    """The raw ids of one side (users or items), sorted; the code of an id is its position.

    Parameters
    ----------
    values: ids, all strings or all 64-bit integers; made distinct and sorted here.
    kind: "user" or "item", for messages.
    """

    def __init__(self, values: pl.Series, kind: str) -> None:
        ids = normalise_ids(values, kind)
        self.kind = kind
        self.values: pl.Series = ids.unique().sort().alias(kind)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"Vocabulary({self.kind}, n={len(self)}, {self.values.dtype})"

    @property
    def is_text(self) -> bool:
        """Whether the ids are strings (otherwise 64-bit integers)."""
        return self.values.dtype == pl.String

    @cached_property
    def _sorted(self) -> np.ndarray:
        return self.values.to_numpy()

    @cached_property
    def _enum(self) -> pl.Enum:
        return pl.Enum(self.values)

    @cached_property
    def _table(self) -> np.ndarray | None:
        """Codes by `id - first id`, where the ids are close enough together for a table to be small."""
        if not len(self) or int(self._sorted[-1]) - int(self._sorted[0]) > 4 * len(self) + 1_000_000:
            return None
        table = np.full(int(self._sorted[-1]) - int(self._sorted[0]) + 1, -1, np.int32)
        table[self._sorted - self._sorted[0]] = np.arange(len(self), dtype=np.int32)
        return table

    def encode(self, raw: Any) -> CodeArray:
        """Codes of raw ids: (n,) int32, -1 where the id is not in the vocabulary.

        Ids of the other kind (integers for a vocabulary of strings, or strings of digits for integers) are
        converted, because a CSV file cannot say which it meant.

        Raises
        ------
        DataError: null ids, or a mix of strings and numbers.
        """
        ids = normalise_ids(as_series(raw, self.kind), self.kind)
        if not len(self):
            return np.full(len(ids), -1, np.int32)
        if self.is_text:
            codes = ids.cast(pl.String).cast(self._enum, strict=False).to_physical()
            return codes.cast(pl.Int32).fill_null(-1).to_numpy()
        numbers = ids.cast(pl.Int64, strict=False)
        known = numbers.is_not_null().to_numpy()
        wanted = numbers.fill_null(0).to_numpy()
        first, last = self._sorted[0], self._sorted[-1]
        if self._table is not None:
            known &= (wanted >= first) & (wanted <= last)
            return np.where(known, self._table[np.where(known, wanted - first, 0)], np.int32(-1))
        place = np.minimum(np.searchsorted(self._sorted, wanted), len(self) - 1)
        return np.where(known & (self._sorted[place] == wanted), place, -1).astype(np.int32)

    def decode(self, codes: np.ndarray) -> pl.Series:
        """Raw ids of codes, each in [0, n)."""
        return self.values.gather(np.asarray(codes, dtype=np.int64))

    def union(self, *others: pl.Series) -> Vocabulary:
        """The vocabulary of these ids and the others'."""
        return Vocabulary(pl.concat([self.values, *(normalise_ids(o, self.kind) for o in others)]), self.kind)

    def same(self, other: Vocabulary) -> bool:
        """Whether both hold the same ids, so that codes mean the same."""
        return self is other or (
            self.values.dtype == other.values.dtype
            and len(self) == len(other)
            and bool((self.values == other.values).all())
        )


def as_series(raw: Any, kind: str = "raw") -> pl.Series:
    """Any one-dimensional thing of ids as a polars series (`kind` is for messages).

    Raises
    ------
    DataError: a table, or a mix of strings and numbers.
    """
    try:
        series = _to_series(raw)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{kind} ids must be {_EXPECTED}; got {type(raw).__name__} of mixed or other kind."
        ) from error
    if series.dtype == pl.Object:
        raise DataError(f"{kind} ids must be {_EXPECTED}; got {type(raw).__name__} of mixed or other kind.")
    return series


_EXPECTED = "one column, all strings or all whole numbers"


def _to_series(raw: Any) -> pl.Series:
    if isinstance(raw, pl.Series):
        return raw
    if isinstance(raw, np.ndarray):
        # A list, because polars takes an object array for opaque objects.
        return pl.Series(raw.tolist() if raw.dtype.kind == "O" else raw)
    if isinstance(raw, str | int | np.integer):
        return pl.Series([raw])
    if hasattr(raw, "__arrow_c_array__"):
        return pl.Series(raw)
    is_pandas = type(raw).__module__.startswith("pandas") and hasattr(raw, "to_frame")
    if is_pandas or hasattr(raw, "__arrow_c_stream__"):
        import narwhals as nw

        try:
            column = raw.to_series() if hasattr(raw, "to_series") else raw  # pandas: an Index
            return nw.from_native(column, series_only=True).to_polars()
        except ImportError:  # pandas without pyarrow
            return pl.Series(np.asarray(raw).tolist())
    return pl.Series(list(raw) if isinstance(raw, Iterable) else [raw])


def normalise_ids(values: pl.Series, kind: str) -> pl.Series:
    """Ids as strings or 64-bit integers, without nulls.

    Whole floats (what a table with gaps makes of integers) become integers. Integers become strings where one of them
    is beyond 64 bits with a sign, as they do when they are read from text.

    Raises
    ------
    DataError: a null or NaN id, a fractional number, a float beyond 2^53 (where neighbouring ids fall together), or
        another type.
    """
    refuse_empty(values.null_count(), len(values), kind)
    if values.dtype.is_float():
        if not values.is_finite().all() or (values % 1 != 0).any():
            raise DataError(
                f"{kind} ids must be strings or whole numbers; got {values.dtype} with NaN or fractions."
            )
        exact = 2**53 if values.dtype == pl.Float64 else 2**24
        if (values.abs() > exact).any():
            raise DataError(
                f"{kind} ids must be exact; got {values.dtype} beyond {exact:,}, where neighbouring ids fall "
                "together. Give them as integers or strings."
            )
        return values.cast(pl.Int64)
    if values.dtype == pl.String:
        return values
    if values.dtype in (pl.Categorical, pl.Enum):
        return values.cast(pl.String)
    if values.dtype.is_integer():
        numbers = values.cast(pl.Int64, strict=False)
        return values.cast(pl.String) if numbers.null_count() else numbers
    if values.dtype == pl.Null and len(values) == 0:
        return values.cast(pl.Int64)
    raise DataError(f"{kind} ids must be strings or whole numbers; got {values.dtype}.")


def refuse_empty(empty: int, rows: int, kind: str) -> None:
    """Refuse a column with empty ids.

    Raises
    ------
    DataError.
    """
    if empty:
        raise DataError(f"{kind} ids must not be empty; {empty} of {rows} are null. Drop or fill these rows.")
