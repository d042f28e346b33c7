"""From tables of any make to a `Dataset`: every rule for doubtful rows stands here, and leaves a note.

Rules. Ids: no nulls; strings or whole numbers. Ratings: finite numbers inside `rating_range`. Repeated
(user, item) pairs of one log: error, last or mean. Ids seen only in the unbiased or test log, or only in a
feature table: kept in the vocabulary, counted. A feature table of ids alone widens the vocabulary, no more.
Users or items without a feature row, or with an empty one: the column means, counted.
Pairs that stand in both logs: kept here, counted; the split drops them from U, V and test.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from deconrec.data.dataset import Dataset, Duplicates, Features, Log, Task
from deconrec.data.ids import Vocabulary, as_series, normalise_ids
from deconrec.errors import DataError, MissingData, ParameterError, UnknownName

COLUMNS = {"user": "user_id", "item": "item_id", "rating": "rating", "timestamp": "timestamp"}
MAX_CATEGORIES = 200  # one-hot columns of one feature; more is an id, not a feature


def read_table(
    source: Any, who: str, *, delimiter: str = ",", ids: Iterable[str] | None = ("user_id", "item_id")
) -> pl.DataFrame:
    """A table as a polars frame: polars, pandas, Arrow, or the path of a CSV or Parquet file (.gz allowed).

    Parameters
    ----------
    source: the table or its path.
    who: what it is, for messages.
    delimiter: of a CSV file.
    ids: the id columns of a CSV file, None for the first one. They become integers only where no text is
        lost by it ('007' stays text).

    Raises
    ------
    MissingData: the file does not exist.  DataError: the file or object is no table.
    """
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


def _read_file(path: Path, who: str, delimiter: str, ids: Iterable[str] | None) -> pl.DataFrame:
    if not path.is_file():
        what = "it is a folder" if path.is_dir() else "there is no such file"
        raise MissingData(f"{who} must be a CSV or Parquet file; '{path}': {what}. Check the path.")
    parquet = path.suffix in (".parquet", ".pq")
    try:
        if parquet:
            return pl.read_parquet(path)
        if ids is None:
            ids = pl.read_csv(path, separator=delimiter, n_rows=0, infer_schema_length=0).columns[:1]
        text = dict.fromkeys(ids, pl.String)
        try:
            table = pl.read_csv(path, separator=delimiter, infer_schema_length=10_000, schema_overrides=text)
        except pl.exceptions.ComputeError:
            # A value such as 3.5 came late: the whole file decides the types, which takes ten times as long.
            table = pl.read_csv(path, separator=delimiter, infer_schema_length=None, schema_overrides=text)
    except (pl.exceptions.PolarsError, OSError, TypeError, ValueError) as error:
        kind = "Parquet" if parquet else "CSV"
        raise DataError(f"{who}: '{path}' cannot be read as {kind}: {_first_line(error)}") from error
    return table.with_columns(_as_numbers(table[name]) for name in text if name in table.columns)


def _as_numbers(text: pl.Series) -> pl.Series:
    """Ids of a CSV file as integers, unless an id would read otherwise when written back."""
    numbers = text.cast(pl.Int64, strict=False)
    if numbers.null_count() == text.null_count() and (numbers.cast(pl.String) == text).all():
        return numbers
    # '17.0' is what a table with gaps makes of 17.
    if len(text) and text.str.contains(r"^-?[0-9]{1,15}\.0+$").all():
        return text.cast(pl.Float64)
    return text


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def resolve_columns(columns: Mapping[str, str] | None) -> dict[str, str]:
    """The four column roles with the caller's names filled in."""
    given = dict(columns or {})
    for role in given:
        if role not in COLUMNS:
            raise UnknownName("column role", role, COLUMNS)
    return COLUMNS | given


