"""The test for hidden confounding of click and conversion: do clicked impressions convert as forced clicks do?

Without hidden confounding, whether an impression converts when clicked does not depend on whether its user chose to
click, given what is measured of it. Clicked rows (B) and rows whose click was forced (U) then have the same mean
conversion at the same measured things. The gap, its weights and its error are those of `diagnostics.confounding`, with

    p(x)   P(o = 1 | x): clicks on the context, products of its columns, every user's and item's level  (`contextual`)
    e(x)   P(the row is of B | x, it is of B or U): logit e = log p + log(n_D / n_U) + what is left
    m(x)   E[r | x, the row is of one of the logs], cross-fitted

Forced clicks are impressions of their own, not those of D that were not clicked: hence log p, where pairs have logit p.
The gap is 0 without hidden confounding if e is right or if m is right.

Source. Paper 2 [Li2023], section 4.4, for the gap; [Robinson1988] for partialling out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import expit, log_expit

from deconrec.data.dataset import Dataset, Log
from deconrec.data.impressions import Impressions, unit_weight
from deconrec.diagnostics.confounding import FEWEST, FOLDS, Confounding, error, gap
from deconrec.diagnostics.impressions import contextual
from deconrec.diagnostics.impressions.columns import Columns, columns
from deconrec.diagnostics.impressions.contextual import Contextual
from deconrec.random import numpy_generator

LEAST = 10  # conversions, and clicks without one, of either log below which no gap is given: errors would not hold


class ClickModel:
    """Columns of all impressions and forced clicks, and the model of clicks on them.

    Attributes
    ----------
    columns: of the impressions, then of the forced clicks.
    shown: the impressions. forced: the randomised log, or None.
    model: of clicks.
    """

    def __init__(self, data: Dataset) -> None:
        assert data.impressions is not None
        self.shown: Impressions = data.impressions
        self.forced: Log | None = data.unbiased if data.unbiased is not None and len(data.unbiased) else None
        logs = (self.shown.log,) if self.forced is None else (self.shown.log, self.forced)
        self.columns: Columns = columns(logs, data.shape)
        weight = self.shown.weight
        mean = float(np.average(self.shown.click, weights=weight))
        inside = self.columns.take(slice(0, len(self.shown)))
        self.model: Contextual = contextual.fit(
            inside, self.shown.click.astype(np.float64), Contextual.empty(inside, mean), weight=weight
        )

    def logit(self, *, without: int | None = None) -> np.ndarray:
        """(n,) logits of P(click) of all rows; `without` leaves the levels of a factor out (0: users)."""
        return self.model.at(self.columns, without=without)


def confounding(data: Dataset, clicks: ClickModel, seed: int = 0) -> Confounding:
    """The test; `seed` draws the folds of m."""
    names = measured_names(clicks)
    if clicks.forced is None:
        return Confounding(measured=names, why="there are no impressions with a forced or random click")
    n = len(clicks.shown)
    place = np.flatnonzero(clicks.shown.click)
    b_log, u_log = clicks.shown.clicked, clicks.forced
    user, item = (np.concatenate([getattr(b_log, c), getattr(u_log, c)]) for c in ("user", "item"))
    r = np.concatenate([b_log.rating, u_log.rating]).astype(np.float64)
    weight = np.concatenate([unit_weight(b_log), unit_weight(u_log)]).astype(np.float64)
    s = np.repeat([1.0, 0.0], [len(b_log), len(u_log)])
    plain: dict[str, Any] = {"measured": names, "rows": len(u_log), **_naive(user, item, s, r, weight)}
    if len(u_log) < FEWEST:
        return Confounding(**plain, why=f"fewer than {FEWEST} forced clicks are no sample")
    for who, of in (("clicks of the log", s > 0), ("forced clicks", s == 0)):
        some = min(int(r[of].sum()), int((1 - r[of]).sum()))
        if some < LEAST:
            return Confounding(
                **plain, why=f"the {who} have {some} of one outcome, and fewer than {LEAST} say nothing"
            )
    x = clicks.columns.take(np.concatenate([place, np.arange(n, n + len(u_log))]))
    start = Contextual.empty(x)
    offset = log_expit(clicks.model.at(x)) + math.log(n / len(u_log))
    left = contextual.fit(x, s, start, offset=offset)
    e = expit(offset + left.at(x))
    m, whole = _conversions(x, r, weight, seed)
    found = gap(user, item, s, r, e, m, whole, weight=weight)
    if found is None or found["matched"] < FEWEST:
        return Confounding(
            **plain, why="hardly any forced click has its like among the clicks: they do not overlap"
        )
    return Confounding(**plain, **found)


def measured_names(clicks: ClickModel) -> tuple[str, ...]:
    """What the test accounts for, in words."""
    n = len(clicks.shown.schema.names)
    out = ["the user", "the item"]
    if n:
        out.append(f"{n} context column{'s' if n > 1 else ''}")
    if clicks.columns.group.any():
        out.append("their products")
    return tuple(out)


def _conversions(x: Columns, r: np.ndarray, weight: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) m, each row's from the folds that it is not in, and m fitted to all rows."""
    whole = contextual.fit(x, r, Contextual.empty(x, float(np.average(r, weights=weight))), weight=weight)
    fold = numpy_generator(seed, "diagnose/folds").permutation(len(r)) % FOLDS
    m = np.empty(len(r))
    for k in range(FOLDS):
        kept, held = fold != k, fold == k
        part = contextual.fit(x.take(kept), r[kept], whole, weight=weight[kept], learn=False, rounds=8)
        m[held] = expit(part.at(x.take(held)))
    return m, expit(whole.at(x))


def _naive(
    user: np.ndarray, item: np.ndarray, s: np.ndarray, r: np.ndarray, weight: np.ndarray
) -> dict[str, float | None]:
    """Difference of the logs' conversion rates, nothing accounted for, clustered by user and by item."""
    influence, mean = np.zeros(len(r)), []
    for of, sign in ((s > 0, 1), (s == 0, -1)):
        w = weight[of] / weight[of].sum()
        mean.append(float(w @ r[of]))
        influence[of] = sign * w * (r[of] - mean[-1])
    value, reach = mean[0] - mean[1], 1.96 * error(influence, influence**2, user, item, len(r))[0]
    return {"naive": value, "naive_low": value - reach, "naive_high": value + reach}
