"""Scores as products of two tables, users' (n, k) and items' (m, k): single ones, their parts, and fewer columns."""

from __future__ import annotations

import numpy as np

CHUNK = 200_000  # rows whose factors are gathered at once


def parts(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """(users' (n,), items' (m,), level): means of two tables' products over items and over users, less the level."""
    level = float(left.mean(0) @ right.mean(0))
    return left @ right.mean(0) - level, right @ left.mean(0) - level, level


def rescaled(left: np.ndarray, right: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tables whose products have users', items' and interactions' parts multiplied by 1 + slopes (3,)."""
    a, b, g = (float(x) for x in slopes)
    by_user, by_item, level = parts(left, right)
    one = np.ones((1, 1), left.dtype)
    mine = np.column_stack([(1 + g) * left, (a - g) * by_user - g * level, np.repeat(one, len(left), 0)])
    theirs = np.column_stack([right, np.repeat(one, len(right), 0), (b - g) * by_item])
    return mine.astype(np.float32), theirs.astype(np.float32)


def dots(x: np.ndarray, y: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """(N,) float32 x[row] . y[column]; x (n, k), y (m, k)."""
    out = np.empty(len(row), np.float32)
    for start in range(0, len(row), CHUNK):
        at = slice(start, start + CHUNK)
        out[at] = np.einsum("nk,nk->n", x[row[at]], y[column[at]])
    return out


def compressed(x: np.ndarray, y: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, r) and (m, r) float32, r <= rank, whose product is the best approximation of x y' of that rank.

    x: (n, k), y: (m, k). The singular value decomposition of the product by those of the two Gram matrices.
    """
    sides = []
    for z in (x, y):
        wide = z.astype(np.float64)
        value, vector = np.linalg.eigh(wide.T @ wide)
        keep = value > 1e-12 * max(value[-1], 1e-300)
        root = np.sqrt(value[keep])
        sides.append((vector[:, keep] / root, vector[:, keep] * root))
    left, singular, right = np.linalg.svd(sides[0][1].T @ sides[1][1], full_matrices=False)
    r = min(rank, len(singular))
    root = np.sqrt(singular[:r])
    first = x @ (sides[0][0] @ left[:, :r] * root).astype(np.float32)
    second = y @ (sides[1][0] @ right[:r].T * root).astype(np.float32)
    return np.asarray(first, np.float32), np.asarray(second, np.float32)