def build_dataset(
    log: Any,
    *,
    unbiased: Any,
    test: Any,
    users: Any,
    items: Any,
    columns: Mapping[str, str] | None,
    duplicates: Duplicates,
    task: Task,
    name: str,
    delimiter: str = ",",
    user_ids: Any = None,
    item_ids: Any = None,
) -> Dataset:
    """The work behind `Dataset.from_frames`; `user_ids` and `item_ids` join the vocabulary, rows or none."""
    if duplicates not in ("error", "last", "mean"):
        raise ParameterError(f"'duplicates' must be 'error', 'last' or 'mean'; got {duplicates!r}.")
    roles = resolve_columns(columns)
    notes: list[str] = []
    raw: dict[str, pl.DataFrame] = {}
    for who, source in (("biased", log), ("unbiased", unbiased), ("test", test)):
        if source is None:
            continue
        ids = (roles["user"], roles["item"])
        table = read_table(source, f"the {who} log", delimiter=delimiter, ids=ids)
        raw[who] = _log_columns(table, roles, who)
        _check_ratings(raw[who], who, task.rating_range)
    if "timestamp" in (columns or {}) and not any("timestamp" in t.columns for t in raw.values()):
        raise DataError(f"the column '{roles['timestamp']}' was named as the timestamp, but no log has it.")
    if not len(raw["biased"]):
        raise DataError("the biased log must have at least one row; got none.")
    tables = {
        who: read_table(source, f"the {who} table", delimiter=delimiter, ids=None)
        for who, source in (("users", users), ("items", items))
        if source is not None
    }
    all_users = _vocabulary(raw, tables.get("users"), user_ids, "user", notes)
    all_items = _vocabulary(raw, tables.get("items"), item_ids, "item", notes)
    logs = {who: _encode(raw.pop(who), who, duplicates, all_users, all_items, notes) for who in tuple(raw)}
    data = Dataset(
        users=all_users,
        items=all_items,
        biased=logs["biased"],
        unbiased=logs.get("unbiased"),
        test=logs.get("test"),
        user_features=_features(tables.get("users"), all_users, notes),
        item_features=_features(tables.get("items"), all_items, notes),
        task=task,
        name=name,
        duplicates=duplicates,
    )
    if both := int(data.in_biased.sum()):
        share = both / len(data.in_biased)
        notes.append(
            f"{both:,} pairs of the unbiased log ({share:.1%}) stand in the biased log too: dropped from U, "
            "V and test by every split; metrics named '/leaked' keep them in the test."
        )
    return data._replace(notes=tuple(notes))


def _log_columns(table: pl.DataFrame, roles: Mapping[str, str], who: str) -> pl.DataFrame:
    missing = [roles[r] for r in ("user", "item", "rating") if roles[r] not in table.columns]
    if missing:
        raise DataError(
            f"the {who} log needs the columns '{roles['user']}', '{roles['item']}' and '{roles['rating']}'; "
            f"{', '.join(map(repr, missing))} not among {table.columns}. Name yours with "
            "columns={'user': ..., 'item': ..., 'rating': ...} or a [columns] table."
        )
    out = {
        "user": normalise_ids(table[roles["user"]], "user"),
        "item": normalise_ids(table[roles["item"]], "item"),
        "rating": _numbers(table[roles["rating"]], f"the {who} log's '{roles['rating']}'"),
    }
    if roles["timestamp"] in table.columns:
        out["timestamp"] = timestamps(table[roles["timestamp"]], who)
    return pl.DataFrame({role: s.alias(role) for role, s in out.items()})


def _numbers(values: pl.Series, who: str) -> pl.Series:
    if values.dtype == pl.Boolean:
        return values.cast(pl.Float32)
    if not values.dtype.is_numeric():
        raise DataError(
            f"{who} must hold numbers; got {values.dtype} (first: {values[0] if len(values) else None!r})."
        )
    return values.cast(pl.Float32, strict=False)


def timestamps(values: pl.Series, who: str) -> pl.Series:
    """Timestamps as 64-bit integers: numbers as they are, dates in microseconds.

    Raises
    ------
    DataError: text that is no date, another type, an empty value.
    """
    if values.dtype.is_temporal():
        values = values.cast(pl.Datetime("us")).dt.epoch("us")
    elif values.dtype == pl.String:
        try:
            values = values.str.to_datetime(time_unit="us").dt.epoch("us")
        except pl.exceptions.PolarsError as error:
            raise DataError(
                f"the {who} log's timestamps must be numbers or ISO dates; {str(error).splitlines()[0]}"
            ) from error
    elif not values.dtype.is_numeric():
        raise DataError(f"the {who} log's timestamps must be numbers or dates; got {values.dtype}.")
    stamps = values.cast(pl.Int64, strict=False)
    if stamps.null_count():
        raise DataError(
            f"the {who} log's timestamps must not be empty; {stamps.null_count()} of {len(stamps)} are."
        )
    return stamps


