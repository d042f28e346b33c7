"""`simulate.effects`: a linear truth for causal effects of exposures on outcomes, all outcomes observed.

For user u and item i, with K = `n_confounders` and all normals standard:

    c_u ~ N(0, I_K)                                                  confounder of several items
    P(a_ui = 1) = sigma(b_i + c_u . v_i + single_cause s_ui)         exposure, b shifted to give `exposure_rate`
    r_ui = level + sum_j a_uj W_ji + confounding c_u . v_i + single_cause s_ui + feature_effect x_u + noise e_ui

W_ji is the effect of exposing item j on the outcome of item i (paper 1, Eq. 2): own effects W_ii ~ N(0.5, 0.3^2), a
share `co_share` of the others N(0, 0.2^2), the rest 0. s_ui ~ N(0, 1) is a confounder of a single item, present for
the first `single_items` items only. x_u ~ N(0, 1) moves outcomes and no exposure: a pre-treatment variable.

Outcomes are observed for every pair, exposed or not (a purchase with or without the advertisement): the biased log
holds the exposed pairs alone, `Truth.rating` all of them.

Paper.      [Zhu2024]
"""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.optimize import brentq
from scipy.special import expit

from deconrec.data.dataset import Dataset, Features, Task, Truth
from deconrec.data.ids import Vocabulary
from deconrec.random import numpy_generator
from deconrec.simulate.randomised import exposed_log
from deconrec.simulate.ranges import check_count, check_number

OWN, OWN_SPREAD, CO_SPREAD = 0.5, 0.3, 0.2
POPULARITY = 0.3  # standard deviation of the intercepts b


def effects(
    *,
    n_users: int = 8000,
    n_items: int = 100,
    n_confounders: int = 5,
    exposure_rate: float = 0.3,
    exposure_scale: float = 0.7,
    confounding: float = 0.3,
    co_share: float = 0.03,
    single_cause: float = 0.0,
    single_items: int = 10,
    feature_effect: float = 0.0,
    noise: float = 1.0,
    level: float = 10.0,
    seed: int = 0,
) -> tuple[Dataset, Truth]:
    """A world of linear effects of exposures on outcomes, its confounders hidden and every outcome observed.

    Parameters
    ----------
    n_users, n_items: sizes, >= 2.
    n_confounders: dimension K of the confounder, >= 1.
    exposure_rate: expected share of exposed pairs, in (0, 1).
    exposure_scale: standard deviation of an entry of v_i, >= 0; 0 = exposures are independent.
    confounding: weight of c_u . v_i in the outcome, >= 0; 0 = none.
    co_share: share of pairs of different items with an effect of one on the other, in [0, 1].
    single_cause: weight of the confounder of a single item, in exposure and outcome, >= 0; 0 = none.
    single_items: the first so many items have one (all, where there are fewer), >= 0.
    feature_effect: weight of the measured user feature in outcomes, >= 0; 0 = no features in the data set.
    noise: standard deviation of the outcome's noise, > 0.
    level: outcome of a user without exposures and confounders.
    seed: any whole number >= 0.

    Returns
    -------
    Dataset "sim-effects" (protocol "users") and Truth: outcome = expectation given everything but the noise; rating =
    outcomes of all pairs as observed; propensity = P(a_ui = 1 | c, s); confounder c. `extra` holds effects W
    (n_items, n_items), cause by item, exposure_weights v (K, n_items), and single s (n_users, n_items).

    Raises
    ------
    ParameterError: a parameter out of range.
    """
    who = "simulate.effects"
    for name, n in (("n_users", n_users), ("n_items", n_items)):
        check_count(who, name, n, 2)
    check_count(who, "n_confounders", n_confounders, 1)
    check_count(who, "single_items", single_items, 0)
    check_count(who, "seed", seed, 0)
    check_number(who, "exposure_rate", exposure_rate, 0, 1, open_low=True, open_high=True)
    check_number(who, "co_share", co_share, 0, 1)
    check_number(who, "noise", noise, 0, open_low=True)
    check_number(who, "level", level, -1e6, 1e6)
    for name, x in (
        ("exposure_scale", exposure_scale),
        ("confounding", confounding),
        ("single_cause", single_cause),
        ("feature_effect", feature_effect),
    ):
        check_number(who, name, x, 0, 100)

    def stream(name: str) -> np.random.Generator:
        return numpy_generator(seed, f"simulate.effects/{name}")

    def normal(name: str, *shape: int) -> np.ndarray:
        return stream(name).standard_normal(shape)

    confounder = normal("confounder", n_users, n_confounders)
    weights = exposure_scale * normal("weights", n_confounders, n_items)
    single = np.zeros((n_users, n_items))
    single[:, :single_items] = normal("single", n_users, n_items)[:, :single_items]
    logit = confounder @ weights + single_cause * single + POPULARITY * normal("popularity", n_items)
    shift = brentq(lambda b: float(expit(logit + b).mean()) - exposure_rate, -50, 50)
    propensity = expit(logit + shift)
    exposed = stream("exposure").random(propensity.shape) < propensity
    co = stream("co-effects")
    effect = np.where(
        co.random((n_items, n_items)) < co_share, CO_SPREAD * co.standard_normal((n_items, n_items)), 0.0
    )
    np.fill_diagonal(effect, OWN + OWN_SPREAD * normal("own effects", n_items))
    feature = normal("feature", n_users, 1)
    outcome = (
        level + exposed @ effect + confounding * (confounder @ weights) + single_cause * single
    ) + feature_effect * feature
    rating = outcome + noise * normal("noise", n_users, n_items)
    data = Dataset(
        users=Vocabulary(pl.Series(np.arange(n_users)), "user"),
        items=Vocabulary(pl.Series(np.arange(n_items)), "item"),
        biased=exposed_log(rating, exposed),
        user_features=Features(("x",), feature, np.zeros(n_users, bool)) if feature_effect else None,
        task=Task(protocol="users"),
        name="sim-effects",
    )
    return data, Truth(
        outcome=outcome.astype(np.float32),
        rating=rating.astype(np.float32),
        propensity=propensity.astype(np.float32),
        confounder=confounder.astype(np.float32),
        extra={"effects": effect, "exposure_weights": weights, "single": single.astype(np.float32)},
    )
