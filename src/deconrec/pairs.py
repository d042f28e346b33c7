"""`Pairs`, `Rows` and `Batch`: what nets and losses are called with.

Three populations of (user, item) pairs carry every risk: O (observed, from the biased log), D (the entire space
of users x items) and R (the randomised log). A `Pairs` is a sample of one of them, and `expect` turns values on
the sample into the population's share of (1/|D|) * sum, so that code reads as the papers do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor


class Ranks(Protocol):
    """The processes that share a sample, see `training.distributed`."""

    @property
    def size(self) -> int:
        """How many they are."""
        ...

    def part(self, n: int) -> slice:
        """What is here of n rows."""
        ...

    def sum(self, x: Tensor) -> Tensor:
        """The sum over processes, differentiable."""
        ...

    def mean(self, gradients: list[Tensor]) -> list[Tensor]:
        """The mean over processes of each."""
        ...


@dataclass(frozen=True, eq=False)
class Tables:
    """Features of all users and all items, shared by every sample: (n_users, F) and (n_items, G), or None."""

    user: Tensor | None = None
    item: Tensor | None = None

    def to(self, device: torch.device | str) -> Tables:
        """The same tables on a device."""
        return Tables(*(None if t is None else t.to(device) for t in (self.user, self.item)))


NO_TABLES = Tables()


@dataclass(frozen=True, eq=False)
class Grid:
    """A rectangle users x items that a sample covers whole, row by row: (B,) and (J,) int64."""

    users: Tensor
    items: Tensor


@dataclass(frozen=True, eq=False)
class Pairs:
    """A sample of pairs standing for a population of share `mass` of D.

    Attributes
    ----------
    user, item: (n,) int64 codes. For a grid, user-major.
    o: (n,) exposure in {0, 1}.
    r: (n,) outcome in [0, 1]; 0 where it was not observed (read it together with o).
    mass: |population| / |D| as this sample stands for it (within a block: its observed share).
    share: |population| / |D| of the whole data, so that `average` is a mean over the population.
    tables: features of users and items, looked up only by nets that want them.
    context: (n, ...) features of the row itself (an impression's hour, device, ...): "places" (n, C) int32 rows of the
        table of all categories and "inputs" (n, F) numbers, see `data.context`; or "features" (n, F).
    weight: (n,) sample weights, or None.
    grid: set where the sample is a whole rectangle: a net may then answer by one matrix product.
    whole: whether other samples of the batch lie within this one, rectangle or not.
    ranks: the processes that hold the other rows of the sample; None = all rows are here.
    within: (a sample that holds these rows, (n,) int64 their places in it), or None: what a net says of it, it says of
        them.
    """

    user: Tensor
    item: Tensor
    o: Tensor
    r: Tensor
    mass: float = 1.0
    share: float = 1.0
    tables: Tables = NO_TABLES
    context: Mapping[str, Tensor] = field(default_factory=dict)
    weight: Tensor | None = None
    grid: Grid | None = None
    whole: bool = False
    within: tuple[Pairs, Tensor] | None = None
    ranks: Ranks | None = None

    def __len__(self) -> int:
        return len(self.o)

    def expect(self, x: Tensor) -> Tensor:
        """Monte-Carlo estimate of (1/|D|) * sum of x over the population: x is (n,), the result a scalar.

        0 on an empty sample (a block without observed pairs), not NaN.
        """
        x = x if self.weight is None else x * self.weight
        if self.ranks is not None:
            total, n = self.ranks.sum(torch.stack([x.sum(), x.new_tensor(len(x))]))
            return self.mass * total / n.clamp_min(1)
        return self.mass * x.mean() if len(x) else x.sum()

    def average(self, x: Tensor) -> Tensor:
        """Monte-Carlo estimate of the mean of x over the population; 0 on an empty sample."""
        return self.expect(x) / self.share if self.share > 0 else x.sum() * 0.0

    def take(self, rows: Tensor) -> Pairs:
        """The sample of these rows (positions, or a mask), of the same mass and share."""
        return Pairs(
            self.user[rows],
            self.item[rows],
            self.o[rows],
            self.r[rows],
            mass=self.mass,
            share=self.share,
            tables=self.tables,
            context={name: value[rows] for name, value in self.context.items()},
            weight=None if self.weight is None else self.weight[rows],
            ranks=self.ranks,
        )

    @property
    def empty(self) -> bool:
        """Whether the sample has no row, here or in another process."""
        if self.ranks is None:
            return not len(self)
        return not float(self.ranks.sum(torch.tensor(float(len(self)))))

    @property
    def x_row(self) -> Tensor | None:
        """(n, C) standardised features of the rows themselves, `context["features"]`."""
        return self.context.get("features")

    @property
    def x_user(self) -> Tensor | None:
        """(n, F) features of each row's user."""
        return None if self.tables.user is None else self.tables.user[self.user]

    @property
    def x_item(self) -> Tensor | None:
        """(n, G) features of each row's item."""
        return None if self.tables.item is None else self.tables.item[self.item]


@dataclass(frozen=True)
class Part:
    """What is here of a batch of user rows that several processes share.

    Attributes
    ----------
    ranks: these processes.
    rows, entries: which rows of the whole batch, and which of its stored entries.
    n_rows, n_entries: how many the whole batch has.
    """

    ranks: Ranks
    rows: slice
    n_rows: int
    entries: slice
    n_entries: int


@dataclass(frozen=True, eq=False)
class Rows:
    """Whole user rows, sparse: what row methods (the VAEs) read.

    Attributes
    ----------
    user: (B,) int64 codes.
    item: (nnz,) int64 codes of the exposed items, user by user.
    offset: (B + 1,) int64; row b holds item[offset[b]:offset[b + 1]].
    r: (nnz,) outcome in [0, 1].
    rating: (nnz,) rating on its own scale.
    x: (B, F) user features, or None.
    n_items: width of a dense row.
    part: set where other processes hold the other rows of the batch.
    """

    user: Tensor
    item: Tensor
    offset: Tensor
    r: Tensor
    rating: Tensor
    x: Tensor | None
    n_items: int
    part: Part | None = None

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def row(self) -> Tensor:
        """(nnz,) int64: the row, in [0, B), of every stored entry."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.item.device), self.offset.diff())

    def mean(self, x: Tensor) -> Tensor:
        """The mean of x (B,) over the batch's rows; 0 without rows."""
        if self.part is not None:
            return self.part.ranks.sum(x.sum()) / max(self.part.n_rows, 1)
        return x.mean() if len(x) else x.sum()

    def drawn(self, draw: Callable[..., Tensor], like: Tensor, *, entries: bool = False) -> Tensor:
        """Random numbers for every row (or stored entry), shaped as `like`: what the whole batch would be given.

        draw: torch.rand or torch.randn.
        """
        kind = {"dtype": like.dtype, "device": like.device}
        if self.part is None:
            return draw(like.shape, **kind)
        here, n = (self.part.entries, self.part.n_entries) if entries else (self.part.rows, self.part.n_rows)
        return draw((n, *like.shape[1:]), **kind)[here]

    def dense(self, what: Literal["o", "r", "rating"]) -> Tensor:
        """(B, n_items) in item order; 0 where not exposed."""
        values = torch.ones_like(self.r) if what == "o" else self.r if what == "r" else self.rating
        out = torch.zeros(len(self), self.n_items, dtype=values.dtype, device=values.device)
        return out.index_put((self.row, self.item), values)

    def to(self, device: torch.device | str) -> Rows:
        """The same rows on a device."""
        x = None if self.x is None else self.x.to(device)
        user, item, offset, r, rating = (
            t.to(device) for t in (self.user, self.item, self.offset, self.r, self.rating)
        )
        return Rows(user, item, offset, r, rating, x, self.n_items, self.part)


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's samples.

    Attributes
    ----------
    observed: sample of O.
    space: sample of D.
    unbiased: sample of R, or None where there is no randomised log.
    rows: whole user rows (row samplers only).
    weight: this batch's share of the pass, 1 on average; the engine multiplies losses by it, so that smaller
        blocks do not count more.
    epoch: epochs done, with fraction, for annealing.
    ranks: the processes that share the batch; None = it is here whole.
    """

    observed: Pairs
    space: Pairs
    unbiased: Pairs | None = None
    rows: Rows | None = None
    weight: float = 1.0
    epoch: float = 0.0
    ranks: Ranks | None = None
