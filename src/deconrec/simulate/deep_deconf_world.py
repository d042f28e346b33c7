"""`simulate.deep_deconf`: the fully simulated data of the paper on Deep-Deconf (Sec. 5.1.1, Eq. 10).

For user u, with K = `n_factors`, f = ReLU and all normals standard:

    c_u ~ N(0, I_K)                                              confounder
    theta_u = gamma_theta c_u + (1 - gamma_theta) n_u            preference, n_u ~ N(0, I_K)
    s_u = f(c_u W_a)                                             score; the globally largest are exposed
    x_u = PCA_F(theta_u + eps_u),  eps_u ~ N(0, lambda_u^-1 I)   measured features
    r_u = min(1 + Poisson(f((theta_u + gamma_b c_u) W_r)), 5)    potential ratings

Deviations.
1. The paper's text exposes a share of 0.1, its Table 1 says 1 %: the table is followed.
2. W_a and W_r are one matrix by default: with independent ones ratings show no selection at any gamma_theta,
   against Fig. 6.
3. The scale of the weights is not given: 0.2 = 2 / sqrt(100) shows the shift of Fig. 6.
4. gamma_b is named in the text but missing in Eq. 10: it enters as in Eq. 12; 0 is the equation as printed.
5. lambda_u^-1 is a variance, as the equation says. The released code for the semi-simulated sets takes 0.1
   for the standard deviation; that is `feature_noise` = 0.01 here.

Note. The variance of theta is gamma_theta^2 + (1 - gamma_theta)^2, least at 0.5: the dial moves the strength
of the signal as well as confounding; `normalize_theta` keeps the strength at 1. Exposure is a function of c
alone, so there is no propensity and no overlap. A seed gives the same data set on machines whose processors round
differently: what decides is computed in double precision, and features have 3 decimals.

Paper.      [Zhu2024]
"""

from __future__ import annotations

import numpy as np
import polars as pl

from deconrec.data.dataset import Dataset, Features, Task, Truth
from deconrec.data.ids import Vocabulary
from deconrec.errors import ParameterError
from deconrec.random import numpy_generator
from deconrec.simulate.randomised import exposed_log, randomised_log
from deconrec.simulate.ranges import check_count, check_number

BLOCK = 128  # users at a time: a block's temporaries stay in the processor's cache
DECIMALS = 3  # of features


def deep_deconf(
    *,
    n_users: int = 4000,
    n_items: int = 2000,
    n_factors: int = 100,
    n_features: int = 10,
    gamma_theta: float = 0.5,
    shared_weights: bool | float = True,
    gamma_b: float = 0.0,
    weight_scale: float = 0.2,
    exposure_rate: float = 0.01,
    feature_noise: float = 0.1,
    normalize_theta: bool = False,
    unbiased_share: float = 0.0,
    seed: int = 0,
) -> tuple[Dataset, Truth]:
    """The simulated world of the paper on Deep-Deconf: ratings 1 to 5, exposure decided by the confounder.

    Ids are the codes 0, 1, ... Users without any exposure stay in the data set.

    Parameters
    ----------
    n_users, n_items: sizes, >= 2.
    n_factors: dimension K of confounder and preference, >= 1.
    n_features: dimension F of the measured user features, from 1 to min(n_factors, n_users).
    gamma_theta: share of the confounder in the preference, in [0, 1]; 0 = unconfounded unless `gamma_b` > 0.
    shared_weights: correlation of W_a and W_r, in [0, 1]; True = 1, one matrix; False = 0, independent.
    gamma_b: direct effect of the confounder on ratings, in [0, 10].
    weight_scale: standard deviation of an entry of W_a and W_r, in (0, 10].
    exposure_rate: share of all pairs that is exposed, in (0, 1); the count is exact. At most the share of
        positive scores, about a half.
    feature_noise: variance lambda_u^-1 of the noise on the features (not its standard deviation), >= 0.
    normalize_theta: divide theta by its standard deviation sqrt(gamma_theta^2 + (1 - gamma_theta)^2).
    unbiased_share: size of a randomised log as a share of all pairs, in [0, 1]; 0 = none, as in the paper.
    seed: any whole number >= 0.

    Returns
    -------
    Dataset "sim-deconf" (relevant: rating 5, protocol "users") and Truth: outcome = E[r] exactly (float32),
    rating (int8), confounder c; no propensity. `extra` holds theta (n_users, K), exposure_weights W_a and
    rating_weights W_r (K, n_items).

    Raises
    ------
    ParameterError: a parameter out of range.
    """
    who = "simulate.deep_deconf"
    for name, n in (("n_users", n_users), ("n_items", n_items)):
        check_count(who, name, n, 2)
    check_count(who, "n_factors", n_factors, 1)
    check_count(who, "n_features", n_features, 1, min(n_factors, n_users))
    check_count(who, "seed", seed, 0)
    # Plain floats from here on: a numpy scalar would turn the float32 arrays into float64.
    gamma_theta = check_number(who, "gamma_theta", gamma_theta, 0, 1)
    mix = float(shared_weights) if isinstance(shared_weights, bool) else shared_weights
    mix = check_number(who, "shared_weights", mix, 0, 1, meaning="True = 1, False = 0")
    gamma_b = check_number(who, "gamma_b", gamma_b, 0, 10)
    weight_scale = check_number(who, "weight_scale", weight_scale, 0, 10, open_low=True)
    check_number(who, "exposure_rate", exposure_rate, 0, 1, open_low=True, open_high=True)
    check_number(who, "feature_noise", feature_noise, 0, meaning="a variance")
    check_number(who, "unbiased_share", unbiased_share, 0, 1, meaning="0 = no randomised log")

    def stream(name: str) -> np.random.Generator:
        return numpy_generator(seed, f"simulate.deep_deconf/{name}")

    def normal(name: str, *shape: int) -> np.ndarray:
        return stream(name).standard_normal(shape, dtype=np.float32)

    confounder = normal("confounder", n_users, n_factors)
    theta = gamma_theta * confounder + (1 - gamma_theta) * normal("preference", n_users, n_factors)
    if normalize_theta:
        theta /= np.sqrt(gamma_theta**2 + (1 - gamma_theta) ** 2)
    exposure_weights = weight_scale * normal("exposure weights", n_factors, n_items)
    rating_weights = exposure_weights
    if mix < 1:
        own = weight_scale * normal("rating weights", n_factors, n_items)
        rating_weights = mix * exposure_weights + np.float32(np.sqrt(1 - mix**2)) * own

    # Double precision: whether a pair is exposed, or which rating is drawn, must not hang on a machine's rounding.
    score = np.maximum(confounder.astype(np.float64) @ exposure_weights, 0)
    count = round(exposure_rate * score.size)
    positive = int(np.count_nonzero(score))
    if not 1 <= count <= positive:
        raise ParameterError(
            f"'exposure_rate' of {who} must expose at least one pair and only pairs with a positive score "
            f"({positive / score.size:.4f} of them here); got {exposure_rate!r}."
        )
    exposed = largest(score, count)
    outcome, rating = _ratings(theta + gamma_b * confounder, rating_weights, stream("ratings"))
    noisy = theta + np.float32(np.sqrt(feature_noise)) * normal("feature noise", n_users, n_factors)

    data = Dataset(
        users=Vocabulary(pl.Series(np.arange(n_users)), "user"),
        items=Vocabulary(pl.Series(np.arange(n_items)), "item"),
        biased=exposed_log(rating, exposed),
        unbiased=randomised_log(rating, unbiased_share, seed) if unbiased_share else None,
        user_features=Features(
            tuple(f"pc{k + 1}" for k in range(n_features)),
            principal_components(noisy, n_features),
            np.zeros(n_users, bool),
        ),
        task=Task(relevant=5, rating_range=(1, 5), protocol="users"),
        name="sim-deconf",
    )
    truth = Truth(
        outcome=outcome,
        rating=rating,
        confounder=confounder,
        extra={"theta": theta, "exposure_weights": exposure_weights, "rating_weights": rating_weights},
    )
    return data, truth


