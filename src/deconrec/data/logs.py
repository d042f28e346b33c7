"""One log, read batch by batch: ids become codes at once, and every rule for doubtful rows is checked on the way.

A table in memory and a file larger than memory take this one path, so both are refused in the same words. What is
kept of a row is 4 bytes for each of user, item and rating, and 8 for a timestamp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from deconrec.data.coder import Coder
from deconrec.data.dataset import Unrated
from deconrec.data.explain import not_among, shown
from deconrec.data.ids import Vocabulary, normalise_ids, refuse_empty
from deconrec.data.tables import open_batches, text_ids
from deconrec.errors import DataError

GAPS = ("", "na", "n/a", "nan", "null", "none", "-")  # what tables write for "no rating", in small letters


@dataclass
class Coded:
    """A column of ids: the distinct ones, and of each row the position among them, in batches."""

    ids: pl.Series
    codes: list[np.ndarray]

    def at(self, row: int) -> Any:
        """The id of a row."""
        for codes in self.codes:
            if row < len(codes):
                return self.ids[int(codes[row])]
            row -= len(codes)
        raise IndexError(row)

    def of(self, vocabulary: Vocabulary) -> np.ndarray:
        """(n,) int32 codes in a vocabulary; the batches are given up on the way."""
        table = vocabulary.encode(self.ids)
        return _joined(self.codes, np.int32, table)


@dataclass
class RawLog:
    """A log whose ids have no vocabulary yet.

    Attributes
    ----------
    user, item: the columns of ids.
    rating: (n,) float32, finite.
    timestamp: (n,) int64 or None.
    propensity: (n,) float64 in (0, 1], or None.
    dropped: rows without a rating that were left out.
    """

    user: Coded
    item: Coded
    rating: np.ndarray
    timestamp: np.ndarray | None
    propensity: np.ndarray | None
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.rating)


def _joined(batches: list[np.ndarray], dtype: type, table: np.ndarray | None = None) -> np.ndarray:
    """Batches as one read-only array, through a table of codes where one is given; the list is emptied."""
    out: np.ndarray = np.empty(sum(map(len, batches)), dtype)
    start = 0
    for k, values in enumerate(batches):
        batches[k] = np.empty(0, values.dtype)
        out[start : start + len(values)] = values if table is None else table[values]
        start += len(values)
    batches.clear()
    out.flags.writeable = False
    return out


def read_log(
    source: Any,
    who: str,
    roles: Mapping[str, str],
    *,
    delimiter: str = ",",
    rating_range: tuple[float, float] | None = None,
    unrated: Unrated = "error",
) -> RawLog:
    """A log from a table or file of any kind that `open_batches` knows.

    Parameters
    ----------
    who: "biased", "unbiased" or "test", for messages.
    roles: the columns of user, item, rating, timestamp and propensity (the last two may be absent).
    unrated: a row whose rating is null or NaN (in a text column also one of `GAPS`): an error, or dropped and counted.

    Raises
    ------
    MissingData: the file does not exist.
    DataError: the file or object is no table; a missing column; an empty id, or one that is neither text nor a whole
        number; a rating that is no finite number or out of range; a timestamp that is neither number nor date;
        a propensity outside (0, 1].
    """
    batches = open_batches(source, f"the {who} log", delimiter=delimiter)
    missing = [roles[r] for r in ("user", "item", "rating") if roles[r] not in batches.columns]
    if missing:
        advice = batches.hint or (
            "Name yours with columns={'user': ..., 'item': ..., 'rating': ...}, a [columns] table of the data file, or "
            "--user, --item and --rating of `deconrec data convert`."
        )
        raise DataError(
            f"the {who} log needs the columns {', '.join(shown(roles[r]) for r in ('user', 'item'))} and "
            f"{shown(roles['rating'])}; "
            f"{not_among(missing, batches.columns)}. {advice}{_other_shape(batches.columns, missing, roles)}"
        )
    present = [
        role
        for role in ("user", "item", "rating", "timestamp", "propensity")
        if roles.get(role) in batches.columns
    ]
    reader = _Reader(who, roles, rating_range, present, drop=unrated == "drop")
    wanted = list(dict.fromkeys(roles[role] for role in present))
    for batch in batches.read(wanted, (roles["user"], roles["item"])):
        reader.add(batch)
    return reader.finish(batches.text)


def _other_shape(columns: list[str], missing: list[str], roles: Mapping[str, str]) -> str:
    """A sentence for a log without ratings that seems to be of another shape, or ""."""
    if any("click" in name.lower() for name in columns):
        return (
            " A table of clicks and conversions, clicked or not, is a log of impressions: name its columns under "
            "[impressions] in a data file, or use Dataset.from_impressions."
        )
    if missing == [roles["rating"]]:
        return (
            " A log of clicks or purchases alone has no ratings: write what was shown and not taken as 0 and the rest "
            "as 1, or give a column of ones and rank by exposures (protocol 'users')."
        )
    return ""


class _Reader:
    """What is known of a log so far; problems are counted, and told when all rows were seen."""

    def __init__(
        self,
        who: str,
        roles: Mapping[str, str],
        rating_range: tuple[float, float] | None,
        present: list[str],
        drop: bool = False,
    ) -> None:
        self.who, self.roles, self.range, self.drop = who, roles, rating_range, drop
        self.rows = self.dropped = 0
        self.coders = {kind: Coder(f"the {who} log's {kind}") for kind in ("user", "item")}
        self.codes: dict[str, list[np.ndarray]] = {"user": [], "item": []}
        self.rating: list[np.ndarray] = []
        self.stamp: list[np.ndarray] | None = [] if "timestamp" in present else None
        self.propensity: list[np.ndarray] | None = [] if "propensity" in present else None
        self.not_finite = _Problem()
        self.no_chance = _Problem()
        self.out_of_range = _Problem()
        self._numbers = _Numbers(f"the {who} log's '{roles['rating']}'")
        self._times = _Times(who)

    def add(self, batch: pl.DataFrame) -> None:
        if self.drop:
            rated = _rated(batch, self.roles["rating"])
            self.dropped += len(batch) - len(rated)
            batch = rated
        for kind, coder in self.coders.items():
            self.codes[kind].append(coder.encode(batch[self.roles[kind]]))
        rating = self._numbers.of(batch[self.roles["rating"]])
        self.rating.append(np.array(rating))  # a copy: a view would hold on to the batch that it came in
        self.not_finite.note(~np.isfinite(rating), self.rows, rating)
        if self.range is not None:
            low, high = self.range
            self.out_of_range.note((rating < low) | (rating > high), self.rows, rating)
        if self.stamp is not None:
            self.stamp.append(self._times.of(batch[self.roles["timestamp"]]))
        if self.propensity is not None:
            given = batch[self.roles["propensity"]]
            if given.dtype.is_nested() or given.dtype.is_temporal():
                raise DataError(
                    f"the {self.who} log's '{self.roles['propensity']}' must be propensities in (0, 1]; got "
                    f"{given.dtype}. Name another column as the propensity in [columns]."
                )
            p = given.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
            self.no_chance.note(~((p > 0) & (p <= 1)), self.rows, given)
            self.propensity.append(np.array(p))
        self.rows += len(batch)

    def finish(self, text: bool) -> RawLog:
        columns = {}
        for kind, coder in self.coders.items():
            ids = coder.distinct()
            if text:  # of a text file that quotes everything, a gap is empty text in quotes
                blank = np.flatnonzero((ids.cast(pl.String) == "").fill_null(False).to_numpy())
                refuse_empty(
                    sum(int(np.isin(c, blank).sum()) for c in self.codes[kind]), self.rows, coder.kind
                )
            columns[kind] = Coded(normalise_ids(text_ids(ids) if text else ids, coder.kind), self.codes[kind])
        user, item = columns["user"], columns["item"]
        self._numbers.check()
        self._times.check()
        if bad := self.not_finite:
            raise DataError(
                f"the {self.who} log's ratings must be finite numbers; {bad.count:,} of {self.rows:,} are null, "
                f"NaN or infinite (first: user {user.at(bad.first)!r}, item {item.at(bad.first)!r}). An "
                "unrated pair has no row: drop these rows, or have it done with unrated='drop' (--unrated drop, or "
                "[log] unrated in a data file)."
            )
        if bad := self.out_of_range:
            assert self.range is not None
            raise DataError(
                f"the {self.who} log's ratings must lie in [{self.range[0]:g}, {self.range[1]:g}]; {bad.count:,} of "
                f"{self.rows:,} do not (first: {bad.value:g} of user {user.at(bad.first)!r}, item "
                f"{item.at(bad.first)!r}). Correct the rows or `rating_range`."
            )
        if bad := self.no_chance:
            raise DataError(
                f"the {self.who} log's '{self.roles['propensity']}' must be propensities in (0, 1]; {bad.count:,} of "
                f"{self.rows:,} are not (first: {shown(bad.value)}). Correct the rows, or name another column as the "
                "propensity in [columns]."
            )
        return RawLog(
            user,
            item,
            _joined(self.rating, np.float32),
            None if self.stamp is None else _joined(self.stamp, np.int64),
            None if self.propensity is None else _joined(self.propensity, np.float64),
            self.dropped,
        )


def _rated(batch: pl.DataFrame, column: str) -> pl.DataFrame:
    """The rows with a rating; text that says that there is none is a gap, and the rest then numbers again."""
    values = batch[column]
    if values.dtype == pl.String:
        values = values.set(values.str.strip_chars().str.to_lowercase().is_in(GAPS).fill_null(False), None)
        numbers = values.cast(pl.Float64, strict=False)
        if numbers.null_count() == values.null_count():
            values = numbers
    if values.dtype.is_float():
        values = values.fill_nan(None)
    return batch.with_columns(values).filter(values.is_not_null())


class _Problem:
    """Rows that break one rule: how many, and the first."""

    def __init__(self) -> None:
        self.count, self.first, self.value = 0, -1, None

    def __bool__(self) -> bool:
        return self.count > 0

    def note(self, bad: np.ndarray, start: int, values: Any) -> None:
        """Count the rows of a batch that begins at row `start`."""
        if bad.any():
            if not self.count:
                k = int(bad.argmax())
                self.first, self.value = start + k, values[k]
            self.count += int(bad.sum())


class _Numbers:
    """A column of ratings: numbers, or true and false, but not both."""

    def __init__(self, who: str) -> None:
        self.who = who
        self.boolean: bool | None = None
        self.text: str | None = None

    def of(self, values: pl.Series) -> np.ndarray:
        """(n,) float32, NaN where there is no number."""
        if values.null_count() == len(values):  # an empty column has no type
            return np.full(len(values), np.nan, np.float32)
        if values.dtype == pl.String:  # one word among numbers makes text of a column: that word is at fault
            words = values.filter(values.cast(pl.Float64, strict=False).is_null() & values.is_not_null())
            if len(words):
                raise self._refused(f"String (first: {shown(words[0])})")
            self.text = self.text or values.drop_nulls()[0]
            return np.full(len(values), np.nan, np.float32)
        boolean = values.dtype == pl.Boolean
        if not (boolean or values.dtype.is_numeric()):
            raise self._refused(f"{values.dtype} (first: {shown(values.drop_nulls()[0])})")
        if self.boolean not in (None, boolean):
            raise self._refused("numbers beside true and false")
        self.boolean = boolean
        numbers = values.cast(pl.Float32, strict=False)
        return (numbers.fill_null(float("nan")) if numbers.null_count() else numbers).to_numpy()

    def check(self) -> None:
        """Refuse numbers that are text."""
        if self.text is not None:
            raise self._refused(f"String (first: {shown(self.text)})")

    def _refused(self, found: str) -> DataError:
        return DataError(
            f"{self.who} must hold numbers; got {found}. Correct the rows, or name the column that holds the ratings."
        )


def timestamps(values: pl.Series, who: str) -> np.ndarray:
    """(n,) int64 timestamps: numbers as they are, dates in microseconds.

    Raises
    ------
    DataError: text that is no date, another type, an empty value.
    """
    times = _Times(who)
    stamps = times.of(values)
    times.check()
    return stamps


class _Times:
    """A column of timestamps: numbers as they are, dates as microseconds."""

    def __init__(self, who: str) -> None:
        self.who, self.rows = who, 0
        self.textual: bool | None = None
        self.no_time, self.no_date = _Problem(), _Problem()

    def of(self, values: pl.Series) -> np.ndarray:
        """(n,) int64, 0 where there is none."""
        if values.dtype.is_float():
            values = values.fill_nan(None)
        stamps = self._read(values)
        gaps = (stamps.is_null() & values.is_null()).to_numpy()
        other = stamps.is_null().to_numpy() & ~gaps
        self.no_date.note(other, self.rows, values)
        self.no_time.note(gaps, self.rows, values)
        self.rows += len(values)
        return np.array(stamps.fill_null(0).to_numpy())

    def check(self) -> None:
        """Refuse what is no time."""
        if bad := self.no_date:
            raise DataError(
                f"the {self.who} log's timestamps must be numbers of 64 bits or ISO dates; {bad.count:,} of "
                f"{self.rows:,} are neither (first: {shown(bad.value)}). Correct the rows, or name "
                "another column as the timestamp."
            )
        if bad := self.no_time:
            raise DataError(
                f"the {self.who} log's timestamps must not be empty; {bad.count:,} of {self.rows:,} are. Fill or drop "
                "these rows, or name no such column."
            )

    def _read(self, values: pl.Series) -> pl.Series:
        """(n,) int64, null where there is none."""
        if values.null_count() == len(values):
            return pl.Series([None], dtype=pl.Int64).new_from_index(0, len(values))
        textual = values.dtype == pl.String
        if self.textual not in (None, textual):  # dates beside numbers
            return pl.Series([None], dtype=pl.Int64).new_from_index(0, len(values))
        self.textual = textual
        if textual:
            try:
                values = values.str.to_datetime(time_unit="us", strict=False).dt.epoch("us")
            except pl.exceptions.PolarsError:  # the first one is no date: no format was found
                return pl.Series([None], dtype=pl.Int64).new_from_index(0, len(values))
        elif values.dtype.is_temporal():
            values = values.cast(pl.Datetime("us")).dt.epoch("us")
        elif not values.dtype.is_numeric():
            raise DataError(f"the {self.who} log's timestamps must be numbers or dates; got {values.dtype}.")
        return values.cast(pl.Int64, strict=False)
