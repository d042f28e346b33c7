"""The test for hidden confounding: do the two logs agree, once what is measured is accounted for?

Without hidden confounding, the outcome of a pair does not depend on whether the pair was exposed, given what is
measured of it. Both logs then have the same mean outcome at the same measured things. The gap is paper 2's consistency
gap with the outcome itself as the loss (that of the prediction 0),

    L_B = sum_B w (r - m) / sum_B w,   w = 1 - e        L_U = sum_U w (r - m) / sum_U w,   w = e        gap = L_B - L_U

    p(x)   P(o = 1 | x): exposure on features, their products, and every user's and item's level    (`additive`)
    e(x)   P(the row is of the biased log | x, it is of one of them): logit e = logit p - log q + what is left
    m(x)   E[r | x, the row is of one of the logs], cross-fitted

Rows of the randomised log whose pair stands in the biased log are dropped: what is left are pairs that were not
exposed, each with chance q, and logit e = logit p - log q exactly. Where the randomised log is small, 1 - e is
proportional to (1 - p) / p: inverse-propensity weights that carry exposed pairs to those that were not. Unlike these, w
is bounded, and a pair that one log could never hold weighs nothing: the gap is that of pairs that both could hold
[Li2018].

The gap is 0 without hidden confounding if e is right or if m is right; errors of both only enter as their product. Its
variance is that of its influence function, clustered by user and by item [Cameron2011]; see `error` below. A row's own
part of it is what it would be without hidden confounding, when outcomes spread alike in both logs at the same measured
things: c m (1 - m), c from all rows by their weights. Squares of the randomised rows' own residuals would make few rows
of few positives look sure of themselves. Where rows are few for what m learns, a row's noise enters once more through
the m of the others; by how much is read off the influences with m fitted to all rows, which are as much smaller as
those with m cross-fitted are larger.

Source. Paper 2 [Li2023], section 4.4, for the gap; [Robinson1988] for partialling out; [Satterthwaite1946] for
degrees of freedom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import norm, t

from deconrec.data.dataset import Dataset, Log
from deconrec.diagnostics import additive
from deconrec.diagnostics.additive import Additive, Grid, Rows
from deconrec.diagnostics.measured import design
from deconrec.evaluation.offpolicy import kish
from deconrec.random import numpy_generator

FEWEST = 20  # usable unbiased rows, and matched ones, below which no gap is given
FOLDS = 5
LARGEST_GRID = 6_000_000  # pairs held whole; above, unexposed pairs are drawn
CONTROLS = 1_000_000  # NOTE unexposed pairs that are drawn of a larger catalogue
MOST_ROWS = 300_000  # biased rows in the comparison, or ten for an unbiased one: more do not move the error
POWER = 0.8
LEVEL, CLEAR = 0.05, 0.01  # p below which a gap is called found, and found without "perhaps"
# NOTE prior variance of levels in the exposure model, on the scale of logits. Shrinking them more, as prediction would,
# leaves part of what is between users and between items unaccounted for: good items that are popular look confounded.
FREE = 4.0
LEAST_CHANCE = 1e-3  # of an outcome, where its variance m (1 - m) is taken


@dataclass(frozen=True)
class Confounding:
    """What the test says; None where it cannot be had.

    Attributes
    ----------
    gap, low, high: L_B - L_U with its 95 % interval, in units of the outcome inside [0, 1].
    p: two-sided, of a gap of 0.
    error: standard error. df: degrees of freedom of its t distribution, no whole number.
    naive: mean outcome of the biased log less that of the unbiased one, nothing accounted for.
    naive_low, naive_high: its 95 % interval, rows taken as independent.
    biased, unbiased: the two logs' mean outcomes at the same measured things, whose difference is the gap.
    rows: unbiased rows that were used. shared: unbiased rows that were dropped, their pair being in the biased log.
    matched: unbiased rows' worth of pairs that the biased log could hold too, sum of e over them, <= rows.
    measured: names of what is accounted for.
    why: why there is no gap; empty where there is one.
    """

    gap: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    error: float | None = None
    df: float | None = None
    naive: float | None = None
    naive_low: float | None = None
    naive_high: float | None = None
    biased: float | None = None
    unbiased: float | None = None
    rows: int = 0
    shared: int = 0
    matched: float | None = None
    measured: tuple[str, ...] = ()
    why: str = ""

    @property
    def found(self) -> bool | None:
        """Whether a gap of 0 is rejected at 5 %; None where there was no test."""
        return None if self.p is None else self.p < LEVEL

    @property
    def weak(self) -> bool:
        """Whether it is rejected at 5 % and not at 1 %: about 4 in 100 data sets without any gap look so."""
        return self.p is not None and CLEAR <= self.p < LEVEL

    @property
    def smallest(self) -> float | None:
        """The true gap that the test would find 4 times in 5 at this sample size."""
        if self.error is None or self.df is None:
            return None
        return float((t.ppf(0.975, self.df) + norm.ppf(POWER)) * self.error)

    def power(self, gap: float) -> float | None:
        """P(the test rejects | true gap), at this sample size."""
        if not self.error or self.df is None:
            return None
        bound, centre = float(t.ppf(0.975, self.df)), gap / self.error
        return float(norm.sf(bound - centre) + norm.cdf(-bound - centre))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: null for what cannot be had."""
        names = (
            "gap",
            "low",
            "high",
            "p",
            "error",
            "df",
            "naive",
            "naive_low",
            "naive_high",
            "biased",
            "unbiased",
        )
        out: dict[str, Any] = {name: getattr(self, name) for name in names}
        out |= {"rows": self.rows, "shared": self.shared, "matched": self.matched}
        out |= {
            "measured": list(self.measured),
            "found": self.found,
            "smallest_gap": self.smallest,
            "why": self.why,
        }
        out["power"] = self._curve()
        return out

    def _curve(self) -> list[dict[str, float]]:
        if not self.error:
            return []
        gaps = [k * self.error / 2 for k in range(13)]
        return [{"gap": g, "power": float(self.power(g) or 0.0)} for g in gaps]


