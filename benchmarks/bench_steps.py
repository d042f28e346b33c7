"""One pass of Res-DR over every pair of a grid: matrix products, against public research code's blocks and look-ups.

The peer is `research_code`. Ours visits the grid in one block, and, as a further side, in the peer's blocks of 64 x 64,
so that both make the same number of steps. From the same weights both give the same doubly robust risk, which is
checked first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import research_code

SAYS = "a pass of Res-DR over all pairs: matrix products, against 64 x 64 blocks with look-ups"
OURS = "deconrec"
PEER_NAME = "research code"
TARGETS = {OURS: 30.0}
FULL = {"n_users": 290, "n_items": 300, "dim": 32, "exposure_rate": 0.08}  # 87,000 pairs, the size of Coat
TINY = {"n_users": 20, "n_items": 15, "dim": 2, "exposure_rate": 0.3}
REPETITIONS = 15
MEMORY = True


def sides(n_users: int, n_items: int, dim: int, exposure_rate: float) -> dict[str, Callable[[], Any]]:
    """Both start from the same weights."""
    import deconrec as dc
    from deconrec.pairs import NO_TABLES
    from deconrec.training.program import Adam
    from deconrec.training.samplers import Blocks, Source
    from deconrec.training.trainer import Trainer

    data, _ = dc.simulate.pairs(
        n_users=n_users, n_items=n_items, exposure_rate=exposure_rate, unbiased_share=0.05, seed=0
    )
    source = Source.of(data, NO_TABLES)
    o, r = research_code.dense(data)
    u = data.unbiased
    assert u is not None
    peer = research_code.ResearchResDR(
        n_users, n_items, dim, (np.column_stack([u.user, u.item]), data.outcome(u))
    )

    def side(sampler: Blocks) -> Callable[[], Any]:
        model = dc.ResDR(
            dim=dim, epochs=0, agreement="loss", floor=research_code.FLOOR, batch=n_users * n_items
        )
        model.fit(data)
        peer.give(model.nets_)
        check(model, peer, source, o, r)
        trainer = Trainer(1, Adam(model.lr, model.l2_))
        return lambda: trainer.run(model.nets_, model.program(), sampler, source)

    rng = np.random.default_rng(0)
    return {
        OURS: side(Blocks(n_users, n_items)),
        "deconrec, 64 x 64 blocks": side(Blocks(64, 64)),
        PEER_NAME: lambda: peer.epoch(o, r, rng),
    }


def check(model: Any, peer: research_code.ResearchResDR, source: Any, o: np.ndarray, r: np.ndarray) -> None:
    """Refuse sides whose risks over the whole grid differ."""
    import torch

    from deconrec.training.samplers import Blocks

    rng = np.random.default_rng(0)
    ours = next(Blocks(*o.shape).batches(source, rng, 0))
    theirs = next(research_code.blocks(o, r, rng, side=max(o.shape)))
    with torch.no_grad():
        a, b = float(sum(model.dr(model.nets_, ours).values())), float(peer.doubly_robust(theirs))
    if not np.isclose(a, b, rtol=1e-4):
        raise AssertionError(f"the sides disagree on the doubly robust risk: {a} and {b}")
