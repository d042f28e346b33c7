"""Metrics computed: the one place where a test part is opened. Their names stand in `names`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from deconrec.base import Estimator
from deconrec.data.dataset import Dataset, Log, Truth
from deconrec.data.split import PairsTest, Sealed, UsersTest
from deconrec.errors import DataError
from deconrec.evaluation import calibration, ranking, rating
from deconrec.experiments.beyond import POPULARITY, cold, list_metrics
from deconrec.experiments.names import CONFOUNDER, POINTWISE, Metric
from deconrec.exposure.substitutes import substitutes
from deconrec.pairs import NO_TABLES

CELLS = 8_000_000  # scores held at once

PAIRS_DEFAULT = ("auc", "ndcg@5/shown", "recall@5/shown", "logloss", "mse")
USERS_DEFAULT = ("recall_capped@20/full", "ndcg@20/full")


@dataclass
class Evaluated:
    """Metrics of one fitted model.

    Attributes
    ----------
    metrics: by name.
    per_user: (user codes of the whole data, values) of ranking metrics, by name.
    skipped: users without a positive, by ranking metric.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    per_user: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)

    def ranked(self, name: str, values: ranking.RankingValues, codes: np.ndarray | None = None) -> None:
        """Add a ranking metric; `codes` maps its users to the whole data's."""
        self.metrics[name] = values.mean
        users = values.user if codes is None else codes[values.user]
        self.per_user[name] = (users, values.values)
        self.skipped[name] = values.skipped

    def listed(self, name: str, value: float | np.ndarray, users: np.ndarray) -> None:
        """Add a metric of lists: one number, or one a user of `users`, codes of the whole data."""
        if isinstance(value, float):
            self.metrics[name] = value
            return
        there = np.isfinite(value)
        self.metrics[name] = float(value[there].mean()) if there.any() else float("nan")
        self.per_user[name] = (users[there], value[there])


def default_metrics(data: Dataset, protocol: str, truth: Truth | None) -> list[str]:
    """The metrics that a data set allows, in the order of reports."""
    task, biased = data.task, data.unbiased is None and data.test is None
    positives = task.binarize is not None or task.relevant is not None or data.outcome_scale.binary
    if protocol == "users":
        suffix = "" if truth is not None or data.test is not None else "/biased"
        return [f"{m}{suffix}" for m in USERS_DEFAULT]
    names = [m for m in PAIRS_DEFAULT if positives or m == "mse"]
    if not data.outcome_scale.binary:
        names = [m for m in names if m != "logloss"]
    if biased:
        names = [f"{m}/biased" for m in names]
    elif bool(data.in_biased.any()) or data.test is not None:
        names += [f"{m}/leaked" for m in names]
    if truth is not None:
        names += [m for m in ("mse/truth", "auc/truth") if m == "mse/truth" or data.outcome_scale.binary]
    return names


def check_metrics(names: Sequence[str], data: Dataset, protocol: str, truth: Truth | None) -> list[str]:
    """The names, complete and possible on this data.

    Raises
    ------
    UnknownName, ParameterError: a name that is none.  DataError: one that the data cannot give.
    """
    # Over users, positives are never those of the randomised log.
    biased = data.test is None and (truth is None if protocol == "users" else data.unbiased is None)
    out = []
    for name in names:
        metric = Metric.parse(name)
        if metric.target is not None:
            raise DataError(
                f"metric '{name}' is of an output of models of impressions; '{data.name}' is a log of pairs."
            )
        if metric.variant == "confounder":
            if protocol != "users" or truth is None or truth.confounder is None:
                raise DataError(
                    f"metric '{name}' needs the users protocol and a simulator's hidden confounder, which "
                    f"'{data.name}' does not give."
                )
            out.append(name)
            continue
        if metric.base in POPULARITY:
            out.append(name)
            continue
        if metric.variant == "truth" and truth is None:
            raise DataError(f"metric '{name}' needs a simulator's truth; '{data.name}' is no simulator.")
        if (metric.base, metric.candidates) == ("logloss", "full") and truth is None:
            raise DataError(
                f"metric '{name}' needs the outcomes of all pairs, which '{data.name}' does not have; use 'logloss'."
            )
        if biased and metric.variant is None:
            # Nothing unbiased to test on: the name says so, asked for or not.
            metric = replace(metric, variant="biased")
        if metric.variant == "biased" and not biased:
            raise DataError(f"metric '{name}' is for data without an unbiased test; '{data.name}' has one.")
        if protocol == "users" and (metric.base in POINTWISE or metric.candidates != "full"):
            raise DataError(
                f"metric '{name}' is not defined in the users protocol; it ranks the full catalogue."
            )
        if metric.base == "logloss" and not data.outcome_scale.binary:
            raise DataError("metric 'logloss' needs a binary outcome; set `binarize`.")
        out.append(str(metric))
    return list(dict.fromkeys(out))


