"""`evaluate`: what a fitted model is worth over all pairs that it was not given, from a biased log.

Every candidate is scored and ranked (`full`: all items but those that the model was given for the user); the log's rows
are weighted by their propensities; the estimators are those of `evaluation.offpolicy`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deconrec.base import Estimator, Propensity
from deconrec.catalogue import open_data
from deconrec.data.dataset import Dataset
from deconrec.errors import DataError, ParameterError, UnknownName
from deconrec.evaluation import offpolicy
from deconrec.evaluation.gains import cumulative, expected_gains
from deconrec.evaluation.offpolicy import Estimate, Guess, Sample
from deconrec.experiments.coverage import learned_note
from deconrec.experiments.imputation import Imputed
from deconrec.experiments.population import Population, population_of
from deconrec.experiments.results import Estimated, Evaluation
from deconrec.experiments.weights import chosen_propensity, name_of, weights_of
from deconrec.methods import key_of
from deconrec.propensity import Known
from deconrec.records import finite

POINTWISE = ("mse", "logloss", "auc")
RANKING = {"ndcg": "dcg", "dcg": "dcg", "recall": "hit", "recall_capped": "hit", "precision": "hit"}
DEFAULT = (
    "mse",
    "auc",
    "ndcg@20/full/pooled",
    "recall@20/full/pooled",
    "recall_capped@20/full/pooled",
    "precision@20/full",
    "dcg@20/full",
)
CELLS = 4_000_000  # scores held at once
LARGEST_SORTED = 50_000_000  # pairs that the doubly robust AUC sorts at once
HOPELESS, WEAK = (
    10.0,
    50.0,
)  # NOTE effective rows; coverage was measured down to some 20 (see the guide)
MASS = 0.1  # NOTE distance of the weights' sum from N that is told
EPS = 1e-7  # as in `rating.logloss`


@dataclass(frozen=True)
class Wanted:
    """A parsed metric name: base, cut-off (None of pointwise metrics)."""

    base: str
    k: int | None = None

    @classmethod
    def parse(cls, name: str) -> Wanted:
        """A metric from its name; "ndcg@20" is completed.

        Raises
        ------
        UnknownName: no such metric.  ParameterError: a cut-off that is none.
        """
        head, *rest = name.split("/")
        match = re.fullmatch(r"([a-z_]+)(?:@(\d+))?", head)
        known = [*POINTWISE, *(f"{m}@20" for m in RANKING)]
        if match is None or match[1] not in (*POINTWISE, *RANKING):
            raise UnknownName("metric that can be estimated", head, known)
        found = cls(match[1], None if match[2] is None else int(match[2]))
        ranked = found.base in RANKING
        if ranked != (found.k is not None) or (found.k is not None and found.k < 1):
            raise ParameterError(
                f"metric '{name}' must be written {found.base + '@20/full' if ranked else found.base}."
            )
        if rest not in ([], str(found).split("/")[1:], ["full"] if ranked else []):
            raise ParameterError(
                f"metric '{name}' cannot be estimated; there is '{found}' (all candidates, sums over all users)."
            )
        return found

    def __str__(self) -> str:
        if self.k is None:
            return self.base
        return f"{self.base}@{self.k}/full" + ("" if self.base in ("dcg", "precision") else "/pooled")


def evaluate(
    model: Estimator | str | Path,
    data: Dataset | str | Path,
    *,
    estimator: Literal["ips", "snips", "dr"] = "snips",
    propensity: Propensity | str | None = None,
    metrics: Sequence[str] | None = None,
    imputation: str = "mf",
    folds: int = 2,
    seed: int = 0,
    root: str | Path | None = None,
) -> Evaluation:
    """Metrics of a model over the population of pairs that it was not given, estimated from a biased log.

    Parameters
    ----------
    model: a fitted model, or the folder of a saved one.
    data: whose biased log is the evaluation log: a `Dataset`, a catalogue name or a TOML data file. Rows whose pair the
        model was given are left out.
    estimator: "ips", "snips" (self-normalised) or "dr" (doubly robust).
    propensity: P(a pair of the population stands in the log): a propensity, or its name with parameters
        ("logistic-mf:dim=4"); None = the propensities that the log holds, else logistic MF: cross-fitted in two parts,
        on features where there are some, and calibrated.
    metrics: names; None = those that the task allows.
    imputation: of "dr": the method whose predictions fill the gaps, fitted to the log's own rows in `folds` parts; a
        pair's value comes from a fit that did not see it.
    seed: of the propensity and of the imputation.
    root: folder of the public data sets.

    Raises
    ------
    DataError: the log that the model was trained on, no row that may judge, or another task than the model's.
    UnknownName, ParameterError: no such estimator, propensity, metric or method.
    """
    offpolicy.check_estimator(estimator)
    if folds < 2:
        raise ParameterError(f"'folds' of evaluate must be at least 2; got {folds}.")
    fitted = opened_model(model)
    given = data if isinstance(data, Dataset) else open_data(data, root).draw(seed)[0]
    asked = None if metrics is None else [Wanted.parse(name) for name in metrics]
    population = population_of([fitted], given)
    wanted = possible(asked, population)
    chosen = chosen_propensity(propensity, population, seed)
    weight, overlap = weights_of(chosen, population, seed)
    sample = Sample(population.rows.user, weight, population.size)
    imputed = Imputed(population, imputation, folds, seed) if estimator == "dr" else None
    answers = answers_of(fitted, population, wanted, imputed)
    found = {str(w): _estimate(w, answers, sample, estimator) for w in wanted}
    mass = offpolicy.population_mean(sample, np.ones(len(weight)), "ips")
    notes = _notes(population, chosen, mass, estimator, given)
    return Evaluation(
        dataset=given.name,
        method=key_of(fitted),
        estimator=estimator,
        estimates=[_told(name, e, estimator) for name, e in found.items()],
        log={
            **population.counts,
            "propensity": name_of(chosen),
            "propensity_params": finite(chosen.describe()),
            "imputation": imputation if estimator == "dr" else None,
        },
        mass=finite({"value": mass.value, "low": mass.low, "high": mass.high}),
        overlap=finite(overlap.to_dict()),
        notes=notes,
    )


def opened_model(model: Estimator | str | Path) -> Estimator:
    """A fitted model, read from its folder where that is given."""
    if isinstance(model, Estimator):
        return model
    from deconrec.saving import load_model

    return load_model(model)


# ---------------------------------------------------------------------- what the model answers
@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says of the logged rows, and, for "dr", of all pairs.

    Attributes
    ----------
    score, outcome: (n,) predictions and outcomes of the rows, on the outcome's own scale.
    positive: (n,) 1.0 where the row is a positive; None where the task does not say.
    gains: (n,) gain of each row, by (kind of gain, K).
    best: (n_users,) gain of a full list of positives, by (kind of gain, K).
    guesses: what is imputed, by name ("mse", "positive", a gain, ...).
    every: (user, score, imputed positive) of all pairs, for the doubly robust AUC; None where not needed.
    at: (n,) places of the rows in `every`.
    """

    score: np.ndarray
    outcome: np.ndarray
    positive: np.ndarray | None
    gains: dict[tuple[str, int], np.ndarray]
    best: dict[tuple[str, int], np.ndarray]
    guesses: dict[Any, Guess]
    every: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    at: np.ndarray | None

    def error(self, base: str) -> np.ndarray:
        """(n,) squared error ("mse") or cross-entropy ("logloss") of the rows."""
        if base == "mse":
            return np.asarray((self.outcome - self.score) ** 2)
        return _logloss(self.outcome, self.score)


