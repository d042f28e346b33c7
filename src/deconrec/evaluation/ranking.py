"""Ranking metrics, per user first: recall@K and NDCG@K over the shown items or over the full catalogue.

Definitions, for a user with n_pos positive candidates:

    recall          hits in the first K / n_pos
    recall_capped   hits in the first K / min(K, n_pos)
    ndcg            sum of 1 / log2(rank + 1) over the hits / the same sum over ranks 1 ... min(K, n_pos)

Users without a positive candidate are skipped and counted. Fewer than K candidates are ranked as they are.

Tie rule. Candidates with equal scores are taken in random order and the value is the expectation over these
orders, computed exactly: a positive in a group of t tied candidates with `a` candidates above it stands at
each of the ranks a+1 ... a+t with probability 1/t, and both metrics are sums over positives. A constant
score therefore gets exactly what random ranking gets in the mean, and no metric depends on the order of the
rows.

Everything follows from where the positives stand (`Placement`); placing is done once for all metrics and
all K.

Source. NDCG: Järvelin and Kekäläinen, ACM TOIS 2002; ties: McSherry and Najork, ECIR 2008.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from deconrec.errors import DataError, ParameterError, UnknownName
from deconrec.evaluation import columns

METRICS = ("recall", "recall_capped", "ndcg")
WIDEST = 4  # NOTE cells of rows padded to one length, for each score, up to which they are sorted together

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RankingValues:
    """One metric, user by user.

    user: (m,) integer codes, ascending, of the users that have a positive candidate.
    values: (m,) the metric of each, in [0, 1].
    skipped: number of users without a positive candidate.
    """

    user: NDArray[np.integer]
    values: NDArray[np.float64]
    skipped: int

    @property
    def mean(self) -> float:
        """Mean over users, each counting once; NaN if no user has a positive."""
        return float(self.values.mean()) if len(self.values) else float("nan")


@dataclass(frozen=True, eq=False)
class Placement:
    """Where the positives of each user stand among that user's candidates.

    user: (m,) integer codes, ascending, of the users that have a positive candidate.
    n_positive: (m,) positive candidates of each.
    row: (p,) for each placed positive, the position of its user in `user`.
    above: (p,) candidates with a higher score than this positive.
    tied: (p,) candidates with the same score, itself included (at least 1).
    skipped: number of users without a positive candidate.
    depth: the largest K that may be asked for; None: any. Positives that cannot reach it are not placed.
    """

    user: NDArray[np.integer]
    n_positive: Ints
    row: Ints
    above: Ints
    tied: Ints
    skipped: int
    depth: int | None = None

    def values(self, metric: str, k: int) -> RankingValues:
        """The metric (see the module) at K, user by user.

        Raises UnknownName for a metric that does not exist, ParameterError for K below 1 or beyond `depth`.
        """
        if metric not in METRICS:
            raise UnknownName("ranking metric", metric, METRICS)
        k = _checked_k("K", k)
        if self.depth is not None and k > self.depth:
            raise ParameterError(
                f"ranking: K must not exceed the depth that was ranked ({self.depth}); got {k}: rank deeper."
            )
        gain = self._cumulative_gain(metric, k)
        last = len(gain) - 1
        upper, lower = np.minimum(self.above + self.tied, last), np.minimum(self.above, last)
        expected = (gain[upper] - gain[lower]) / self.tied
        total = np.bincount(self.row, weights=expected, minlength=len(self.user))
        best = self.n_positive if metric == "recall" else gain[np.minimum(self.n_positive, last)]
        # Differences of cumulated discounts can exceed the ideal by a rounding error, hence the minimum.
        return RankingValues(self.user, np.minimum(total / best, 1.0), self.skipped)

    def _cumulative_gain(self, metric: str, k: int) -> NDArray[np.float64]:
        """Gain of the first j ranks if all were hits, j = 0 ... K (fewer where no ranking is so long)."""
        reach = max(int((self.above + self.tied).max(initial=1)), int(self.n_positive.max(initial=1)))
        rank = np.arange(1, min(k, reach) + 1)
        gain = 1.0 / np.log2(rank + 1) if metric == "ndcg" else np.ones(len(rank))
        return np.concatenate([[0.0], np.cumsum(gain)])


def place(user: ArrayLike, score: ArrayLike, relevant: ArrayLike) -> Placement:
    """Place the positives among each user's own candidate rows (candidates `shown`).

    user: (n,) integer codes. score: (n,) finite, higher is better. relevant: (n,) 0 or 1. Rows in any
    order; each row is one candidate, so a pair that stands twice counts twice. Empty columns give an empty
    placement.
    Raises DataError for non-finite scores, other than 0/1 relevance, or columns of unequal length.
    """
    who = "ranking of the shown items"
    users = columns.integer(who, "user", user)
    scores = columns.finite(who, "score", score, len(users))
    positive = columns.binary(who, "relevant", relevant, len(users))
    if np.any(users[1:] < users[:-1]):
        order = np.argsort(users, kind="stable")
        users, scores, positive = users[order], scores[order], positive[order]
    start = np.flatnonzero(_starts(users))
    length = np.diff(np.append(start, len(users)))
    hit = np.flatnonzero(positive)
    row = np.searchsorted(start, hit, side="right") - 1
    if len(start) and length.max() * len(start) <= WIDEST * len(users):
        above, tied = _counts(scores, start, length, scores[hit], row)
    else:  # a few users have most rows: padding them all would cost more than a sort
        order, every_above, every_tied = _tie_groups(users, scores)
        above, tied = np.empty_like(every_above), np.empty_like(every_tied)
        above[order], tied[order] = every_above, every_tied
        above, tied = above[hit], tied[hit]
    return _placement(users[start], row, row, above, tied, None)


def place_block(
    score: ArrayLike,
    relevant: Any,
    excluded: Any = None,
    users: ArrayLike | None = None,
    *,
    depth: int,
) -> Placement:
    """Place the positives of a block of users in the whole catalogue (candidates `full`).

    score: (B, n_items), higher is better, finite for every candidate. relevant: (B, n_items) of 0 and 1, a
    scipy sparse matrix or a dense array. excluded: the same shape, non-zero for the items that the model
    was given for that user: they are no candidates, and no positives either (else recall would be deflated
    by hits that nobody could make); their scores are not read. users: (B,) distinct integer codes, default
    0 ... B-1. depth: the largest K that will be asked for.

    One selection per row instead of a sort: the depth-th largest score splits the row, and only what stands
    above it is sorted. Holds two float copies of the block at most.
    Raises DataError for non-finite candidate scores (with their number), unequal shapes, relevance
    outside 0/1, or a user that stands twice in the block.
    """
    who = "ranking of the full catalogue"
    scores = columns.floating(np.asarray(score))
    if scores.ndim != 2:
        raise DataError(
            f"{who} expects scores of shape (users, n_items); got {scores.shape}: pass one row per user."
        )
    n_users, n_items = scores.shape
    codes = columns.integer(who, "users", np.arange(n_users) if users is None else users, n_users)
    if len(np.unique(codes)) < n_users:
        raise DataError(
            f"{who} expects each user once in a block; `users` repeats some: rank each user once."
        )
    depth = _checked_k("depth", depth)

    candidate = _without_excluded(who, scores, excluded)
    row, col = _positive_cells(who, relevant, scores.shape)
    worth = candidate[row, col]
    kept = worth > -np.inf
    row, col, worth = row[kept], col[kept], worth[kept]

    threshold = np.full(n_users, -np.inf, dtype=candidate.dtype)
    if depth < n_items:
        threshold = np.partition(candidate, n_items - depth, axis=1)[:, n_items - depth].copy()
    # Strictly above the depth-th score: at most depth - 1 per row, few enough to sort.
    top_row, top_col = np.nonzero(candidate > threshold[:, None])
    order, above, tied = _tie_groups(top_row, candidate[top_row, top_col])
    hit = np.isin(top_row * n_items + top_col, row * n_items + col)[order]
    # The tie group at the threshold reaches from inside the first `depth` ranks to wherever it ends.
    edge = row[worth == threshold[row]]
    n_above = np.bincount(top_row, minlength=n_users)
    n_tied = np.count_nonzero(candidate == threshold[:, None], axis=1)
    return _placement(
        codes,
        row,
        np.concatenate([top_row[order[hit]], edge]),
        np.concatenate([above[hit], n_above[edge]]),
        np.concatenate([tied[hit], n_tied[edge]]),
        depth,
    )


def place_blocks(
    score: Callable[[Ints], ArrayLike], relevant: Any, excluded: Any, *, depth: int, size: int = 1024
) -> Placement:
    """`place_block` for many users, `size` of them at once: scores of one block are held at a time.

    score: gives (B, n_items) scores of rows of the matrices, from their numbers (B,). relevant, excluded: (n, n_items)
    scipy sparse matrices in CSR form.
    """
    n = relevant.shape[0]
    blocks = [np.arange(start, min(start + size, n)) for start in range(0, n, size)] or [np.arange(0)]
    return join(
        [place_block(score(users), relevant[users], excluded[users], users, depth=depth) for users in blocks]
    )


def join(parts: Sequence[Placement]) -> Placement:
    """The placements of disjoint blocks of users as one.

    Raises DataError if a user stands in two blocks or if there is no block.
    """
    if not parts:
        raise DataError(
            "ranking: join expects at least one block; got none: rank at least one block of users."
        )
    users = np.concatenate([part.user for part in parts])
    if len(np.unique(users)) < len(users):
        raise DataError(
            "ranking: join expects blocks of different users; "
            f"{len(users) - len(np.unique(users))} rows repeat a user: rank each user once."
        )
    shift = np.cumsum([0] + [len(part.user) for part in parts[:-1]])
    depths = [part.depth for part in parts if part.depth is not None]
    return _by_user(
        Placement(
            users,
            np.concatenate([part.n_positive for part in parts]),
            np.concatenate([part.row + by for part, by in zip(parts, shift, strict=True)]),
            np.concatenate([part.above for part in parts]),
            np.concatenate([part.tied for part in parts]),
            sum(part.skipped for part in parts),
            min(depths) if depths else None,
        )
    )


def shown(user: ArrayLike, score: ArrayLike, relevant: ArrayLike, k: int, metric: str) -> RankingValues:
    """One metric at K over each user's own candidate rows; arguments and errors as in `place`."""
    return place(user, score, relevant).values(metric, k)


