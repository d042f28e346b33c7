"""The pairs that a saved model is judged on, and the rows of a log that may judge it.

The population is every pair of the data's users (those that the model knows) and the model's items that the model was
not given in training. A row of the log that was given in training judges nothing: it is left out and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from deconrec.base import Estimator
from deconrec.data.dataset import Dataset, Features, Log
from deconrec.data.ids import Vocabulary
from deconrec.data.impressions import need_pairs
from deconrec.errors import DataError


@dataclass(frozen=True, eq=False)
class Population:
    """Pairs and the logged rows among them.

    Attributes
    ----------
    data: users and items of the population; its biased log holds the rows that judge, its unbiased log the data's.
    excluded: (n_users, n_items) pattern of pairs that a model was given: no part of the population.
    given: rows of the log as it came. trained: those left out because a model was given their pair.
    unknown: those left out because the model does not know their user or item.
    """

    data: Dataset
    excluded: csr_matrix
    given: int
    trained: int
    unknown: int

    @property
    def size(self) -> np.ndarray:
        """(n_users,) pairs of each user."""
        return self.data.n_items - np.diff(self.excluded.indptr)

    @property
    def rows(self) -> Log:
        """The rows that judge."""
        return self.data.biased

    @property
    def counts(self) -> dict[str, int]:
        """What was given, left out and used, for records."""
        return {
            "rows_given": self.given,
            "rows_of_training_left_out": self.trained,
            "rows_unknown_left_out": self.unknown,
            "rows_used": len(self.rows),
            "users": self.data.n_users,
            "items": self.data.n_items,
            "pairs": int(self.size.sum()),
        }

    @property
    def outcome(self) -> np.ndarray:
        """(n,) outcomes of the rows, on the outcome's own scale."""
        scale = self.data.outcome_scale
        return np.asarray(scale.outward(self.data.outcome(self.rows)), np.float64)

    def positive(self, rating: np.ndarray) -> np.ndarray | None:
        """(n,) bool, or None where the task says of no rating that it is a positive."""
        task = self.data.task
        if task.binarize is None and task.relevant is None and not self.data.outcome_scale.binary:
            return None
        return self.data.positive(rating)


def population_of(models: Sequence[Estimator], data: Dataset) -> Population:
    """What models may be judged on by a data set's biased log: the pairs that none of them was given.

    Raises
    ------
    DataError: the log that a model was trained on, no row that may judge, another task than the models', or models of
        different items.
    """
    need_pairs(data, "evaluation of a saved model")
    first = models[0]
    for model in models:
        model._check_fitted()
        _check_task(model, data)
        if not model.items_.same(first.items_):
            raise DataError(
                f"models that are judged together must rank the same items; {type(first).__name__} knows "
                f"{len(first.items_):,} and {type(model).__name__} others ({len(model.items_):,}). Fit them to one "
                "data set."
            )
    users = data.users.values
    known = np.ones(len(users), bool)
    for model in models:
        known &= model.users_.encode(users) >= 0
    kept = np.flatnonzero(known)
    code = np.full(data.n_users, -1, np.int64)
    code[kept] = np.arange(len(kept))
    item = first.items_.encode(data.items.values).astype(np.int64)

    excluded = csr_matrix((len(kept), len(first.items_)), dtype=np.float32)
    for model in models:
        excluded = excluded + model.seen_[model.users_.encode(users.gather(kept))]
    excluded = csr_matrix(excluded)
    excluded.data[:] = 1.0
    excluded.sort_indices()

    log = data.biased
    rows = np.flatnonzero((code[log.user] >= 0) & (item[log.item] >= 0))
    inside = _recoded(log.take(rows), code, item)
    row, column = excluded.nonzero()
    seen = np.isin(inside.key(len(first.items_)), row.astype(np.int64) * len(first.items_) + column)
    judging = inside.take(~seen)
    if not len(judging):
        raise DataError(_nothing_left(models, data, len(log), int(seen.sum())))
    unbiased = None
    if data.unbiased is not None:
        both = (code[data.unbiased.user] >= 0) & (item[data.unbiased.item] >= 0)
        unbiased = _recoded(data.unbiased.take(both), code, item)
    new = Dataset(
        users=Vocabulary(users.gather(kept), "user"),
        items=first.items_,
        biased=judging,
        unbiased=unbiased,
        user_features=None if data.user_features is None else data.user_features.take(kept),
        item_features=_items_in_order(data.item_features, item, len(first.items_)),
        task=data.task,
        name=data.name,
    )
    new.__dict__["outcome_scale"] = first.scale_
    return Population(new, excluded, len(log), int(seen.sum()), len(log) - len(rows))


def population_of_log(data: Dataset) -> Population:
    """All pairs of a data set, and all rows of its biased log."""
    need_pairs(data, "sensitivity")
    nothing = csr_matrix(data.shape, dtype=np.float32)
    return Population(data, nothing, len(data.biased), 0, 0)


def _check_task(model: Estimator, data: Dataset) -> None:
    """Refuse data whose outcome is another one than the model's."""
    own, given = model.task_.binarize, data.task.binarize
    if own != given and not (model.scale_.binary and data.outcome_scale.binary):
        mine, theirs = ("the rating itself" if b is None else f"rating >= {b:g}" for b in (own, given))
        raise DataError(
            f"the model's outcome is {mine}, that of '{data.name}' {theirs}: give both the same `binarize` in [task]."
        )


def _nothing_left(models: Sequence[Estimator], data: Dataset, given: int, seen: int) -> str:
    same = any(model.fingerprint_ == data.fingerprint for model in models)
    if seen:
        who = "this is the log that the model was trained on: " if same or seen == given else ""
        return (
            f"{who}{seen:,} of {given:,} rows of '{data.name}' were given to the model in training, and no row is left "
            "that may judge it. Evaluate on rows that it has not seen: log new ones (deconrec recommend --explore), or "
            "fit on a part of the log (deconrec data split DATA --out parts; deconrec fit METHOD parts/train --out "
            "DIR), and give parts/holdout."
        )
    return (
        f"no row of '{data.name}' can judge the model: it knows none of their users and items (rows: {given:,}). "
        "Give a log with the ids that the model was trained on."
    )


def _recoded(log: Log, user: np.ndarray, item: np.ndarray) -> Log:
    return Log(user[log.user], item[log.item], log.rating, log.timestamp, propensity=log.propensity)


def _items_in_order(features: Features | None, item: np.ndarray, n_items: int) -> Features | None:
    """The features of the model's items, in its order; column means for items that the data do not have."""
    if features is None:
        return None
    values = np.tile(features.values.mean(0), (n_items, 1)).astype(np.float32)
    missing = np.ones(n_items, bool)
    there = item >= 0
    values[item[there]], missing[item[there]] = features.values[there], features.missing[there]
    return Features(features.names, values, missing)