def _check_ratings(table: pl.DataFrame, who: str, rating_range: tuple[float, float] | None) -> None:
    rating = table["rating"]
    bad = rating.is_null() | rating.is_nan().fill_null(True) | rating.is_infinite().fill_null(True)
    if bad.any():
        raise DataError(
            f"the {who} log's ratings must be finite numbers; {int(bad.sum()):,} of {len(table):,} are null, "
            f"NaN or infinite (first: user {table['user'].filter(bad)[0]!r}, item "
            f"{table['item'].filter(bad)[0]!r}). Drop these rows: an unrated pair has no row."
        )
    if rating_range is not None:
        low, high = rating_range
        out = (rating < low) | (rating > high)
        if out.any():
            raise DataError(
                f"the {who} log's ratings must lie in [{low:g}, {high:g}]; {int(out.sum()):,} of "
                f"{len(table):,} do not (first: {rating.filter(out)[0]:g} of user "
                f"{table['user'].filter(out)[0]!r}, item {table['item'].filter(out)[0]!r}). "
                "Correct the rows or `rating_range`."
            )


def _vocabulary(
    raw: dict[str, pl.DataFrame], table: pl.DataFrame | None, extra: Any, kind: str, notes: list[str]
) -> Vocabulary:
    """All ids of one side. Where one log has strings and another integers, 1 and '1' are one id."""
    columns = {who: log[kind].unique() for who, log in raw.items()}
    if any(ids.dtype == pl.String for ids in columns.values()):
        columns = {who: ids.cast(pl.String) for who, ids in columns.items()}
    in_logs = Vocabulary(pl.concat(list(columns.values())), kind)
    others = []
    if table is not None:
        if not table.columns:
            raise DataError(f"the {kind}s table must have an id column; got no columns.")
        ids = normalise_ids(table[table.columns[0]], kind)
        if in_logs.is_text:
            ids = ids.cast(pl.String)
        elif ids.dtype == pl.String:
            ids = ids.cast(pl.Int64, strict=False)
            if ids.null_count():
                raise DataError(
                    f"the {kind}s table's ids ('{table.columns[0]}') must be whole numbers as in the logs; "
                    f"got strings. Give both the same ids."
                )
        if ids.is_duplicated().any():
            raise DataError(
                f"the {kind}s table must hold an id once; '{ids.filter(ids.is_duplicated())[0]}' is repeated."
            )
        others.append(ids)
    if extra is not None:
        others.append(normalise_ids(as_series(extra, kind), kind).cast(in_logs.values.dtype))
    everything = in_logs.union(*others) if others else in_logs
    biased = Vocabulary(columns["biased"], kind)
    for who in ("unbiased", "test"):
        if who in columns and (new := int((biased.encode(columns[who]) < 0).sum())):
            notes.append(f"{new:,} {kind}s of the {who} log have no row in the biased log.")
    if silent := len(everything) - len(in_logs):
        notes.append(f"{silent:,} {kind}s have no row in any log.")
    return everything


def _encode(
    table: pl.DataFrame, who: str, rule: Duplicates, users: Vocabulary, items: Vocabulary, notes: list[str]
) -> Log:
    user, item = users.encode(table["user"]), items.encode(table["item"])
    rating = table["rating"].to_numpy()
    stamp = table["timestamp"].to_numpy() if "timestamp" in table.columns else None
    key = user * np.int64(len(items)) + item
    ordered = np.sort(key)
    repeated = ordered[1:] == ordered[:-1]
    if not (extra := int(repeated.sum())):
        return Log(user, item, rating, stamp)
    if rule == "error":
        u, i = divmod(int(ordered[1:][repeated][0]), len(items))
        raise DataError(
            f"the {who} log must hold a (user, item) pair once; {extra:,} of {len(key):,} rows repeat one "
            f"(first: user {users.values[u]!r}, item {items.values[i]!r}). Say what a repetition means: "
            "duplicates='last' or 'mean'."
        )
    notes.append(f"{extra:,} repeated pairs of the {who} log were merged (duplicates = '{rule}').")
    # Sorted by pair, then by what decides: the order of the rows must not change a mean's last digit.
    by = stamp if rule == "last" else rating
    order = np.lexsort((key,) if by is None else (by, key))
    first = np.flatnonzero(np.r_[True, key[order][1:] != key[order][:-1]])
    last = np.r_[first[1:], len(key)] - 1
    if rule == "mean":
        sums = np.add.reduceat(rating[order].astype(np.float64), first)
        rating = (sums / (last - first + 1)).astype(np.float32)
        stamp = None if stamp is None else np.maximum.reduceat(stamp[order], first)
        return Log(user[order[last]], item[order[last]], rating, stamp)
    keep = np.sort(order[last])
    return Log(user[keep], item[keep], rating[keep], None if stamp is None else stamp[keep])


