"""Pair methods over a large grid: blocks of whole cells by matrix product, against as many sampled pairs by look-ups.

Both sides make the same number of steps of the same programs over the same number of pairs of the entire space; what is
sampled brings as many observed rows as a block holds on average.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

SAYS = "steps of IPS, DR-JL, ESCM2-DR and Res-DR: blocks of a grid, against as many sampled pairs"
OURS = "blocks"
PEER_NAME = "sampled look-ups"
TARGETS: dict[str, float] = {OURS: 10.0}
FULL = {"n_users": 15_400, "n_items": 1000, "dim": 32, "density": 0.01, "steps": 12}
TINY = {"n_users": 40, "n_items": 20, "dim": 2, "density": 0.1, "steps": 1}
REPETITIONS = 5
MEMORY = True
METHODS = ("ips", "dr-jl", "escm2-dr", "res-dr")


@dataclass(frozen=True)
class Part:
    """The first batches of a pass."""

    sampler: Any
    steps: int

    def batches(self, source: Any, rng: np.random.Generator, epoch: int) -> Iterator[Any]:
        """Those batches."""
        return islice(self.sampler.batches(source, rng, epoch), self.steps)


def sides(n_users: int, n_items: int, dim: int, density: float, steps: int) -> dict[str, Callable[[], Any]]:
    """Both sides train models of their own."""
    import polars as pl

    import deconrec as dc
    from deconrec.pairs import NO_TABLES
    from deconrec.training.program import Adam
    from deconrec.training.samplers import Blocks, Source, UniformPairs
    from deconrec.training.trainer import Trainer

    rng = np.random.default_rng(0)

    def log(n: int) -> pl.DataFrame:
        cell = rng.choice(n_users * n_items, n, replace=False)
        rating = (rng.random(n) < 0.3).astype(np.int8)
        return pl.DataFrame({"user_id": cell // n_items, "item_id": cell % n_items, "rating": rating})

    cells = n_users * n_items
    data = dc.Dataset.from_frames(log(int(density * cells)), unbiased=log(int(0.001 * cells) + 20))
    source = Source.of(data, NO_TABLES)

    def side(sampler_of: Callable[[int], Any]) -> Callable[[], Any]:
        runs = []
        for name in METHODS:
            model = dc.make(name).set_params(dim=dim, epochs=0)
            if name == "res-dr":
                model.set_params(agreement="loss")
            model.fit(data)
            trainer = Trainer(1, Adam(model.lr, model.l2_))
            sampler = Part(sampler_of(65_536), steps)
            runs.append((trainer, model, model.program(), sampler))
        return lambda: [trainer.run(m.nets_, program, part, source) for trainer, m, program, part in runs]

    return {
        OURS: side(lambda n: Blocks.of_cells(data.shape, n)),
        PEER_NAME: side(lambda n: UniformPairs(max(1, round(n * source.density)), n)),
    }