def possible(asked: Sequence[Wanted] | None, population: Population) -> list[Wanted]:
    binary = population.data.outcome_scale.binary
    positives = population.positive(population.rows.rating) is not None
    if asked is None:
        return [w for w in map(Wanted.parse, DEFAULT) if positives or w.base == "mse"]
    for w in asked:
        if w.base != "mse" and not positives:
            raise DataError(
                f"metric '{w}' needs to know which ratings are positives; set `binarize` or `relevant` in [task]."
            )
        if w.base == "logloss" and not binary:
            raise DataError("metric 'logloss' needs a binary outcome; set `binarize` in [task].")
    return list(dict.fromkeys(asked))


def answers_of(
    model: Estimator, population: Population, wanted: Sequence[Wanted], imputed: Imputed | None = None
) -> Answers:
    """Score every candidate of the population once, block by block."""
    data, rows = population.data, population.rows
    kinds = {(RANKING[w.base], w.k): (RANKING[w.base], w.k) for w in wanted if w.k is not None}
    positive = population.positive(rows.rating)
    sort_all = imputed is not None and any(w.base == "auc" for w in wanted)
    if sort_all and population.size.sum() > LARGEST_SORTED:
        raise DataError(
            f"the doubly robust AUC sorts all {int(population.size.sum()):,} pairs, more than {LARGEST_SORTED:,}; "
            "leave 'auc' out of --metrics, or use --estimator snips."
        )
    n, users = len(rows), data.n_users
    score, gains = np.empty(n), {kind: np.empty(n) for kind in kinds}
    best = {
        (g, k): cumulative(g, k, data.n_items)[np.minimum(population.size, data.n_items)] for g, k in kinds
    }
    sums: dict[Any, tuple[np.ndarray, np.ndarray]] = {}
    every: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    at, so_far = np.empty(n, np.int64), 0

    def add(name: Any, block: np.ndarray, values: np.ndarray, where: np.ndarray, cells: Any) -> None:
        of_rows, of_users = sums.setdefault(name, (np.empty(n), np.empty(users)))
        of_rows[where], of_users[block] = values[cells], values.sum(1)

    for block, where, cells, scores, inside in _blocks(model, population):
        score[where] = scores[cells]
        gained = expected_gains(scores, ~inside, kinds)
        for kind, values in gained.items():
            gains[kind][where] = values[cells]
        if imputed is None:
            continue
        r_hat = imputed.outcome(block)
        add("mse", block, inside * imputed.squared(r_hat, scores), where, cells)
        if data.outcome_scale.binary:
            add("logloss", block, inside * _logloss(r_hat, scores), where, cells)
        if positive is not None:
            share = inside * imputed.positives(block, r_hat)
            add("positive", block, share, where, cells)
            for kind, values in gained.items():
                add(kind, block, share * values, where, cells)
            if sort_all:
                number = np.cumsum(inside.ravel()).reshape(inside.shape) - 1
                at[where] = number[cells] + so_far
                so_far += int(inside.sum())
                user = np.repeat(block, inside.sum(1)).astype(np.int32)
                every.append((user, scores[inside].astype(np.float32), share[inside]))
    sorted_all = None
    if every:
        users, scores_of, mass = zip(*every, strict=True)
        sorted_all = np.concatenate(users), np.concatenate(scores_of), np.concatenate(mass)
    return Answers(
        score,
        population.outcome,
        None if positive is None else positive.astype(np.float64),
        gains,
        best,
        {name: Guess(*both) for name, both in sums.items()},
        sorted_all,
        at if every else None,
    )