def _features(table: pl.DataFrame | None, vocabulary: Vocabulary, notes: list[str]) -> Features | None:
    """Numeric features by code; None for a table of ids alone."""
    if table is None or len(table.columns) < 2:
        return None
    kind = vocabulary.kind
    names: list[str] = []
    columns: list[np.ndarray] = []
    for name in table.columns[1:]:
        for label, column in _numeric_columns(table[name], name, kind):
            names.append(label)
            columns.append(column)
    if not columns:
        raise DataError(
            f"the {kind}s table's features must hold a value; all of {table.columns[1:]} are empty."
        )
    block = np.stack(columns, axis=1)
    block[table.select(pl.all_horizontal(pl.col(table.columns[1:]).is_null())).to_series().to_numpy()] = (
        np.nan
    )
    # By code and in the type that is kept, so that no order of rows and no round trip moves a mean.
    values = np.full((len(vocabulary), len(names)), np.nan, np.float32)
    values[vocabulary.encode(table[table.columns[0]])] = block
    gaps = ~np.isfinite(values)
    missing = np.asarray(gaps.all(axis=1))
    means = np.where(gaps, 0.0, values).sum(axis=0, dtype=np.float64) / np.maximum((~gaps).sum(axis=0), 1)
    if partial := int((gaps.any(axis=1) & ~missing).sum()):
        notes.append(f"{partial:,} {kind}s have a gap in a numeric feature: the column mean is used.")
    if missing.any():
        notes.append(f"{int(missing.sum()):,} {kind}s have no features: the column means are used.")
    return Features(tuple(names), np.where(gaps, means.astype(np.float32), values), missing)


def _numeric_columns(values: pl.Series, name: str, kind: str) -> list[tuple[str, np.ndarray]]:
    """A feature as numeric columns: numbers as they are, categories one-hot (a gap is a row of zeros)."""
    if values.dtype == pl.Boolean or values.dtype.is_numeric():
        return [(name, values.cast(pl.Float64).fill_null(float("nan")).to_numpy())]
    if values.dtype in (pl.String, pl.Categorical, pl.Enum):
        text = values.cast(pl.String)
        levels = text.drop_nulls().unique().sort().to_list()
        if len(levels) > MAX_CATEGORIES:
            raise DataError(
                f"the {kind}s table's feature '{name}' must have at most {MAX_CATEGORIES} categories; got "
                f"{len(levels):,}. Group them, or drop the column."
            )
        return [
            (f"{name}={level}", (text == level).fill_null(False).cast(pl.Float64).to_numpy())
            for level in levels
        ]
    raise DataError(
        f"the {kind}s table's feature '{name}' must be numbers, booleans or categories; got {values.dtype}."
    )


def frames_from_matrices(
    matrices: Mapping[str, Any], user_ids: Any, item_ids: Any
) -> tuple[list[pl.DataFrame | None], tuple[pl.Series, pl.Series]]:
    """Sparse matrices of one shape as tables of their stored entries, explicit zeros included, and the ids.

    Raises
    ------
    DataError: not a sparse matrix, or ids or shapes that do not fit the first one.
    """
    from scipy.sparse import issparse

    shape: tuple[int, int] | None = None
    ids: list[pl.Series] = []
    frames: list[pl.DataFrame | None] = []
    for who, matrix in matrices.items():
        if matrix is None and shape is not None:
            frames.append(None)
            continue
        if not issparse(matrix) or len(matrix.shape) != 2:
            raise DataError(
                f"'{who}' must be a scipy sparse matrix of users x items; got {type(matrix).__name__}."
            )
        if shape is None:
            shape = matrix.shape
            ids = [
                _side_ids(given, side, size)
                for given, side, size in zip((user_ids, item_ids), ("user", "item"), shape, strict=True)
            ]
        if matrix.shape != shape:
            raise DataError(f"'{who}' must have the shape {shape} of the first matrix; got {matrix.shape}.")
        coo = matrix.tocoo()
        frames.append(
            pl.DataFrame(
                {
                    "user_id": ids[0].gather(coo.row),
                    "item_id": ids[1].gather(coo.col),
                    "rating": pl.Series(coo.data),
                }
            )
        )
    return frames, (ids[0], ids[1])


def _side_ids(given: Any, kind: str, size: int) -> pl.Series:
    ids = pl.Series(np.arange(size)) if given is None else normalise_ids(as_series(given, kind), kind)
    if len(ids) != size:
        raise DataError(
            f"'{kind}_ids' must have {size} ids, one for each {kind} of the matrix; got {len(ids)}."
        )
    if ids.is_duplicated().any():
        raise DataError(f"'{kind}_ids' must be distinct; {ids.filter(ids.is_duplicated())[0]!r} is repeated.")
    return ids
