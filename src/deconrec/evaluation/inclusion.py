"""P(an item is in the list) under an exploring policy, for catalogues of any size.

Plackett-Luce is a race: item i arrives at an exponential time of rate w_i, and is in the list of k if fewer than k
others come before it,

    P_i = int_0^inf w_i exp(-w_i t) P(#{j != i : T_j < t} < k) dt,

the count being a sum of independent Bernoulli(1 - exp(-w_j t)). In log t the trapezoid rule is as good as exact. The
count's distribution at a time t is the product of the polynomials e^{-w_j t} (1 + o_j x), o_j = e^{w_j t} - 1, cut at
x^k:

    likely items (w_j t > SMALL)   one by one
    the many others                together: log prod (1 + o_j x) = sum_m (-1)^{m+1} (sum_j o_j^m) x^m / m, and the
                                   sums of powers from those of w_j, which are taken once for all t by octaves of w_j
    those of the list              by products from either end, so that each is left out in turn

A list of 20 of 20,000 items takes some ten milliseconds.
"""

from __future__ import annotations

from functools import lru_cache
from math import factorial, log

import numpy as np

STEP, NARROW = 0.4, 0.8  # NOTE of the trapezoid rule in log time; see `_step`
TAIL = 1e-12  # probability left out at either end of the integral
SMALL = 0.25  # w t up to which items are taken together
POWERS = 16  # of o <= e^SMALL - 1 = 0.28: what is cut off is below 1e-9
TERMS = 30  # of their series in w t
FAINT = 45  # octaves below the last time from which w t = 0
CELLS = 2_000_000  # held at once where each item of the list is left out


