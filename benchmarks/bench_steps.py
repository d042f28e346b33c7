"""One epoch of Res-DR over a whole grid: blocks answered by matrix products, against the same program by look-ups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

SAYS = "an epoch of Res-DR: blocks by matrix product, against the same steps with a look-up for every pair"
OURS = "blocks"
PEER_NAME = "look-ups"
TARGETS: dict[str, float] = {}
FULL = {"n_users": 290, "n_items": 300, "dim": 32}  # 87,000 pairs, the size of Coat
TINY = {"n_users": 20, "n_items": 15, "dim": 2}
REPETITIONS = 15
MEMORY = True


def sides(n_users: int, n_items: int, dim: int) -> dict[str, Callable[[], Any]]:
    """Both train a model of their own, from the same start on the same batches."""
    import deconrec as dc
    from deconrec.pairs import NO_TABLES
    from deconrec.training.program import Adam
    from deconrec.training.samplers import Source
    from deconrec.training.trainer import Trainer

    data, _ = dc.simulate.pairs(
        n_users=n_users, n_items=n_items, exposure_rate=0.08, unbiased_share=0.01, seed=0
    )
    source = Source.of(data, NO_TABLES)

    def side(sampler_of: Callable[[Any], Any]) -> tuple[Callable[[], Any], dict[str, float]]:
        model = dc.ResDR(dim=dim, epochs=0, agreement="loss").fit(data)
        trainer, sampler = Trainer(1, Adam(model.lr, model.l2_)), sampler_of(model.sampler(data))

        def epoch() -> Any:
            return trainer.run(model.nets_, model.program(), sampler, source)

        return epoch, next(iter(epoch()))

    (blocks, a), (look_ups, b) = side(lambda sampler: sampler), side(LookUps)
    for name in a.keys() - {"seconds"}:
        if not np.isclose(a[name], b[name], rtol=1e-3, atol=1e-5):
            raise AssertionError(f"the sides disagree on '{name}': {a[name]} and {b[name]}")
    return {"blocks": blocks, "look-ups": look_ups}


@dataclass(frozen=True)
class LookUps:
    """The same batches, their space as plain pairs that say nothing of a grid."""

    sampler: Any

    def batches(self, source: Any, rng: np.random.Generator, epoch: int) -> Iterator[Any]:
        """The batches of one pass."""
        from deconrec.pairs import Pairs

        for b in self.sampler.batches(source, rng, epoch):
            d = b.space
            space = Pairs(d.user, d.item, d.o, d.r, mass=d.mass, share=d.share, tables=d.tables)
            yield replace(b, space=space)
