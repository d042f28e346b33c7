"""What a row of an impression log says beside its user and item: categories and numbers, encoded once.

A category that the log knows has a place of its own in one table of all columns' categories; rare and unseen ones
share `BUCKETS` places a column, by a hash (CRC-32) that is the same on every machine; a gap has a place too. Numbers
are standardised on the log; a gap is 0, with an indicator beside it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from deconrec.errors import DataError

BUCKETS = 16  # NOTE places a column for rare and unseen categories
RARE = 3  # NOTE a category with fewer rows has no place of its own: its embedding would be noise
MAX_LEVELS = (
    50  # NOTE whole numbers with at most this many values are categories (an hour), with more numbers
)
LARGEST = (
    10.0  # NOTE standard deviations; beyond, a number is held there: one typing error must not rule a row
)

MISSING = -1  # code of a gap; code -2 - b is an unseen category of bucket b


def bucket(column: str, value: str) -> int:
    """The bucket, in [0, BUCKETS), of a category: the same in every process."""
    return zlib.crc32(f"{column}\x1f{value}".encode()) % BUCKETS


@dataclass(frozen=True, eq=False)
class Category:
    """A categorical column.

    Attributes
    ----------
    name: of the column.
    values: (K,) distinct strings of the log, sorted.
    counts: (K,) int64 rows of each, by weight.
    """

    name: str
    values: pl.Series
    counts: np.ndarray

    @property
    def common(self) -> np.ndarray:
        """(K,) bool: which values have a place of their own."""
        return self.counts >= RARE

    @property
    def size(self) -> int:
        """Places of the column: common values, buckets, and one for a gap."""
        return int(self.common.sum()) + BUCKETS + 1

    @property
    def places(self) -> np.ndarray:
        """(K,) int32 place of each value inside the column."""
        own = np.cumsum(self.common) - 1
        shared = int(self.common.sum())
        hashed = [shared + bucket(self.name, v) if not c else 0 for v, c in self._pairs()]
        return np.where(self.common, own, hashed).astype(np.int32)

    def _pairs(self) -> Sequence[tuple[str, bool]]:
        return list(zip(self.values.to_list(), self.common.tolist(), strict=True))

    def encode(self, column: pl.Series) -> np.ndarray:
        """(n,) int32 codes of a column's values."""
        text = as_text(column, self.name)
        distinct = text.drop_nulls().unique()
        known = pl.DataFrame({"value": self.values, "code": np.arange(len(self.values), dtype=np.int32)})
        table = pl.DataFrame({"value": distinct}).join(known, on="value", how="left")
        new = table.filter(pl.col("code").is_null())["value"].to_list()
        unseen = pl.DataFrame(
            {
                "value": pl.Series(new, dtype=pl.String),
                "code": pl.Series([-2 - bucket(self.name, v) for v in new], dtype=pl.Int32),
            }
        )
        table = pl.concat([table.filter(pl.col("code").is_not_null()), unseen])
        if not len(table):
            return np.full(len(text), MISSING, np.int32)
        codes = text.replace_strict(table["value"], table["code"], default=None, return_dtype=pl.Int32)
        return codes.fill_null(MISSING).to_numpy()

    def placed(self, codes: np.ndarray) -> np.ndarray:
        """(n,) int32 places inside the column, in [0, size), of codes."""
        first = int(self.common.sum())
        table = np.concatenate([self.places, first + np.arange(BUCKETS)[::-1], [first + BUCKETS]])
        return table[codes].astype(np.int32)  # -1 is the last entry, -2 - b the one before it by b

    def decode(self, codes: np.ndarray) -> pl.Series:
        """Values of codes; null for a gap, and for what was unseen."""
        if not len(self.values):
            return pl.Series(self.name, [None] * len(codes), dtype=pl.String)
        found = self.values.gather(np.maximum(codes, 0).astype(np.int64))
        return found.zip_with(pl.Series(codes >= 0), pl.Series([None] * len(codes), dtype=pl.String)).alias(
            self.name
        )


@dataclass(frozen=True)
class Number:
    """A numeric column, and its mean and deviation (1 where constant) over the rows that have it."""

    name: str
    mean: float
    std: float


