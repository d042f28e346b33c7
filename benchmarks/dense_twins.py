"""Deep-Deconf's two networks over dense float32 rows, trained by plain autograd: the twins that ours is timed against.

Their matrices are made with them: neither their time nor their memory is counted. Weights are copied from the library's
networks, so that without dropout and sampling both are the same function, which the cases check before they measure.
"""

from __future__ import annotations

from typing import Any

import numpy as np


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
            return self.decode(sample(mean, log_std, self.training, rows)), mean, log_std, self.a[rows.user]

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


def dense_outcome(net: Any, source: Any, dropout: float) -> Any:
    """The released outcome network over dense rows, its weights copied from `net` (variational, late)."""
    import torch
    from torch import nn

    from deconrec.nn.vae import kl_to_standard, sample

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            where = (torch.as_tensor(c.astype(np.int64)) for c in (source.user, source.item))
            self.r = torch.zeros(source.shape)
            self.r[tuple(where)] = torch.as_tensor(np.array(source.rating), dtype=torch.float32)
            self.input = torch.cat(
                [nn.functional.normalize((self.r > 0).float(), dim=1), source.tables.user], 1
            )
            self.drop = nn.Dropout(dropout)
            self.mean, self.log_std = linear(net.first), linear(net.log_std)
            self.out = nn.Linear(net.out.in_features, net.out.out_features)
            self.out.load_state_dict(net.out.state_dict())

        def forward(self, rows: Any, z: Any) -> tuple[Any, Any, Any]:
            x = self.drop(self.input[rows.user])
            mean, log_std = self.mean(x), self.log_std(x).clamp(-20.0, 2.0)
            code = torch.cat([sample(mean, log_std, self.training, rows), z], 1)
            return self.out(code), kl_to_standard(mean, log_std), self.r[rows.user]

    def linear(layer: Any) -> Any:
        weight = torch.cat([layer.items, layer.dense]).T.detach()
        out = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            out.weight.copy_(weight)
            out.bias.copy_(layer.bias)
        return out

    return Dense()


def dense_bound(exposure: Any, cap: float, anneal: float) -> Any:
    """The negative evidence lower bound of ratings over dense rows, z from the fitted exposure model."""
    import torch

    from deconrec.losses.elbo import annealed

    def loss(nets: Any, b: Any) -> dict[str, Any]:
        with torch.no_grad():
            z = exposure.exposure.mean(exposure.exposure.x[b.rows.user])
        logits, kl, r = nets.outcome(b.rows, z)
        likelihood = (torch.log_softmax(logits, 1) * r).sum(1)
        beta = annealed(b.epoch, anneal, cap)
        return {"outcome": -likelihood.mean(), "kl": beta * kl.mean()}

    return loss
