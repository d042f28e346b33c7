"""What may be said about a metric over seeds and users: intervals, paired tests, corrections, letters.

All intervals are 95 %. A difference is always a - b. NaN stands for "cannot be said": it is passed on,
never dropped.

Sources. Corrected resampled t: Nadeau and Bengio, Machine Learning 2003. Bootstrap: Davison and Hinkley
1997 (p-value with +1: their Eq. 4.11). Holm: Scandinavian Journal of Statistics 1979. Letters: Piepho,
Journal of Computational and Graphical Statistics 2004 (insert and absorb). Effect size d_z: Cohen 1988.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from deconrec.errors import DataError, ParameterError
from deconrec.evaluation import columns

Run = tuple[ArrayLike, ArrayLike]
"""One seed of one method: (user, value), the integer codes of its users and the metric of each."""

LEVEL = 0.95
NAN = float("nan")
_CELLS_AT_ONCE = 2**21  # resampled users held at a time: 16 MiB for each of two arrays
_ROUNDING = 8 * np.finfo(np.float64).eps


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval over n seeds or users; `low` and `high` are NaN for n < 2."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of two methods.

    difference: mean of a - b. low, high: its 95 % interval. p: two-sided. test: the test's name.
    unit: what was paired ("user", "split", "seed", "world"). n: number of units, below 2 of which `low`,
    `high` and `p` are NaN.
    """

    difference: float
    low: float
    high: float
    p: float
    test: str
    unit: str
    n: int


# ---- over seeds ----------------------------------------------------------------------------------


def t_interval(values: ArrayLike, correction: float = 0.0) -> Interval:
    """Mean over seeds with the 95 % Student interval of variance s² (1/n + correction).

    values: (n,). correction: n_test / n_train (Nadeau and Bengio 2003) where the seeds are splits of one
    data set, whose training parts overlap; 0 where they are independent worlds.
    n = 1 gives NaN for low and high, n = 0 and any NaN among the values give NaN for all three.
    Raises ParameterError for a negative correction, DataError for anything but one column.
    """
    x = columns.column("t interval", "values", values).astype(np.float64)
    mean, half, _ = _student(x, correction)
    return Interval(mean, mean - half, mean + half, len(x))


def paired_t(a: ArrayLike, b: ArrayLike, unit: str = "seed") -> Comparison:
    """Paired t-test over independent repetitions, such as fresh simulated worlds.

    a, b: (n,) the metric of two methods on the same n repetitions. Two-sided.
    Where all differences are equal there is no spread to judge by, and p is the limit: 1 if they are zero,
    else 0 (differences within rounding count as equal). n < 2 or any NaN: low, high and p are NaN.
    Raises DataError for columns of unequal length.
    """
    return _t_test(a, b, 0.0, "paired t", unit)


def corrected_resampled_t(a: ArrayLike, b: ArrayLike, test_train_ratio: float) -> Comparison:
    """Paired t-test over random splits of one data set, with the variance of Nadeau and Bengio (2003).

    a, b: (n,) the metric of two methods on the same n splits. test_train_ratio: n_test / n_train, at least 0.
    Splits share most of their data, so the plain t-test finds differences that are not there; the variance
    of the mean is s² (1/n + n_test / n_train) instead of s² / n. Equal differences, n < 2 and NaN: as in
    `paired_t`.
    Raises DataError for columns of unequal length, ParameterError for a negative ratio.
    """
    return _t_test(a, b, test_train_ratio, "corrected resampled t", "split")


def effect_size(a: ArrayLike, b: ArrayLike) -> float:
    """Cohen's d_z of paired values: mean of a - b over its standard deviation.

    a, b: (n,). Equal differences give 0 if they are zero, else plus or minus infinity; n < 2 or any NaN
    gives NaN.
    Raises DataError for columns of unequal length.
    """
    d, rounding = _differences("effect size", a, b)
    if len(d) < 2 or not np.isfinite(d).all():
        return NAN
    mean, spread = float(d.mean()), float(d.std(ddof=1))
    if spread <= rounding:
        return 0.0 if abs(mean) <= rounding else math.copysign(math.inf, mean)
    return mean / spread


def _differences(who: str, a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], float]:
    """The differences a - b, and the size below which such a difference is rounding."""
    x = columns.column(who, "a", a).astype(np.float64)
    y = columns.column(who, "b", b, len(x)).astype(np.float64)
    scale = max(float(np.abs(x).max(initial=0.0)), float(np.abs(y).max(initial=0.0)))
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, and NaN is passed on
        return x - y, _ROUNDING * scale


