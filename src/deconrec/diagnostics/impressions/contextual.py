"""A logistic model of what is measured of impressions: columns, and levels of users, items and large categories.

    logit E[y_n] = offset_n + c + x_n' g + sum_f a_f[code_fn]
    g of products of two sources ~ N(0, s_k),   levels of factor f ~ N(0, s_f),   other g next to flat

fitted to the mode by Newton steps on (c, g) and on each factor's levels in turn; the variances by empirical Bayes, as
in `diagnostics.additive`, of which this is the twin for rows that are more than a user and an item. It holds no latent
factor and no product with users or items: a hidden confounder of single impressions is not absorbed.

Source. [MacKay1992] for the variances.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from deconrec.diagnostics.additive import AGAIN, ALWAYS, LARGEST, MAIN, SMALLEST, STEP, _levels
from deconrec.diagnostics.impressions.columns import Columns


@dataclass(frozen=True, eq=False)
class Contextual:
    """A fitted model.

    Attributes
    ----------
    constant: c. g: (k,). levels: of each factor.
    variances: s_f of each factor, then s_k of each pair of sources.
    rounds: that were needed.
    """

    constant: float
    g: np.ndarray
    levels: tuple[np.ndarray, ...]
    variances: tuple[float, ...]
    rounds: int = 0

    @classmethod
    def empty(cls, x: Columns, mean: float = 0.5) -> Contextual:
        """The model that says `mean` everywhere."""
        level = min(max(mean, 1e-6), 1 - 1e-6)
        levels = tuple(np.zeros(size) for size in x.sizes)
        variances = (*(0.3 for _ in levels), *(0.1 for _ in range(x.group.max(initial=0))))
        return cls(float(np.log(level / (1 - level))), np.zeros(x.x.shape[1]), levels, variances)

    def at(self, x: Columns, *, without: int | None = None) -> np.ndarray:
        """(n,) logits of rows, without offsets; `without` leaves the levels of a factor out."""
        own = self.constant + x.x @ self.g.astype(np.float32)
        for f, (level, code) in enumerate(zip(self.levels, x.codes, strict=True)):
            if f != without:
                own = own + level[code]
        return np.asarray(own, np.float64)


def fit(
    x: Columns,
    y: np.ndarray,
    start: Contextual,
    *,
    offset: np.ndarray | None = None,
    weight: np.ndarray | None = None,
    rounds: int = 30,
    tolerance: float = 2e-3,
    learn: bool = True,
) -> Contextual:
    """The mode, from a start (`Contextual.empty`, or an earlier fit).

    Parameters
    ----------
    y: (n,) outcomes in [0, 1]. offset, weight: (n,), or None.
    rounds, tolerance: the most rounds, and the largest change of a coefficient below which they stop.
    learn: whether variances are learned; otherwise they stay those of `start`.
    """
    w = np.ones(len(y)) if weight is None else weight.astype(np.float64)
    beyond = np.zeros(len(y)) if offset is None else offset
    theta = np.r_[start.constant, start.g]
    levels, variances = [a.copy() for a in start.levels], list(start.variances)
    precision = np.full(len(theta), 1 / MAIN)
    precision[0] = 1e-6
    inner = [np.flatnonzero(x.group == k) + 1 for k in range(1, x.group.max(initial=0) + 1)]
    design = np.column_stack([np.ones(len(x), np.float32), x.x])
    total = sum((a[c] for a, c in zip(levels, x.codes, strict=True)), beyond)
    bend, done = np.zeros(0), 0
    while done < rounds:
        before = theta.copy()
        rest, curve = _slopes(design, theta, total, y, w)
        if done < (ALWAYS if learn else 1) or done % AGAIN == 0:
            bend = (design.T @ (design * curve.astype(np.float32)[:, None])).astype(np.float64)
        for at, s in zip(inner, variances[len(levels) :], strict=True):
            precision[at] = 1 / s
        inverse = np.linalg.inv(bend + np.diag(precision))
        slope = (design.T @ rest.astype(np.float32)).astype(np.float64)
        theta = theta + np.clip(inverse @ (slope - precision * theta), -STEP, STEP)
        for k, at in enumerate(inner if learn else ()):
            s = variances[len(levels) + k]
            decided = max(float((1 - np.diag(inverse)[at] / s).sum()), 1e-3)
            variances[len(levels) + k] = float(
                np.clip((theta[at] ** 2).sum() / decided, SMALLEST, LARGEST[0])
            )
        moved = float(np.abs(theta - before).max())
        for f, code in enumerate(x.codes):
            rest, curve = _slopes(design, theta, total, y, w)
            size = len(levels[f])
            sums = [np.bincount(code, v, minlength=size) for v in (rest, curve)]
            new, variances[f] = _levels(sums[0], sums[1], levels[f], variances[f], learn)
            change = new - levels[f]
            total, levels[f] = total + change[code], new
            moved = max(moved, float(np.abs(change).max(initial=0.0)))
        done += 1
        if moved < tolerance:
            break
    return replace(
        start,
        constant=float(theta[0]),
        g=theta[1:],
        levels=tuple(levels),
        variances=tuple(variances),
        rounds=done,
    )


def _slopes(
    design: np.ndarray, theta: np.ndarray, total: np.ndarray, y: np.ndarray, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(y - p, p (1 - p)) of every row, weighted."""
    p = expit(design @ theta.astype(np.float32) + total)
    return w * (y - p), w * p * (1 - p)
