"""Off-policy evaluation: what a model is worth over all pairs, from a log that chose its rows.

For user u and item i of a population S of N pairs, o_ui = 1 where the pair stands in the evaluation log, p_ui =
P(o_ui = 1) and w = 1 / p. A metric is built of totals over S of a value y_ui that is known where o_ui = 1:

    ips     T = sum_O w y                                    unbiased where p is right and nowhere 0
    snips   N sum_O w y / sum_O w                            a ratio: bias of order 1/n, less variance
    dr      sum_S y^ + sum_O w (y - y^)                      unbiased where p is right, or y^ right in the mean

    mean             T / N                                            mean squared error, log loss
    share of totals  sum_O w g r / sum_O w r                          pooled recall: positives found / positives
    list             sum_O w g r / sum_S g                            precision; snips: / sum_O w g
    ideal            the same times sum_S g / E-hat[ sum_u f(n_u) ]   pooled NDCG and capped recall
    auc              sum_ij w_i w_j r_i (1 - r_j) 1[s_i > s_j] / (sum w r)(sum w (1 - r)), i and j of two rows

Ratios are of sums over all users and not means of users' ratios: a user has few logged rows, and the ratio of two
noisy numbers is biased. A ratio of sums over many users is consistent, with a bias of order 1 / (users).

Intervals. Users are the units: rows of one user may depend on each other in any way, users are independent. The
estimate is linearised, z_u is what user u adds to its error, and

    estimate +- t(df) sqrt( n/(n-1) sum_u (z_u - mean z)^2 ),     df = 3 (sum z^2)^2 / sum z^4 - 1, at most n - 1,

so that an estimate that rests on few users gets the wide quantiles of few. It includes how users differ: it speaks of
other users of the same kind, and is conservative for these. Items are taken as given, and so are propensities.

Sources. Inverse propensities for recommenders, self-normalised and doubly robust: [Schnabel2016], [Swaminathan2015],
[Wang2019]. Sampling: Horvitz and Thompson 1952, Hajek 1971. Linearised variance of clusters: Liang and Zeger 1986.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import special

from deconrec.errors import ParameterError

ESTIMATORS = ("ips", "snips", "dr")
LEVEL = 0.95
NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Sample:
    """Logged rows of a population of pairs.

    Attributes
    ----------
    user: (n,) the user of each row, in [0, n_users).
    weight: (n,) 1 / p, >= 1.
    size: (n_users,) pairs of each user in the population.
    """

    user: np.ndarray
    weight: np.ndarray
    size: np.ndarray

    @property
    def n_users(self) -> int:
        """Users of the population, those without a row included."""
        return len(self.size)

    @property
    def pairs(self) -> float:
        """N, pairs of the population."""
        return float(self.size.sum())

    def by_user(self, x: np.ndarray) -> np.ndarray:
        """(n_users,) sum over each user's rows of x (n,)."""
        return np.bincount(self.user, weights=x, minlength=self.n_users)


@dataclass(frozen=True, eq=False)
class Estimate:
    """A metric, estimated.

    Attributes
    ----------
    value: the estimate; NaN where nothing is known.
    low, high: its 95 % interval; NaN for fewer than two users with a row.
    z: (n_users,) what each user adds to the error.
    ess: Kish's effective number of the weighted rows that the estimate rests on.
    rows: those rows.
    """

    value: float
    low: float
    high: float
    z: np.ndarray = field(repr=False)
    ess: float
    rows: int


def kish(weight: np.ndarray) -> float:
    """Kish's effective sample size, (sum w)^2 / sum w^2; 0 of none."""
    total = float((weight**2).sum())
    return float(weight.sum()) ** 2 / total if total > 0 else 0.0


def degrees_of_freedom(z: np.ndarray) -> float:
    """3 (sum z^2)^2 / sum z^4 - 1, in [1, n - 1]: n - 1 for normal z, few where few of them hold the sum."""
    fourth = float((z**4).sum())
    if fourth <= 0:
        return max(len(z) - 1.0, 1.0)
    return float(np.clip(3 * float((z**2).sum()) ** 2 / fourth - 1, 1, max(len(z) - 1, 1)))


