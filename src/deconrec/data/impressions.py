"""Impression logs: one row an impression, with a click, a conversion where it was clicked, and its context.

The post-click conversion setting of the paper on Res-IPS and Res-DR: the entire space D is the table, o the click, r
the conversion, so that pCTR = P(o = 1), pCVR = P(r = 1 | o = 1 were forced) and pCTCVR = P(o r = 1).

Rules. Clicks are 0 or 1; conversions are 0 or 1 where clicked, and 0 or empty elsewhere; a conversion without a click
is an error, and so is a log in which nothing, or everything, was clicked. Rows of randomised logs without a click are
dropped, counted. Empty context values are kept as such. A pair may stand in any number of rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from deconrec.data.context import Context, Schema
from deconrec.data.dataset import Dataset, Log, Task
from deconrec.data.explain import columns_shown, delimiter_hint, not_among, shown
from deconrec.data.ids import Vocabulary, normalise_ids
from deconrec.data.leaks import Leak, find_leaks
from deconrec.data.logs import timestamps
from deconrec.data.tables import collected, is_parquet, read_table, scan_parquet
from deconrec.data.validate import resolve_columns
from deconrec.errors import DataError, DataWarning, ParameterError


def need_pairs(data: Dataset, who: str) -> None:
    """Refuse a log of impressions, where a reader's space is all pairs of users and items.

    Raises
    ------
    DataError.
    """
    if data.impressions is not None:
        raise DataError(
            f"{who} reads logs of (user, item) pairs; {data.name!r} is a log of impressions. `deconrec compare` and "
            "`deconrec value` judge methods on it, and `deconrec diagnose` reads it; for the rest give a [biased] "
            "table of the clicked pairs."
        )


@dataclass(frozen=True, eq=False)
class Impressions:
    """The table of impressions.

    Attributes
    ----------
    log: all rows, clicked or not; its rating is the conversion (0 without a click), its context is set.
    click: (n,) bool.
    """

    log: Log
    click: np.ndarray

    def __post_init__(self) -> None:
        click = np.array(self.click, dtype=np.bool_)
        click.flags.writeable = False
        object.__setattr__(self, "click", click)

    def __len__(self) -> int:
        return len(self.log)

    @property
    def context(self) -> Context:
        """The context of all rows."""
        assert self.log.context is not None  # impressions have one, with or without columns
        return self.log.context

    @property
    def schema(self) -> Schema:
        """The columns of the context."""
        return self.context.schema

    @cached_property
    def clicked(self) -> Log:
        """The rows that were clicked."""
        return self.log.take(self.click)

    @cached_property
    def weight(self) -> np.ndarray:
        """(n,) float32 sample weights with mean 1."""
        return unit_weight(self.log)

    @cached_property
    def click_rate(self) -> float:
        """Share of impressions, by weight, that were clicked."""
        return float(self.weight[self.click].sum(dtype=np.float64) / max(len(self), 1))

    def take(self, rows: np.ndarray) -> Impressions:
        """The impressions of these rows (a boolean mask or positions)."""
        return Impressions(self.log.take(rows), self.click[rows])

    def joined(self, other: Impressions) -> Impressions:
        """These rows, then the others."""
        a, b = self.log, other.log

        def both(name: str) -> np.ndarray:
            return np.concatenate([getattr(a, name), getattr(b, name)])

        weight = None if a.weight is None and b.weight is None else np.r_[raw_weight(a), raw_weight(b)]
        log = Log(
            both("user"),
            both("item"),
            both("rating"),
            None if a.timestamp is None or b.timestamp is None else both("timestamp"),
            self.context.joined(other.context),
            weight,
        )
        return Impressions(log, np.concatenate([self.click, other.click]))


def raw_weight(log: Log) -> np.ndarray:
    """(n,) sample weights as given; 1 where there are none."""
    return np.ones(len(log), np.float32) if log.weight is None else log.weight


def unit_weight(log: Log) -> np.ndarray:
    """(n,) float32 sample weights with mean 1 over the log."""
    w = raw_weight(log)
    return w if log.weight is None else (w / w.mean(dtype=np.float64)).astype(np.float32)


def build_impressions(
    log: Any,
    *,
    context: Sequence[str],
    categorical: Sequence[str],
    click: str,
    conversion: str,
    weight: str | None,
    unbiased: Any,
    test: Any,
    columns: Mapping[str, str] | None,
    unbiased_split: tuple[float, float, float],
    name: str,
    delimiter: str = ",",
) -> Dataset:
    """The work behind `Dataset.from_impressions`."""
    roles = resolve_columns(columns)
    names = _checked_names(context, categorical, {click, conversion, weight, roles["user"], roles["item"]})
    ids = (roles["user"], roles["item"])
    given = "timestamp" in (columns or {})
    notes: list[str] = []
    raw: dict[str, pl.DataFrame] = {}
    for who, source in (("impressions", log), ("unbiased", unbiased), ("test", test)):
        if source is None:
            continue
        needed = [
            *ids,
            conversion,
            *names,
            *([weight] if weight else []),
            *([roles["timestamp"]] if given else []),
        ]
        if who == "impressions":
            needed.append(click)
        raw[who] = _read(source, f"the {who} log", needed, [click], delimiter, ids)
    table = raw["impressions"]
    if not len(table):
        raise DataError("the impressions log must have at least one row; got none.")
    w = None if weight is None else _weights(table[weight], "impressions")
    schema = Schema.of(table, names, categorical, "the impressions log", w)
    sides = [
        _vocabulary(raw, column, kind, notes) for column, kind in zip(ids, ("user", "item"), strict=True)
    ]
    stamp = roles["timestamp"] if given else None
    logs: dict[str, Log] = {}
    shown: Impressions | None = None
    for who in tuple(raw):
        rows = raw.pop(who)
        clicked = _flags(rows, click, who) if click in rows.columns else np.ones(len(rows), bool)
        label = _conversions(rows, conversion, clicked, who)
        if who != "impressions" and not clicked.all():
            notes.append(
                f"{int((~clicked).sum()):,} of {len(rows):,} rows of the {who} log have no click and say nothing of "
                "conversions: left out."
            )
            rows, label, clicked = rows.filter(pl.Series(clicked)), label[clicked], clicked[clicked]
        made = Log(
            sides[0].encode(rows[ids[0]]),
            sides[1].encode(rows[ids[1]]),
            label,
            None if stamp is None else timestamps(rows[stamp], who),
            schema.encode(rows, f"the {who} log"),
            None if weight is None else _weights(rows[weight], who),
        )
        if who == "impressions":
            shown = Impressions(made, clicked)
        else:
            logs[who] = made
    assert shown is not None
    _check_clicks(shown)
    leaks = find_leaks(shown.log, shown.click)
    for leak in leaks:
        warnings.warn(f"[LEAK] {leak}", DataWarning, stacklevel=3)
    return Dataset(
        users=sides[0],
        items=sides[1],
        biased=shown.clicked,
        unbiased=logs.get("unbiased"),
        test=logs.get("test"),
        task=Task(0.5, None, "pairs", unbiased_split, (0.0, 1.0)),
        name=name,
        notes=(*notes, *_gaps(shown.context), *(f"[LEAK] {leak}" for leak in leaks)),
        impressions=shown,
    )


def leaks_of(data: Dataset) -> list[Leak]:
    """Context columns of a data set that alone predict a label; empty for pairs."""
    return [] if data.impressions is None else find_leaks(data.impressions.log, data.impressions.click)


def _checked_names(context: Sequence[str], categorical: Sequence[str], taken: set[str | None]) -> list[str]:
    if isinstance(context, str) or isinstance(categorical, str):
        raise ParameterError("'context' and 'categorical' must be lists of column names; got a text.")
    names = list(context)
    if len(set(names)) < len(names):
        raise ParameterError(f"'context' must name each column once; got {names}.")
    if both := [n for n in names if n in taken]:
        raise ParameterError(
            f"'context' must not name '{both[0]}': it is the user, the item, a label or the weight. User and item are "
            "features anyway; a label among the features would be a leak."
        )
    if other := [n for n in categorical if n not in names]:
        raise ParameterError(f"'categorical' must name columns of 'context'; got '{other[0]}'.")
    return names


def _read(
    source: Any, who: str, needed: Sequence[str], optional: Sequence[str], delimiter: str, ids: Sequence[str]
) -> pl.DataFrame:
    """The columns that are needed, and those optional ones that are there; of a Parquet file no others are read."""
    table: Any
    if isinstance(source, str | Path) and is_parquet(Path(source)):
        table = scan_parquet(Path(source), who)
        there = table.collect_schema().names()
    else:
        table = read_table(source, who, delimiter=delimiter, ids=ids)
        there = table.columns
    missing = [n for n in needed if n not in there]
    if missing:
        text = isinstance(source, str | Path) and not isinstance(table, pl.LazyFrame)
        advice = (delimiter_hint(there, delimiter) if text else "") or (
            "Name yours: click=, conversion=, context=, columns={'user': ..., 'item': ...}, or the tables "
            "[impressions] and [columns] of a data file."
        )
        raise DataError(
            f"{who} needs the columns {columns_shown(needed)[1:-1]}; {not_among(missing, there)}. {advice}"
        )
    wanted = [*dict.fromkeys([*needed, *(n for n in optional if n in there)])]
    table = table.select(wanted)
    return collected(table, source, who) if isinstance(table, pl.LazyFrame) else table


def _vocabulary(raw: dict[str, pl.DataFrame], column: str, kind: str, notes: list[str]) -> Vocabulary:
    """All ids of one side; where one log has strings and another integers, 1 and '1' are one id."""
    ids = {who: normalise_ids(table[column].unique(), kind) for who, table in raw.items()}
    if any(values.dtype == pl.String for values in ids.values()):
        ids = {who: values.cast(pl.String) for who, values in ids.items()}
    shown = Vocabulary(ids["impressions"], kind)
    for who, values in ids.items():
        if new := int((shown.encode(values) < 0).sum()):
            notes.append(f"{new:,} {kind}s of the {who} log have no impression in the biased log.")
    return Vocabulary(pl.concat(list(ids.values())), kind)


def _flags(table: pl.DataFrame, column: str, who: str) -> np.ndarray:
    """A column of 0 and 1 as (n,) bool."""
    values = table[column]
    if values.null_count():
        raise DataError(
            f"the {who} log's '{column}' must be 0 or 1 in every row; {values.null_count():,} of {len(values):,} are "
            "empty."
        )
    if values.dtype != pl.Boolean:
        # Compared, not looked up: a column of numbers with gaps comes from pandas as floats.
        odd = values.filter((values != 0) & (values != 1)) if values.dtype.is_numeric() else values
        if len(odd):
            raise DataError(f"the {who} log's '{column}' must be 0 or 1 in every row; got {shown(odd[0])}.")
    return values.cast(pl.Boolean).to_numpy()


def _conversions(table: pl.DataFrame, column: str, clicked: np.ndarray, who: str) -> np.ndarray:
    """(n,) float32 conversions; 0 without a click."""
    values = table[column]
    if values.dtype.is_float():
        values = values.fill_nan(None)
    if values.null_count() == len(values):
        raise DataError(f"the {who} log's '{column}' must be 0 or 1 where clicked; every row is empty.")
    empty = values.is_null().to_numpy()
    if n := int((empty & clicked).sum()):
        raise DataError(
            f"the {who} log's '{column}' must be 0 or 1 where clicked; {n:,} clicked rows are empty. Drop clicks whose "
            "conversion is not known yet."
        )
    label = _flags(
        table.with_columns(values.fill_null(0 if values.dtype != pl.Boolean else False)), column, who
    )
    if n := int((label & ~clicked).sum()):
        first = int(np.flatnonzero(label & ~clicked)[0])
        raise DataError(
            f"the {who} log has {n:,} conversions without a click (first: row {first}); a conversion follows a click. "
            "Correct the rows, or join view-through conversions to no click as 0."
        )
    return label.astype(np.float32)


def _weights(values: pl.Series, who: str) -> np.ndarray:
    if not values.dtype.is_numeric():
        first = "" if values.null_count() == len(values) else f" (first: {shown(values.drop_nulls()[0])})"
        raise DataError(
            f"the {who} log's '{values.name}' must hold positive weights; got {values.dtype}{first}. Correct the rows, "
            "or name another column as the weight."
        )
    w = values.cast(pl.Float32).fill_null(float("nan")).to_numpy()
    bad = ~(np.isfinite(w) & (w > 0))
    if bad.any():
        raise DataError(
            f"the {who} log's '{values.name}' must be a positive number in every row; {int(bad.sum()):,} of {len(w):,} "
            f"are not (first: row {int(np.flatnonzero(bad)[0])}). Drop a row that is to weigh nothing."
        )
    return w


def _check_clicks(shown: Impressions) -> None:
    n = int(shown.click.sum())
    if n == 0:
        raise DataError(
            f"the impressions log must have clicked rows; none of {len(shown):,} is. Conversions are learned from "
            "clicks: check the column `click`."
        )
    if n == len(shown):
        raise DataError(
            f"the impressions log must have rows without a click; all {n:,} are clicked, so that the entire space is "
            "what was observed. Give the impressions that were not clicked too, or a [biased] table of ratings."
        )


def _gaps(context: Context) -> list[str]:
    notes = []
    for k, category in enumerate(context.schema.categories):
        if n := int((context.codes[:, k] < 0).sum()):
            notes.append(
                f"{n:,} impressions have no '{category.name}': an embedding of its own stands for that."
            )
        if n := int((~category.common).sum()):
            notes.append(
                f"{n:,} values of '{category.name}' are rare and share embeddings with values that come later."
            )
    for k, number in enumerate(context.schema.numbers):
        if n := int(np.isnan(context.numbers[:, k]).sum()):
            notes.append(
                f"{n:,} impressions have no '{number.name}': its mean, and an indicator, stand for that."
            )
    return notes
