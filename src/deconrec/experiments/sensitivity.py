"""`sensitivity`: how strong a hidden confounder would have to be to change what a biased log says.

Bounds over the box of weights of `evaluation.bounds` on every metric of saved models, on items' mean outcomes and on
lists; the tipping point at which the leading model may lose to the next; and measured features as a scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deconrec.base import Estimator, Propensity
from deconrec.catalogue import open_data
from deconrec.data.dataset import Dataset
from deconrec.errors import DataError, ParameterError
from deconrec.evaluation import bounds, offpolicy
from deconrec.evaluation.bounds import Sorted
from deconrec.experiments.benchmark import benchmarks
from deconrec.experiments.evaluate import RANKING, Answers, Wanted, answers_of, opened_model, possible
from deconrec.experiments.lists import first_items, own_lists
from deconrec.experiments.population import Population, population_of, population_of_log
from deconrec.experiments.results import (
    Benchmark,
    Bounded,
    BoundedItem,
    Sensitivity,
    Tipping,
    higher_is_better,
)
from deconrec.experiments.weights import chosen_propensity, name_of, weights_of
from deconrec.methods import key_of
from deconrec.records import finite

GAMMAS = (1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0)
METRICS = ("mse", "dcg@20/full", "recall@20/full/pooled", "precision@20/full")


def sensitivity(
    models: Estimator | str | Path | Sequence[Estimator | str | Path],
    data: Dataset | str | Path,
    *,
    gammas: Sequence[float] = GAMMAS,
    propensity: Propensity | str | None = None,
    metrics: Sequence[str] | None = None,
    k: int = 10,
    seed: int = 0,
    root: str | Path | None = None,
) -> Sensitivity:
    """Bounds over odds ratios of hidden confounding, tipping points and benchmarks.

    Parameters
    ----------
    models: fitted models or folders of saved ones; none = items' mean outcomes alone.
    data: whose biased log is read; rows that a model was given judge nothing (see `evaluate`).
    gammas: odds ratios >= 1, rising; 1 is added.
    propensity: as of `evaluate`.
    metrics: of "mse", "dcg@K", "recall@K", "precision@K"; the first decides who leads. All are self-normalised.
    k: length of lists.
    seed: of all that is drawn.

    Raises
    ------
    ParameterError, UnknownName: a bad argument.  DataError: as of `evaluate`; a metric that has no bounds.
    """
    many = [models] if isinstance(models, Estimator | str | Path) else list(models)
    grid = sorted({1.0, *(float(g) for g in gammas)})
    for gamma in grid:
        bounds.check_gamma(gamma)
    if k < 1:
        raise ParameterError(f"'k' of sensitivity, the length of lists, must be at least 1; got {k}.")
    fitted = [opened_model(m) for m in many]
    names = _names(fitted, many)
    given = data if isinstance(data, Dataset) else open_data(data, root).draw(seed)[0]
    population = population_of(fitted, given) if fitted else population_of_log(given)
    wanted = _bounded_metrics(metrics, population) if fitted else []
    chosen = chosen_propensity(propensity, population, seed)
    weight, overlap = weights_of(chosen, population, seed)
    answers = [answers_of(model, population, wanted) for model in fitted]
    pieces = {
        (str(w), n): _piece(w, a, population, weight)
        for w in wanted
        for n, a in zip(names, answers, strict=True)
    }
    found = [_bounded(m, n, "", piece, grid) for (m, n), piece in pieces.items()]
    scale = benchmarks(population, seed)
    tipping: list[Tipping] = []
    for w in wanted if len(fitted) > 1 else []:
        found_, tips = _race(w, names, answers, population, weight, grid, scale)
        found.append(found_)
        tipping.append(tips)
    items = first_items(population, weight, grid, k)
    lists = {
        n: own_lists(model, population, chosen, grid, k, seed) for n, model in zip(names, fitted, strict=True)
    }
    return Sensitivity(
        dataset=given.name,
        methods=names,
        gammas=grid,
        metrics=found,
        tipping=tipping,
        benchmarks=scale,
        items=items,
        k=k,
        lists={n: shares for n, shares in lists.items() if shares},
        log={
            **population.counts,
            "propensity": name_of(chosen),
        },
        overlap=finite(overlap.to_dict()),
        answer=answer(tipping, found, items, lists, scale, grid, k),
        notes=_notes(population, chosen),
    )


def _names(models: Sequence[Estimator], given: Sequence[Estimator | str | Path]) -> list[str]:
    """The methods' keys; the folder's name, or a number, beside one that is there twice."""
    keys = [key_of(m) for m in models]
    out = []
    for at, (key, source) in enumerate(zip(keys, given, strict=True)):
        apart = str(at + 1) if isinstance(source, Estimator) else Path(source).name
        out.append(key if keys.count(key) == 1 else f"{key} ({apart})")
    return out if len(set(out)) == len(out) else [f"{n} {at + 1}" for at, n in enumerate(out)]


# ---------------------------------------------------------------------- metrics as self-normalised means
def _bounded_metrics(metrics: Sequence[str] | None, population: Population) -> list[Wanted]:
    if metrics is None:
        positives = population.positive(population.rows.rating) is not None
        return [w for w in map(Wanted.parse, METRICS) if positives or w.base == "mse"]
    asked = possible([Wanted.parse(m) for m in metrics], population)
    for w in asked:
        if w.base not in ("mse", "logloss", "dcg", "recall", "precision"):
            raise DataError(f"metric '{w}' has no exact bounds: {_unbounded(w)}.")
    return asked


def _unbounded(w: Wanted) -> str:
    """Why a metric is no self-normalised mean of its rows, and what to ask for instead."""
    if w.base == "auc":
        return (
            "it is a sum over pairs of rows, which weighs each by the product of two hidden weights, so that no order "
            "of rows finds the worst ones; ask for 'mse' or 'recall@K'"
        )
    instead = f"dcg@{w.k}" if w.base == "ndcg" else f"recall@{w.k}"
    than = (
        "(NDCG itself where users have that many positives)" if w.base == "ndcg" else "(over all positives)"
    )
    return (
        "it divides by the best list of each user's positives, whose number hidden weights change too, and not in "
        f"proportion; ask for '{instead}' {than}"
    )


def _values(w: Wanted, answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    """(value of each row, what it counts for): the metric is the mean of the first weighed by the second.

    Recall is a mean over positives of whether they are found; precision and DCG are means over lists of whether a
    place is a positive, a place counting its gain.
    """
    if w.base in ("mse", "logloss"):
        return answers.error(w.base), np.ones(len(answers.score))
    assert answers.positive is not None  # `possible` refused otherwise
    assert w.k is not None
    gain = answers.gains[RANKING[w.base], w.k]
    return (gain, answers.positive) if w.base == "recall" else (answers.positive, gain)


def _piece(w: Wanted, answers: Answers, population: Population, weight: np.ndarray) -> Sorted:
    y, share = _values(w, answers)
    return Sorted.of(y, weight, population.rows.user, population.data.n_users, share)


def _apart(w: Wanted, a: Answers, b: Answers, population: Population, weight: np.ndarray) -> Sorted:
    """Model a less model b, as one mean over the rows of both, so that both get the same weights.

    Where each has its own list, the two share a normaliser, half the sum of both lists' gains (which are equal over
    the population): 2 (g_a - g_b) r / (g_a + g_b), weighed by (g_a + g_b).
    """
    (y, share), (other, theirs) = _values(w, a), _values(w, b)
    if w.base in ("precision", "dcg"):
        both = share + theirs
        y = 2 * (share - theirs) * y / np.where(both > 0, both, 1.0)
        return Sorted.of(y, weight, population.rows.user, population.data.n_users, both)
    return Sorted.of(y - other, weight, population.rows.user, population.data.n_users, share)


def _bounded(metric: str, method: str, over: str, piece: Sorted, grid: Sequence[float]) -> Bounded:
    low, high = [piece.bound(g, least=True) for g in grid], [piece.bound(g, least=False) for g in grid]
    found = {
        "estimate": piece.mean,
        "low": [b.value for b in low],
        "high": [b.value for b in high],
        "interval_low": [b.interval()[0] for b in low],
        "interval_high": [b.interval()[1] for b in high],
    }
    ess = offpolicy.kish(piece.weight * piece.share)
    return Bounded(metric=metric, method=method, over=over, ess=ess, **finite(found))


def _race(
    w: Wanted,
    names: Sequence[str],
    answers: Sequence[Answers],
    population: Population,
    weight: np.ndarray,
    grid: Sequence[float],
    scale: Sequence[Benchmark],
) -> tuple[Bounded, Tipping]:
    """The leading model over the next on one metric: bounds of their difference, and where it may be 0."""
    sign = 1.0 if higher_is_better(str(w)) else -1.0
    means = [-sign * _piece(w, a, population, weight).mean for a in answers]
    first, second = (int(n) for n in np.argsort(means, kind="stable")[:2])
    plain = _apart(w, answers[first], answers[second], population, weight)
    if (
        sign * plain.mean < 0
    ):  # two lists with a shared normaliser may say so where their own ones differ by a hair
        first, second = second, first
        plain = _apart(w, answers[first], answers[second], population, weight)
    lead = plain if sign > 0 else Sorted.of(-plain.y, plain.weight, plain.user, plain.n_users, plain.share)
    gamma, sure = bounds.tipping_point(lead), bounds.tipping_point(lead, chance=True)
    tipping = Tipping(
        metric=str(w),
        leading=names[first],
        second=names[second],
        difference=plain.mean,
        as_strong_as=[b.feature for b in scale if b.gamma >= gamma],
        **finite({"gamma": gamma, "gamma_interval": sure}),
    )
    return _bounded(str(w), names[first], names[second], plain, grid), tipping


# ---------------------------------------------------------------------- the answer
def answer(
    tipping: Sequence[Tipping],
    metrics: Sequence[Bounded],
    items: Sequence[BoundedItem],
    lists: dict[str, list[float]],
    scale: Sequence[Benchmark],
    grid: Sequence[float],
    k: int,
) -> list[str]:
    """What it comes to, in sentences; the first answers the question of the call."""
    said = []
    for turn, t in enumerate(tipping):
        if turn == 0:
            said.append(_lead(t, scale))
        else:
            where = "at no odds ratio that was tried" if t.gamma is None else f"from Gamma = {t.gamma:.2f}"
            said.append(f"On {t.metric}, {t.leading} leads {t.second}, and may lose {where}.")
    alone = [b for b in metrics if not b.over]
    if alone and not tipping:
        b = alone[0]
        at = min(range(len(grid)), key=lambda n: abs(grid[n] - 1.5))
        said.append(
            f"{b.metric} of {b.method} is {b.estimate:.3f} without hidden confounding; if that moves the odds of "
            f"exposure by up to {grid[at]:g}, it lies between {b.low[at]:.3f} and {b.high[at]:.3f}."
        )
    if items:
        said.append(
            f"Of the {len(items)} items with the highest mean outcome, {sum((i.stays_to or 1) >= 1.25 for i in items)} "
            f"are sure to stay among them at Gamma = 1.25 and {sum((i.stays_to or 1) >= 2 for i in items)} at 2."
        )
    for name, shares in lists.items():
        if shares:
            at = min(range(len(grid)), key=lambda n: abs(grid[n] - 1.25))
            said.append(
                f"Of users' own lists of {k} by {name}, {shares[at]:.0%} of places are sure at Gamma = {grid[at]:g}."
            )
    if scale:
        said.append(
            f"For scale: leaving out {scale[0].feature}, the strongest measured feature, moves the odds of exposure by "
            f"up to {scale[0].gamma:.2f} (95 % of rows)."
        )
    return said


def _lead(t: Tipping, scale: Sequence[Benchmark]) -> str:
    if t.gamma is None:
        return f"{t.leading} leads {t.second} on {t.metric} whatever a hidden confounder does to the odds of exposure."
    if t.gamma <= 1:
        return f"{t.leading} and {t.second} are level on {t.metric}: there is no lead to lose."
    if t.as_strong_as:
        like = f"as strong as leaving out {_listed(t.as_strong_as[-2:])}"
        rest = f"A hidden confounder {like} could do that"
    else:
        rest = (
            f"No measured feature is that strong (the strongest, {scale[0].feature}: {scale[0].gamma:.2f})"
            if scale
            else "There is no measured feature to compare with"
        )
    sure = ""
    if t.gamma_interval is not None:
        sure = f", or by {t.gamma_interval:.2f} with chance allowed for" if t.gamma_interval > 1 else ""
        sure = sure or " (and chance alone may account for the lead)"
    return (
        f"{t.leading} leads {t.second} on {t.metric} by {abs(t.difference):.4f}; a hidden confounder that moves the "
        f"odds of exposure by {t.gamma:.2f} may undo it{sure}. {rest}."
    )


def _listed(names: Sequence[str]) -> str:
    return " or ".join(names)


def _notes(population: Population, propensity: Propensity) -> list[str]:
    said = [
        f"{len(population.rows):,} of {population.given:,} rows were used, self-normalised (SNIPS), with propensities "
        f"by {name_of(propensity)}.",
        "Bounds are exact over the box of weights; weights in it need not agree with the exposures of other pairs, so "
        "that the truth may be known better than they say.",
    ]
    if population.trained:
        said.append(
            f"{population.trained:,} rows were left out because a model was given their pair in training."
        )
    said.append(
        "Intervals of bounds are over users, as of `deconrec evaluate`; propensities are taken as known."
    )
    return said
