"""Networks over whole user rows: the exposure VAE and the outcome network of paper 1.

Inputs stay sparse: the first layer sums the weight columns of the exposed items, so that no dense
(users, items) input, mask or copy is made.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from deconrec.nn.sums import weighted_sums
from deconrec.pairs import Rows


class SparseLinear(nn.Module):
    """Linear layer on [a_u / ||a_u||, dense extras], a_u the binary exposures.

    Parameters
    ----------
    n_items, n_dense, n_out: input and output sizes.
    dropout: share of a row's exposed items that is dropped while training (the rest scaled by 1 / (1 - dropout)).

    Called with a `Rows` of B rows and (B, n_dense) extras or None; gives (B, n_out). A user without exposures
    contributes zero, not 0/0.
    """

    def __init__(self, n_items: int, n_dense: int, n_out: int, dropout: float) -> None:
        super().__init__()
        bound = math.sqrt(6.0 / (n_items + n_dense + n_out))  # Glorot uniform, as the released code
        self.items = nn.Parameter(torch.empty(n_items, n_out).uniform_(-bound, bound))
        self.dense = nn.Parameter(torch.empty(n_dense, n_out).uniform_(-bound, bound)) if n_dense else None
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.dropout = dropout

    def exposures(self, rows: Rows) -> Tensor:
        """(nnz,) the non-zero inputs a_u / ||a_u||, some dropped while training."""
        weight = rows.offset.diff().clamp_min(1).to(self.items.dtype).rsqrt()[rows.row]
        return self.dropped(weight, rows, entries=True)

    def dropped(self, x: Tensor, rows: Rows, *, entries: bool = False) -> Tensor:
        """Inputs of rows (or of their entries), some of them zero while training and the rest scaled up."""
        if not self.training or self.dropout == 0:
            return x
        return x * (rows.drawn(torch.rand, x, entries=entries) >= self.dropout) / (1.0 - self.dropout)

    def forward(self, rows: Rows, extra: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
        """(B, n_out). `weight`: another layer's `exposures`, where both are to see the same input."""
        weight = self.exposures(rows) if weight is None else weight
        out = weighted_sums(self.items, rows, weight) + self.bias
        if self.dense is not None:
            assert extra is not None
            out = out + extra @ self.dense
        return out


def decoder(n_in: int, n_items: int, bias: Tensor | None) -> nn.Linear:
    """Linear decoder to item logits, Glorot uniform, its bias starting at `bias` (n_items,) or 0."""
    layer = nn.Linear(n_in, n_items)
    nn.init.xavier_uniform_(layer.weight)
    with torch.no_grad():
        layer.bias.zero_() if bias is None else layer.bias.copy_(bias)
    return layer


def sample(mean: Tensor, log_std: Tensor, training: bool, rows: Rows) -> Tensor:
    """A reparameterised draw for each of the rows while training, the mean otherwise."""
    return mean + rows.drawn(torch.randn, mean) * log_std.exp() if training else mean


class ExposureVAE(nn.Module):
    """a_u -> z_u -> factorised Bernoulli logits (paper 1, section 4.1; no hidden layer, as released).

    Parameters
    ----------
    bias: (n_items,) start of the decoder's bias. At logit(item popularity) it need not travel to
        logit(0.01) = -4.6 in a thousand steps.
    """

    def __init__(self, n_items: int, dim: int, dropout: float, bias: Tensor | None) -> None:
        super().__init__()
        self.encoder = SparseLinear(
            n_items, 0, 2 * dim, dropout
        )  # mean and log standard deviation side by side
        self.decode = decoder(dim, n_items, bias)

    def encode(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of q(z | a), each (B, dim)."""
        mean, log_std = self.encoder(rows).chunk(2, dim=1)
        return mean, log_std.clamp(-20.0, 2.0)

    def code(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """(z, mean, log_std), each (B, dim): z is drawn while training, the mean otherwise."""
        mean, log_std = self.encode(rows)
        return sample(mean, log_std, self.training, rows), mean, log_std

    def forward(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """(logits (B, n_items), mean, log_std)."""
        z, mean, log_std = self.code(rows)
        return self.decode(z), mean, log_std


class OutcomeNet(nn.Module):
    """f(a_u, x_u, z_u) -> item logits (paper 1, section 4.2).

    The paper's structure: {I + F + K -> hidden ... -> I}, all inputs at the first layer, where the confounder is
    dropped out as exposures are. With `variational` the last hidden layer is a Gaussian code with a KL term, and with
    `late` the confounder joins at the decoder, never dropped: both together are the released form.

    Parameters
    ----------
    n_items, n_features, n_confounder: input sizes; the last two may be 0.
    hidden: widths of the hidden layers (paper 1: 0 to 2 of them); without any, one linear map.
    activation: "tanh" or "relu" between layers.
    variational: needs at least one hidden layer.
    """

    def __init__(
        self,
        n_items: int,
        n_features: int,
        n_confounder: int,
        hidden: tuple[int, ...],
        *,
        dropout: float = 0.5,
        activation: str = "tanh",
        variational: bool = False,
        late: bool = False,
        bias: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.variational, self.late = variational, late
        self.activation = torch.tanh if activation == "tanh" else torch.relu
        n_dense = n_features + (0 if late else n_confounder)
        self.first = SparseLinear(n_items, n_dense, hidden[0] if hidden else n_items, dropout)
        self.middle = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(hidden))
        self.out: nn.Linear | None = None
        if hidden:
            self.out = decoder(hidden[-1] + (n_confounder if late else 0), n_items, bias)
        elif bias is not None:
            with torch.no_grad():
                self.first.bias.copy_(bias)
        # The spread of the code, from what its mean is computed from.
        self.log_std: nn.Module | None = None
        if variational:
            wide = len(hidden) > 1
            self.log_std = (
                nn.Linear(hidden[-2], hidden[-1])
                if wide
                else SparseLinear(n_items, n_dense, hidden[-1], dropout)
            )

    def forward(self, rows: Rows, x: Tensor | None, z: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(logits (B, n_items), KL (B,) of the code or None). x is (B, F), z (B, K), each None where absent."""
        h, kl = self.code(rows, x, z)
        return (h if self.out is None else self.out(h)), kl

    def code(self, rows: Rows, x: Tensor | None, z: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(what `out` decodes, KL (B,) of the code or None); the logits themselves where there is no hidden layer."""
        early = None
        if z is not None and not self.late:
            # z is made from the very exposures that are dropped: left whole, it would give them back.
            early = self.first.dropped(z, rows)
        dense = [t for t in (x, early) if t is not None]
        extra = torch.cat(dense, 1) if dense else None
        a, before = self.first.exposures(rows), None
        h = self.first(rows, extra, a)
        if self.out is None:
            return h, None
        for layer in self.middle:
            before = self.activation(h)
            h = layer(before)
        kl: Tensor | None = None
        if self.log_std is not None:
            log_std = (self.log_std(rows, extra, a) if before is None else self.log_std(before)).clamp(
                -20.0, 2.0
            )
            kl, h = kl_to_standard(h, log_std), sample(h, log_std, self.training, rows)
        else:
            h = self.activation(h)
        if self.late and z is not None:
            h = torch.cat([h, z], 1)
        return h, kl


def kl_to_standard(mean: Tensor, log_std: Tensor) -> Tensor:
    """(B,) KL(N(mean, std^2) || N(0, I)), each input (B, K), in nats."""
    return 0.5 * (mean**2 + (2 * log_std).exp() - 1.0 - 2 * log_std).sum(1)
