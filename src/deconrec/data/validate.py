"""From tables of any make to a `Dataset`: every rule for doubtful rows stands here or in `logs`, and leaves a note.

Rules. Ids: no nulls; strings or whole numbers. Ratings: finite numbers inside `rating_range`; a row without one is an
error, or dropped, counted. Repeated
(user, item) pairs of one log: error, last or mean. Ids seen only in the unbiased or test log, or only in a
feature table: kept in the vocabulary, counted. A feature table of ids alone widens the vocabulary, no more.
Users or items without a feature row, or with an empty one: the column means, counted.
Pairs that stand in both logs: kept here, counted; the split drops them from U, V and test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from deconrec.data.dataset import Dataset, Duplicates, Features, Log, Task, Unrated
from deconrec.data.explain import columns_shown, shown
from deconrec.data.ids import Vocabulary, as_series, normalise_ids
from deconrec.data.logs import RawLog, read_log
from deconrec.data.tables import read_feature_table
from deconrec.errors import DataError, ParameterError, UnknownName

COLUMNS = {
    "user": "user_id",
    "item": "item_id",
    "rating": "rating",
    "timestamp": "timestamp",
    "propensity": "propensity",
}
MAX_CATEGORIES = 200  # one-hot columns of one feature; more is an id, not a feature


def resolve_columns(columns: Mapping[str, str] | None) -> dict[str, str]:
    """The column roles with the caller's names filled in."""
    given = dict(columns or {})
    for role in given:
        if role not in COLUMNS:
            raise UnknownName("column role", role, COLUMNS)
    roles = COLUMNS | given
    one: dict[str, str] = {}
    for role in ("user", "item", "rating", *(r for r in given if r in ("timestamp", "propensity"))):
        if roles[role] in one:
            raise ParameterError(
                f"each role must have a column of its own; '{roles[role]}' was named as the {one[roles[role]]} and as "
                f"the {role}."
            )
        one[roles[role]] = role
    return roles


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
    unrated: Unrated = "error",
    user_ids: Any = None,
    item_ids: Any = None,
    called: str = "biased",
) -> Dataset:
    """The work behind `Dataset.from_frames`; `user_ids` and `item_ids` join the vocabulary, rows or none.

    called: what messages call the biased log.
    """
    if duplicates not in ("error", "last", "mean"):
        raise ParameterError(f"'duplicates' must be 'error', 'last' or 'mean'; got {duplicates!r}.")
    if unrated not in ("error", "drop"):
        raise ParameterError(f"'unrated' must be 'error' or 'drop'; got {unrated!r}.")
    roles = resolve_columns(columns)
    notes: list[str] = []
    raw = {
        who: read_log(
            source,
            called if who == "biased" else who,
            roles,
            delimiter=delimiter,
            rating_range=task.rating_range,
            unrated=unrated,
        )
        for who, source in (("biased", log), ("unbiased", unbiased), ("test", test))
        if source is not None
    }
    for role in ("timestamp", "propensity"):
        if role in (columns or {}) and all(getattr(r, role) is None for r in raw.values()):
            raise DataError(f"the column '{roles[role]}' was named as the {role}, but no log has it.")
    notes += [
        f"{log.dropped:,} rows of the {who} log without a rating were left out (unrated = 'drop')."
        for who, log in raw.items()
        if log.dropped
    ]
    if not len(raw["biased"]):
        raise DataError(f"the {called} log must have at least one row; got none.")
    tables = {}
    for side, source in (("users", users), ("items", items)):
        if source is not None:
            who = f"the {side} table"
            tables[side], said = read_feature_table(source, who, delimiter=delimiter, most=MAX_CATEGORIES)
            notes += said
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
    notes += _one_outcome(data)
    if both := int(data.in_biased.sum()):
        share = both / len(data.in_biased)
        notes.append(
            f"{both:,} pairs of the unbiased log ({share:.1%}) stand in the biased log too: dropped from U, "
            "V and test by every split; metrics named '/leaked' keep them in the test."
        )
    return data._replace(notes=tuple(notes))


