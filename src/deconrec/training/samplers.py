"""Samplers are values: `Blocks` (rectangles of users x items, or user rows) and `UniformPairs`.

Every sampler makes the same promise: over a pass, `batch.weight * batch.observed.expect(x)` averages to
(1/|D|) * sum of x over O, and the same for D and R, so that a risk is the same whatever the sampler.
Nothing here allocates users x items beyond one block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from deconrec.data.context import Context
from deconrec.data.dataset import Dataset, Log
from deconrec.data.impressions import unit_weight
from deconrec.pairs import Batch, Grid, Pairs, Part, Ranks, Rows, Tables

LARGEST_UNBIASED = 16_384  # rows of R in one step; more are sampled afresh each step


@dataclass(frozen=True, eq=False)
class Source:
    """A data set as tensors: what samplers draw from.

    Attributes
    ----------
    shape: (n_users, n_items).
    user, item, r, rating: (n,) the biased log, sorted by user and then item.
    indptr: (n_users + 1,) rows of a user.
    unbiased: the randomised log as pairs, or None.
    ranks: the processes that share the batches; None = this one has them whole.
    tables: standardised user features, item features; see `standardised`.
    """

    shape: tuple[int, int]
    user: np.ndarray
    item: np.ndarray
    r: np.ndarray
    rating: np.ndarray
    indptr: np.ndarray
    unbiased: Pairs | None
    tables: Tables
    device: torch.device
    ranks: Ranks | None = None

    @classmethod
    def of(cls, data: Dataset, tables: Tables, device: torch.device | str = "cpu") -> Source:
        """The source of a data set."""
        indptr, order = data.biased.by_user(data.n_users)
        log = data.biased.take(order)
        unbiased = None
        if data.unbiased is not None and len(data.unbiased):
            unbiased = log_pairs(data, data.unbiased, tables, device)
        return cls(
            data.shape,
            log.user,
            log.item,
            data.outcome(log),
            log.rating,
            indptr,
            unbiased,
            tables.to(device),
            torch.device(device),
        )

    @property
    def density(self) -> float:
        """|O| / |D|."""
        return len(self.user) / (self.shape[0] * self.shape[1])

    def part(self, n: int) -> slice:
        """What is here of n rows."""
        return slice(0, n) if self.ranks is None else self.ranks.part(n)

    def tensor(self, array: np.ndarray, dtype: torch.dtype) -> Tensor:
        """An array on the source's device."""
        return torch.as_tensor(array, dtype=dtype, device=self.device)

    def randomised(self, rng: np.random.Generator) -> Pairs | None:
        """R for one step: the whole of it, or a uniform sample where it is large."""
        pairs = self.unbiased
        if pairs is None or len(pairs) <= LARGEST_UNBIASED:
            return pairs
        rows = rng.integers(0, len(pairs), LARGEST_UNBIASED)[self.part(LARGEST_UNBIASED)]
        return replace(pairs.take(torch.from_numpy(rows).to(self.device)), ranks=self.ranks)

    def drawn(self, rng: np.random.Generator, n: int) -> Pairs:
        """N pairs of D, uniformly with replacement; their outcomes are left out."""
        user, item = (self.tensor(rng.integers(0, size, n), torch.int64) for size in self.shape)
        empty = torch.zeros(n, device=self.device)
        return Pairs(user, item, empty, empty, tables=self.tables)

    def seen(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(o, r) of pairs given as user * n_items + item."""
        if not len(self._keys):
            return np.zeros(len(cells), np.float32), np.zeros(len(cells), np.float32)
        place = np.minimum(np.searchsorted(self._keys, cells), len(self._keys) - 1)
        o = (self._keys[place] == cells).astype(np.float32)
        return o, o * self.r[place]

    @cached_property
    def _keys(self) -> np.ndarray:
        return self.user.astype(np.int64) * self.shape[1] + self.item


def shared(source: Any, ranks: Ranks) -> Any:
    """The same `Source` or `ImpressionSource`, of whose batches a part is here."""
    unbiased = source.unbiased
    if unbiased is not None and len(unbiased) <= LARGEST_UNBIASED:
        mine = torch.arange(len(unbiased), device=source.device)[ranks.part(len(unbiased))]
        unbiased = replace(unbiased.take(mine), ranks=ranks)
    return replace(source, unbiased=unbiased, ranks=ranks)


def log_pairs(data: Dataset, log: Log, tables: Tables, device: torch.device | str = "cpu") -> Pairs:
    """The rows of a log as pairs of mass 1, with their context and with weights of mean 1 where they have some."""
    # A log's arrays are read-only, and torch warns of those that it would share.
    return Pairs(
        torch.as_tensor(log.user.astype(np.int64), device=device),
        torch.as_tensor(log.item.astype(np.int64), device=device),
        torch.ones(len(log), device=device),
        torch.as_tensor(data.outcome(log), device=device),
        tables=tables.to(device),
        context={} if log.context is None else context_tensors(log.context, device),
        weight=None if log.weight is None else torch.as_tensor(unit_weight(log), device=device),
    )


def context_tensors(context: Context, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The context of rows as `nn.impressions` reads it."""
    named = {"places": context.places(), "inputs": context.inputs()}
    return {name: torch.as_tensor(value, device=device) for name, value in named.items()}


@dataclass(frozen=True)
class Blocks:
    """Rectangles of users x items visited whole; `items=None` gives whole user rows.

    Parameters
    ----------
    users, items: target numbers in a block. Users and items are shuffled each epoch and cut into blocks of
        nearly equal size.
    """

    users: int
    items: int | None = None

    @classmethod
    def of_cells(cls, shape: tuple[int, int], cells: int) -> Blocks:
        """Blocks of about `cells` cells with the proportions of the whole."""
        parts = max(1, math.ceil(math.sqrt(shape[0] * shape[1] / cells) - 1e-9))
        return cls(math.ceil(shape[0] / parts), math.ceil(shape[1] / parts))

    def batches(self, source: Source, rng: np.random.Generator, epoch: int) -> Iterator[Batch]:
        """One pass over all blocks."""
        if self.items is None:
            yield from self._rows(source, rng, epoch)
            return
        n_users, n_items = source.shape
        n_ub, n_ib = math.ceil(n_users / self.users), math.ceil(n_items / self.items)
        whole = n_ub * n_ib == 1
        user_blocks, user_block, user_place = _cut(
            np.arange(n_users) if whole else rng.permutation(n_users), n_ub
        )
        item_blocks, item_block, item_place = _cut(
            np.arange(n_items) if whole else rng.permutation(n_items), n_ib
        )
        block = user_block[source.user] * n_ib + item_block[source.item]
        order = np.argsort(block, kind="stable")
        bounds = np.searchsorted(block[order], np.arange(n_ub * n_ib + 1))
        user, item, r = source.user[order], source.item[order], source.r[order]
        widths = np.array([len(items) for items in item_blocks])
        cell = user_place[user] * widths[item_block[item]] + item_place[item]
        for done, k in enumerate([0] if whole else rng.permutation(n_ub * n_ib)):
            rows: slice | np.ndarray = slice(bounds[k], bounds[k + 1])
            users, items = user_blocks[k // n_ib], item_blocks[k % n_ib]
            size, n_observed, first = len(users) * len(items), bounds[k + 1] - bounds[k], 0
            if source.ranks is not None:  # some of the users
                mine = source.ranks.part(len(users))
                users, first = users[mine], mine.start * len(items)
                inside = (cell[rows] >= first) & (cell[rows] < mine.stop * len(items))
                rows = bounds[k] + np.flatnonzero(inside)
            place = source.tensor(cell[rows] - first, torch.int64)
            r_observed = source.tensor(r[rows], torch.float32)
            o_space, r_space = (torch.zeros(len(users) * len(items), device=source.device) for _ in range(2))
            o_space[place], r_space[place] = 1.0, r_observed
            grid = Grid(source.tensor(users, torch.int64), source.tensor(items, torch.int64))
            space = LazyPairs(o=o_space, r=r_space, tables=source.tables, grid=grid, ranks=source.ranks)
            observed = Pairs(
                source.tensor(user[rows], torch.int64),
                source.tensor(item[rows], torch.int64),
                torch.ones(len(place), device=source.device),
                r_observed,
                mass=n_observed / size,
                share=source.density,
                tables=source.tables,
                within=(space, place),
                ranks=source.ranks,
            )
            yield Batch(
                observed,
                space,
                source.randomised(rng),
                weight=size * n_ub * n_ib / (n_users * n_items),
                epoch=epoch + done / (n_ub * n_ib),
                ranks=source.ranks,
            )

    def _rows(self, source: Source, rng: np.random.Generator, epoch: int) -> Iterator[Batch]:
        n_users = source.shape[0]
        n_blocks = math.ceil(n_users / self.users)
        for done, users in enumerate(np.array_split(rng.permutation(n_users), n_blocks)):
            n, count, part = len(users), source.indptr[users + 1] - source.indptr[users], None
            if source.ranks is not None:
                mine, ends = source.ranks.part(n), np.concatenate([[0], np.cumsum(count)])
                entries = slice(int(ends[mine.start]), int(ends[mine.stop]))
                part, users = Part(source.ranks, mine, n, entries, int(ends[-1])), users[mine]
            rows, where = user_rows(source, users)
            rows = replace(rows, part=part)
            observed = _observed(source, where, mass=int(count.sum()) / (n * source.shape[1]))
            space = LazyPairs(
                o=torch.empty(0, device=source.device),
                r=torch.empty(0, device=source.device),
                tables=source.tables,
                grid=Grid(rows.user, torch.arange(source.shape[1], device=source.device)),
                ranks=source.ranks,
            )
            weight = n * n_blocks / n_users
            now = epoch + done / n_blocks
            yield Batch(observed, space, source.randomised(rng), rows, weight, now, source.ranks)


@dataclass(frozen=True)
class UniformPairs:
    """Mini-batches of observed rows, and for each a uniform draw of pairs from D: for large catalogues.

    Parameters
    ----------
    observed: rows of the biased log in a step (shuffled each epoch, cut nearly equal).
    space: pairs drawn uniformly, with replacement, from D in a step; 0 where no risk reads D.
    """

    observed: int
    space: int = 0

    def batches(self, source: Source, rng: np.random.Generator, epoch: int) -> Iterator[Batch]:
        """One pass over the observed rows."""
        n = len(source.user)
        n_batches = max(1, math.ceil(n / self.observed))
        density = source.density
        for done, rows in enumerate(np.array_split(rng.permutation(n), n_batches)):
            mine, drawn = source.part(len(rows)), source.part(self.space)
            observed = _observed(source, rows[mine], mass=density)
            space = _empty(source)
            if self.space:
                user = rng.integers(0, source.shape[0], self.space)[drawn]
                item = rng.integers(0, source.shape[1], self.space)[drawn]
                o, r = source.seen(user * source.shape[1] + item)
                space = Pairs(
                    source.tensor(user, torch.int64),
                    source.tensor(item, torch.int64),
                    source.tensor(o, torch.float32),
                    source.tensor(r, torch.float32),
                    tables=source.tables,
                    ranks=source.ranks,
                )
            weight, now = len(rows) * n_batches / max(n, 1), epoch + done / n_batches
            yield Batch(observed, space, source.randomised(rng), None, weight, now, source.ranks)


class Sampler(Protocol):
    """What makes passes over a source: `Blocks`, `UniformPairs`, or `ImpressionRows` over impressions."""

    def batches(self, source: Any, rng: np.random.Generator, epoch: int) -> Iterator[Batch]:
        """One pass."""
        ...


class LazyPairs(Pairs):
    """A grid's pairs, whose long index vectors are made only if a net asks for them."""

    def __init__(
        self, *, o: Tensor, r: Tensor, tables: Tables, grid: Grid, ranks: Ranks | None = None
    ) -> None:
        for name, value in {"o": o, "r": r, "tables": tables, "grid": grid, "ranks": ranks}.items():
            object.__setattr__(self, name, value)
        defaults = {"mass": 1.0, "share": 1.0, "context": {}, "weight": None, "within": None, "whole": False}
        for name, default in defaults.items():
            object.__setattr__(self, name, default)

    def __getattr__(self, name: str) -> Tensor:
        """`user` and `item`, (B * J,) int64, on first use."""
        grid = self.__dict__["grid"]
        if name == "user":
            value = grid.users.repeat_interleave(len(grid.items))
        elif name == "item":
            value = grid.items.repeat(len(grid.users))
        else:
            raise AttributeError(name)
        object.__setattr__(self, name, value)
        return value


def _cut(order: np.ndarray, parts: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """(the codes of each part, sorted; for every code its part; for every code its place in it)."""
    codes = [np.sort(part) for part in np.array_split(order, parts)]
    part, place = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
    for k, members in enumerate(codes):
        part[members], place[members] = k, np.arange(len(members))
    return codes, part, place


def _observed(source: Source, rows: np.ndarray, mass: float) -> Pairs:
    return Pairs(
        source.tensor(source.user[rows], torch.int64),
        source.tensor(source.item[rows], torch.int64),
        torch.ones(len(rows), device=source.device),
        source.tensor(source.r[rows], torch.float32),
        mass=mass,
        share=source.density,
        tables=source.tables,
        ranks=source.ranks,
    )


def _empty(source: Source) -> Pairs:
    index = torch.empty(0, dtype=torch.int64, device=source.device)
    value = torch.empty(0, device=source.device)
    return Pairs(index, index, value, value, tables=source.tables, ranks=source.ranks)


def user_rows(source: Source, users: np.ndarray) -> tuple[Rows, np.ndarray]:
    """(the rows of these users, their positions in the source's log)."""
    counts = source.indptr[users + 1] - source.indptr[users]
    offset = np.concatenate([[0], np.cumsum(counts)])
    where = np.repeat(source.indptr[users] - offset[:-1], counts) + np.arange(offset[-1])
    codes = source.tensor(users, torch.int64)
    x = source.tables.user
    return (
        Rows(
            codes,
            source.tensor(source.item[where], torch.int64),
            source.tensor(offset, torch.int64),
            source.tensor(source.r[where], torch.float32),
            source.tensor(source.rating[where], torch.float32),
            None if x is None else x[codes],
            source.shape[1],
        ),
        where,
    )
