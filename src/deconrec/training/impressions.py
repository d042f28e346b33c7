"""Batches of an impression log: the entire space D is the table of impressions, O its clicked rows.

The promise of every sampler holds by weight: over a pass, `batch.weight * batch.observed.expect(x)` averages to
sum_O w x / sum_D w, and the same for D and for R (over its own weights).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from deconrec.data.context import Context
from deconrec.data.dataset import Dataset
from deconrec.pairs import NO_TABLES, Batch, Pairs, Ranks, Tables
from deconrec.training.samplers import LARGEST_UNBIASED, context_tensors, log_pairs

if TYPE_CHECKING:
    from deconrec.training.samplers import Source


STEPS, LEAST = (
    20,
    512,
)  # NOTE of a pass: one step over a whole small log would leave patience nothing to count
# NOTE precision of the usual prior of `nn.impressions`, in rows: chosen on a few simulated worlds, some of them against
# the truth.
IMPRESSION_PRIOR = 12.0


@dataclass(frozen=True, eq=False)
class ImpressionSource:
    """An impression log as tensors: what `ImpressionRows` draws from.

    Attributes
    ----------
    shape: (n_users, n_items).
    rows: every impression: o is the click, r the conversion (0 without a click), weights have mean 1 over D.
    clicked: (n_o,) int64 positions of the clicked rows.
    unbiased: the randomised log as pairs, or None.
    density: |O| / |D|, by weight.
    ranks: the processes that share the batches; None = this one has them whole.

    Of samples of O the weights have mean 1 over O, and their mass and share hold what that leaves out.
    """

    shape: tuple[int, int]
    rows: Pairs
    clicked: Tensor
    unbiased: Pairs | None
    density: float
    device: torch.device
    tables: Tables = NO_TABLES
    ranks: Ranks | None = None

    @classmethod
    def of(cls, data: Dataset, device: torch.device | str = "cpu") -> ImpressionSource:
        """The source of a data set of impressions."""
        shown = data.impressions
        assert shown is not None
        everything = log_pairs(data, shown.log, NO_TABLES, device)
        rows = Pairs(
            everything.user.to(torch.int32),  # half the memory; they are widened a batch at a time
            everything.item.to(torch.int32),
            torch.as_tensor(shown.click.astype(np.float32), device=device),
            everything.r,
            context=everything.context,
            weight=everything.weight,
        )
        unbiased = None
        if data.unbiased is not None and len(data.unbiased):
            unbiased = log_pairs(data, data.unbiased, NO_TABLES, device)
        clicked = torch.as_tensor(np.flatnonzero(shown.click), device=device)
        return cls(data.shape, rows, clicked, unbiased, shown.click_rate, torch.device(device))

    def randomised(self, rng: np.random.Generator) -> Pairs | None:
        """R for one step: the whole of it, or a uniform sample where it is large."""
        pairs = self.unbiased
        if pairs is None or len(pairs) <= LARGEST_UNBIASED:
            return pairs
        rows = rng.integers(0, len(pairs), LARGEST_UNBIASED)
        rows = rows if self.ranks is None else rows[self.ranks.part(LARGEST_UNBIASED)]
        return replace(pairs.take(torch.from_numpy(rows).to(self.device)), ranks=self.ranks)

    def drawn(self, rng: np.random.Generator, n: int) -> Pairs:
        """N impressions of D, with replacement, each as often as it weighs; their outcomes are left out."""
        if self.rows.weight is None:
            at = rng.integers(0, len(self.rows), n)
        else:
            edges = np.cumsum(self.rows.weight.cpu().numpy(), dtype=np.float64)
            at = np.minimum(np.searchsorted(edges, rng.random(n) * edges[-1], side="right"), len(edges) - 1)
        chosen = self.at(torch.from_numpy(at).to(self.device))
        empty = torch.zeros(n, device=self.device)
        return Pairs(chosen.user, chosen.item, empty, empty, context=chosen.context)

    def clicked_rows(self, rows: Pairs, share: float) -> Pairs:
        """Clicked rows as a sample of O that is `share` of its batch's rows."""
        mean = (
            self.density * len(self.rows) / max(len(self.clicked), 1)
        )  # weight of a click; 1 without weights
        weight = None if rows.weight is None else rows.weight / mean
        return replace(rows, mass=share * mean, share=self.density, weight=weight)

    def at(self, places: Tensor) -> Pairs:
        """The impressions at these positions."""
        rows = self.rows
        return Pairs(
            rows.user.index_select(0, places).long(),
            rows.item.index_select(0, places).long(),
            rows.o.index_select(0, places),
            rows.r.index_select(0, places),
            context={name: value.index_select(0, places) for name, value in rows.context.items()},
            weight=None if rows.weight is None else rows.weight.index_select(0, places),
        )


@dataclass(frozen=True)
class ImpressionRows:
    """Mini-batches of impressions, shuffled each epoch and cut nearly equal; O is a batch's clicked rows.

    Parameters
    ----------
    rows: impressions in a step, at most: a pass makes `STEPS` steps, or as many as leave `LEAST` rows to each.
    space: whether any risk reads D; if not, a pass runs over clicked rows alone.
    """

    rows: int
    space: bool = True

    def batches(
        self, source: Source | ImpressionSource, rng: np.random.Generator, epoch: int
    ) -> Iterator[Batch]:
        """One pass."""
        assert isinstance(source, ImpressionSource)
        everything = len(source.rows)
        n = everything if self.space else len(source.clicked)
        order = torch.from_numpy(rng.permutation(n)).to(source.device)
        n_batches = max(1, math.ceil(n / min(self.rows, max(LEAST, math.ceil(n / STEPS)))))
        for done, part in enumerate(torch.tensor_split(order, n_batches)):
            mine = part if source.ranks is None else part[source.ranks.part(len(part))]
            if self.space:
                space = replace(source.at(mine), whole=True, ranks=source.ranks)
                place = torch.nonzero(space.o, as_tuple=True)[0]
                clicks = len(place) if mine is part else int(source.rows.o.index_select(0, part).sum())
                observed = source.clicked_rows(space.take(place), clicks / max(len(part), 1))
                observed = replace(observed, within=(space, place))
            else:
                observed = replace(source.at(source.clicked.index_select(0, mine)), ranks=source.ranks)
                observed = source.clicked_rows(observed, n / everything)
                space = replace(observed.take(order[:0]), mass=1.0, share=1.0)
            yield Batch(
                observed,
                space,
                source.randomised(rng),
                weight=len(part) * n_batches / max(n, 1),
                epoch=epoch + done / n_batches,
                ranks=source.ranks,
            )


def impression_pairs(
    user: np.ndarray, item: np.ndarray, context: Context, device: torch.device | str
) -> Pairs:
    """Impressions without outcomes, for networks to answer: (n,) codes and their context."""
    empty = torch.zeros(len(user), device=device)
    return Pairs(
        torch.as_tensor(user.astype(np.int64), device=device),
        torch.as_tensor(item.astype(np.int64), device=device),
        empty,
        empty,
        context=context_tensors(context, device),
    )