def interval(value: float, z: np.ndarray, low: float = -np.inf, high: float = np.inf) -> tuple[float, float]:
    """The 95 % interval of an estimate with contributions z (n_users,), within the metric's range [low, high].

    NaN for fewer than two users that contribute: no spread can then be seen.
    """
    n = len(z)
    if np.count_nonzero(z) < 2 or not np.isfinite(value):
        return NAN, NAN
    centred = z - z.mean()
    error = float(np.sqrt(n / (n - 1) * (centred**2).sum()))
    half = float(special.stdtrit(degrees_of_freedom(centred), (1 + LEVEL) / 2)) * error
    return min(max(value - half, low), value), max(min(value + half, high), value)


def check_estimator(estimator: str) -> None:
    """Refuse an estimator that there is not.

    Raises
    ------
    ParameterError.
    """
    if estimator not in ESTIMATORS:
        raise ParameterError(f"'estimator' must be one of {', '.join(ESTIMATORS)}; got {estimator!r}.")


# ---------------------------------------------------------------------- totals and their ratios
@dataclass(frozen=True, eq=False)
class Total:
    """An estimated total over the population.

    value: the total. by_user: (n_users,) what each user adds to its linearisation, with sum `value`.
    """

    value: float
    by_user: np.ndarray


def total(sample: Sample, y: np.ndarray, estimator: str, guess: Guess | None = None) -> Total:
    """The total over the population of a value y (n,) of the logged rows.

    Parameters
    ----------
    guess: of "dr": the values imputed.

    SNIPS scales by N / sum w; its linearisation is N / sum w (w y - mean w) + mean size.
    """
    if estimator == "dr":
        assert guess is not None  # callers impute
        each = guess.by_user + sample.by_user(sample.weight * (y - guess.rows))
        return Total(float(each.sum()), each)
    each = sample.by_user(sample.weight * y)
    if estimator == "ips":
        return Total(float(each.sum()), each)
    mass = sample.by_user(sample.weight)
    if not mass.sum() > 0:
        return Total(NAN, np.full(sample.n_users, NAN))
    mean, scale = float(each.sum() / mass.sum()), sample.pairs / float(mass.sum())
    return Total(mean * sample.pairs, scale * (each - mean * mass) + mean * sample.size)


@dataclass(frozen=True, eq=False)
class Guess:
    """Values imputed for every pair of the population.

    rows: (n,) of the logged rows. by_user: (n_users,) sums over each user's pairs.
    """

    rows: np.ndarray
    by_user: np.ndarray


def ratio(
    above: Total, below: Total, ess: float, rows: int, low: float = 0.0, high: float = np.inf
) -> Estimate:
    """One total over another, with its interval in [low, high]."""
    if not below.value > 0:
        return Estimate(NAN, NAN, NAN, np.zeros(len(above.by_user)), 0.0, 0)
    value = above.value / below.value
    z = (above.by_user - value * below.by_user) / below.value
    return Estimate(value, *interval(value, z, low, high), z=z, ess=ess, rows=rows)


def population_mean(
    sample: Sample,
    y: np.ndarray,
    estimator: str,
    guess: Guess | None = None,
    *,
    low: float = 0.0,
    high: float = np.inf,
) -> Estimate:
    """Mean of y over the population, from the logged rows' y (n,): MSE, log loss, mean outcome."""
    everything = Total(sample.pairs, sample.size.astype(float))
    found = total(sample, y, estimator, guess)
    return ratio(found, everything, kish(sample.weight), len(y), low, high)


def found_share(
    sample: Sample,
    gain: np.ndarray,
    r: np.ndarray,
    estimator: str,
    guesses: tuple[Guess, Guess] | None = None,
) -> Estimate:
    """Pooled recall: sum of gain r over sum of r; gain in [0, 1] and r in {0, 1}, (n,) of the logged rows.

    IPS and SNIPS agree: the scale of the weights cancels. guesses: of "dr", those of gain r and of r.
    """
    one, two = guesses if guesses is not None else (None, None)
    above, below = total(sample, gain * r, estimator, one), total(sample, r, estimator, two)
    rows = gain * r > 0
    return ratio(above, below, kish((sample.weight * gain * r)[rows]), int(rows.sum()), 0.0, 1.0)


