"""Inverse propensities of the rows that judge a model: known, or learned from the log and calibrated.

What is wanted is P(a pair of the population stands in the log), so that pairs that a model was given, which could not
be logged again, are no part of the space that it is learned over.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

from deconrec.base import Propensity
from deconrec.data.dataset import Log
from deconrec.errors import ParameterError, UnknownName
from deconrec.evaluation.overlap import Overlap
from deconrec.experiments.population import Population
from deconrec.propensity import PROPENSITIES, Known, LogisticMF, Popularity
from deconrec.random import numpy_generator

PRIOR = 30.0  # NOTE l2 of logistic MF times the pairs of the population
SAMPLE = 200_000  # NOTE pairs that stand for the population where propensities are calibrated
FAR = 15.0  # logits beyond it are taken for it


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


def name_of(propensity: Propensity) -> str:
    return next((k for k, cls in PROPENSITIES.items() if cls is type(propensity)), type(propensity).__name__)