def measured_names(data: Dataset) -> tuple[str, ...]:
    """What the test accounts for, in words."""
    out = ["the user's activity", "the item's popularity"]
    for side, features in (("user", data.user_features), ("item", data.item_features)):
        if features is not None and len(features.names):
            out.append(f"{len(features.names)} {side} feature{'s' if len(features.names) > 1 else ''}")
    if len(out) == 4:
        out.append("their products")
    return tuple(out)


def exposure_model(data: Dataset, seed: int = 0) -> Additive:
    """P(o = 1 | measured things), fitted to all pairs, or to the exposed ones and a draw of the others."""
    start = Additive.empty(design(data.user_features, data.n_users), design(data.item_features, data.n_items))
    start = replace(start, variances=(FREE, FREE, *start.variances[2:]))
    return additive.fit(exposures(data, seed), _at_density(start, data.density), fixed_levels=True)


def exposures(data: Dataset, seed: int = 0) -> Grid | Rows:
    """Every pair with its exposure; of a large catalogue, the exposed pairs and a weighted draw of the others."""
    n_users, n_items = data.shape
    if n_users * n_items <= LARGEST_GRID:
        o = np.zeros(data.shape, np.float32)
        o[data.biased.user, data.biased.item] = 1
        return Grid(o)
    rng = numpy_generator(seed, "diagnose/controls")
    drawn = np.unique(rng.integers(0, n_users * n_items, CONTROLS))
    free = drawn[~np.isin(drawn, data.biased.key(n_items))]
    key = np.concatenate([data.biased.key(n_items), free])
    y = np.repeat([1.0, 0.0], [len(data.biased), len(free)])
    each = (n_users * n_items - len(data.biased)) / max(len(free), 1)
    user, item = np.divmod(key, n_items)
    return Rows(user, item, y, data.shape, weight=np.where(y > 0, 1.0, each))


