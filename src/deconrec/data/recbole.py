"""RecBole's atomic files: `.inter`, `.user` and `.item`, one header of name:type, fields separated by tabs.

Types: token (text), token_seq (tokens separated by spaces), float, float_seq. Nothing is quoted: a quote is a
character like another. Ids are read as in a CSV file: whole numbers only where no text is lost by it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from deconrec.data.blocks import Block, blocks, header
from deconrec.data.explain import columns_shown, shown
from deconrec.errors import DataError

TYPES = ("token", "token_seq", "float", "float_seq")
ENDINGS = (".inter", ".user", ".item")


def is_atomic(path: Path) -> bool:
    """Whether a path has the name of an atomic file (.gz allowed)."""
    name = path.with_suffix("") if path.suffix == ".gz" else path
    return name.suffix in ENDINGS


def header_types(path: Path, who: str) -> dict[str, str]:
    """The columns of an atomic file and their types.

    Raises
    ------
    DataError: an empty file, a column without a type or of an unknown one, a name that stands twice.
    """
    try:
        names = header(path, quoted=False).decode().split("\t")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{who}: '{path}' cannot be read as a RecBole file: {error}.") from error
    if names == [""]:
        raise DataError(f"{who}: '{path}' must begin with a header of name:type; the file is empty.")
    out: dict[str, str] = {}
    for text in names:
        name, sign, kind = text.rpartition(":")
        one = len(names) == 1 and any(f":{known}" in name for known in TYPES)  # commas instead of tabs
        if not sign or not name or one:
            raise DataError(
                f"{who}: the header of '{path}' must give each column as name:type (types: {', '.join(TYPES)}), "
                f"separated by tabs; got {shown(text)}."
            )
        if kind not in TYPES:
            raise DataError(
                f"{who}: the header of '{path}' gives {shown(name)} the type {shown(kind)}; known: {', '.join(TYPES)}."
            )
        if name in out:
            raise DataError(f"{who}: the header of '{path}' must name each column once; got '{name}' twice.")
        out[name] = kind
    return out


def read_blocks(path: Path, who: str, wanted: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
    """The rows of an atomic file, block by block: tokens and sequences as text, floats as numbers.

    Parameters
    ----------
    wanted: columns to read; None = all.

    Raises
    ------
    DataError: a line with too few or too many fields, a float that is no number, bytes that are not UTF-8.
    """
    types = header_types(path, who)
    names = list(types)
    chosen = names if wanted is None else [name for name in names if name in wanted]
    blank = 0
    try:
        for block in blocks(path, quoted=False):
            text = block.text.replace(b"\r\n", b"\n") if b"\r" in block.text else block.text
            kept = text.rstrip(b"\n")
            if not kept:
                blank += text.count(b"\n")
                continue
            if blank:  # blank lines end a file, or are rows with too few fields
                raise _wrong_fields(path, who, names, block.line - blank, 1)
            blank = text.count(b"\n", len(kept)) - 1
            _check_fields(kept + b"\n", block.line, path, who, names)
            yield _parsed(Block(kept, block.line), types, chosen, path, who)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{who}: '{path}' cannot be read as a RecBole file: {error}.") from error


def read_rows(path: Path, who: str) -> pl.DataFrame:
    """All rows of an atomic file as one table.

    Raises
    ------
    DataError: see `read_blocks`.
    """
    types = header_types(path, who)
    empty = pl.DataFrame(schema={n: pl.Float64 if t == "float" else pl.String for n, t in types.items()})
    return pl.concat([empty.clear(), *read_blocks(path, who)], how="vertical_relaxed")


def _check_fields(text: bytes, line: int, path: Path, who: str, names: Sequence[str]) -> None:
    signs = np.frombuffer(text, np.uint8)
    at = np.flatnonzero((signs == ord("\t")) | (signs == ord("\n")))
    ends = signs[at] == ord("\n")
    n = len(names)
    if len(at) == n * int(ends.sum()) and ends[n - 1 :: n].all():
        return
    fields = np.diff(np.flatnonzero(ends), prepend=-1)
    wrong = int(np.argmax(fields != n))
    raise _wrong_fields(path, who, names, line + wrong, int(fields[wrong]))


def _wrong_fields(path: Path, who: str, names: Sequence[str], line: int, got: int) -> DataError:
    listed = columns_shown(names)[1:-1].replace("'", "")
    return DataError(
        f"{who}: line {line:,} of '{path}' must have {len(names)} fields separated by tabs ({listed}); "
        f"got {got}. Correct or drop the line."
    )


def _parsed(block: Block, types: dict[str, str], chosen: list[str], path: Path, who: str) -> pl.DataFrame:
    head = "\t".join(types).encode() + b"\n"
    text = {name: pl.String for name in chosen if types[name] != "float"}

    def parse(rows_for_types: int | None) -> pl.DataFrame:
        return pl.read_csv(
            head + block.text,
            separator="\t",
            quote_char=None,
            columns=chosen,
            schema_overrides=text,
            infer_schema_length=rows_for_types,
        )

    try:
        try:
            table = parse(10_000)
        except pl.exceptions.ComputeError:
            table = parse(None)  # a value such as 3.5 came late
    except pl.exceptions.PolarsError as error:
        try:
            block.text.decode()
        except UnicodeDecodeError as fault:
            line = block.line + block.text.count(b"\n", 0, fault.start)
            raise DataError(f"{who}: line {line:,} of '{path}' must be UTF-8; {fault.reason}.") from error
        reason = shown(str(error).splitlines()[0], 200)[1:-1]
        raise DataError(f"{who}: '{path}' cannot be read as a RecBole file: {reason}.") from error
    for name in chosen:
        if types[name] == "float" and not table[name].dtype.is_numeric():
            values = table[name].cast(pl.String)
            numbers = values.cast(pl.Float64, strict=False)
            bad = numbers.is_null() & values.is_not_null()
            if bad.any():
                k = int(bad.arg_max() or 0)
                raise DataError(
                    f"{who}: line {block.line + k:,} of '{path}': '{name}' is declared float and must be a number; "
                    f"got {shown(values[k])}. Correct it, or declare {name}:token."
                )
            table = table.with_columns(numbers.alias(name))
    return table


# ---------------------------------------------------------------------- features
def read_features(path: Path, who: str, most: int) -> tuple[pl.DataFrame, list[str]]:
    """A `.user` or `.item` file as a table of numbers, text and booleans, and notes on what was left out.

    A sequence of tokens becomes a column of true and false for each token, a sequence of floats a column for each
    place. Tokens of more than `most` values (titles, postal codes) are left out, with a note: such files carry them
    by custom, and they are no features.

    Raises
    ------
    DataError: see `read_blocks`; sequences of floats of different lengths.
    """
    types = header_types(path, who)
    table = read_rows(path, who)
    key, *names = list(types)
    notes: list[str] = []
    columns = [table[key]]
    given = (
        pl.Series([True] * len(table))
        if not names
        else table.select(pl.any_horizontal(pl.col(name).is_not_null() for name in names)).to_series()
    )
    for name in names:
        values = table[name]
        if types[name] == "float":
            columns.append(values)
        elif types[name] == "float_seq":
            columns += _float_columns(values, path, who)
        else:
            several = types[name] == "token_seq"
            words = values.str.split(" ") if several else values
            levels = (words.explode() if several else words).drop_nulls().unique().sort()
            levels = levels.filter(levels != "")
            if len(levels) > most:
                notes.append(
                    f"'{name}' of {who} has {len(levels):,} different tokens, more than {most}: left out as a feature."
                )
            elif several:
                columns += [_holds(words, level, given).alias(f"{name}={level}") for level in levels]
            else:
                columns.append(values)
    return pl.DataFrame(columns), notes


def _holds(words: pl.Series, level: str, given: pl.Series) -> pl.Series:
    """Which rows hold a token: an empty sequence holds none; a row without any feature says nothing."""
    holds = words.list.contains(level).fill_null(False)
    return holds.zip_with(given, pl.Series([None], dtype=pl.Boolean).new_from_index(0, len(holds)))


def _float_columns(values: pl.Series, path: Path, who: str) -> list[pl.Series]:
    parts = values.str.strip_chars().str.split(" ")
    lengths = parts.list.len().filter(values.is_not_null()).unique().sort().to_list()
    if len(lengths) > 1:
        raise DataError(
            f"{who}: '{values.name}' of '{path}' is a float_seq and must have one length in all rows; got lengths "
            f"{lengths[0]} to {lengths[-1]}."
        )
    out = []
    for k in range(lengths[0] if lengths else 0):
        words = parts.list.get(k)
        numbers = words.cast(pl.Float64, strict=False)
        bad = numbers.is_null() & words.is_not_null()
        if bad.any():
            at = int(bad.arg_max() or 0)
            raise DataError(
                f"{who}: line {at + 2:,} of '{path}': '{values.name}' is declared float_seq and must be numbers; "
                f"got '{words[at]}'."
            )
        out.append(numbers.alias(f"{values.name}.{k}"))
    return out