def full(
    score: ArrayLike,
    relevant: Any,
    excluded: Any = None,
    users: ArrayLike | None = None,
    *,
    k: int,
    metric: str,
) -> RankingValues:
    """One metric at K over the whole catalogue, for one block; arguments and errors as in `place_block`.

    For several metrics, several K or several blocks: `place_block`, `join`, then `Placement.values`.
    """
    return place_block(score, relevant, excluded, users, depth=k).values(metric, k)


def _checked_k(name: str, k: int) -> int:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ParameterError(f"ranking: {name} must be a whole number of at least 1; got {k!r}.")
    return int(k)


def _tie_groups(row: NDArray[Any], score: NDArray[Any]) -> tuple[Ints, Ints, Ints]:
    """Sort by row, then by falling score, and find the groups of equal scores.

    row, score: (n,). Returns the order and, in that order, how many of the row's scores are higher
    (`above`) and how many are equal, itself included (`tied`): (n,) each.
    """
    order = np.lexsort((-score, row))
    new_row = _starts(row[order])
    tie_start = np.flatnonzero(new_row | _starts(score[order]))
    size = np.diff(np.append(tie_start, len(order)))
    row_start = np.flatnonzero(new_row)[np.cumsum(new_row) - 1]
    return order, np.repeat(tie_start, size) - row_start, np.repeat(size, size)


