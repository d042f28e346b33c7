"""What is measured of users and items, as columns that the doctor's models read.

Columns are standardised and cut at 2.5 standard deviations. A column with more than two values has its square and its
cube beside it, cleared of lower powers, as far as there is room: products of users and items then bend with both. An id
without features is at the mean and has a column of its own that says so. More than `MOST` columns are replaced by their
leading principal components.
"""

from __future__ import annotations

import numpy as np

from deconrec.data.dataset import Features

MOST = 20  # NOTE columns a side: 400 products
POWERS = 3  # NOTE of a column with more than two values
CUT = 2.5  # standard deviations: powers of a stray value would outweigh all others


def design(features: Features | None, n: int) -> tuple[np.ndarray, int]:
    """((n, 1 + F) a constant and the columns of `features`, how many of the F are not powers), powers last."""
    one = np.ones((n, 1))
    if features is None or not len(features.names) or features.missing.all():
        return one, 0
    there = ~features.missing
    x = features.values[there].astype(np.float64)
    z = np.clip(_standard(x), -CUT, CUT)
    bends = [k for k in range(x.shape[1]) if len(np.unique(x[:, k])) > 2]
    columns = [z]
    for power in range(2, POWERS + 1):
        if bends and sum(c.shape[1] for c in columns) + len(bends) <= MOST:
            columns.append(np.column_stack([_cleared(z[:, k], power) for k in bends]))
    plain, bent = np.zeros((n, z.shape[1])), np.zeros((n, sum(c.shape[1] for c in columns[1:])))
    plain[there] = _standard(z)
    if len(columns) > 1:
        bent[there] = _standard(np.column_stack(columns[1:]))
    if not there.all():
        plain = np.column_stack([plain, _standard((~there)[:, None].astype(np.float64))])
    plain, bent = (x[:, x.std(0) > 1e-9] for x in (plain, bent))
    if plain.shape[1] > MOST:
        left, size, _ = np.linalg.svd(plain, full_matrices=False)
        plain = _standard(left[:, :MOST][:, size[:MOST] > 1e-9 * size[0]])
    return np.column_stack([one, plain, bent]), plain.shape[1]


def _standard(x: np.ndarray) -> np.ndarray:
    spread = x.std(0)
    return np.asarray((x - x.mean(0)) / np.where(spread > 1e-9, spread, 1.0))


def _cleared(z: np.ndarray, power: int) -> np.ndarray:
    """z^power less its regression on lower powers; 0 where z has too few values to bend that much."""
    lower = np.column_stack([z**k for k in range(power)])
    x = z**power
    left = x - lower @ np.linalg.lstsq(lower, x, rcond=None)[0]
    return np.asarray(left if left.std() > 1e-6 * max(x.std(), 1e-12) else np.zeros_like(left))
