"""Tables of any make, whole or in batches: polars, pandas, Arrow, and CSV, Parquet and RecBole files."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from deconrec.data.blocks import NoTable, blocks, header, whole
from deconrec.data.explain import (
    delimiter_hint,
    repeated_column,
    shown,
    unreadable_parquet,
    unreadable_text,
    why_no_file,
)
from deconrec.data.recbole import header_types, is_atomic, read_blocks, read_features, read_rows
from deconrec.errors import DataError, MissingData, ParameterError

ROWS = 1 << 18  # rows of a batch
PARQUET = (".parquet", ".pq")
KINDS = "a CSV, Parquet or RecBole (.inter, .user, .item) file"


def read_table(
    source: Any, who: str, *, delimiter: str = ",", ids: Iterable[str] | None = ("user_id", "item_id")
) -> pl.DataFrame:
    """A table as a polars frame: polars, pandas, Arrow, or the path of a CSV, Parquet or RecBole file (.gz allowed).

    Parameters
    ----------
    source: the table or its path, which may be that of a folder of Parquet files.
    who: what it is, for messages.
    delimiter: of a CSV file.
    ids: the id columns of a text file, None for the first one. They become integers only where no text is
        lost by it ('007' stays text).

    Raises
    ------
    MissingData: the file does not exist.  DataError: the file or object is no table.
    ParameterError: the delimiter.
    """
    _check_delimiter(delimiter)
    if isinstance(source, pl.DataFrame):
        return source
    if isinstance(source, pl.LazyFrame):
        return source.collect()
    if isinstance(source, str | Path):
        return _read_file(Path(source), who, delimiter, ids)
    import narwhals as nw

    try:
        frame = nw.from_native(source, eager_only=True)
    except TypeError as error:
        if hasattr(source, "__arrow_c_stream__") and not hasattr(source, "dtype"):
            return pl.DataFrame(source)
        raise DataError(
            f"{who} must be a polars, pandas or Arrow table, or the path of a CSV or Parquet file; "
            f"got {type(source).__name__}."
        ) from error
    try:
        return frame.to_polars()
    except (ImportError, TypeError, ValueError):
        # pandas without pyarrow, or with a column of strings and numbers that Arrow has no type for.
        return pl.DataFrame([_loose_column(source[name], who, str(name)) for name in frame.columns])


def _loose_column(values: Any, who: str, name: str) -> pl.Series:
    """A pandas column, value by value; None for every gap."""
    try:
        gaps = values.isna()
        return pl.Series(name, [None if gap else v for v, gap in zip(values.tolist(), gaps, strict=True)])
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{who}: the column '{name}' must hold one kind of value; got a mix of types. Make it all "
            "strings or all numbers."
        ) from error


def read_feature_table(source: Any, who: str, *, delimiter: str, most: int) -> tuple[pl.DataFrame, list[str]]:
    """A table of features, the ids in its first column, and notes on what was left out (RecBole files only).

    Parameters
    ----------
    most: values that a feature of text may have.

    Raises
    ------
    MissingData, DataError: see `read_table`.
    """
    if isinstance(source, str | Path) and is_atomic(Path(source)):
        path = _existing(Path(source), who)
        table, notes = read_features(path, who, most)
        return table.with_columns(text_ids(table.to_series(0))), notes
    table = read_table(source, who, delimiter=delimiter, ids=None)
    if isinstance(source, str | Path) and (hint := delimiter_hint(table.columns, delimiter)):
        raise DataError(
            f"{who}: '{source}' has one column, {table.columns[0]!r}. {hint} The text files of one data set share a "
            "delimiter."
        )
    return table, []


def _check_delimiter(delimiter: str) -> None:
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0':
        raise ParameterError(
            f"'delimiter' must be one ASCII character, and no double quote or line's end; got {shown(delimiter)}. A "
            "tab is $'\\t' in a shell, \"\\t\" in a data file."
        )


def parquet_parts(path: Path) -> list[Path]:
    """The files of a table that is a folder of Parquet files, by name, as other engines write one; none otherwise.

    Names that begin with "." or "_" are marks of these engines (_SUCCESS), no parts.
    """
    if not os.path.isdir(path):
        return []
    with suppress(OSError):  # a folder that may not be looked into is none of ours
        return sorted(p for p in path.iterdir() if p.suffix in PARQUET and p.name[0] not in "._")
    return []


def _existing(path: Path, who: str) -> Path:
    if parquet_parts(path):
        return path
    if what := why_no_file(path):
        raise MissingData(f"{who} must be {KINDS}; {shown(str(path))}: {what}. Check the path.")
    if path.suffix == ".gz" and is_parquet(path.with_suffix("")):
        raise DataError(f"{who}: '{path}' must not be packed: Parquet is compressed itself. Unpack it.")
    return path


def is_parquet(path: Path) -> bool:
    """Whether a path is of a Parquet file, by its name, or of a folder of them."""
    return bool(parquet_parts(path)) or path.suffix in PARQUET


def _unreadable(path: Path, who: str, error: BaseException, delimiter: str) -> DataError:
    text = shown(str(error).splitlines()[0], 200)[1:-1] if str(error) else type(error).__name__
    if parts := parquet_parts(path):
        broken = [p for p in parts if not unreadable_parquet(p, text).startswith("it is damaged")]
        if not broken:  # each is Parquet, and they do not go together
            return DataError(f"{who}: the Parquet files in '{path}' must have the same columns; {text}.")
        path = broken[0]
    if is_parquet(path):
        return DataError(f"{who}: '{path}' cannot be read as Parquet: {unreadable_parquet(path, text)}.")
    if not isinstance(error, NoTable):  # which says all there is to say
        text = unreadable_text(path, delimiter, text)
    return DataError(f"{who}: '{path}' cannot be read as CSV: {text}.")


def scan_parquet(path: Path, who: str) -> pl.LazyFrame:
    """A Parquet file, not read yet but for its columns.

    Raises
    ------
    MissingData: there is no such file.  DataError: it is no Parquet.
    """
    try:
        frame = pl.scan_parquet(parquet_parts(path) or _existing(path, who), glob=False)
        frame.collect_schema()
    except _UNREADABLE as error:
        raise _unreadable(path, who, error, ",") from error
    return frame


def _csv_columns(path: Path, who: str, delimiter: str) -> list[str]:
    """The names in a CSV file's header.

    Raises
    ------
    DataError: a name that stands twice, an empty header, text in another encoding.
    """
    first = header(path, quoted=True)
    if not first:
        raise ValueError("its first line is empty, and a header was expected")
    if b"\x00" in first:  # two bytes a character, or another kind of file
        raise ValueError("its header holds NUL bytes: it is no text")
    if b"\r" in first and b"\n" not in first:
        raise NoTable("its lines end in a lone carriage return. Save it with line feeds")
    rows = pl.read_csv(first + b"\n", separator=delimiter, has_header=False, infer_schema_length=0)
    names = ["" if name is None else str(name) for name in rows.row(0)]
    if twice := repeated_column([name for name in names if name]):
        raise DataError(
            f"{who}: the header of '{path}' must name each column once; got {shown(twice)} twice. Rename one of them."
        )
    return pl.read_csv(first, separator=delimiter, n_rows=0, infer_schema_length=0).columns


# A panic is what the parser of another language makes of a damaged file.
_UNREADABLE = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    OSError,
    EOFError,
    zlib.error,
    TypeError,
    ValueError,
    OverflowError,
)


def _read_file(path: Path, who: str, delimiter: str, ids: Iterable[str] | None) -> pl.DataFrame:
    _existing(path, who)
    if is_atomic(path):
        table = read_rows(path, who)
        text = list(header_types(path, who))[:1] if ids is None else list(ids)
        return table.with_columns(text_ids(table[name]) for name in text if name in table.columns)
    try:
        if is_parquet(path):
            return pl.read_parquet(parquet_parts(path) or path, glob=False)
        columns = _csv_columns(path, who, delimiter)
        text = columns[:1] if ids is None else list(ids)
        as_text = dict.fromkeys(text, pl.String)
        content = whole(path)

        def parse(rows_for_types: int | None) -> pl.DataFrame:
            return pl.read_csv(
                content, separator=delimiter, infer_schema_length=rows_for_types, schema_overrides=as_text
            )

        try:
            table = parse(10_000)
        except pl.exceptions.ComputeError:
            # A value such as 3.5 came late: the whole file decides the types, which takes ten times as long.
            table = parse(None)
    except _UNREADABLE as error:
        raise _unreadable(path, who, error, delimiter) from error
    return table.with_columns(text_ids(table[name]) for name in text if name in table.columns)


def text_ids(text: pl.Series) -> pl.Series:
    """Ids of a text file as integers, unless an id would read otherwise when written back."""
    numbers = text.cast(pl.Int64, strict=False)
    if numbers.null_count() == text.null_count() and (numbers.cast(pl.String) == text).all():
        return numbers
    # '17.0' is what a table with gaps makes of 17.
    if len(text) and text.str.contains(r"^-?[0-9]{1,15}\.0+$").all():
        return text.cast(pl.Float64)
    return text


# ---------------------------------------------------------------------- in batches
def collected(frame: pl.LazyFrame, source: str | Path, who: str) -> pl.DataFrame:
    """The rows of a frame over a Parquet file.

    Raises
    ------
    DataError: the file is damaged.
    """
    try:
        return frame.collect()
    except _UNREADABLE as error:
        raise _unreadable(Path(source), who, error, ",") from error


@dataclass(frozen=True)
class Batches:
    """A table, batch by batch.

    Attributes
    ----------
    columns: all its columns.
    text: whether ids are text that may stand for numbers (see `text_ids`).
    read: the rows of these columns, in order. What it raises: DataError.
    """

    columns: list[str]
    text: bool
    source: Any
    who: str
    delimiter: str

    @property
    def hint(self) -> str:
        """A sentence for a header that another delimiter would have cut."""
        if not self.text or is_atomic(self.source):
            return ""
        return delimiter_hint(self.columns, self.delimiter)

    def read(self, wanted: Sequence[str], ids: Sequence[str]) -> Iterator[pl.DataFrame]:
        """The rows of the columns `wanted`, in order; `ids` among them are text in a text file.

        Raises
        ------
        DataError: the file cannot be read, or what its kind forbids.
        """
        if isinstance(self.source, pl.DataFrame):
            yield from self.source.select(wanted).iter_slices(ROWS)
            return
        if isinstance(self.source, pl.LazyFrame):
            yield from _collected(self.source.select(wanted))
            return
        try:
            if is_atomic(self.source):
                yield from read_blocks(self.source, self.who, wanted)
            elif is_parquet(self.source):
                yield from _collected(scan_parquet(self.source, self.who).select(wanted))
            else:
                yield from _csv_batches(self.source, self.delimiter, wanted, ids)
        except _UNREADABLE as error:
            raise _unreadable(self.source, self.who, error, self.delimiter) from error


def open_batches(source: Any, who: str, *, delimiter: str = ",") -> Batches:
    """A table that is read batch by batch: a file or a lazy frame in bounded memory, another table in slices.

    Raises
    ------
    MissingData: the file does not exist.  DataError: the file or object is no table.
    ParameterError: the delimiter.
    """
    _check_delimiter(delimiter)
    if isinstance(source, pl.LazyFrame):
        return Batches(source.collect_schema().names(), False, source, who, delimiter)
    if not isinstance(source, str | Path):
        table = read_table(source, who)
        return Batches(table.columns, False, table, who, delimiter)
    path = _existing(Path(source), who)
    if is_atomic(path):
        return Batches(list(header_types(path, who)), True, path, who, delimiter)
    if is_parquet(path):
        return Batches(scan_parquet(path, who).collect_schema().names(), False, path, who, delimiter)
    try:
        names = _csv_columns(path, who, delimiter)
    except _UNREADABLE as error:
        raise _unreadable(path, who, error, delimiter) from error
    return Batches(names, True, path, who, delimiter)


def _collected(frame: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    if hasattr(frame, "collect_batches"):
        yield from frame.collect_batches(chunk_size=ROWS, maintain_order=True)
    else:  # polars before 1.34 cannot: the whole table is read
        yield from frame.collect().iter_slices(ROWS)


def _csv_batches(
    path: Path, delimiter: str, wanted: Sequence[str], ids: Sequence[str]
) -> Iterator[pl.DataFrame]:
    head = header(path, quoted=True) + b"\n"
    types: dict[str, Any] = dict.fromkeys(ids, pl.String)

    def parse(text: bytes, rows_for_types: int | None, known: dict[str, Any]) -> pl.DataFrame:
        return pl.read_csv(
            head + text,
            separator=delimiter,
            columns=list(wanted),
            schema_overrides=known,
            infer_schema_length=rows_for_types,
        )

    for block in blocks(path, quoted=True):
        try:
            table = parse(block.text, 10_000, types)
        except pl.exceptions.ComputeError:
            # A value such as 3.5 came late: this block decides the types.
            table = parse(block.text, None, dict.fromkeys(ids, pl.String))
        # An empty column says nothing about the type of the next block.
        types |= {name: table[name].dtype for name in wanted if table[name].null_count() < len(table)}
        yield table