def _counts(
    score: NDArray[Any], start: Ints, length: Ints, wanted: NDArray[Any], row: Ints
) -> tuple[Ints, Ints]:
    """How many of its row's scores are higher than each of `wanted`, and how many are equal (at least 1).

    score: (n,), row b at start[b] : start[b] + length[b]. wanted: (p,) scores that stand in the rows `row`. Rows are
    padded to one length and sorted together, which costs a fraction of a sort of all, and searched by halving.
    """
    width = int(length.max())
    table = np.full((len(start), width), -np.inf)
    table[np.arange(width) >= (width - length)[:, None]] = score
    table.sort(axis=1)
    flat, base = table.reshape(-1), row * width
    upto = _how_many(flat, base, width, wanted, np.less_equal)
    tied = np.ones(len(row), np.int64)
    again = np.flatnonzero((upto > 1) & (flat[base + np.maximum(upto - 2, 0)] == wanted))
    tied[again] = upto[again] - _how_many(flat, base[again], width, wanted[again], np.less)
    return width - upto, tied


def _how_many(
    flat: NDArray[Any], base: Ints, width: int, wanted: NDArray[Any], below: Callable[..., Any]
) -> Ints:
    """(p,) how many of the `width` ascending values from `base` on are `below` the wanted one."""
    low, span = np.zeros(len(base), np.int64), width
    while span:
        half = (span + 1) // 2
        low += half * below(flat[base + low + half - 1], wanted)
        span -= half
    return low


