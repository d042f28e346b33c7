"""One epoch of Deep-Deconf's two networks, the exposure VAE and the outcome, at the size of ML-1M.

Ours reads sparse rows, writes the likelihood's gradient down where automatic differentiation keeps several blocks, and
makes matrix products in bfloat16 where the processor has it. The peer is the same two networks over dense float32
rows. A further side says how far it could go: the matrix products of an epoch alone, at the rate of the processor's
best ones (square matrices of 1,024) in the type that ours uses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

SAYS = "an epoch of the exposure VAE and one of the outcome network, against dense float32 autograd"
OURS = "deconrec"
PEER_NAME = "dense twin"
TARGETS: dict[str, float] = {OURS: 5.0}
FULL = {"n_users": 6000, "n_items": 3706, "dim": 100, "exposure_rate": 0.045}
TINY = {"n_users": 40, "n_items": 30, "dim": 4, "exposure_rate": 0.1}
REPETITIONS = 7
MEMORY = True
BATCH = 500
SQUARE = 1024


def sides(n_users: int, n_items: int, dim: int, exposure_rate: float) -> dict[str, Callable[[], Any]]:
    """That the twins are the same functions is checked first."""
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
    source, spec = Source.of(data, feature_tables(data)), Spec.of(data)
    blocks, trainer = Blocks(min(BATCH, n_users)), Trainer(1, Adam(1e-3))

    def ours(precision: str) -> tuple[Any, Any, Callable[[], Any]]:
        torch.manual_seed(0)
        exposure = dc.VAEExposure(dim=dim, precision=precision)
        model = dc.DeepDeconf(
            hidden=(dim,), late=True, variational=True, exposure=exposure, precision=precision, epochs=0
        )
        model.exposure.set_params(epochs=1)
        model.fit(data)
        first, second = exposure.nets(spec), model.nets_
        programs = (
            (first, [Phase(Step(exposure.elbo, updates=("exposure",)))]),
            (second, model.program()),
        )
        return (
            first,
            second,
            lambda: [trainer.run(nets, program, blocks, source) for nets, program in programs],
        )

    first, second, work = ours("auto")
    _, _, single = ours("float32")
    stage_1 = Nets(exposure=dense_twin(first.exposure, source, 0.5))
    stage_2 = Nets(outcome=dense_outcome(second.outcome, source, 0.5))
    batch = next(blocks.batches(source, np.random.default_rng(0), 0))
    with torch.no_grad():
        stage_1.eval(), stage_2.eval(), second.eval()
        z = stage_1.exposure(batch.rows)[1]
        apart = (second.outcome(batch.rows, batch.rows.x, z)[0] - stage_2.outcome(batch.rows, z)[0]).abs()
    if float(apart.max()) > 1e-3:
        raise AssertionError(f"the sides disagree: logits differ by {float(apart.max())}")
    elbo, bound = dense_elbo(0.2, 80.0), dense_bound(stage_1, 0.2, 80.0)
    twins = (
        (stage_1, [Phase(Step(elbo, updates=("exposure",)))]),
        (stage_2, [Phase(Step(bound, updates=("outcome",)))]),
    )
    return {
        OURS: work,
        "deconrec, float32": single,
        "its matrix products alone, at the peak": at_the_peak(n_users, n_items, dim),
        PEER_NAME: lambda: [trainer.run(nets, program, blocks, source) for nets, program in twins],
    }


def at_the_peak(n_users: int, n_items: int, dim: int) -> Callable[[], Any]:
    """As many operations as the products of an epoch have, in products of large square matrices.

    Behind a decoder of `dim` inputs are three products: logits, and the gradients of its input and of its weights. The
    outcome network decodes twice as much: its code and z.
    """
    import torch

    from deconrec.kernels.decoder import dtype_of

    size = SQUARE if n_items > SQUARE else 64
    dtype = dtype_of("auto", torch.empty(n_items, dim))
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    rows = round(3 * n_users * n_items * 3 * dim / size**2)  # of products of a row with a square matrix

    def work() -> None:
        for start in range(0, rows, size):
            a[: min(size, rows - start)] @ b

    return work
