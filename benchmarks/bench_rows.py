"""One epoch of the exposure VAE: sparse rows in, against a twin that reads a dense float32 matrix.

The twin's matrix is made beforehand: neither its time nor its memory is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

SAYS = "an epoch of the exposure VAE: sparse input and likelihood, against a dense float32 twin"
OURS = "sparse"
PEER_NAME = "dense twin"
TARGETS: dict[str, float] = {}
FULL = {"n_users": 2000, "n_items": 1000, "dim": 100, "exposure_rate": 0.01}
TINY = {"n_users": 40, "n_items": 30, "dim": 4, "exposure_rate": 0.1}
REPETITIONS = 9
MEMORY = True


def sides(n_users: int, n_items: int, dim: int, exposure_rate: float) -> dict[str, Callable[[], Any]]:
    """Both train from the same weights; without dropout and sampling their losses agree, which is checked first."""
    import torch

    import deconrec as dc
    from deconrec.base import Spec
    from deconrec.pairs import NO_TABLES
    from deconrec.training.program import Adam, Nets, Phase, Step
    from deconrec.training.samplers import Blocks, Source
    from deconrec.training.trainer import Trainer

    data, _ = dc.simulate.deep_deconf(
        n_users=n_users, n_items=n_items, n_factors=50, exposure_rate=exposure_rate, seed=0
    )
    source = Source.of(data, NO_TABLES)
    model = dc.VAEExposure(dim=dim)
    torch.manual_seed(0)
    sparse = model.nets(Spec.of(data))
    dense = Nets(exposure=dense_twin(sparse.exposure, source, model.dropout))
    elbo = dense_elbo(model.kl, model.anneal)
    blocks = Blocks(min(model.batch, n_users))

    batch = next(blocks.batches(source, np.random.default_rng(0), 0))
    with torch.no_grad():
        sparse.eval(), dense.eval()
        a, b = model.elbo(sparse, batch)["exposures"], elbo(dense, batch)["exposures"]
    if not torch.isclose(a, b, rtol=1e-4):
        raise AssertionError(f"the sides disagree: {float(a)} and {float(b)}")

    trainer = Trainer(1, Adam(model.lr))

    def epoch(nets: Any, loss: Any) -> Callable[[], Any]:
        return lambda: trainer.run(nets, [Phase(Step(loss, updates=("exposure",)))], blocks, source)

    return {"sparse": epoch(sparse, model.elbo), "dense twin": epoch(dense, elbo)}


def dense_twin(vae: Any, source: Any, dropout: float) -> Any:
    """The network of `vae` over a dense matrix of scaled exposures, its weights copied."""
    import torch
    from torch import nn

    from deconrec.nn.vae import sample

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            a = torch.zeros(source.shape)
            a[
                torch.as_tensor(source.user.astype(np.int64)), torch.as_tensor(source.item.astype(np.int64))
            ] = 1.0
            self.a = a
            self.x = nn.functional.normalize(a, dim=1)
            self.drop = nn.Dropout(dropout)
            self.mean, self.log_std = linear(vae.encoder)
            self.decode = nn.Linear(vae.decode.in_features, vae.decode.out_features)
            self.decode.load_state_dict(vae.decode.state_dict())

        def forward(self, rows: Any) -> tuple[Any, Any, Any, Any]:
            x = self.drop(self.x[rows.user])  # one mask for both, as in the released code and in ours
            mean, log_std = self.mean(x), self.log_std(x).clamp(-20.0, 2.0)
            return self.decode(sample(mean, log_std, self.training)), mean, log_std, self.a[rows.user]

    def linear(layer: Any) -> list[Any]:
        both = [nn.Linear(len(layer.items), layer.items.shape[1] // 2) for _ in range(2)]
        with torch.no_grad():
            for out, weight, bias in zip(both, layer.items.chunk(2, 1), layer.bias.chunk(2), strict=True):
                out.weight.copy_(weight.T)
                out.bias.copy_(bias)
        return both

    return Dense()


def dense_elbo(cap: float, anneal: float) -> Any:
    """The negative evidence lower bound over dense rows."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    from deconrec.losses.elbo import annealed
    from deconrec.nn.vae import kl_to_standard

    def loss(nets: Any, b: Any) -> dict[str, Any]:
        logits, mean, log_std, a = nets.exposure(b.rows)
        error = binary_cross_entropy_with_logits(logits, a, reduction="none").sum(1).mean()
        kl = kl_to_standard(mean, log_std).mean()
        return {"exposures": error, "kl": annealed(b.epoch, anneal, cap) * kl}

    return loss