@dataclass(frozen=True, eq=False)
class Schema:
    """The columns of a context, in the order of the log.

    Attributes
    ----------
    categories, numbers: the columns of either kind.
    """

    categories: tuple[Category, ...] = ()
    numbers: tuple[Number, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All columns: categories, then numbers."""
        return (*(c.name for c in self.categories), *(n.name for n in self.numbers))

    @property
    def n_places(self) -> int:
        """Rows of the table of all categories."""
        return sum(c.size for c in self.categories)

    @property
    def n_inputs(self) -> int:
        """Numeric inputs: a number and an indicator of its gap a column."""
        return 2 * len(self.numbers)

    @classmethod
    def of(
        cls,
        table: pl.DataFrame,
        columns: Sequence[str],
        categorical: Sequence[str],
        who: str,
        weight: np.ndarray | None = None,
    ) -> Schema:
        """The schema of a log's context columns; a row with a weight (n,) counts that many times.

        Raises
        ------
        DataError: a column without any value, or of a type that is neither category nor number.
        """
        w = np.ones(len(table)) if weight is None else weight.astype(np.float64)
        categories, numbers = [], []
        for name in columns:
            column = table[name]
            if column.null_count() == len(column):
                raise DataError(
                    f"{who}: the context column '{name}' must hold a value; all of its rows are empty. Leave it out."
                )
            if name in categorical or is_category(column, who):
                rows = pl.DataFrame({"value": as_text(column, name), "n": w}).drop_nulls("value")
                counted = rows.group_by("value").agg(pl.col("n").sum()).sort("value")
                counts = np.rint(counted["n"].to_numpy()).astype(np.int64)
                categories.append(Category(name, counted["value"], counts))
            else:
                x = as_number(column, name).astype(np.float64)
                there = np.isfinite(x)
                if not there.any():
                    raise DataError(
                        f"{who}: the context column '{name}' must hold a finite number; got none. Leave it out."
                    )
                mean = float(np.average(x[there], weights=w[there]))
                std = float(np.sqrt(np.average((x[there] - mean) ** 2, weights=w[there])))
                numbers.append(Number(name, mean, std if std > 1e-6 else 1.0))
        return cls(tuple(categories), tuple(numbers))

    def encode(self, table: pl.DataFrame, who: str) -> Context:
        """The context of a table's rows.

        Raises
        ------
        DataError: a column that is missing, or a text where a number was.
        """
        missing = [name for name in self.names if name not in table.columns]
        if missing:
            raise DataError(
                f"{who} must hold the context columns {', '.join(map(repr, self.names))}; "
                f"{', '.join(map(repr, missing))} not among {table.columns}. An unknown value may be empty."
            )
        codes = np.empty((len(table), len(self.categories)), np.int32)
        for k, category in enumerate(self.categories):
            codes[:, k] = category.encode(table[category.name])
        numbers = np.empty((len(table), len(self.numbers)), np.float32)
        for k, number in enumerate(self.numbers):
            numbers[:, k] = as_number(table[number.name], number.name)
        return Context(self, codes, numbers)

    def same(self, other: Schema) -> bool:
        """Whether codes mean the same."""
        return self is other or (
            self.to_dict() == other.to_dict()
            and all(
                a.values.equals(b.values) and np.array_equal(a.counts, b.counts)
                for a, b in zip(self.categories, other.categories, strict=True)
            )
        )

    # ------------------------------------------------------------------ saving
    def to_dict(self) -> dict[str, Any]:
        """Names and scales as JSON; the values stand in `frame`."""
        numbers = [{"name": n.name, "mean": n.mean, "std": n.std} for n in self.numbers]
        return {"categories": [c.name for c in self.categories], "numbers": numbers}

    def frame(self) -> pl.DataFrame:
        """Every category: column, value, count."""
        empty = pl.DataFrame(schema={"column": pl.String, "value": pl.String, "count": pl.Int64})
        parts = [
            pl.DataFrame({"value": c.values, "count": c.counts}).select(
                pl.lit(c.name).alias("column"), "value", pl.col("count").cast(pl.Int64)
            )
            for c in self.categories
        ]
        return pl.concat([empty, *parts])

    @classmethod
    def rebuilt(cls, about: Mapping[str, Any], frame: pl.DataFrame) -> Schema:
        """The inverse of `to_dict` and `frame`."""
        categories = []
        for name in about["categories"]:
            rows = frame.filter(pl.col("column") == name)
            categories.append(Category(name, rows["value"], rows["count"].to_numpy()))
        return cls(tuple(categories), tuple(Number(**n) for n in about["numbers"]))


@dataclass(frozen=True, eq=False)
class Context:
    """The context of n rows.

    Attributes
    ----------
    schema: the columns.
    codes: (n, C) int32, a value's position in its column; -1 a gap, -2 - b an unseen value of bucket b.
    numbers: (n, F) float32 as given; NaN where missing.
    """

    schema: Schema
    codes: np.ndarray
    numbers: np.ndarray

    def __post_init__(self) -> None:
        for array in (self.codes, self.numbers):
            array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: np.ndarray | slice) -> Context:
        """The context of these rows."""
        return Context(self.schema, self.codes[rows], self.numbers[rows])

    def places(self) -> np.ndarray:
        """(n, C) int32 rows of the table of all categories."""
        out, start = np.empty(self.codes.shape, np.int32), 0
        for k, category in enumerate(self.schema.categories):
            out[:, k] = start + category.placed(self.codes[:, k])
            start += category.size
        return out

    def inputs(self) -> np.ndarray:
        """(n, 2 F) float32: standardised numbers, 0 where missing, then 1 where missing."""
        mean = np.array([n.mean for n in self.schema.numbers], np.float32)
        std = np.array([n.std for n in self.schema.numbers], np.float32)
        gaps = ~np.isfinite(self.numbers)
        standard = np.clip((np.where(gaps, mean, self.numbers) - mean) / std, -LARGEST, LARGEST)
        return np.concatenate([standard, gaps.astype(np.float32)], axis=1).astype(np.float32)

    def joined(self, other: Context) -> Context:
        """These rows, then the others."""
        return Context(
            self.schema,
            np.concatenate([self.codes, other.codes]),
            np.concatenate([self.numbers, other.numbers]),
        )

    def frame(self) -> pl.DataFrame:
        """The columns as they were read (categories as text)."""
        columns = [c.decode(self.codes[:, k]) for k, c in enumerate(self.schema.categories)]
        for k, number in enumerate(self.schema.numbers):
            columns.append(pl.Series(number.name, self.numbers[:, k]).fill_nan(None))
        return pl.DataFrame(columns)


def is_category(column: pl.Series, who: str) -> bool:
    """Whether a column holds categories: text, booleans, or whole numbers of few values.

    Raises
    ------
    DataError: dates and other types.
    """
    kind = column.dtype
    if kind in (pl.String, pl.Categorical, pl.Enum, pl.Boolean):
        return True
    if kind.is_float():
        given = column.drop_nulls().drop_nans()
        if not len(given) or not (given.is_finite() & (given % 1 == 0)).all():
            return False
        return given.n_unique() <= MAX_LEVELS
    if kind.is_integer():
        return column.drop_nulls().n_unique() <= MAX_LEVELS
    raise DataError(
        f"{who}: the context column '{column.name}' must hold text, booleans or numbers; got {kind}. Make a date "
        "what matters of it (its hour, its weekday)."
    )


def as_text(column: pl.Series, name: str) -> pl.Series:
    """A categorical column as text, the same whether its file made 3 a number or a text; null for a gap."""
    if column.dtype.is_float():
        column = column.fill_nan(None)
        if (column.drop_nulls() % 1 == 0).all():
            column = column.cast(pl.Int64)
    if column.dtype == pl.Boolean:
        return column.cast(pl.Int8).cast(pl.String).replace({"1": "true", "0": "false"})
    return column.cast(pl.String)


def as_number(column: pl.Series, name: str) -> np.ndarray:
    """A numeric column as (n,) float32, NaN for a gap and for what is not finite.

    Raises
    ------
    DataError: text that is no number.
    """
    try:
        x = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"the context column '{name}' must hold numbers, as in the log; got {column.dtype} "
            f"(first: {column.drop_nulls()[0]!r})."
        ) from error
    with np.errstate(over="ignore"):
        out = x.astype(np.float32)
    return np.where(np.isfinite(out), out, np.float32("nan"))
