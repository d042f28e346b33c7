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
from scipy.special import expit, logit

from deconrec.base import Estimator, Propensity
from deconrec.catalogue import open_data
from deconrec.data.dataset import Dataset, Log
from deconrec.errors import DataError, ParameterError, UnknownName
from deconrec.evaluation import offpolicy
from deconrec.evaluation.gains import cumulative, expected_gains
from deconrec.evaluation.offpolicy import Estimate, Guess, Sample
from deconrec.evaluation.overlap import Overlap
from deconrec.experiments.imputation import Imputed
from deconrec.experiments.population import Population, population_of
from deconrec.experiments.results import Estimated, Evaluation, finite
from deconrec.methods import key_of
from deconrec.propensity import PROPENSITIES, Known, LogisticMF, Popularity
from deconrec.random import numpy_generator

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
PRIOR = 30.0  # NOTE l2 of logistic MF times the pairs of the population
SAMPLE = 200_000  # NOTE pairs that stand for the population where propensities are calibrated
FAR = 15.0  # logits beyond it are taken for it
CELLS = 4_000_000  # scores held at once
LARGEST_SORTED = 50_000_000  # pairs that the doubly robust AUC sorts at once
HOPELESS, WEAK = (
    10.0,
    50.0,
)  # NOTE effective rows: below them the measured coverage of intervals falls (see the guide)
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
    wanted = _possible(asked, population)
    chosen = chosen_propensity(propensity, population, seed)
    weight, overlap = weights_of(chosen, population, seed)
    sample = Sample(population.rows.user, weight, population.size)
    answers = _answers(fitted, population, wanted, estimator, imputation, folds, seed)
    found = {str(w): _estimate(w, answers, sample, estimator) for w in wanted}
    mass = offpolicy.population_mean(sample, np.ones(len(weight)), "ips")
    notes = _notes(population, chosen, mass, estimator, given)
    return Evaluation(
        dataset=given.name,
        method=key_of(fitted),
        estimator=estimator,
        estimates=[_told(name, e, estimator) for name, e in found.items()],
        log={
            "rows_given": population.given,
            "rows_of_training_left_out": population.trained,
            "rows_unknown_left_out": population.unknown,
            "rows_used": len(population.rows),
            "users": population.data.n_users,
            "items": population.data.n_items,
            "pairs": int(population.size.sum()),
            "propensity": _name_of(chosen),
            "propensity_params": finite(chosen.describe()),
            "imputation": imputation if estimator == "dr" else None,
        },
        mass=finite({"value": mass.value, "low": mass.low, "high": mass.high}),
        overlap=finite(overlap.to_dict()),
        notes=notes,
    )


# ---------------------------------------------------------------------- weights
def opened_model(model: Estimator | str | Path) -> Estimator:
    """A fitted model, read from its folder where that is given."""
    if isinstance(model, Estimator):
        return model
    from deconrec.saving import load_model

    return load_model(model)


def chosen_propensity(given: Propensity | str | None, population: Population, seed: int) -> Propensity:
    """The propensity, unfitted.

    Raises
    ------
    UnknownName, ParameterError: no such propensity or parameter.
    """
    if isinstance(given, Propensity):
        return given.clone()
    if given is None:
        if population.rows.propensity is not None:
            return PROPENSITIES["known"]()
        given = "logistic-mf"
    name, _, rest = given.partition(":")
    if name not in PROPENSITIES:
        raise UnknownName("propensity", name, PROPENSITIES)
    made: Propensity = PROPENSITIES[name]()
    settings = {}
    for part in filter(None, rest.split("+")):
        key, sign, text = part.partition("=")
        if not sign:
            raise ParameterError(
                f"propensity '{given}' must be written name:param=value+param=value; '{part}' has no '='."
            )
        settings[key] = text
    if isinstance(made, LogisticMF):
        # Enough for a calibrated answer of a log of few rows: a prior of fixed width, whatever the number of pairs.
        features = population.data.user_features is not None or population.data.item_features is not None
        made.set_params(folds=2, epochs=20, l2=PRIOR / float(population.size.sum()), seed=seed)
        made.set_params(backbone="fm" if features else "mf")
    if not isinstance(made, Known):
        made.set_params(floor=least_propensity(population))
    made.set_text(settings)
    made.check_params()
    return made


def least_propensity(population: Population) -> float:
    """The floor unless told otherwise: a tenth of the mean propensity, so that no weight exceeds ten mean ones."""
    return float(np.clip(0.1 * len(population.rows) / population.size.sum(), 1e-6, 1.0))


