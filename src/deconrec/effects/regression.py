"""Effects by least squares: one exposure at a time given z and x, or all exposures at once; and what they rest on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FEWEST = 10  # NOTE users with and without an exposure; below it an effect is not given (NaN)


@dataclass(frozen=True, eq=False)
class Slopes:
    """Estimated effects.

    Attributes
    ----------
    effect: (J, I) effect of exposing cause j on the outcome of item i; NaN where the rows do not give one.
    error: (J, I) least-squares standard error that takes z as known.
    overlap: (J,) share of the variance of a_j that is left given z and x, in [0, 1]: chance in the exposure. Where
        outcomes are masked, the least over items.
    """

    effect: np.ndarray
    error: np.ndarray
    overlap: np.ndarray


def one_at_a_time(
    a: np.ndarray,
    r: np.ndarray,
    given: np.ndarray,
    seen: np.ndarray | None = None,
    own: np.ndarray | None = None,
    same: np.ndarray | None = None,
) -> Slopes:
    """Slopes of r_i on (1, a_j, a_i, given), for every pair of cause j and item i; on (1, a_i, given) where j = i.

    Parameters
    ----------
    a: (n, J) exposures of the causes.
    r: (n, I) outcomes.
    given: (n, p) z and x; the constant is added here. p may be 0.
    seen: (n, I) bool, which outcomes were observed; None = all. An item's regression uses the users seen.
    own: (n, I) exposures a_i of the items, which move their outcomes beside a_j; None = left out.
    same: (J, I) bool, where cause and item are one.
    """
    if seen is None or seen.all():
        return Slopes(*_partial(a, r, given, own, same))
    shape = a.shape[1], r.shape[1]
    effect, error = np.full(shape, np.nan), np.full(shape, np.nan)
    overlap = np.full(shape[0], np.nan)
    for i in range(shape[1]):
        rows = seen[:, i]
        if rows.sum() <= given.shape[1] + 3:
            continue
        its = None if own is None else own[rows][:, [i]]
        one, spread, left = _partial(
            a[rows], r[rows][:, [i]], given[rows], its, None if same is None else same[:, [i]]
        )
        effect[:, i], error[:, i] = one[:, 0], spread[:, 0]
        overlap = np.fmin(overlap, left)
    return Slopes(effect, error, overlap)


def all_at_once(a: np.ndarray, r: np.ndarray, given: np.ndarray, causes: np.ndarray) -> Slopes:
    """Slopes of every r_i (n, I) on (1, a, given) with all exposures a (n, n_items) in one regression (Eq. 2).

    Where `given` is a linear function of a, the least-squares solution of least norm is taken: it is no effect.
    """
    others = np.column_stack([given, a])
    centred, target = others - others.mean(0), r - r.mean(0)
    gram = centred.T @ centred
    inverse = np.linalg.pinv(gram, rcond=1e-10, hermitian=True)
    place = given.shape[1] + causes
    slope = inverse @ (centred.T @ target)
    residual = ((target - centred @ slope) ** 2).sum(0) / max(len(a) - others.shape[1] - 1, 1)
    diagonal = np.diag(inverse)[place]
    variance = np.diag(gram)[place]
    with np.errstate(divide="ignore", invalid="ignore"):
        overlap = np.where(variance > 0, 1 / (diagonal * variance), 0.0)
    effect, error = slope[place], np.sqrt(np.maximum(diagonal, 0)[:, None] * residual)
    few = _few(a[:, causes])
    effect[few], error[few] = np.nan, np.nan
    return Slopes(effect, error, overlap)


def linear_share(z: np.ndarray, a: np.ndarray) -> float:
    """R2(z | a): share of the variance of z (n, K) that a linear map of a (n, n_items) gives, in [0, 1].

    NaN for a constant z. In the sample that the map is fitted to, less the share that chance gives (adjusted R2).
    """
    z0 = z - z.mean(0)
    total = float((z0**2).sum())
    if total <= 0:
        return float("nan")
    basis = _basis(a - a.mean(0))
    left = float(((z0 - basis @ (basis.T @ z0)) ** 2).sum())
    n, p = len(z), basis.shape[1]
    return float(np.clip(1 - (left / total) * (n - 1) / max(n - p - 1, 1), 0.0, 1.0))


def _partial(
    a: np.ndarray, r: np.ndarray, given: np.ndarray, own: np.ndarray | None, same: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(effects (J, I), standard errors (J, I), share of variance left (J,)), by Frisch, Waugh and Lovell."""
    basis = _basis(np.column_stack([np.ones(len(a)), given]))
    a_left, r_left = a - basis @ (basis.T @ a), r - basis @ (basis.T @ r)
    weight, variance = (a_left**2).sum(0), ((a - a.mean(0)) ** 2).sum(0)
    few = _few(a) | (weight <= 1e-9 * np.maximum(variance, 1e-300))
    free = max(len(a) - basis.shape[1] - 1, 1)
    together, total = a_left.T @ r_left, (r_left**2).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = together / weight[:, None]
        square = np.maximum(total - effect * together, 0.0) / weight[:, None]
        left = np.where(variance > 0, weight / variance, 0.0)
        if own is not None:
            # Two regressors, solved by hand for all pairs: a_j and a_i.
            own_left = own - basis @ (basis.T @ own)
            own_weight, own_r = (own_left**2).sum(0), (own_left * r_left).sum(0)
            shared = a_left.T @ own_left
            det = weight[:, None] * own_weight - shared**2
            both = (together * own_weight - shared * own_r) / det
            beside = (weight[:, None] * own_r - shared * together) / det
            rest = np.maximum(total - both * together - beside * own_r, 0.0)
            use = np.broadcast_to(own_weight > 1e-9 * len(a), effect.shape)
            use = use if same is None else use & ~same
            alike = (
                det <= 1e-9 * weight[:, None] * own_weight
            )  # a_j is a_i: nothing tells their effects apart
            both, spread = np.where(alike, np.nan, both), np.where(alike, np.nan, rest * own_weight / det)
            effect, square = (
                np.where(use, both, effect),
                np.where(use, spread * free / max(free - 1, 1), square),
            )
        error = np.sqrt(square / free)
    effect[few], error[few], left[few] = np.nan, np.nan, np.nan
    return effect, error, left


def _few(a: np.ndarray) -> np.ndarray:
    exposed = a.sum(0)
    return np.asarray(np.minimum(exposed, len(a) - exposed) < FEWEST)


def _basis(x: np.ndarray) -> np.ndarray:
    """Orthonormal columns that span those of x (n, p)."""
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    return np.asarray(u[:, s > 1e-10 * s.max(initial=0.0)])
