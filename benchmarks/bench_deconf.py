"""A fit of Deep-Deconf, against a dense float32 twin trained by plain autograd on the released schedule.

Ours is all of `fit`: both stages on the default schedule, the predictive check, a validation score after each epoch,
the map to expected outcomes. "To the end" trains the outcome for all its epochs, where a fit stops on validation. The
twin only trains, 150 epochs of the exposure model and 100 of the outcome, 500 users a step; its matrices are made
beforehand, and neither their time nor their memory is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

SAYS = "a full fit of Deep-Deconf, against training a dense float32 autograd twin on the released schedule"
OURS = "deconrec"
PEER_NAME = "released, dense"
TARGETS: dict[str, float] = {"deconrec": 5.0}
FULL = {"n_users": 4000, "n_items": 2000, "dim": 100, "exposure_rate": 0.01, "part": 1.0}
TINY = {"n_users": 60, "n_items": 30, "dim": 4, "exposure_rate": 0.1, "part": 0.02}
REPETITIONS = 2
MEMORY = False  # a fit's peak is that of its validation scores, not of its steps: see `rows`
RELEASED = {"exposure": 150, "outcome": 100, "batch": 500, "lr": 1e-3, "kl": 0.2, "anneal": 80.0}


def sides(
    n_users: int, n_items: int, dim: int, exposure_rate: float, part: float
) -> dict[str, Callable[[], Any]]:
    """`part`: share of both schedules' epochs. That the twins are the same functions is checked first."""
    import torch

    import deconrec as dc
    from benchmarks.dense_twins import dense_bound, dense_elbo, dense_outcome, dense_twin
    from deconrec.base import Spec
    from deconrec.training.features import feature_tables
    from deconrec.training.program import Adam, Nets, Phase, Step
    from deconrec.training.samplers import Blocks, Source
    from deconrec.training.trainer import Trainer

    data, _ = dc.simulate.deep_deconf(
        n_users=n_users, n_items=n_items, n_factors=50, exposure_rate=exposure_rate, seed=0
    )
    parts = dc.UsersSplit(0).apply(data)

    def share(epochs: int) -> int:
        return max(1, round(part * epochs))

    def ours(precision: str, **settings: Any) -> Callable[[], Any]:
        exposure = dc.VAEExposure(dim=dim, precision=precision)
        exposure.set_params(epochs=share(exposure.epochs))
        model = dc.DeepDeconf(exposure=exposure, hidden=(dim,), precision=precision, **settings)
        model.set_params(epochs=share(model.epochs))
        return lambda: model.clone().fit(parts.train, validation=parts.holdout)

    torch.manual_seed(0)
    source = Source.of(parts.train, feature_tables(parts.train))
    spec = Spec.of(parts.train)
    vae = dc.VAEExposure(dim=dim).nets(spec).exposure
    released = dc.DeepDeconf(hidden=(dim,), late=True, variational=True, exposure=dc.VAEExposure(dim=dim))
    net = released.nets(spec).outcome
    stage_1 = Nets(exposure=dense_twin(vae, source, 0.5))
    stage_2 = Nets(outcome=dense_outcome(net, source, 0.5))
    blocks = Blocks(min(RELEASED["batch"], source.shape[0]))
    schedule = RELEASED["kl"], RELEASED["anneal"]
    loss_1, loss_2 = dense_elbo(*schedule), dense_bound(stage_1, *schedule)

    batch = next(blocks.batches(source, np.random.default_rng(0), 0))
    with torch.no_grad():
        stage_1.eval(), stage_2.eval(), net.eval()
        z = stage_1.exposure(batch.rows)[1]
        logits, _ = net(batch.rows, batch.rows.x, z)
        mine = stage_2.outcome(batch.rows, z)[0]
    if not torch.allclose(logits, mine, rtol=1e-3, atol=1e-3):
        raise AssertionError(f"the sides disagree: logits differ by {float((logits - mine).abs().max())}")

    def twin() -> Any:
        for name, nets, loss in (("exposure", stage_1, loss_1), ("outcome", stage_2, loss_2)):
            trainer = Trainer(share(RELEASED[name]), Adam(RELEASED["lr"]))
            history = trainer.run(nets, [Phase(Step(loss, updates=(name,)))], blocks, source)
        return history

    return {
        "deconrec": ours("auto"),
        "deconrec, float32": ours("float32"),
        "deconrec, float32, to the end": ours("float32", patience=0),
        "released, dense": twin,
    }
