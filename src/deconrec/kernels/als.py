"""Ridge regressions of many rows at once: the update of alternating least squares.

Row u solves   (H + sum_j w_j y_j y_j') x_u = g_u + sum_j d_j y_j   over its entries j, with one H for all rows: the
Gram trick [Hu2008], where H = Y'Y + lambda I stands for all cells and w for what the observed ones weigh beyond that.

Rows are sorted by their number of entries, padded to the same length in blocks that stay in the processor's cache,
and solved by stacked LAPACK calls. A row with fewer entries n than factors k is solved in its n x n dual form
(Woodbury's identity), which is exact too: with Z = Y H^-1,

    x = H^-1 g + Z' s,   (W^-1 + Y Z') s = W^-1 d - Y H^-1 g.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

CACHE = 200_000  # NOTE floats of gathered factors in a block: 0.8 MB, most of a core's second-level cache
PAD = 1.15  # a block's longest row over its shortest


Block = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Entries:
    """The observed cells of one side: row u holds `index[indptr[u]:indptr[u + 1]]`.

    Attributes
    ----------
    indptr: (n + 1,) int64.
    index: (nnz,) codes of the other side.
    order: (nnz,) where each entry stands in the log that both sides were made from.
    """

    indptr: np.ndarray
    index: np.ndarray
    order: np.ndarray
    _plans: dict[tuple[int, int], list[Block]] = field(default_factory=dict)

    @classmethod
    def of(cls, row: np.ndarray, column: np.ndarray, n_rows: int) -> Entries:
        """The cells (row, column), in any order, by row."""
        order = np.lexsort((column, row))
        indptr = np.zeros(n_rows + 1, np.int64)
        np.cumsum(np.bincount(row, minlength=n_rows), out=indptr[1:])
        return cls(indptr, column[order].astype(np.int64), order)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def blocks(self, k: int, padding: int) -> list[Block]:
        """Rows with entries in blocks of like lengths, for tables of k columns; made once.

        Each block is (rows (B,), positions (B, L) among the entries, nnz where padded, codes (B, L), `padding` where
        padded).
        """
        if (k, padding) not in self._plans:
            counts = np.diff(self.indptr)
            rows = np.argsort(counts, kind="stable")
            rows = rows[np.searchsorted(counts[rows], 1) :]
            lengths, plan, start = counts[rows], [], 0
            index = np.append(self.index, padding)
            while start < len(rows):
                shortest = int(lengths[start])
                stop = int(np.searchsorted(lengths, max(shortest * PAD, shortest + 3), side="right"))
                stop = min(stop, start + max(1, CACHE // (int(lengths[stop - 1]) * k)))
                part, step = rows[start:stop], np.arange(lengths[stop - 1])
                at = np.where(
                    step < counts[part][:, None], self.indptr[part][:, None] + step, len(self.index)
                )
                plan.append((part, at, index[at]))
                start = stop
            self._plans[k, padding] = plan
        return self._plans[k, padding]

    def sums(self, values: np.ndarray, table: np.ndarray) -> np.ndarray:
        """(n, k) sum over a row's entries of value times the table's row; values (nnz,) in the entries' order."""
        from scipy.sparse import csr_matrix

        shape = (len(self), len(table))
        out: np.ndarray = csr_matrix((values, self.index, self.indptr), shape=shape) @ table
        return out


def solve_rows(
    entries: Entries,
    y: np.ndarray,
    h: np.ndarray,
    w: np.ndarray,
    d: np.ndarray,
    g: np.ndarray | None = None,
    *,
    start: np.ndarray | None = None,
    steps: int = 0,
) -> np.ndarray:
    """(n, k) float32 solutions of every row.

    Parameters
    ----------
    y: (m, k) factors of the other side.
    h: (k, k) symmetric, positive definite.
    w: (nnz,) >= 0, and d: (nnz,), in the order of the log (`entries.order` is applied here).
    g: (n, k), or None for 0.
    start, steps: with steps > 0, that many steps of conjugate gradients from `start` (n, k) instead of a solution.
    """
    n, (m, k) = len(entries), y.shape
    w, d = (np.append(np.asarray(v, np.float32)[entries.order], np.float32(0)) for v in (w, d))
    h = np.asarray(h, np.float64)
    h32 = h.astype(np.float32)
    y = np.vstack([y, np.zeros((1, k))]).astype(np.float32)  # row m: what padding points at
    right = np.zeros((n, k), np.float32) if g is None else np.array(g, np.float32)
    if steps:
        out = right * 0 if start is None else np.array(start, np.float32)
        for rows, at, index in entries.blocks(k, m):
            out[rows] = _conjugate(_gather(y, index), h32, w[at], d[at], right[rows], out[rows], steps)
        return out
    inverse = np.linalg.inv(h)
    inverse = ((inverse + inverse.T) / 2).astype(np.float32)
    still = (w == 0) & (d != 0)
    if still.any():  # no weight beyond H's: only a right-hand side is left, and W^-1 d would not exist
        right += entries.sums(np.where(still, d, np.float32(0))[:-1], y[:-1])
        d = np.where(still, np.float32(0), d)
    out = right @ inverse
    z = y @ inverse
    for rows, at, index in entries.blocks(k, m):
        weight, rhs = w[at], d[at]
        if at.shape[1] < k:
            inside = weight > 0
            if not inside.all():
                index, weight = np.where(inside, index, m), np.where(inside, weight, np.float32(1))
            ours, dual = _gather(y, index), _gather(z, index)
            system = ours @ dual.transpose(0, 2, 1)
            diagonal = np.arange(at.shape[1])
            system[:, diagonal, diagonal] += 1 / weight
            rest = rhs / weight - (ours @ out[rows][:, :, None])[:, :, 0]
            s = np.linalg.solve(system, rest[:, :, None])
            out[rows] += (s.transpose(0, 2, 1) @ dual)[:, 0]
        else:
            ours = _gather(y, index)
            full = right[rows] + (rhs[:, None, :] @ ours)[:, 0]
            system = ours.transpose(0, 2, 1) @ (ours * weight[:, :, None]) + h32
            out[rows] = np.linalg.solve(system, full[:, :, None])[:, :, 0]
    return out


def _gather(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    """(B, L, k) rows of a table."""
    return table.take(index.reshape(-1), 0, mode="clip").reshape(*index.shape, table.shape[1])


def _conjugate(
    y: np.ndarray, h: np.ndarray, w: np.ndarray, d: np.ndarray, g: np.ndarray, x: np.ndarray, steps: int
) -> np.ndarray:
    """Steps of conjugate gradients on a block; padded entries are zero rows of y."""
    residual = g - x @ h + ((d - w * (y @ x[:, :, None])[:, :, 0])[:, None, :] @ y)[:, 0]
    direction, size = residual, np.einsum("bk,bk->b", residual, residual)
    for _ in range(steps):
        image = direction @ h + ((w * (y @ direction[:, :, None])[:, :, 0])[:, None, :] @ y)[:, 0]
        curvature = np.einsum("bk,bk->b", direction, image)
        step = (size / np.where(curvature > 0, curvature, 1))[:, None]  # a solved row has size 0
        x = x + step * direction
        residual = residual - step * image
        before, size = size, np.einsum("bk,bk->b", residual, residual)
        direction = residual + (size / np.where(before > 0, before, 1))[:, None] * direction
    return x