def _t_test(a: ArrayLike, b: ArrayLike, correction: float, test: str, unit: str) -> Comparison:
    d, rounding = _differences(test, a, b)
    mean, half, p = _student(d, correction, rounding)
    return Comparison(mean, mean - half, mean + half, p, test, unit, len(d))


def _student(x: NDArray[np.float64], correction: float, rounding: float = 0.0) -> tuple[float, float, float]:
    """Mean, half width of the 95 % interval, and two-sided p of "the mean is 0"."""
    if not correction >= 0 or math.isinf(correction):
        raise ParameterError(
            f"t interval: 'correction' (n_test / n_train) must be 0 or more; got {correction!r}."
        )
    n = len(x)
    if not n or not np.isfinite(x).all():
        return NAN, NAN, NAN
    mean = float(x.mean())
    if n == 1:
        return mean, NAN, NAN
    spread = float(x.std(ddof=1))
    if spread <= rounding:
        return mean, 0.0, 1.0 if abs(mean) <= rounding else 0.0
    error = spread * math.sqrt(1 / n + correction)
    half = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    return mean, half, float(2 * special.stdtr(n - 1, -abs(mean) / error))


# ---- over users ----------------------------------------------------------------------------------


def paired_bootstrap_users(
    a_runs: Sequence[Run], b_runs: Sequence[Run], n_boot: int = 10_000, seed: int = 0
) -> Comparison:
    """Paired bootstrap over users, pooled over seeds: is the mean per-user metric of a that of b?

    a_runs, b_runs: one (user, value) per seed, in the same order of seeds; within a seed only users in both
    count.
    The unit that is drawn with replacement is the user, with all its seeds. The statistic is the mean over
    seeds of the mean over that seed's users, which is what a table of seed means shows; in a resample each
    seed's mean is a ratio (sum over drawn users that the seed has / their number), and a seed without any
    of them is left out.
    p is two-sided, twice the smaller share of resamples on either side of 0, with +1 in both counts: never
    0. The interval is the percentile interval. The answer holds for these fitted models and other users.
    Fewer than two users: low, high and p are NaN.
    Raises DataError for no run, another number of runs, no user in common, or a user that stands twice in a
    run; ParameterError for fewer than one resample.
    """
    if len(a_runs) != len(b_runs):
        raise DataError(
            f"user bootstrap expects the same seeds of both methods; got {len(a_runs)} and {len(b_runs)}."
        )
    pairs = [
        _aligned(at, _checked_run(a), _checked_run(b))
        for at, (a, b) in enumerate(zip(a_runs, b_runs, strict=True))
    ]
    mean, samples, n = _resampled_means(pairs, n_boot, seed)
    if n < 2:
        return Comparison(mean, NAN, NAN, NAN, "paired bootstrap", "user", n)
    low, high = _percentiles(samples)
    zero = _ROUNDING * max(float(np.abs(value).max()) for _, value in pairs)
    tail = min(np.count_nonzero(samples <= zero), np.count_nonzero(samples >= -zero))
    p = min(1.0, 2 * (tail + 1) / (n_boot + 1))
    return Comparison(mean, low, high, float(p), "paired bootstrap", "user", n)


def bootstrap_users_interval(runs: Sequence[Run], n_boot: int = 10_000, seed: int = 0) -> Interval:
    """Mean per-user metric of one method with its 95 % percentile interval over users.

    runs: one (user, value) per seed. Resampling, statistic and errors as in `paired_bootstrap_users`; n
    counts the distinct users.
    """
    mean, samples, n = _resampled_means([_checked_run(run) for run in runs], n_boot, seed)
    if n < 2:
        return Interval(mean, NAN, NAN, n)
    return Interval(mean, *_percentiles(samples), n)


_CheckedRun = tuple[NDArray[np.integer], NDArray[np.float64]]


def _checked_run(run: Run) -> _CheckedRun:
    who = "user bootstrap"
    user = columns.integer(who, "user", run[0])
    value = columns.finite(who, "value", run[1], len(user)).astype(np.float64, copy=False)
    if len(np.unique(user)) < len(user):
        raise DataError(
            f"{who} expects each user once in a run; got {len(user)} rows of {len(np.unique(user))} users."
        )
    return user, value


