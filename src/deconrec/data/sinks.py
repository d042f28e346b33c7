"""Logs and features of a data set to files, a batch of rows at a time: only codes stand in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from deconrec.data.dataset import Dataset, Features, Log
from deconrec.data.ids import Vocabulary
from deconrec.errors import DataError

ROWS = 1 << 18  # rows of a batch
LOG_ENDINGS = (".parquet", ".csv", ".inter")


def write_log(data: Dataset, log: Log, path: Path) -> None:
    """A log with raw ids, as Parquet, CSV or RecBole's .inter by the ending of `path`.

    Raises
    ------
    DataError: an id that an .inter file cannot hold (a tab, a line's end, nothing at all).
    """
    atomic = path.suffix == ".inter"
    if atomic:
        _check_tokens(data.users, data.items)

    def table(rows: slice) -> pl.DataFrame:
        frame = data.frame(log.take(rows))
        return _typed_names(frame, ("user_id", "item_id")) if atomic else frame

    _sink(_batches(table, len(log)), path)


def write_features(vocabulary: Vocabulary, features: Features | None, path: Path) -> None:
    """Every id of one side with its features, as Parquet or as RecBole's .user or .item by the ending of `path`."""
    columns = [vocabulary.values.alias(f"{vocabulary.kind}_id")]
    if features is not None:
        gaps = pl.Series(features.missing)
        for name, values in zip(features.names, features.values.T, strict=True):
            column = pl.Series(name, values)
            columns.append(column.zip_with(~gaps, pl.Series([None] * len(column), dtype=pl.Float32)))
    frame = pl.DataFrame(columns)
    if path.suffix != ".parquet":
        _check_tokens(vocabulary)
        frame = _typed_names(frame, frame.columns[:1])
    _sink(frame.lazy(), path)


def _batches(table: Any, n: int) -> pl.LazyFrame:
    """A lazy frame whose batches are made when they are written."""
    from polars.io.plugins import register_io_source

    def batches(with_columns: Any, predicate: Any, n_rows: Any, batch_size: Any) -> Iterator[pl.DataFrame]:
        for start in range(0, n, ROWS):
            yield table(slice(start, start + ROWS))

    return register_io_source(batches, schema=table(slice(0, 0)).schema)


def _sink(frame: pl.LazyFrame, path: Path) -> None:
    if path.suffix == ".parquet":
        frame.sink_parquet(path)
    elif path.suffix == ".csv":
        frame.sink_csv(path)
    else:
        frame.sink_csv(path, separator="\t", quote_style="never")


def _typed_names(frame: pl.DataFrame, tokens: Any) -> pl.DataFrame:
    return frame.rename({name: f"{name}:{'token' if name in tokens else 'float'}" for name in frame.columns})


def _check_tokens(*sides: Vocabulary) -> None:
    for vocabulary in sides:
        if not vocabulary.is_text:
            continue
        bad = vocabulary.values.filter(
            vocabulary.values.str.contains(r"[\t\n\r]") | (vocabulary.values == "")
        )
        if len(bad):
            raise DataError(
                f"a RecBole file cannot hold the {vocabulary.kind} id {bad[0]!r} (a tab, a line's end or no text; "
                f"{len(bad):,} of {len(vocabulary):,} ids): such files quote nothing. Convert to Parquet instead."
            )
