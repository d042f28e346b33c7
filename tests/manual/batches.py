"""What the twins are compared on: a tiny log, batches of it in double precision, and nets that are tables."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import torch
from torch import nn

from deconrec.data.dataset import Dataset
from deconrec.pairs import NO_TABLES
from deconrec.training.samplers import Blocks, LazyPairs, Source

SHAPE = (7, 5)


def tiny(ratings=(0.0, 1.0), seed=0, full=False):
    """7 users, 5 items, about half of the cells in the biased log, 9 randomised rows."""
    rng = np.random.default_rng(seed)
    r = rng.choice(ratings, SHAPE)
    o = rng.random(SHAPE) < (1.1 if full else 0.5)
    o[0], o[1, 0] = False, True  # a user without rows
    if full:
        o[:] = True
    random = rng.permutation(r.size)[:9]

    def frame(where):
        u, i = np.divmod(where, SHAPE[1])
        return pl.DataFrame({"user_id": u, "item_id": i, "rating": r[u, i]})

    users, items = pl.DataFrame({"id": range(SHAPE[0])}), pl.DataFrame({"id": range(SHAPE[1])})
    scale = (float(min(ratings)), float(max(ratings)))
    data = Dataset.from_frames(
        frame(np.flatnonzero(o)), unbiased=frame(random), users=users, items=items, rating_range=scale
    )
    return data


def dense(data):
    """(o, r) over D, r in [0, 1] and 0 where it was not observed; and the rows of U."""
    o, r = np.zeros(data.shape), np.zeros(data.shape)
    o[data.biased.user, data.biased.item] = 1
    r[data.biased.user, data.biased.item] = data.outcome(data.biased)
    log = data.unbiased
    rows = [] if log is None else list(zip(log.user, log.item, data.outcome(log).astype(float), strict=True))
    return o, r, rows


def batches(data, sampler=None, epoch=0, seed=0, tables=NO_TABLES):
    """One pass in double precision; the whole of D in one batch unless another sampler is given."""
    source = Source.of(data, tables)
    sampler = sampler or Blocks(*data.shape)
    return [double(b) for b in sampler.batches(source, np.random.default_rng(seed), epoch)]


def double(batch):
    """The same batch with float64 values."""

    def pairs(p):
        if p is None:
            return None
        if isinstance(p, LazyPairs):
            return LazyPairs(o=p.o.double(), r=p.r.double(), tables=p.tables, grid=p.grid)
        return dataclasses.replace(p, o=p.o.double(), r=p.r.double())

    rows = batch.rows
    if rows is not None:
        x = None if rows.x is None else rows.x.double()
        rows = dataclasses.replace(rows, r=rows.r.double(), rating=rows.rating.double(), x=x)
    return dataclasses.replace(
        batch,
        observed=pairs(batch.observed),
        space=pairs(batch.space),
        unbiased=pairs(batch.unbiased),
        rows=rows,
    )


class Table(nn.Module):
    """A net that looks its logits up."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.as_tensor(np.array(logits), dtype=torch.float64))

    def forward(self, pairs):
        return self.logits[pairs.user, pairs.item]


def scramble(nets, seed=0, std=0.7):
    """Every parameter drawn anew, in double precision: the residual nets' zeros too."""
    generator = torch.Generator().manual_seed(seed)
    nets.double()
    with torch.no_grad():
        for parameter in nets.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * std)
    return nets


def everywhere(net, batch):
    """(m, n) logits of a net over the whole of D."""
    return net(batch.space).detach().numpy().reshape(SHAPE)


def probabilities(net, batch):
    return 1 / (1 + np.exp(-everywhere(net, batch)))


def value(terms):
    """The sum of the terms, a number."""
    return float(sum(terms.values()).detach())