def confounding(data: Dataset, exposure: Additive, seed: int = 0) -> Confounding:
    """The test.

    Parameters
    ----------
    exposure: of `exposure_model`.
    seed: draws the folds of m, and biased rows where there are more than are needed.
    """
    names = measured_names(data)
    if data.unbiased is None or not len(data.unbiased):
        return Confounding(measured=names, why="there is no randomised log")
    u_log = data.unbiased.take(~data.in_biased)
    shared = len(data.unbiased) - len(u_log)
    plain: dict[str, Any] = {"measured": names, "rows": len(u_log), "shared": shared, **_naive(data, u_log)}
    if len(u_log) < FEWEST:
        return Confounding(**plain, why=f"fewer than {FEWEST} randomised rows can be used")
    b_log = _some(data.biased, len(u_log), seed)
    user, item = (np.concatenate([getattr(b_log, c), getattr(u_log, c)]) for c in ("user", "item"))
    s = np.repeat([1.0, 0.0], [len(b_log), len(u_log)])
    r = np.concatenate([data.outcome(b_log), data.outcome(u_log)]).astype(np.float64)
    if np.ptp(r) < 1e-12:
        return Confounding(**plain, why="every outcome of both logs is the same")
    e = _of_the_biased_log(data, exposure, user, item, s, len(b_log))
    m, fitted = _outcomes(exposure, user, item, r, numpy_generator(seed, "diagnose/folds"))
    found = gap(user, item, s, r, e, m, fitted)
    if found is None or found["matched"] < FEWEST:
        return Confounding(
            **plain, why="hardly any randomised row has its like in the biased log: the logs do not overlap"
        )
    return Confounding(**plain, **found)


def gap(
    user: np.ndarray,
    item: np.ndarray,
    s: np.ndarray,
    r: np.ndarray,
    e: np.ndarray,
    m: np.ndarray,
    fitted: np.ndarray | None = None,
    weight: np.ndarray | None = None,
) -> dict[str, Any] | None:
    """L_B - L_U, its error, interval and p from rows of both logs, all (n,); None where a log weighs nothing.

    s: 1 for rows of the biased log. e: P(s = 1 | x). m: predicted outcome, cross-fitted.
    fitted: the same, fitted to all rows, which raises the error; None = it is not raised.
    weight: sample weights; None = all 1.
    """
    of_b = s > 0
    w = np.where(of_b, 1 - e, e) * (1.0 if weight is None else weight)
    total = float(w[of_b].sum()), float(w[~of_b].sum())
    if min(total) <= 1e-9:
        return None

    def levels(prediction: np.ndarray) -> tuple[float, float, np.ndarray]:
        """L_B and L_U, and the influence of every row on their difference."""
        rest = r - prediction
        of_log = [float(w[log] @ rest[log]) / n for log, n in zip((of_b, ~of_b), total, strict=True)]
        return *of_log, share * (rest - np.where(of_b, *of_log))

    share = np.where(of_b, w / total[0], -w / total[1])
    biased, unbiased, influence = levels(m)
    value = biased - unbiased
    spread = np.clip(m, LEAST_CHANCE, 1 - LEAST_CHANCE)
    spread = spread * (1 - spread)
    spread *= float((w * (influence / np.where(w > 0, share, 1.0)) ** 2).sum() / (w * spread).sum())
    size, df = error(influence, share**2 * spread, user, item, kish(w))
    if not size > 0:
        return None
    if fitted is not None:
        inside = math.sqrt(float((levels(fitted)[2] ** 2).sum()))
        size *= max(1.0, math.sqrt(float((influence**2).sum())) / max(inside, 1e-300))
    reach = float(t.ppf(0.975, df)) * size
    overall = float(w @ m) / float(w.sum())
    return {
        "gap": value,
        "low": value - reach,
        "high": value + reach,
        "p": float(2 * t.sf(abs(value) / size, df)),
        "error": size,
        "df": df,
        "biased": overall + biased,
        "unbiased": overall + unbiased,
        "matched": total[1],
    }