def _starts(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a run of equal values begins: (n,)."""
    first = np.ones(len(values), dtype=bool)
    first[1:] = values[1:] != values[:-1]
    return first


def _placement(
    users: NDArray[Any], every: Ints, row: Ints, above: Ints, tied: Ints, depth: int | None
) -> Placement:
    """Drop users without a positive. `every`, `row`: into `users`, of all positives and of the placed."""
    count = np.bincount(every, minlength=len(users))
    keep = count > 0
    renumber = np.cumsum(keep) - 1
    skipped = len(users) - int(np.count_nonzero(keep))
    return _by_user(Placement(users[keep], count[keep], renumber[row], above, tied, skipped, depth))


def _by_user(p: Placement) -> Placement:
    """The same placement with its users ascending."""
    order = np.argsort(p.user, kind="stable")
    place_of = np.empty_like(order)
    place_of[order] = np.arange(len(order))
    return Placement(p.user[order], p.n_positive[order], place_of[p.row], p.above, p.tied, p.skipped, p.depth)


def _without_excluded(who: str, scores: NDArray[Any], excluded: Any) -> NDArray[Any]:
    """A copy of the scores with -inf at excluded cells, after a check that all others are finite."""
    out: Any = None
    if excluded is not None:
        _same_shape(who, "excluded", excluded, scores.shape)
        if sparse.issparse(excluded):
            cells = excluded.tocoo()
            listed = cells.data != 0
            out = cells.row[listed], cells.col[listed]
        else:
            out = np.asarray(excluded, dtype=bool)
    bad = ~np.isfinite(scores)
    if out is not None:
        bad[out] = False
    if n_bad := np.count_nonzero(bad):
        raise DataError(
            f"{who} expects finite scores; {n_bad} of {scores.size} are NaN or infinite and not excluded: "
            "repair the model, or name the items that must not be ranked in `excluded`."
        )
    candidate = scores.copy()
    if out is not None:
        candidate[out] = -np.inf
    return candidate


def _positive_cells(who: str, relevant: Any, shape: tuple[int, ...]) -> tuple[Ints, Ints]:
    """Row and column of each relevant cell."""
    _same_shape(who, "relevant", relevant, shape)
    if not sparse.issparse(relevant):
        flat = columns.binary(who, "relevant", np.asarray(relevant).ravel())
        row, col = np.nonzero(flat.reshape(shape))
        return row, col
    matrix = relevant.tocsr()
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    truth = columns.binary(who, "relevant", matrix.data)
    row = np.repeat(np.arange(shape[0]), np.diff(matrix.indptr))
    return row[truth], matrix.indices[truth].astype(np.int64)


def _same_shape(who: str, name: str, matrix: Any, expected: tuple[int, ...]) -> None:
    if np.shape(matrix) != tuple(expected):
        raise DataError(
            f"{who} expects `{name}` of the scores' shape {tuple(expected)}; got {np.shape(matrix)}: "
            "slice the same users and all items."
        )
