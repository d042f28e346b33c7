"""`simulate.pairs`: binary outcomes, exposure that a hidden confounder moves, and a small randomised log.

For user u and item i, with sigma the logistic function and standard normal draws throughout:

    measured     x_u, x_i, popularity_i
    hidden       h_ui = sqrt(1 - s) <c_u, d_i> + sqrt(s) e_ui          s = `idiosyncratic`, |d_i| = 1
    outcome      r_ui ~ Bernoulli(sigma(b + quality + features_r + outcome_effect * h_ui))
    exposure     o_ui ~ Bernoulli(sigma(a + popularity + features_o + confounding * h_ui))

h_ui is N(0, 1) given everything measured, whatever s: c_u is a taste that d_i meets, e_ui is a friend's tip
that no other pair reveals. `a` and `b` are solved so that the mean propensity is `exposure_rate` and the mean
outcome is `outcome_rate`. Both logs show the same potential rating of a pair.

The propensity that a method could at best learn from measured things is the *nominal* one,
E_h[sigma(a + ... + confounding * h)]. At `confounding` = 0 it is the true one, and weighting by it removes
all bias; above, it does not.

Source. The world is the library's own; nominal and true propensity as in the paper on Res-IPS and Res-DR.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq
from scipy.special import expit

from deconrec.data.dataset import Dataset, Features, Task, Truth
from deconrec.data.ids import Vocabulary
from deconrec.errors import ParameterError
from deconrec.random import numpy_generator
from deconrec.simulate.randomised import exposed_log, randomised_log
from deconrec.simulate.ranges import check_count, check_number


def pairs(
    *,
    n_users: int = 2000,
    n_items: int = 500,
    confounding: float = 1.0,
    unbiased_share: float = 0.01,
    exposure_rate: float = 0.05,
    outcome_rate: float = 0.3,
    n_features: int = 3,
    hidden_dim: int = 2,
    idiosyncratic: float = 0.5,
    outcome_effect: float = 1.5,
    quality_effect: float = 1.0,
    popularity_effect: float = 1.0,
    feature_outcome_effect: float = 1.5,
    feature_exposure_effect: float = 0.7,
    feature_overlap: float = 0.5,
    seed: int = 0,
) -> tuple[Dataset, Truth]:
    """A world of binary ratings where hidden confounding is one dial.

    Effects are changes of a logit for one standard deviation of their cause. Ids are the codes 0, 1, ...

    Parameters
    ----------
    n_users, n_items: sizes, >= 2.
    confounding: effect of the hidden confounder on exposure, in [0, 10]; 0 = none.
    unbiased_share: size of the randomised log as a share of all pairs, in [0, 1]; 0 = no such log.
    exposure_rate, outcome_rate: mean true propensity and mean outcome over all pairs, in (0, 1).
    n_features: measured features of a user and of an item, >= 1; `popularity` is one more of the items.
    hidden_dim: dimension of the hidden taste c_u, >= 1.
    idiosyncratic: share of the confounder's variance that belongs to a single pair, in [0, 1].
    outcome_effect: effect of the hidden confounder on the outcome, in [0, 10].
    quality_effect, popularity_effect: effects of an item's (hidden) quality on the outcome, and of its
        (measured) popularity on exposure, in [0, 10].
    feature_outcome_effect, feature_exposure_effect: effects of the measured features (main effects and their
        user-item products) on outcome and exposure, in [0, 10].
    feature_overlap: correlation of these two feature scores, in [-1, 1]: the measured confounding.
    seed: any whole number >= 0.

    Returns
    -------
    Dataset "sim-pairs" (outcome: rating >= 0.5, protocol "pairs") and Truth: outcome, propensity,
    nominal_propensity (float32), rating (int8), confounder c (n_users, hidden_dim). `extra` holds
    pair_confounder (h), exposure_logit, outcome_logit (n_users, n_items); quality, popularity (n_items,);
    item_direction d (n_items, hidden_dim).

    Raises
    ------
    ParameterError: a parameter out of range, or so few pairs that none was exposed.
    """
    who = "simulate.pairs"
    for name, n, least in (
        ("n_users", n_users, 2),
        ("n_items", n_items, 2),
        ("n_features", n_features, 1),
        ("hidden_dim", hidden_dim, 1),
        ("seed", seed, 0),
    ):
        check_count(who, name, n, least)
    check_number(who, "confounding", confounding, 0, 10, meaning="0 = no hidden confounding")
    for name, effect in (
        ("outcome_effect", outcome_effect),
        ("quality_effect", quality_effect),
        ("popularity_effect", popularity_effect),
        ("feature_outcome_effect", feature_outcome_effect),
        ("feature_exposure_effect", feature_exposure_effect),
    ):
        check_number(who, name, effect, 0, 10, meaning="0 = no effect")
    for name, rate in (("exposure_rate", exposure_rate), ("outcome_rate", outcome_rate)):
        check_number(who, name, rate, 0, 1, open_low=True, open_high=True)
    check_number(who, "unbiased_share", unbiased_share, 0, 1, meaning="0 = no randomised log")
    check_number(who, "idiosyncratic", idiosyncratic, 0, 1)
    check_number(who, "feature_overlap", feature_overlap, -1, 1)

    def normal(stream: str, *shape: int) -> np.ndarray:
        return numpy_generator(seed, f"simulate.pairs/{stream}").standard_normal(shape, dtype=np.float32)

    def uniform(stream: str) -> np.ndarray:
        return numpy_generator(seed, f"simulate.pairs/{stream}").random((n_users, n_items), dtype=np.float32)

    x_user, x_item = (
        normal("user features", n_users, n_features),
        normal("item features", n_items, n_features),
    )
    popularity, quality = normal("popularity", n_items), normal("quality", n_items)
    liked, shown = _feature_scores(x_user, x_item, feature_overlap, normal)

    confounder = normal("confounder", n_users, hidden_dim)
    direction = normal("item directions", n_items, hidden_dim)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    hidden = confounder @ (direction.T * np.float32(np.sqrt(1 - idiosyncratic)))
    hidden += np.float32(np.sqrt(idiosyncratic)) * normal("tips", n_users, n_items)

    outcome_logit = np.float32(quality_effect) * quality + np.float32(feature_outcome_effect) * liked
    outcome_logit += np.float32(outcome_effect) * hidden
    outcome_logit += level_of(outcome_logit, outcome_rate)
    outcome = expit(outcome_logit)
    rating = (uniform("outcome") < outcome).astype(np.int8)

    measured_logit = np.float32(popularity_effect) * popularity + np.float32(feature_exposure_effect) * shown
    exposure_logit = measured_logit + np.float32(confounding) * hidden
    level = level_of(exposure_logit, exposure_rate)
    exposure_logit += level
    propensity = expit(exposure_logit)
    nominal = nominal_propensity(measured_logit + level, confounding)
    exposed = uniform("exposure") < propensity
    if not exposed.any():
        raise ParameterError(
            f"'exposure_rate' of {who} must expose at least one pair; got {exposure_rate!r} of "
            f"{rating.size:,} pairs and none was drawn. Raise it, or the number of users or items."
        )

    data = Dataset(
        users=Vocabulary(pl.Series(np.arange(n_users)), "user"),
        items=Vocabulary(pl.Series(np.arange(n_items)), "item"),
        biased=exposed_log(rating, exposed),
        unbiased=randomised_log(rating, unbiased_share, seed) if unbiased_share else None,
        user_features=_features(x_user, ()),
        item_features=_features(np.column_stack([x_item, popularity]), ("popularity",)),
        task=Task(binarize=0.5, rating_range=(0.0, 1.0), protocol="pairs"),
        name="sim-pairs",
    )
    truth = Truth(
        outcome=outcome,
        rating=rating,
        propensity=propensity,
        nominal_propensity=nominal,
        confounder=confounder,
        extra={
            "pair_confounder": hidden,
            "exposure_logit": exposure_logit,
            "outcome_logit": outcome_logit,
            "quality": quality,
            "popularity": popularity,
            "item_direction": direction,
        },
    )
    return data, truth


def nominal_propensity(logit: np.ndarray, confounding: float) -> np.ndarray:
    """E_h[sigma(logit + confounding * h)] over h ~ N(0, 1): float32, the shape of `logit`, error below 1e-6.

    The trapezoidal rule on a fixed grid of h: as exact as Gauss-Hermite for small `confounding` and, unlike
    it, for large, because the step is small beside the width 1 / confounding of the curve. As one number
    decides the value, it is computed on knots and interpolated.
    """
    out: np.ndarray
    if confounding == 0:
        out = expit(logit)
        return out
    h = np.arange(-8.5, 8.5 + 1e-9, 0.02)
    weight = np.exp(-0.5 * h**2)
    weight /= weight.sum()
    low, high = float(logit.min()), float(logit.max())
    # 0.05 is small beside the logistic curve's own width, and h only smooths it further.
    knots = np.linspace(low - 0.1, high + 0.1, max(8, int((high - low) / 0.05) + 8))
    values = expit(knots[:, None] + confounding * h) @ weight
    out = CubicSpline(knots, values)(logit)
    return out.astype(np.float32)


def level_of(logit: np.ndarray, rate: float) -> np.float32:
    """The constant that makes the mean of sigma(logit + constant) equal to `rate`."""
    centre = np.log(rate / (1 - rate))

    def excess(constant: float) -> float:
        return float(expit(logit + np.float32(constant)).mean(dtype=np.float64)) - rate

    # At the ends every single probability lies on one side of the rate.
    low, high = centre - float(logit.max()) - 1, centre - float(logit.min()) + 1
    return np.float32(brentq(excess, low, high, xtol=1e-6))


def _feature_scores(
    x_user: np.ndarray, x_item: np.ndarray, overlap: float, normal: Callable[..., np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Two scores (users, items) of measured features, each of variance 1, with correlation `overlap`.

    A score is a unit vector of weights on [x_u, x_i, all products x_uf x_ig], whose entries are uncorrelated
    with variance 1 over users and items; the correlation of two scores is the product of their vectors.
    """
    n = x_user.shape[1]
    # A quarter of the variance to each main effect, half to the products, in expectation.
    spread = np.concatenate([np.full(2 * n, np.sqrt(0.25 / n)), np.full(n * n, np.sqrt(0.5) / n)])
    liked, other = (spread * normal(f"{which} weights", len(spread)) for which in ("outcome", "exposure"))
    liked /= np.linalg.norm(liked)
    other -= (other @ liked) * liked
    other /= np.linalg.norm(other)
    shown = overlap * liked + np.sqrt(1 - overlap**2) * other

    def score(weights: np.ndarray) -> np.ndarray:
        user, item, both = np.split(weights.astype(np.float32), [n, 2 * n])
        out: np.ndarray = (x_user @ both.reshape(n, n)) @ x_item.T
        out += (x_user @ user)[:, None]
        out += x_item @ item
        return out

    return score(liked), score(shown)


def _features(values: np.ndarray, last: tuple[str, ...]) -> Features:
    names = tuple(f"x{k + 1}" for k in range(values.shape[1] - len(last))) + last
    return Features(names, values, np.zeros(len(values), bool))