def listed_total(
    sample: Sample,
    gain: np.ndarray,
    r: np.ndarray,
    best: np.ndarray,
    estimator: str,
    guess: Guess | None = None,
) -> Total:
    """The total of gain r over the population, where that of the gain itself is known: `best` (n_users,) of each user.

    SNIPS normalises by sum w gain, which only rows of lists enter, and not by the weights of everything.
    """
    if estimator != "snips":
        return total(sample, gain * r, estimator, guess)
    each, mass = sample.by_user(sample.weight * gain * r), sample.by_user(sample.weight * gain)
    if not mass.sum() > 0:
        return Total(NAN, np.full(sample.n_users, NAN))
    mean, scale = float(each.sum() / mass.sum()), float(best.sum() / mass.sum())
    return Total(mean * float(best.sum()), scale * (each - mean * mass) + mean * best)


def per_place(
    sample: Sample,
    gain: np.ndarray,
    r: np.ndarray,
    best: np.ndarray,
    estimator: str,
    guess: Guess | None = None,
) -> Estimate:
    """Sum of gain r over what full lists of positives would give, `best` (n_users,): precision at K, and DCG over the
    ideal of K positives. The divisor is known, so that IPS is unbiased where p is right.
    """
    rows = gain > 0
    above = listed_total(sample, gain, r, best, estimator, guess)
    if not np.isfinite(above.value):
        return Estimate(NAN, NAN, NAN, np.zeros(sample.n_users), 0.0, 0)
    ess = kish((sample.weight * gain)[rows])
    return ratio(above, Total(float(best.sum()), best.astype(float)), ess, int(rows.sum()), 0.0, 1.0)


# ---------------------------------------------------------------------- ideals, of numbers that are estimated too
def per_ideal(
    sample: Sample,
    gain: np.ndarray,
    r: np.ndarray,
    full: np.ndarray,
    best: np.ndarray,
    estimator: str,
    guesses: tuple[Guess, Guess] | None = None,
) -> Estimate:
    """Pooled NDCG or capped recall: sum of gain r over the sum over users of f(n_u), n_u the user's positives.

    f(n) = best[min(n, K)] is concave (best (K + 1,), best[0] = 0; full (n_users,) sums a user's gains), so that f of a
    noisy n_u is too small in the mean.
    What is estimated without bias are the mean m of n_u over users and its variance tau^2,

        m = mean n^_u,     tau^2 = mean (n^_u - m)^2 - mean v_u,     v_u = sum_O w (w - 1) (r - r^)^2,

    n^_u = sum over the user's pairs of r^ + sum_O w (r - r^), with r^ = 0 in IPS and the mean of r in SNIPS. E f(n) is
    then taken under the negative binomial with these two (Poisson where tau^2 <= m). Where most users have K positives
    or more it is best[K] whatever the distribution; elsewhere its shape is an approximation.
    """
    one, two = guesses if guesses is not None else (None, None)
    above = listed_total(sample, gain, r, full, estimator, one)
    count = total(sample, r, estimator, two)
    w, rows, n = sample.weight, gain > 0, sample.n_users
    m = count.value / n if n else 0.0
    if not (n and m > 0 and np.isfinite(above.value)):
        return Estimate(NAN, NAN, NAN, np.zeros(n), 0.0, 0)
    scale = sample.pairs / float(w.sum()) if estimator == "snips" else 1.0
    known = two.rows if two is not None else count.value / sample.pairs if estimator == "snips" else 0.0
    noise = sample.by_user(scale**2 * w * (w - 1) * (r - known) ** 2)
    spread = (count.by_user - m) ** 2 - noise
    variance = float(spread.mean())
    value, by_mean, by_variance = expected_best(best, m, variance)
    each = value + by_mean * (count.by_user - m) + by_variance * (spread - variance)
    ess = kish((w * gain)[rows])
    return ratio(above, Total(n * value, each), ess, int(rows.sum()), 0.0, 1.0)