def weights_of(propensity: Propensity, population: Population, seed: int = 0) -> tuple[np.ndarray, Overlap]:
    """((n,) 1 / p of the population's rows, what they rest on); the propensity is fitted.

    Learned probabilities of exposure are calibrated (`calibration`): what a model of many factors learned by heart
    would weigh some rows as if they had been all but impossible.
    """
    from deconrec.training.features import feature_tables
    from deconrec.training.samplers import log_pairs

    data = population.data
    propensity.fit(data, population.excluded)
    floor = propensity.overlap_.floor  # type: ignore[attr-defined]  # every propensity has one once fitted
    tables = feature_tables(data)
    p = propensity(log_pairs(data, population.rows, tables)).numpy().astype(np.float64)
    if isinstance(propensity, LogisticMF | Popularity):
        drawn = sample_of(population, SAMPLE, seed)
        everywhere = propensity(log_pairs(data, drawn, tables)).numpy().astype(np.float64)
        level, slope = calibration(logit(p), logit(everywhere), float(population.size.sum()))
        p = np.maximum(expit(level + slope * logit(p)), floor)
    return 1.0 / p, Overlap.of(p, floor)


def sample_of(population: Population, n: int, seed: int) -> Log:
    """A uniform sample of the population's pairs (with replacement), as rows without a rating."""
    data, rng = population.data, numpy_generator(seed, "evaluate/space")
    key = rng.integers(data.n_users * data.n_items, size=2 * n)
    row, column = population.excluded.nonzero()
    key = key[~np.isin(key, row.astype(np.int64) * data.n_items + column)][:n]
    return Log(key // data.n_items, key % data.n_items, np.zeros(len(key), np.float32))


def calibration(observed: np.ndarray, space: np.ndarray, pairs: float) -> tuple[float, float]:
    """(level, slope) of Platt's map sigma(level + slope * logit) with the largest likelihood of the exposures.

    sum_O eta - sum_S log(1 + exp eta) - (slope - 1)^2 / 2, eta = level + slope * logit: by Newton's method. The last
    term decides where all logits are the same.

    Parameters
    ----------
    observed: (n,) logits of the logged rows.
    space: (m,) logits of a uniform sample of the population of `pairs`.
    """
    share, found = pairs / len(space), np.array([0.0, 1.0])
    x = np.c_[np.ones(len(space)), np.clip(space, -FAR, FAR)]
    target = np.array([len(observed), np.clip(observed, -FAR, FAR).sum()])
    for _ in range(50):
        p = expit(x @ found)
        slope = target - share * (x.T @ p) - [0.0, found[1] - 1]
        step = np.linalg.solve(share * (x.T * (p * (1 - p))) @ x + np.diag([1e-9, 1.0]), slope)
        found = found + np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-8:
            break
    return float(found[0]), float(found[1])


def _name_of(propensity: Propensity) -> str:
    return next((k for k, cls in PROPENSITIES.items() if cls is type(propensity)), type(propensity).__name__)


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


def _possible(asked: Sequence[Wanted] | None, population: Population) -> list[Wanted]:
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


def _answers(
    model: Estimator,
    population: Population,
    wanted: Sequence[Wanted],
    estimator: str,
    imputation: str,
    folds: int,
    seed: int,
) -> Answers:
    """Score every candidate of the population once, block by block."""
    data, rows = population.data, population.rows
    kinds = {(RANKING[w.base], w.k): (RANKING[w.base], w.k) for w in wanted if w.k is not None}
    positive = population.positive(rows.rating)
    imputed = None
    if estimator == "dr":
        imputed = Imputed(population, imputation, folds, seed)
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
    return Answers(
        score,
        population.outcome,
        None if positive is None else positive.astype(np.float64),
        gains,
        best,
        {name: Guess(*both) for name, both in sums.items()},
        tuple(np.concatenate(c) for c in zip(*every, strict=True)) if every else None,  # type: ignore[arg-type]
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
    if wanted.base == "mse":
        error = (a.outcome - a.score) ** 2
        return offpolicy.population_mean(sample, error, estimator, guesses.get("mse"))
    if wanted.base == "logloss":
        return offpolicy.population_mean(
            sample, _logloss(a.outcome, a.score), estimator, guesses.get("logloss")
        )
    assert a.positive is not None  # `_possible` refused otherwise
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
    return offpolicy.per_ideal(sample, gain, a.positive, ideal, estimator, pair)


def _told(name: str, found: Estimate, estimator: str) -> Estimated:
    grade = "hopeless" if found.ess < HOPELESS else "weak" if found.ess < WEAK else "fair"
    says = ""
    if not np.isfinite(found.value):
        grade, says = "hopeless", "The log holds no row from which this could be estimated."
    elif grade == "hopeless":
        says = f"It rests on {found.ess:.1f} effective rows: do not use it, whatever its interval says."
    elif grade == "weak":
        says = f"It rests on {found.ess:.0f} effective rows: its interval is too narrow more often than 5 %."
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
        said.append(
            f"Propensities are estimated ({_name_of(propensity)}) and intervals take them as known: where a hidden "
            "confounder moves exposure and outcome, estimates are biased and intervals miss. `deconrec sensitivity` "
            "says by how much."
        )
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