def _aligned(at: int, a: _CheckedRun, b: _CheckedRun) -> _CheckedRun:
    """The users in both runs of a seed, and the difference of each (0 where it is but rounding)."""
    common, in_a, in_b = np.intersect1d(a[0], b[0], assume_unique=True, return_indices=True)
    if not len(common):
        raise DataError(
            f"user bootstrap expects users in common; run {at} has {len(a[0])} and {len(b[0])} users, "
            "none of them in both: compare methods on the same test part."
        )
    x, y = a[1][in_a], b[1][in_b]
    rounding = _ROUNDING * max(float(np.abs(x).max()), float(np.abs(y).max()))
    return common, np.where(np.abs(x - y) <= rounding, 0.0, x - y)


def _resampled_means(
    runs: Sequence[_CheckedRun], n_boot: int, seed: int
) -> tuple[float, NDArray[np.float64], int]:
    """The mean over seeds of user means, the same in n_boot resamples of users, and the number of users."""
    if isinstance(n_boot, bool) or not isinstance(n_boot, int | np.integer) or n_boot < 1:
        raise ParameterError(
            f"user bootstrap: 'n_boot' must be a whole number of at least 1; got {n_boot!r}."
        )
    if not runs or not all(len(user) for user, _ in runs):
        raise DataError(
            "user bootstrap expects at least one run, and users in each; got none: evaluate some users."
        )
    everyone = np.unique(np.concatenate([user for user, _ in runs]))
    n, n_seeds = len(everyone), len(runs)
    table = np.zeros((n, 2 * n_seeds))  # per user: the value in each seed, then whether the seed has the user
    for at, (user, value) in enumerate(runs):
        row = np.searchsorted(everyone, user)
        table[row, at] = value
        table[row, n_seeds + at] = 1.0

    def seed_mean(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        total, count = sums[:, :n_seeds], sums[:, n_seeds:]
        ratio = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        result: NDArray[np.float64] = ratio.sum(axis=1) / np.count_nonzero(count, axis=1)
        return result

    mean = float(seed_mean(table.sum(axis=0, keepdims=True))[0])
    rng = np.random.default_rng(seed)
    samples = np.empty(n_boot)
    step = max(1, _CELLS_AT_ONCE // n)
    for start in range(0, n_boot, step):
        size = min(step, n_boot - start)
        drawn = rng.integers(n, size=(size, n)) + (np.arange(size) * n)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        samples[start : start + size] = seed_mean(times @ table)
    return mean, samples, n


def _percentiles(samples: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


# ---- over many comparisons -----------------------------------------------------------------------


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's adjusted p-values, in the order given.

    p: (m,) in [0, 1]. NaN stays NaN and does not count as a comparison. Raises DataError for values outside
    [0, 1].
    """
    values = columns.column("Holm correction", "p", p).astype(np.float64)
    known = np.flatnonzero(~np.isnan(values))
    tested = columns.share("Holm correction", "p", values[known])
    order = np.argsort(tested, kind="stable")
    m = len(order)
    values[known[order]] = np.minimum(np.maximum.accumulate((m - np.arange(m)) * tested[order]), 1.0)
    return values


def significance_letters(
    means: ArrayLike, p_matrix: ArrayLike, alpha: float = 0.05, higher_is_better: bool = True
) -> list[str]:
    """Compact letter display: two methods share a letter if and only if they do not differ significantly.

    means: (m,), NaN ranks last. p_matrix: (m, m) p-values; a pair differs if either of its two entries is
    below alpha, so one triangle is enough (the other NaN); NaN in both says "no difference shown".
    Returns one string per method in the order given; the best has an 'a'. After z come a1, b1, ...
    Raises DataError for a matrix of another shape.
    """
    mean = columns.column("letters", "means", means).astype(np.float64)
    p = np.asarray(p_matrix, dtype=np.float64)
    m = len(mean)
    if p.shape != (m, m):
        raise DataError(f"letters expect p-values of shape {(m, m)}, one row per mean; got {p.shape}.")
    best_first = np.argsort(-mean if higher_is_better else mean, kind="stable")
    below = (p < alpha)[np.ix_(best_first, best_first)]
    differ = np.triu(below | below.T, 1)

    groups = [frozenset(range(m))] if m else []  # of positions in best_first; one letter each
    for i, j in np.argwhere(differ).tolist():
        split = {part for g in groups if {i, j} <= g for part in (g - {i}, g - {j})}
        rest = {g for g in groups if not {i, j} <= g}
        # Absorb: a group inside another says nothing that the other does not say.
        groups = list(rest | {g for g in split if not any(g < other for other in rest | split)})
    groups.sort(key=sorted)

    letters = [""] * m
    for at, group in enumerate(groups):
        turn, which = divmod(at, len(string.ascii_lowercase))
        for position in group:
            letters[best_first[position]] += string.ascii_lowercase[which] + (str(turn) if turn else "")
    return letters
