"""`simulate.ml_causal`, `vg_causal`, `causal`: worlds whose items are those of real ratings (Sec. 5.1.2, Eq. 11-12).

Two VAEs are fitted to real data: f_exp decodes a code into exposures, f_rat into ratings. New users are drawn:

    c_u ~ N(0, I_K)                                              confounder
    theta_u = gamma_theta c_u + (1 - gamma_theta) n_u            preference, n_u ~ N(0, I_K)
    x_u = PCA_F(theta_u + eps_u),  eps_u ~ N(0, lambda_u^-1 I)   measured features
    a_u = argmin |a_u - f_exp(c_u)|                              exposure: as many pairs as in the real data
    r_u = argmin |r_u - f_rat(theta_u + gamma_b c_u)|            ratings: the histogram of the real data

Both constraints are global, so both minima are cuts of one sorted list of all pairs: the largest f_exp are exposed,
the largest f_rat are rated 5, the next 4, and so on. Both counts are exact; a tie goes to the first pair.

Dials
-----
n_users: users that are drawn, >= 2.
n_factors: dimension K of confounder and preference, >= 1.
n_features: dimension F of the measured user features, from 1 to min(n_factors, n_users).
gamma_theta: share of the confounder in the preference, in [0, 1].
gamma_b: direct effect of the confounder on ratings, in [0, 10].
shared_axes: turn f_rat so that c means the same to both decoders; False = as released, whatever the two fits happened
    to call an axis.
exposure_rate: share of all pairs that is exposed, in (0, 1); None = that of the real data.
rating_tilt: the histogram is p(r) rating_tilt^(5 - r), p that of the real data; 1 = as printed, in (0, 100].
feature_noise: variance lambda_u^-1 of the noise on the features (not its standard deviation), >= 0.
normalize_theta: divide theta by its standard deviation sqrt(gamma_theta^2 + (1 - gamma_theta)^2).
unbiased_share: size of a randomised log as a share of all pairs, in [0, 1]; 0 = none, as in the paper.
decoder_epochs: passes over the real users while a decoder is fitted, >= 1.
decoder_seed: draws the decoders' initial values and batches. Worlds of all seeds share their decoders, as worlds of
    all dials do; another decoder_seed is another pair of decoders.
seed: draws the users, any whole number >= 0. Turning a dial keeps every other draw.

The decoders are fitted once a process, on one thread and in double precision, and features have 3 decimals: a seed
gives the same data set on machines whose processors round differently.

Deviations.
1. The codes of two fits have axes in arbitrary directions, and one c is drawn for both, as released: whether an item's
   exposed pairs are rated above or below its others is chance. On ML-1M, by 0.17, 0.18 and 0.19 stars at gamma_theta
   = 0.1, 0.5 and 0.9 (root mean square over items, less sampling error), -0.08 on average. `shared_axes` is ours: it
   turns f_rat so that the real users' two codes agree as well as a rotation can make them. Exposed pairs are then
   rated higher, by 0.78, 0.82 and 0.84 stars on average. Fig. 6 (the ratings of exposed pairs depart further from
   those of all as gamma_theta grows) is not what comes out: fives among the exposed fall, from 39 to 33 % as released
   and from 72 to 67 % with shared axes (23 % of all pairs). They rise with shared axes and gamma_b = 0: 74, 92, 97 %.
2. `rating_tilt` = 1 is Eq. 12's constraint. The released code multiplies the histogram by 2.4^(5 - r) without a
   word: `rating_tilt=2.4`. Rating 5 is then 4 % of the pairs of ML-causal, not 23 %, as Table 2's level needs.
3. The exposure rate is ratings / (users x items) of the real data, as Table 1 has it. The released code counts two
   columns for every rating and takes the number of users for that of items.
4. f_exp is a factorised logistic, as the text says (released: a softmax). Its cut is made on the logit, which has
   the order of the probability.
5. f_rat is a softmax, compared across users as a probability, as released. (A logit is free up to a constant of
   each user.)
6. The decoders are fitted to all real users with the full KL weight, so that c ~ N(0, I) resembles the codes that
   they learnt from, for a fixed number of epochs; their biases start at the items' popularity. Released: 90 % of the
   users, a KL weight of 0.2, the epoch with the best R@10 + N@10 of 150.
7. K = 100, F = 10 and gamma_b = 2 are the text's (released: F = 5). gamma_b = 2 takes f_rat's input off the N(0, I)
   that it was fitted to: its variance is (gamma_theta + 2)^2 + (1 - gamma_theta)^2.
8. The same c, n and eps serve every gamma_theta (the released code draws afresh for each).
9. lambda_u^-1 is a variance, as the equation says; the released code takes 0.1 for the standard deviation, that is
   `feature_noise` = 0.01 here.
10. VG-causal starts from users and items with at least 10 ratings, as released (`core`). In the 2014 crawl these are
   2,816 users and 2,141 items, 0.865 % dense; Table 1's 4,338 items and 0.406 % come from some other cut or crawl.

Note. Exposure is a function of c alone, so there is no propensity and no overlap, and cutting the scores makes
popular items more so: many are never shown. Exposed pairs are rated higher even at gamma_theta = gamma_b = 0, since
popular items are both shown and liked. Table 1's 165 +- 192 exposures a user are ML-1M's own figures; a linear
decoder of normal codes spreads less.

Paper.      [Zhu2024]
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from deconrec.data.dataset import Dataset, Features, Task, Truth
from deconrec.data.ids import Vocabulary
from deconrec.data.sources import amazon, movielens
from deconrec.errors import DataError, ParameterError
from deconrec.random import numpy_generator
from deconrec.simulate.deep_deconf_world import BLOCK, largest, principal_components
from deconrec.simulate.randomised import exposed_log, randomised_log
from deconrec.simulate.ranges import check_count, check_number

RATINGS = 5


def ml_causal(
    root: str | Path | None = None,
    *,
    gamma_theta: float = 0.5,
    gamma_b: float = 2.0,
    shared_axes: bool = False,
    n_users: int = 6000,
    n_factors: int = 100,
    n_features: int = 10,
    exposure_rate: float | None = None,
    rating_tilt: float = 1.0,
    feature_noise: float = 0.1,
    normalize_theta: bool = False,
    unbiased_share: float = 0.0,
    decoder_epochs: int = 20,
    decoder_seed: int = 0,
    check_counts: bool = True,
    seed: int = 0,
) -> tuple[Dataset, Truth]:
    """ML-causal: the films of MovieLens 1M, all 3,706 that were rated, and users that are drawn.

    Parameters
    ----------
    root: folder that holds ml-1m/; default $DECONREC_DATA, then the user's cache.
    check_counts: compare the files with the published counts.
    The others: see Dials.

    Returns
    -------
    Dataset "ml-causal" and Truth, as `causal` gives them.

    Raises
    ------
    MissingData: the files are not there.  DataError: they are not the published ones.
    ParameterError: a parameter out of range.
    """
    return causal(
        movielens.load_1m(root, check_counts=check_counts),
        gamma_theta=gamma_theta,
        gamma_b=gamma_b,
        shared_axes=shared_axes,
        n_users=n_users,
        n_factors=n_factors,
        n_features=n_features,
        exposure_rate=exposure_rate,
        rating_tilt=rating_tilt,
        feature_noise=feature_noise,
        normalize_theta=normalize_theta,
        unbiased_share=unbiased_share,
        decoder_epochs=decoder_epochs,
        decoder_seed=decoder_seed,
        name="ml-causal",
        seed=seed,
    )


def vg_causal(
    root: str | Path | None = None,
    *,
    core: int = 10,
    gamma_theta: float = 0.5,
    gamma_b: float = 2.0,
    shared_axes: bool = False,
    n_users: int = 7253,
    n_factors: int = 100,
    n_features: int = 10,
    exposure_rate: float | None = None,
    rating_tilt: float = 1.0,
    feature_noise: float = 0.1,
    normalize_theta: bool = False,
    unbiased_share: float = 0.0,
    decoder_epochs: int = 20,
    decoder_seed: int = 0,
    check_counts: bool = True,
    seed: int = 0,
) -> tuple[Dataset, Truth]:
    """VG-causal: the video games of the Amazon files that have at least `core` ratings, and users that are drawn.

    Parameters
    ----------
    root: folder that holds amazon_vg/; default $DECONREC_DATA, then the user's cache.
    core: least number of ratings of every real user and item, >= 1.
    check_counts: compare the file of reviews with the published counts.
    The others: see Dials.

    Returns
    -------
    Dataset "vg-causal" and Truth, as `causal` gives them.

    Raises
    ------
    MissingData: no file with ratings is there (pairs alone do not do).  DataError: it is not the published one.
    ParameterError: a parameter out of range.
    """
    return causal(
        amazon.load(root, core=core, check_counts=check_counts),
        gamma_theta=gamma_theta,
        gamma_b=gamma_b,
        shared_axes=shared_axes,
        n_users=n_users,
        n_factors=n_factors,
        n_features=n_features,
        exposure_rate=exposure_rate,
        rating_tilt=rating_tilt,
        feature_noise=feature_noise,
        normalize_theta=normalize_theta,
        unbiased_share=unbiased_share,
        decoder_epochs=decoder_epochs,
        decoder_seed=decoder_seed,
        name="vg-causal",
        seed=seed,
    )


def causal(
    raw: Dataset,
    *,
    gamma_theta: float = 0.5,
    gamma_b: float = 2.0,
    shared_axes: bool = False,
    n_users: int | None = None,
    n_factors: int = 100,
    n_features: int = 10,
    exposure_rate: float | None = None,
    rating_tilt: float = 1.0,
    feature_noise: float = 0.1,
    normalize_theta: bool = False,
    unbiased_share: float = 0.0,
    decoder_epochs: int = 20,
    decoder_seed: int = 0,
    name: str = "causal",
    seed: int = 0,
) -> tuple[Dataset, Truth]:
    """The same world from any log of ratings 1 to 5.

    Users' ids are the codes 0, 1, ...; items keep their ids, without features. Users without any exposure stay.

    Parameters
    ----------
    raw: the real data; only its biased log is read.
    n_users: None = as many as there are in `raw`.
    name: of the data set.
    The others: see Dials.

    Returns
    -------
    Dataset `name` (relevant: rating 5, protocol "users") and Truth: rating (int8), outcome = the same as float32 (a
    rating is certain), confounder c; no propensity. `extra` holds theta (n_users, K), exposure_weights and
    rating_weights (K, n_items), exposure_bias and rating_bias (n_items,).

    Raises
    ------
    DataError: ratings of `raw` that are not 1, 2, 3, 4, 5.  ParameterError: a parameter out of range.
    """
    who = f"simulate.{name.replace('-', '_')}"
    n_users = check_count(who, "n_users", raw.n_users if n_users is None else n_users, 2)
    check_count(who, "n_factors", n_factors, 1)
    check_count(who, "n_features", n_features, 1, min(n_factors, n_users))
    check_count(who, "decoder_epochs", decoder_epochs, 1)
    if not isinstance(shared_axes, bool):
        raise ParameterError(f"'shared_axes' of {who} must be True or False; got {shared_axes!r}.")
    for what, value in (("decoder_seed", decoder_seed), ("seed", seed)):
        check_count(who, what, value, 0)
    gamma_theta = check_number(who, "gamma_theta", gamma_theta, 0, 1)
    gamma_b = check_number(who, "gamma_b", gamma_b, 0, 10)
    rating_tilt = check_number(
        who, "rating_tilt", rating_tilt, 0, 100, open_low=True, meaning="1 = as in the real data"
    )
    feature_noise = check_number(who, "feature_noise", feature_noise, 0, meaning="a variance")
    check_number(who, "unbiased_share", unbiased_share, 0, 1, meaning="0 = no randomised log")
    real = raw.biased.rating
    if not len(real) or not np.isin(real, np.arange(1, RATINGS + 1)).all():
        raise DataError(
            f"{who} needs ratings 1, 2, 3, 4, 5 to take a histogram from; '{raw.name}' has "
            f"{np.unique(real)[:8].tolist()}. Map your ratings to whole stars first."
        )
    if exposure_rate is None:
        exposure_rate = raw.density
    check_number(who, "exposure_rate", exposure_rate, 0, 1, open_low=True, open_high=True)
    exposures = round(exposure_rate * n_users * raw.n_items)
    if exposures < 1:
        raise ParameterError(
            f"'exposure_rate' of {who} must expose at least one of {n_users * raw.n_items:,} pairs; got "
            f"{exposure_rate!r}."
        )

    def normal(stream: str, dim: int) -> np.ndarray:
        generator = numpy_generator(seed, f"simulate.causal/{stream}")
        return generator.standard_normal((n_users, dim), dtype=np.float32)

    from deconrec.simulate.decoders import fit_decoders

    decoders = fit_decoders(raw, n_factors, decoder_epochs, decoder_seed)
    confounder = normal("confounder", n_factors)
    theta = gamma_theta * confounder + (1 - gamma_theta) * normal("preference", n_factors)
    if normalize_theta:
        theta /= np.sqrt(gamma_theta**2 + (1 - gamma_theta) ** 2)
    noisy = theta + np.float32(np.sqrt(feature_noise)) * normal("feature noise", n_factors)

    exposed = largest(confounder @ decoders.exposure_weights + decoders.exposure_bias, exposures)
    histogram = np.bincount(real.astype(int), minlength=RATINGS + 1)[1:]
    counts = apportion(histogram * rating_tilt ** np.arange(RATINGS - 1, -1, -1), n_users * raw.n_items)
    # A code is the same model under any rotation: f_rat(z R) and f_rat(z) differ in the meaning of z's axes alone.
    rating_weights = decoders.rating_weights
    if shared_axes:
        rating_weights = decoders.rotation @ rating_weights
    score = log_share(theta + gamma_b * confounder, rating_weights, decoders.rating_bias)
    rating = by_rank(score, counts)

    data = Dataset(
        users=Vocabulary(pl.Series(np.arange(n_users)), "user"),
        items=raw.items,
        biased=exposed_log(rating, exposed),
        unbiased=randomised_log(rating, unbiased_share, seed) if unbiased_share else None,
        user_features=Features(
            tuple(f"pc{k + 1}" for k in range(n_features)),
            principal_components(noisy, n_features),
            np.zeros(n_users, bool),
        ),
        task=Task(relevant=RATINGS, rating_range=(1, RATINGS), protocol="users"),
        name=name,
        notes=(
            f"Items, exposure rate and rating histogram are those of '{raw.name}' ({len(raw.biased):,} ratings by "
            f"{raw.n_users:,} users); users, exposures and ratings are simulated.",
        ),
    )
    truth = Truth(
        outcome=rating.astype(np.float32),
        rating=rating,
        confounder=confounder,
        extra={
            "theta": theta,
            "exposure_weights": decoders.exposure_weights,
            "exposure_bias": decoders.exposure_bias,
            "rating_weights": rating_weights,
            "rating_bias": decoders.rating_bias,
        },
    )
    return data, truth


def apportion(weight: np.ndarray, total: int) -> np.ndarray:
    """(n,) int64: whole numbers in proportion to `weight` (n,) >= 0 whose sum is `total`, by largest remainders."""
    share = weight / weight.sum() * total
    counts = np.floor(share).astype(np.int64)
    # Exact shares may lie a rounding error below a whole number; the ranking of remainders sees to those too.
    order = np.argsort(counts - share, kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return counts


def by_rank(score: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """int8 of the shape of `score`: 1 for the counts[0] lowest, 2 for the next, ...; of ties the first is higher.

    The solution of Eq. 12: of all assignments with these counts, the one nearest to any increasing map of `score`.
    """
    rating = np.ones(score.shape, np.int8)
    for at_least in np.cumsum(counts[:0:-1]):
        if at_least:
            rating += largest(score, int(at_least))
    return rating


def log_share(code: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """(users, items): log softmax of code W + b, from codes (users, K), W (K, items) and b (items,)."""
    out = np.empty((len(code), weights.shape[1]), np.result_type(code, weights, bias))
    for start in range(0, len(code), BLOCK):
        logits = code[start : start + BLOCK] @ weights + bias
        logits -= logits.max(axis=1, keepdims=True)
        out[start : start + BLOCK] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return out