def evaluate_pairs(
    model: Estimator, sealed: Sealed[PairsTest], data: Dataset, names: Sequence[str], truth: Truth | None
) -> Evaluated:
    """Open the test part and evaluate a model on it, once; pairs protocol."""
    test = sealed.open()
    out = Evaluated()
    given = data.biased.pattern(data.shape).multiply(test.known)
    of_users, of_items = (np.asarray(given.sum(axis)).ravel() for axis in (1, 0))
    strata = {"cold-users": cold(of_users), "cold-items": cold(of_items)}
    everywhere = _Everywhere(model, test, data, truth, strata)
    answers: dict[str | None, tuple[Log, np.ndarray]] = {}
    metrics = {name: Metric.parse(name) for name in names}
    if lists := [(m.base, m.k or 1) for m in metrics.values() if m.base in POPULARITY]:
        users = np.unique(test.log.user)

        def block(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            scores = model.score(data.users.decode(users[rows]), unknown="fallback")
            return scores, test.known[users[rows]].toarray() > 0

        found = list_metrics(lists, block, len(users), of_items, max(1, CELLS // data.n_items))
    for name, metric in metrics.items():
        if metric.base in POPULARITY:
            out.listed(name, found[metric.base, metric.k or 1], users)
            continue
        if metric.variant == "truth":
            out.metrics[name] = everywhere.against_truth(metric.base)
            continue
        if truth is not None and metric.candidates == "full" and metric.variant is None:
            if metric.base == "logloss":
                out.metrics[name] = everywhere.logloss()
            else:
                out.ranked(name, everywhere.ranked(metric))
            continue
        where = "leaked" if metric.variant == "leaked" else None
        if where not in answers:
            log = test.leaked if where else test.log
            users_, items = data.users.decode(log.user), data.items.decode(log.item)
            answers[where] = log, model.predict((users_, items), unknown="fallback")
        log, prediction = answers[where]
        mine = np.ones(len(log), bool)
        if metric.stratum is not None:
            mine = strata[metric.stratum][log.user if metric.stratum == "cold-users" else log.item]
        if metric.base in POINTWISE:
            some = log.take(mine)
            out.metrics[name] = _pointwise(metric.base, prediction[mine], some, data) if len(some) else np.nan
            continue
        # Of cold items, positives are counted; of cold users, rows: what the others hold is ranked either way.
        relevant = data.positive(log.rating) & mine
        rows = mine if metric.stratum == "cold-users" else np.ones(len(log), bool)
        if metric.candidates == "shown":
            placed = ranking.place(log.user[rows], prediction[rows], relevant[rows])
            out.ranked(name, placed.values(metric.base, metric.k or 1))
        else:
            out.ranked(name, _full_pairs(model, test, log.take(rows), relevant[rows], data, metric))
    return out


def _pointwise(base: str, prediction: np.ndarray, log: Log, data: Dataset) -> float:
    if base == "auc":
        return rating.auc(prediction, data.positive(log.rating))
    outcome = data.outcome_scale.outward(data.outcome(log))
    if base == "mse":
        return rating.mse(prediction, outcome)
    probability = np.clip(prediction, 0.0, 1.0)
    if base == "logloss":
        return rating.logloss(probability, outcome)
    return calibration.ece(probability, outcome)


def _full_pairs(
    model: Estimator, test: PairsTest, log: Log, positive: np.ndarray, data: Dataset, metric: Metric
) -> ranking.RankingValues:
    """Rank all items but those that the model was given for the user; `positive` (n,) are the rows to be found."""
    if not len(log):
        return ranking.place([], [], []).values(metric.base, metric.k or 1)
    relevant = log.take(positive).pattern(data.shape)
    known = test.known
    if metric.variant == "leaked":  # kept pairs stand in the biased log: they are candidates again
        known = known - known.multiply(relevant)
    users = np.unique(log.user)
    parts = []
    size = max(1, CELLS // data.n_items)
    for start in range(0, len(users), size):
        block = users[start : start + size]
        scores = model.score(data.users.decode(block), unknown="fallback")
        parts.append(ranking.place_block(scores, relevant[block], known[block], block, depth=metric.k or 1))
    return ranking.join(parts).values(metric.base, metric.k or 1)


class _Everywhere:
    """Metrics over all pairs that the model was not given, where every outcome is known; scored once."""

    def __init__(
        self,
        model: Estimator,
        test: PairsTest,
        data: Dataset,
        truth: Truth | None,
        strata: Mapping[str, np.ndarray],
    ) -> None:
        self._model, self._test, self._data, self._truth = model, test, data, truth
        self._strata = strata

    @cached_property
    def _scores(self) -> np.ndarray:
        return self._model.score(self._data.users.values, unknown="fallback")

    @cached_property
    def _outside(self) -> np.ndarray:
        outside = np.ones(self._data.shape, bool)
        outside[self._test.known.nonzero()] = False
        return outside

    @cached_property
    def _known(self) -> Truth:
        assert self._truth is not None  # check_metrics refused otherwise
        return self._truth

    @cached_property
    def _placed(self) -> dict[tuple[int, str | None], ranking.Placement]:
        return {}

    def against_truth(self, base: str) -> float:
        """Against the expected outcome."""
        prediction, expected = self._scores[self._outside], self._known.outcome[self._outside]
        return rating.mse(prediction, expected) if base == "mse" else rating.soft_auc(prediction, expected)

    def logloss(self) -> float:
        """Against the drawn (or real) outcome of every pair."""
        probability = np.clip(self._scores[self._outside], 0.0, 1.0)
        return rating.logloss(probability, self._data.outcome_scale.inward(self._known.rating[self._outside]))

    def ranked(self, metric: Metric) -> ranking.RankingValues:
        """Every positive outside what the model was given is to be found, not the test rows' alone."""
        depth, stratum = key = metric.k or 1, metric.stratum
        if key not in self._placed:
            size = max(1, CELLS // self._data.n_items)
            users = np.arange(self._data.n_users)
            users = users[self._strata[stratum]] if stratum == "cold-users" else users
            parts = []
            for start in range(0, len(users), size):
                block = users[start : start + size]
                outside = self._outside[block]
                relevant = self._data.positive(self._known.rating[block]) & outside
                if stratum == "cold-items":
                    relevant = relevant & self._strata[stratum]
                scores = self._scores[block]
                parts.append(ranking.place_block(scores, relevant, ~outside, block, depth=depth))
            self._placed[key] = ranking.join(parts)
        return self._placed[key].values(metric.base, depth)


def evaluate_users(
    model: Estimator,
    sealed: Sealed[UsersTest],
    data: Dataset,
    names: Sequence[str],
    truth: Truth | None,
    train: Dataset,
) -> Evaluated:
    """Open the test users and rank the full catalogue for them, once; users protocol.

    Parameters
    ----------
    train: what the model was fitted on; `r2/confounder` needs its users.
    """
    test = sealed.open()
    metrics = {name: Metric.parse(name) for name in names}
    depth = max((m.k or 1 for m in metrics.values()), default=1)
    history = test.history
    codes = data.users.encode(history.users.values).astype(np.int64)
    out = Evaluated()
    if CONFOUNDER in metrics:
        known = None if truth is None else truth.confounder
        assert known is not None  # check_metrics refused otherwise
        c = known[data.users.encode(train.users.values).astype(np.int64)]
        out.metrics[CONFOUNDER] = _explained(model, train, c, history, known[codes])
    seen = history.biased.pattern(history.shape)
    of_items = np.bincount(train.biased.item, minlength=train.n_items)
    strata = {"cold-users": cold(np.diff(seen.indptr)), "cold-items": cold(of_items)}
    size = max(1, CELLS // data.n_items)

    def block(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raw = history.users.values.gather(rows)
        return model.score(raw, history=history, unknown="fallback"), seen[rows].toarray() > 0

    asked = dict.fromkeys(m.stratum for m in metrics.values() if m.ranked)
    parts: dict[str | None, list[ranking.Placement]] = {stratum: [] for stratum in asked}
    for start in range(0, history.n_users, size) if asked else ():
        rows = np.arange(start, min(start + size, history.n_users))
        scores, given = block(rows)
        for stratum, of in parts.items():
            relevant, kept = test.relevant[rows].toarray() > 0, np.ones(len(rows), bool)
            if stratum == "cold-items":
                relevant = relevant & strata[stratum]
            elif stratum == "cold-users":
                kept = strata[stratum][rows]
            of.append(ranking.place_block(scores[kept], relevant[kept], given[kept], rows[kept], depth=depth))
    placed = {stratum: ranking.join(of) for stratum, of in parts.items()}
    if lists := [(m.base, m.k or 1) for m in metrics.values() if m.base in POPULARITY]:
        found = list_metrics(lists, block, history.n_users, of_items, size)
    for name, metric in metrics.items():
        if metric.base in POPULARITY:
            out.listed(name, found[metric.base, metric.k or 1], codes)
        elif name != CONFOUNDER:
            out.ranked(name, placed[metric.stratum].values(metric.base, metric.k or 1), codes)
    return out


def _explained(model: Estimator, train: Dataset, c: np.ndarray, new: Dataset, c_new: np.ndarray) -> float:
    """Share of the variance of new users' confounders c that their substitutes explain: R^2 of the least-squares map
    with a constant, found on training users; all columns of c together. NaN for a method without substitutes.
    """
    exposure, tables = model.exposure_model, getattr(model, "tables", None)
    if exposure is None:
        return float("nan")
    found = (substitutes(exposure, d, NO_TABLES if tables is None else tables(d)) for d in (train, new))
    z, z_new = (np.c_[np.ones(len(each)), each.astype(np.float64)] for each in found)
    coefficient = np.linalg.lstsq(z, c, rcond=None)[0]
    return float(1 - ((c_new - z_new @ coefficient) ** 2).sum() / ((c_new - c.mean(0)) ** 2).sum())
