"""New users at request time: a history, or features, or both, as a data set in a fitted model's codes and columns.

A history replaces what was learned of a known user; features without a history leave a known user as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from deconrec.data.dataset import Dataset, Features, Log, Task
from deconrec.data.ids import Vocabulary, normalise_ids
from deconrec.data.split import take_users
from deconrec.data.tables import read_table
from deconrec.data.validate import build_dataset
from deconrec.errors import DataError

if TYPE_CHECKING:
    from deconrec.base import Estimator


def new_users(model: Estimator, history: Any, features: Any = None) -> Dataset:
    """The users to fold in, over the model's items, their outcomes on the model's scale.

    Parameters
    ----------
    model: fitted.
    history: rows (user_id, item_id, rating) or a `Dataset`; None = no rows. Items that are unknown are left out.
    features: a table, the id in its first column, with the columns of the training features; None = those of `history`
        if it is a `Dataset`, else the means of training.

    Raises
    ------
    DataError: columns that are missing, or features for a method that reads none.
    """
    own: Features | None = None
    if history is None:
        users, log = model.users_.values.clear(), _no_rows()
    else:
        given = history
        if not isinstance(given, Dataset):
            given = build_dataset(
                read_table(history, "the history"),
                unbiased=None,
                test=None,
                users=None,
                items=None,
                columns=None,
                duplicates="last",
                task=Task(),
                name="history",
                called="history",
            )
        users, log, own = given.users.values, given.biased, given.user_features
        code = model.items_.encode(given.items.values)[log.item]
        known = code >= 0
        log = Log(log.user[known], code[known], log.rating[known])
    vocabulary = Vocabulary(users, "user")
    chosen = None if own is None else _own(model, own)
    if features is not None:
        table = _feature_table(model, features)
        ids = table.to_series(0)
        fresh = (model.users_.encode(ids) < 0) | (vocabulary.encode(ids) >= 0 if len(vocabulary) else False)
        table = table.filter(pl.Series(fresh))
        ids, old = normalise_ids(table.to_series(0), "user"), vocabulary
        both = [old.values, ids] if len(old) else [ids]
        if len({v.dtype for v in both}) > 1:  # numbers in one table, text in the other
            both = [v.cast(pl.String) for v in both]
        vocabulary = Vocabulary(pl.concat(both), "user")
        if len(log):
            log = Log(vocabulary.encode(old.values)[log.user], log.item, log.rating)
        chosen = _aligned(model, table, vocabulary)
    out = Dataset(
        users=vocabulary,
        items=model.items_,
        biased=log,
        task=model.task_,
        user_features=_means(model, len(vocabulary)) if chosen is None else chosen,
    )
    out.__dict__["outcome_scale"] = model.scale_
    return out


def pair_scores(
    model: Estimator, folded: Dataset, place: np.ndarray, item: np.ndarray, cells: int
) -> np.ndarray:
    """(n,) expected outcomes in [0, 1] of pairs of users to fold in, by their place in `folded`, and coded items.

    cells: scores that are held at once.
    """
    out = np.empty(len(place))
    chosen, back = np.unique(place, return_inverse=True)
    size = max(1, cells // max(folded.n_items, 1))
    for start in range(0, len(chosen), size):
        block = model._fold_in(take_users(folded, chosen[start : start + size]))
        rows = np.flatnonzero((back >= start) & (back < start + size))
        out[rows] = block[back[rows] - start, item[rows]]
    return out


def _no_rows() -> Log:
    nothing = np.zeros(0, np.int32)
    return Log(nothing, nothing, np.zeros(0, np.float32))


def _names(model: Estimator) -> list[str] | None:
    """Names of the user features that the model was trained on; None where it did not keep them."""
    kept = ((model.about_ or {}).get("features") or {}).get("user")
    return None if kept is None else list(kept["names"])


def _centre(model: Estimator) -> np.ndarray:
    """(F,) training means of the user features."""
    kept = ((model.about_ or {}).get("features") or {}).get("user")
    if kept is not None:
        return np.asarray(kept["means"], np.float32)
    return np.asarray(getattr(model, "x_mean_", np.zeros(model.spec_.n_user_features, np.float32)))


def _reads(model: Estimator) -> bool:
    return bool(model.spec_.n_user_features) and model.tags.uses_features


def _means(model: Estimator, n: int) -> Features | None:
    """Training means, where the model reads features at all."""
    if not _reads(model):
        return None
    mean = _centre(model)
    names = _names(model) or [f"x{j}" for j in range(len(mean))]
    return Features(tuple(names), np.tile(mean, (n, 1)), np.ones(n, bool))


def _own(model: Estimator, own: Features) -> Features | None:
    """The features of a history that is a data set, in the order of training."""
    if not _reads(model):
        return None
    n = model.spec_.n_user_features
    names = _names(model) or (list(own.names) if len(own.names) == n else None)
    # A category that none of these users has gave no column.
    if names is None or any(name not in own.names and "=" not in name for name in names):
        raise DataError(
            f"{type(model).__name__} was trained on {n} user features, but the history has {len(own.names)} "
            f"{list(own.names)}; give the same columns{f' {names}' if names else ''}, or none (training means are then "
            "taken)."
        )
    values = np.zeros((len(own.missing), n), np.float32)
    for j, name in enumerate(names):
        if name in own.names:
            values[:, j] = own.values[:, own.names.index(name)]
    values[own.missing] = _centre(model)
    return Features(tuple(names), values, own.missing)


def _feature_table(model: Estimator, features: Any) -> pl.DataFrame:
    who = type(model).__name__
    if not _reads(model):
        raise DataError(
            f"{who} reads no user features (with its present parameters, or on its training data); give a history."
        )
    table = read_table(features, "the features", ids=None)
    if not len(table.columns):
        raise DataError("the features need the users' id in their first column; got no column.")
    ids = table.to_series(0)
    if ids.n_unique() < len(ids):
        raise DataError("the features must hold a user once; some ids are repeated.")
    return table


def _aligned(model: Estimator, table: pl.DataFrame, vocabulary: Vocabulary) -> Features:
    """A table's features as the columns of training: numbers, and one column a category that training knew.

    A gap is the mean of training, in a category no category; users without a row have the means.
    """
    names, mean = _names(model), _centre(model)
    if names is None:  # a model of an earlier format: by position
        names = table.columns[1:]
    if len(names) != len(mean):
        raise DataError(
            f"{type(model).__name__} was trained on {len(mean)} user features; the table has {len(names)}."
        )
    values = np.tile(mean, (len(vocabulary), 1)).astype(np.float32)
    missing = np.ones(len(vocabulary), bool)
    row = vocabulary.encode(table.to_series(0))
    there = ~table.select(pl.all_horizontal(pl.col(table.columns[1:]).is_null())).to_series().to_numpy()
    for j, name in enumerate(names):
        column = _column(table, name, model)
        known = np.isfinite(column) & there
        values[row[known], j] = column[known]
    missing[row[there]] = False
    return Features(tuple(names), values, missing)


def _column(table: pl.DataFrame, name: str, model: Estimator) -> np.ndarray:
    """(n,) the values of one column of training; NaN for a gap."""
    if name in table.columns[1:]:
        try:
            return table[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        except pl.exceptions.PolarsError as error:
            raise DataError(f"the feature '{name}' must be a number, as in training.") from error
    for at in (k for k, sign in enumerate(name) if sign == "="):
        column, level = name[:at], name[at + 1 :]
        if column in table.columns[1:]:
            same = table[column].cast(pl.String) == level
            return same.fill_null(False).cast(pl.Float64).to_numpy()
    raise DataError(
        f"the features need the column '{name.partition('=')[0]}', which {type(model).__name__} was trained on; got "
        f"{table.columns[1:]}."
    )