def in_list(utility: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """(k,) P(in the list) of the k = len(shown) items, all different, under Plackett-Luce with exp(utility) (n,)."""
    n, k = len(utility), len(shown)
    if k >= n:
        return np.ones(k)
    log_w = utility - np.logaddexp.reduce(utility)
    rest = np.ones(n, bool)
    rest[shown] = False
    # From where nobody has arrived to where k others surely have, or the last of the shown items has.
    low = log(TAIL) - log_w.max()
    high = log(40.0) - min(log_w[shown].min(), np.partition(log_w, n - k - 1)[n - k - 1])
    step = _step(k)
    grid = np.arange(low, high + step, step)
    grid, count = _others(log_w[rest], grid, k)
    late = np.exp(log_w[shown][:, None] + grid)  # w_i t
    p = -np.expm1(-late)
    out = np.zeros(k)
    size = max(1, CELLS // (k * k))
    for start in range(0, len(grid), size):
        part = slice(start, start + size)
        fewer = _fewer_without(count[:, part], p[:, part])
        out += step * (late[:, part] * np.exp(-late[:, part]) * fewer).sum(1)
    return np.minimum(out, 1.0)


def _step(k: int) -> float:
    """The step of the trapezoid rule in log time.

    Its error is the integrand's Fourier transform at 2 pi / step: exp(-pi^2 / step) of the arrival of one item, 2e-11
    at 0.4, and exp(-(2 pi / step)^2 / (2 k)) of that of the k-th, whose log time has the variance 1 / k: 1e-13 at
    0.8 / sqrt(k).
    """
    return min(STEP, NARROW / np.sqrt(k))


def _others(log_w: np.ndarray, grid: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(times at which fewer than k may have arrived, (k, times) P(c of these items have), c < k)."""
    # Octave e holds 2^-e-1 < w <= 2^-e; the faintest are one.
    octave = np.minimum(np.floor(-log_w / log(2)), np.ceil(grid[-1] / log(2)) + FAINT).astype(np.int64)
    octave = np.maximum(octave, 0)
    present, place, size = np.unique(octave, return_inverse=True, return_counts=True)
    within = np.exp(np.minimum(log_w + octave * log(2), 0.0))  # in (1/2, 1], of the faintest less
    level = grid - present[:, None] * log(2)  # log y, y = 2^-e t
    # P(fewer than k of mean mu) <= exp(-(mu - k)^2 / (2 mu)) = exp(-28) from here on.
    many = k + 28 + np.sqrt(784 + 56 * k)
    whole = present < octave.max(initial=0)
    mean = (size[:, None] * -np.expm1(-0.5 * np.exp(np.minimum(level, 50))) * whole[:, None]).sum(0)
    kept = mean <= many
    grid, level = grid[kept], level[:, kept]
    y = np.exp(level)
    small = y <= SMALL
    sums = _power_sums(within, place, len(present))
    scaled = np.where(small, y, 0.0)[:, None, :] ** np.arange(1, TERMS + 1)[:, None]
    terms = (scaled * sums[:, :, None]).sum(0)  # (TERMS, times): sum of (w t)^r over the small
    count = _product(terms, k)
    late = np.flatnonzero(~small[place, -1]) if small.shape[1] else np.zeros(0, np.int64)
    for j in late[np.argsort(octave[late], kind="stable")]:
        first = int(np.argmin(small[place[j]]))
        p = -np.expm1(-np.exp(log_w[j] + grid[first:]))
        own = count[:, first:]
        moved = own[:-1] * p
        own *= 1 - p
        own[1:] += moved
    return grid, count


def _power_sums(within: np.ndarray, place: np.ndarray, n: int) -> np.ndarray:
    """(n, TERMS) sums of within^r, r = 1, ..., over the items of each of n octaves."""
    out, power = np.empty((n, TERMS)), np.ones_like(within)
    for r in range(TERMS):
        power = power * within
        out[:, r] = np.bincount(place, weights=power, minlength=n)
    return out


def _product(terms: np.ndarray, k: int) -> np.ndarray:
    """(k, times) coefficients of prod_j e^{-y_j} (1 + (e^{y_j} - 1) x), from the sums of y_j^r (TERMS, times)."""
    most = min(k - 1, POWERS)
    power = _expansions(most) @ terms  # (most, times): sums of o_j^m
    out = np.zeros((k, terms.shape[1]))
    out[0] = np.exp(-terms[0])
    sign = (-1.0) ** np.arange(most)
    for m in range(1, k):
        i = min(m, most)
        # Newton's identity: m e_m = sum_i (-1)^{i-1} p_i e_{m-i}
        out[m] = (sign[:i, None] * power[:i] * out[m - i : m][::-1]).sum(0) / m
    return np.maximum(out, 0.0)


@lru_cache(maxsize=32)
def _expansions(most: int) -> np.ndarray:
    """(most, TERMS) coefficients of y^r, r = 1, ..., in (e^y - 1)^m, m = 1, ..., most."""
    one = np.array([0.0] + [1 / factorial(r) for r in range(1, TERMS + 1)])
    rows, power = [], np.eye(1, TERMS + 1)[0]
    for _ in range(most):
        power = np.convolve(power, one)[: TERMS + 1]
        rows.append(power[1:])
    out = np.array(rows).reshape(most, TERMS)
    out.flags.writeable = False
    return out


def _fewer_without(count: np.ndarray, p: np.ndarray) -> np.ndarray:
    """(k, times) P(fewer than k have arrived) of those of p (k, times) but i and of `count` (k, times)."""
    k = len(p)
    before = np.empty((k, *count.shape))
    after = np.zeros((k, *count.shape))
    before[0], after[k - 1, 0] = count, 1.0
    for i in range(1, k):
        _add(before[i - 1], p[i - 1], before[i])
        _add(after[k - i], p[k - i], after[k - i - 1])
    at_most = np.cumsum(after, axis=1)[:, ::-1]  # [i, a]: at most k - 1 - a of those behind i
    return np.einsum("iat,iat->it", before, at_most)


def _add(count: np.ndarray, p: np.ndarray, out: np.ndarray) -> None:
    """The distribution with one item more, which has arrived with probability p."""
    np.multiply(count, 1 - p, out=out)
    out[1:] += count[:-1] * p