def error(
    influence: np.ndarray, variance: np.ndarray, user: np.ndarray, item: np.ndarray, rows: float
) -> tuple[float, float]:
    """(standard error, degrees of freedom) of a sum of influences, dependent within users and within items.

    V = V_rows + (V_user - rows) + (V_item - rows), at least half of V_rows: V_rows the sum of `variance`, V_user the
    squares of users' sums of influences, and their rows' own squares taken off. Where e is right, exposures and the
    randomised draw are independent given what is measured, and both brackets are 0 on average; they guard against what
    e misses. Their noise is why V has few degrees of freedom where a log's weight is with few users or items
    ([Satterthwaite1946], rows independent):

        df = V_rows^2 / ( sum over pairs of different rows of one user or item of v_j v_k  +  V_rows^2 / rows )

    Parameters
    ----------
    variance: (n,) v of each row's influence. rows: effective rows that its scale was read off.
    """
    own, squares = float(variance.sum()), float((influence**2).sum())
    more = alike = 0.0
    for cluster in (user, item):
        at = np.unique(cluster, return_inverse=True)[1]
        more += float((np.bincount(at, influence) ** 2).sum()) - squares
        alike += float((np.bincount(at, variance) ** 2).sum()) - float((variance**2).sum())
    noise = alike + own**2 / max(rows, 1.0)
    return math.sqrt(max(own + more, own / 2)), max(own**2 / noise, 1.0) if noise > 0 else 1.0


def _naive(data: Dataset, u_log: Log) -> dict[str, float | None]:
    b, u = data.outcome(data.biased).astype(np.float64), data.outcome(u_log).astype(np.float64)
    if not len(b) or not len(u):
        return {}
    value = float(b.mean() - u.mean())
    reach = 1.96 * math.sqrt(float(b.var() / len(b) + u.var() / len(u)))
    return {"naive": value, "naive_low": value - reach, "naive_high": value + reach}


def _some(log: Log, n_unbiased: int, seed: int) -> Log:
    most = max(MOST_ROWS, 10 * n_unbiased)
    if len(log) <= most:
        return log
    order = np.lexsort((log.item, log.user))
    return log.take(np.sort(order[numpy_generator(seed, "diagnose/rows").permutation(len(log))[:most]]))


def _of_the_biased_log(
    data: Dataset, exposure: Additive, user: np.ndarray, item: np.ndarray, s: np.ndarray, n_biased: int
) -> np.ndarray:
    """(n,) e: logit p less the log-odds of the draws, and what a second fit finds left.

    Something is left where the randomised log was not drawn from all pairs alike: some users only, so many rows a user.
    """
    unexposed = data.n_users * data.n_items - len(data.biased)
    taken = n_biased / max(len(data.biased), 1)
    q = (len(s) - n_biased) / max(unexposed, 1)
    offset = exposure.at(user, item) + math.log(taken) - math.log(q)
    left = additive.fit(Rows(user, item, s, data.shape, offset=offset), exposure.cleared())
    return np.asarray(expit(offset + left.at(user, item)))


def _outcomes(
    exposure: Additive, user: np.ndarray, item: np.ndarray, r: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) m, each row's from the folds that it is not in, and m fitted to all rows."""
    shape = len(exposure.a), len(exposure.b)
    start = _at_density(exposure.cleared(), float(r.mean()))
    whole = additive.fit(Rows(user, item, r, shape), start, dispersed=True)
    fold = np.empty(len(r), np.int64)
    fold[np.lexsort((item, user))] = rng.permutation(len(r)) % FOLDS
    m = np.empty(len(r))
    for k in range(FOLDS):
        kept, held = fold != k, fold == k
        part = additive.fit(Rows(user[kept], item[kept], r[kept], shape), whole, learn=False, rounds=8)
        m[held] = expit(part.at(user[held], item[held]))
    return m, expit(whole.at(user, item))


def _at_density(model: Additive, mean: float) -> Additive:
    level = min(max(mean, 1e-6), 1 - 1e-6)
    model.product[0, 0] = math.log(level / (1 - level))
    return model