def largest(score: np.ndarray, count: int) -> np.ndarray:
    """A mask of the shape of `score`, `count` of it true: the largest; of ties the first in memory."""
    flat = score.reshape(-1)
    cut = np.partition(flat, flat.size - count)[flat.size - count]
    chosen: np.ndarray = flat > cut
    ties = np.flatnonzero(flat == cut)
    chosen[ties[: count - np.count_nonzero(chosen)]] = True
    return chosen.reshape(score.shape)


def expected_rating(rate: np.ndarray) -> np.ndarray:
    """E[min(1 + Poisson(rate), 5)] = 1 + sum over k = 0 ... 3 of P(Poisson > k), elementwise."""
    mean: np.ndarray = 5 - np.exp(-rate) * (4 + rate * (3 + rate * (1 + rate / 6)))
    return mean


def principal_components(values: np.ndarray, n: int) -> np.ndarray:
    """(rows, n) float32: scores on the first n principal components, centred, not whitened, to 3 decimals.

    A component's sign is free: its loading of largest size is made positive. Further decimals differ between machines:
    singular values lie close together.
    """
    centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    loadings = np.linalg.svd(centred, full_matrices=False)[2][:n]
    top = np.take_along_axis(loadings, np.abs(loadings).argmax(axis=1)[:, None], axis=1)
    scores: np.ndarray = np.round(centred @ (loadings * np.sign(top)).T, DECIMALS)
    return scores.astype(np.float32)


def _ratings(
    preference: np.ndarray, weights: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Expected (float32) and drawn (int8) ratings of all pairs from (users, K) and (K, items).

    Drawn by inverting the distribution function at uniforms that depend on the seed alone: between two worlds
    that differ in a dial, a rating moves only where its rate does.
    """
    shape = len(preference), weights.shape[1]
    outcome, rating = np.empty(shape, np.float32), np.ones(shape, np.int8)
    for start in range(0, shape[0], BLOCK):
        rows = slice(start, start + BLOCK)
        rate = np.maximum(preference[rows].astype(np.float64) @ weights, 0)
        outcome[rows] = expected_rating(rate)
        uniform = generator.random(rate.shape, dtype=np.float32)
        term = np.exp(-rate)
        below = term.copy()  # P(Poisson <= k)
        for k in range(1, 5):
            rating[rows] += uniform >= below
            if k < 4:
                term *= rate / k
                below += term
    return outcome, rating