def _one_outcome(data: Dataset) -> list[str]:
    """A note on a biased log in which nothing differs; of a handful of rows that says nothing."""
    rating, outcome = data.biased.rating, data.outcome(data.biased)
    if len(rating) < 10 or (outcome != outcome[0]).any():
        return []
    same = float(rating.min()) == float(rating.max())
    what = f"rating of the biased log is {rating[0]:g}" if same else "outcome of the biased log is the same"
    return [
        f"[ONE_OUTCOME] Every {what}: ratings alone cannot tell pairs apart. Of clicks or purchases alone, give what "
        "was shown and not taken as 0 (or a log of impressions), or rank by exposures: protocol 'users', with methods "
        "such as popularity, ease, wmf."
    ]


def _vocabulary(
    raw: dict[str, RawLog], table: pl.DataFrame | None, extra: Any, kind: str, notes: list[str]
) -> Vocabulary:
    """All ids of one side. Where one log has strings and another integers, 1 and '1' are one id."""
    columns = {who: getattr(log, kind).ids for who, log in raw.items()}
    if any(ids.dtype == pl.String for ids in columns.values()):
        columns = {who: ids.cast(pl.String) for who, ids in columns.items()}
    in_logs = Vocabulary(pl.concat(list(columns.values())), kind)
    others = []
    if table is not None:
        if not table.columns:
            raise DataError(f"the {kind}s table must have an id column; got no columns.")
        ids = normalise_ids(table[table.columns[0]], f"the {kind}s table's {kind}")
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
        # A table of ids alone widens the vocabulary; features of nobody in the logs are features of other ids.
        if len(table.columns) > 1 and len(ids) and len(in_logs) and not (in_logs.encode(ids) >= 0).any():
            raise DataError(
                f"the {kind}s table must hold ids of the logs; none of its {len(ids):,} (first: {shown(ids[0])}, in "
                f"'{table.columns[0]}') is among their {len(in_logs):,} (first: {shown(in_logs.values[0])}). Give both "
                "the same ids, in the table's first column."
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
    raw: RawLog, who: str, rule: Duplicates, users: Vocabulary, items: Vocabulary, notes: list[str]
) -> Log:
    user, item = raw.user.of(users), raw.item.of(items)
    rating, stamp, p = raw.rating, raw.timestamp, raw.propensity
    ordered = _keys(user, item, len(items))
    ordered.sort()
    repeated = ordered[1:] == ordered[:-1]
    if not (extra := int(repeated.sum())):
        return Log(user, item, rating, stamp, propensity=p)
    if rule == "error":
        u, i = divmod(int(ordered[1:][repeated][0]), len(items))
        raise DataError(
            f"the {who} log must hold a (user, item) pair once; {extra:,} of {len(raw):,} rows repeat one "
            f"(first: user {users.values[u]!r}, item {items.values[i]!r}). Say what a repetition means: "
            "duplicates='last' or 'mean'."
        )
    del ordered, repeated
    key = _keys(user, item, len(items))
    notes.append(f"{extra:,} repeated pairs of the {who} log were merged (duplicates = '{rule}').")
    # Sorted by pair, then by what decides: the order of the rows must not change a mean's last digit.
    by = stamp if rule == "last" else rating
    order = np.lexsort((key,) if by is None else (by, key))
    first = np.flatnonzero(np.r_[True, key[order][1:] != key[order][:-1]])
    last = np.r_[first[1:], len(key)] - 1
    if rule == "mean":
        if p is not None:
            raise DataError(
                f"the {who} log repeats pairs and holds propensities, which have no mean: give duplicates='last', or "
                "one row a pair with the probability that it was logged at all."
            )
        sums = np.add.reduceat(rating[order].astype(np.float64), first)
        rating = (sums / (last - first + 1)).astype(np.float32)
        stamp = None if stamp is None else np.maximum.reduceat(stamp[order], first)
        return Log(user[order[last]], item[order[last]], rating, stamp)
    keep = np.sort(order[last])
    stamp, p = (None if c is None else c[keep] for c in (stamp, p))
    return Log(user[keep], item[keep], rating[keep], stamp, propensity=p)


def _keys(user: np.ndarray, item: np.ndarray, n_items: int) -> np.ndarray:
    key = user.astype(np.int64)
    key *= n_items
    key += item
    return key


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
            f"the {kind}s table's features must hold a value; all of {columns_shown(table.columns[1:])} are empty."
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