def expected_best(best: np.ndarray, mean: float, variance: float) -> tuple[float, float, float]:
    """(E f(n), its slope in the mean, its slope in the variance) of f(n) = best[min(n, K)], n negative binomial."""

    def of(m: float, v: float) -> float:
        k = np.arange(len(best) - 1)
        if v <= m * (1 + 1e-6):
            log_p = k * np.log(m) - m - special.gammaln(k + 1)
        else:
            size, log_rest = m * m / (v - m), np.log1p(-m / v)
            log_p = special.gammaln(k + size) - special.gammaln(size) - special.gammaln(k + 1)
            log_p = log_p + size * np.log(m / v) + k * log_rest
        p = np.exp(log_p)
        return float(p @ best[:-1] + (1 - p.sum()) * best[-1])

    step_m, step_v = 1e-4 * mean, 1e-4 * max(variance, mean)
    value = of(mean, variance)
    slope = (of(mean + step_m, variance) - of(mean - step_m, variance)) / (2 * step_m)
    over = variance > mean * (1 + 2e-4)
    curve = (of(mean, variance + step_v) - of(mean, variance - step_v)) / (2 * step_v) if over else 0.0
    return value, slope, curve


# ---------------------------------------------------------------------- AUC
def auc(sample: Sample, score: np.ndarray, r: np.ndarray) -> Estimate:
    """AUC over the population from the logged rows: every pair of two rows weighs w_i w_j; ties count half.

    score, r: (n,), r in {0, 1}. Unbiased pair by pair where the two rows are logged independently; rows of one user
    that are not are one in `users` of all pairs. IPS and SNIPS agree.
    """
    w = sample.weight
    up, down = w * r, w * (1 - r)
    positives, negatives = float(up.sum()), float(down.sum())
    if not (positives > 0 and negatives > 0):
        return Estimate(NAN, NAN, NAN, np.zeros(sample.n_users), 0.0, 0)
    below, above = _shares(score, up, down)
    value = float((up * below).sum() / positives)
    z = sample.by_user(up * (below - value) / positives + down * (above - value) / negatives)
    ess = min(kish(up[r > 0]), kish(down[r < 1]))
    return Estimate(value, *interval(value, z, 0.0, 1.0), z=z, ess=ess, rows=len(r))


def auc_imputed(
    user: np.ndarray, score: np.ndarray, mass: np.ndarray, sample: Sample, r: np.ndarray
) -> Estimate:
    """Doubly robust AUC: every pair of the population is a positive with mass r^ + (o/p)(r - r^), a negative with the
    rest, and is never paired with itself.

    user, score, mass: (N,) of all pairs of the population. sample, r: the logged rows, for the effective size.
    """
    itself = mass * (1 - mass)
    positives, negatives = float(mass.sum()), float((1 - mass).sum())
    pairs = positives * negatives - float(itself.sum())
    if not (positives > 0 and negatives > 0 and pairs > 0):
        return Estimate(NAN, NAN, NAN, np.zeros(sample.n_users), 0.0, 0)
    below, above = _shares(score, mass, 1 - mass)
    value = (float((mass * below).sum()) * negatives - float(itself.sum()) / 2) / pairs
    each = mass * (below - value) / positives + (1 - mass) * (above - value) / negatives
    z = np.bincount(user, weights=each, minlength=sample.n_users)
    value = float(np.clip(value, 0.0, 1.0))
    w = sample.weight
    ess = min(kish(w[r > 0]), kish(w[r < 1]))
    return Estimate(value, *interval(value, z, 0.0, 1.0), z=z, ess=ess, rows=len(r))


def _shares(score: np.ndarray, up: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((n,) share of the negatives' mass that scores below each row, (n,) of the positives' that scores above)."""
    order = np.argsort(score, kind="stable")
    s = score[order]
    start = np.flatnonzero(np.concatenate([[True], s[1:] != s[:-1]]))
    size = np.diff(np.append(start, len(s)))

    def beneath(mass: np.ndarray) -> np.ndarray:
        group = np.add.reduceat(mass[order], start)
        out = np.empty(len(s))
        out[order] = np.repeat(np.cumsum(group) - group / 2, size)
        return out

    return beneath(down) / down.sum(), 1 - beneath(up) / up.sum()
