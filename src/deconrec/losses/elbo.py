"""The parts of the evidence lower bound over user rows; likelihoods are (B,), in nats.

`kernels.decoder` has the same likelihoods of what a linear layer decodes, faster.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from deconrec.pairs import Rows


def bernoulli_log_likelihood(logits: Tensor, rows: Rows) -> Tensor:
    """(B,) sum_i a log s_i + (1 - a) log(1 - s_i), s = sigma(logits): must factorise (paper 1, section 4.1).

    Equals sum over exposed items of l_i minus sum over all items of softplus(l_i), so that no dense a is needed.
    """
    exposed = logits[rows.row, rows.item]
    total = torch.zeros(len(rows), dtype=logits.dtype, device=logits.device)
    return total.index_add(0, rows.row, exposed) - softplus(logits).sum(1)


def multinomial_log_likelihood(logits: Tensor, rows: Rows, count: Tensor) -> Tensor:
    """(B,) sum_i n_i log softmax(l)_i with counts n (nnz,) on the exposed items (paper 1, section 4.2)."""
    log_norm = torch.logsumexp(logits, 1)
    exposed = (logits[rows.row, rows.item] - log_norm[rows.row]) * count
    return torch.zeros(len(rows), dtype=logits.dtype, device=logits.device).index_add(0, rows.row, exposed)


def negative_bound(
    rows: Rows, likelihood: Tensor, kl: Tensor | None, beta: float, weight: Tensor | None = None
) -> dict[str, Tensor]:
    """Terms "outcome" and, where there is a code, "kl": -mean w_u log p_u, and beta mean w_u KL_u over the batch.

    Likelihoods, KLs and weights are (B,); without weights w = 1. Both are 0 without rows.
    """
    w = 1.0 if weight is None else weight
    terms = {"outcome": -rows.mean(w * likelihood)}
    return terms if kl is None else terms | {"kl": beta * rows.mean(w * kl)}


def annealed(epoch: float, over: float, cap: float) -> float:
    """KL weight: linear from 0 to `cap` over the first `over` epochs, then `cap`."""
    return cap if over <= 0 else cap * min(1.0, epoch / over)