def _blocks(
    model: Estimator, population: Population
) -> Iterator[tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray]]:
    """(users, places of their rows in the log, cells of these rows, scores (B, n_items), bool: in the population)."""
    data, rows = population.data, population.rows
    indptr, order = rows.by_user(data.n_users)
    size = max(1, CELLS // data.n_items)
    for start in range(0, data.n_users, size):
        block = np.arange(start, min(start + size, data.n_users))
        where = order[indptr[block[0]] : indptr[block[-1] + 1]]
        scores = model.score(data.users.decode(block), unknown="fallback").astype(np.float64)
        inside = population.excluded[block].toarray() == 0
        if not np.isfinite(scores[inside]).all():
            raise DataError(
                f"the model {type(model).__name__} gives scores that are not finite; fit it again."
            )
        yield block, where, (rows.user[where] - start, rows.item[where]), scores, inside


def _logloss(r: np.ndarray, probability: np.ndarray) -> np.ndarray:
    p = np.clip(probability, EPS, 1 - EPS)
    return np.asarray(-r * np.log(p) - (1 - r) * np.log1p(-p))


# ---------------------------------------------------------------------- estimates
def _estimate(wanted: Wanted, answers: Answers, sample: Sample, estimator: str) -> Estimate:
    a, guesses = answers, answers.guesses
    if wanted.base in ("mse", "logloss"):
        return offpolicy.population_mean(sample, a.error(wanted.base), estimator, guesses.get(wanted.base))
    assert a.positive is not None  # `possible` refused otherwise
    if wanted.base == "auc":
        if a.every is None or a.at is None:
            return offpolicy.auc(sample, a.score, a.positive)
        user, score, mass = a.every
        mass = mass.copy()
        mass[a.at] += sample.weight * (a.positive - mass[a.at])
        return offpolicy.auc_imputed(user, score, mass, sample, a.positive)
    assert wanted.k is not None
    kind = RANKING[wanted.base], wanted.k
    gain, best = a.gains[kind], a.best[kind]
    pair = None if kind not in guesses else (guesses[kind], guesses["positive"])
    if wanted.base == "recall":
        return offpolicy.found_share(sample, gain, a.positive, estimator, pair)
    if wanted.base in ("precision", "dcg"):
        return offpolicy.per_place(sample, gain, a.positive, best, estimator, guesses.get(kind))
    ideal = cumulative(kind[0], wanted.k, wanted.k)
    return offpolicy.per_ideal(sample, gain, a.positive, best, ideal, estimator, pair)


def _told(name: str, found: Estimate, estimator: str) -> Estimated:
    grade = "hopeless" if found.ess < HOPELESS else "weak" if found.ess < WEAK else "fair"
    says = ""
    if not np.isfinite(found.value):
        grade, says = "hopeless", "The log holds no row from which this could be estimated."
    elif grade == "hopeless":
        says = f"It rests on {found.ess:.1f} effective rows: do not use it, whatever its interval says."
    elif grade == "weak":
        says = f"It rests on {found.ess:.0f} effective rows: its interval may be too narrow."
    ends = {"estimate": found.value, "low": found.low, "high": found.high, "ess": found.ess}
    return Estimated(
        metric=name, estimator=estimator, rows=found.rows, grade=grade, says=says, **finite(ends)
    )


def _notes(
    population: Population, propensity: Propensity, mass: Estimate, estimator: str, data: Dataset
) -> list[str]:
    """What the reader must know: which rows were used, what was left out, and what cannot be seen."""
    n = len(population.rows)
    said = [
        f"Judged by {n:,} of {population.given:,} rows of the biased log of '{data.name}', on "
        f"{int(population.size.sum()):,} pairs of {population.data.n_users:,} users and {population.data.n_items:,} "
        "items that the model was not given."
    ]
    if population.trained:
        said.append(
            f"{population.trained:,} rows were left out because the model was given their pair in training."
        )
    if population.unknown:
        said.append(
            f"{population.unknown:,} rows were left out because the model does not know their user or item."
        )
    if isinstance(propensity, Known):
        said.append("Propensities are taken as given: they are right if the system that logged them says so.")
    else:
        said.append(learned_note(name_of(propensity), estimator))
    if abs(mass.value - 1) > MASS and not mass.low <= 1 <= mass.high:
        what = (
            "too large, or part of the population has no chance to be logged"
            if mass.value < 1
            else "too small"
        )
        does = (
            "IPS is off by that factor" if estimator == "ips" else "estimates speak of what could be logged"
        )
        said.append(
            f"The weights sum to {mass.value:.2f} of the population where right propensities give 1: they are {what}; "
            f"{does}."
        )
    return said
