"""Derivatives and differences of outcome networks: the Jacobians of paper 1, section 4.4, and what they hide.

The paper linearises at (a, z, x) = (0, 0, 0) for average effects. For a network that bends, that point is far from
every user: the mean of the Jacobians over users is the default here, and the difference f(a_j = 1) - f(a_j = 0) the
effect of a binary exposure. A row's scale 1 / ||a|| is held fixed under a derivative: at a = 0 it has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from deconrec.errors import DataError
from deconrec.methods.concat_vae import OutcomeEstimator
from deconrec.nn.vae import SparseLinear
from deconrec.random import seed_sequence, torch_generator
from deconrec.torch_estimator import RowEstimator
from deconrec.training.samplers import user_rows

Kind = Literal["jacobian", "difference"]
At = Literal["mean", "zero"]
BATCH = 1024  # users at a time

RowFunction = Callable[[Tensor], Tensor]
"""a (B, n_items) -> (B, n_items), differentiable."""
OutcomeFunction = Callable[[np.ndarray], RowFunction]
"""Codes of B users -> the function of their exposures, with their z and x."""


def responses(
    f: OutcomeFunction,
    a: np.ndarray,
    users: np.ndarray,
    causes: np.ndarray,
    items: np.ndarray,
    kind: Kind = "jacobian",
) -> np.ndarray:
    """(J, I) mean over users of d f_i / d a_j, or of f_i(a_j = 1) - f_i(a_j = 0).

    Parameters
    ----------
    a: (n, n_items) exposures; users: (m,) the users that the mean is over.
    causes, items: (J,) and (I,) codes.
    """
    total = np.zeros((len(causes), len(items)))
    for at in range(0, len(users), BATCH):
        who = users[at : at + BATCH]
        row = torch.from_numpy(np.ascontiguousarray(a[who], dtype=np.float32))
        add = _differences if kind == "difference" else _derivatives
        total += add(f(who), row, causes.astype(np.int64), items.astype(np.int64))
    return total / max(len(users), 1)


def _derivatives(f: RowFunction, row: Tensor, causes: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(J, I) derivatives summed over users: one backward pass an item gives those for all causes."""
    row = row.requires_grad_()
    answer, out = f(row), np.empty((len(causes), len(items)))
    for place, i in enumerate(items):
        (slope,) = torch.autograd.grad(answer[:, i].sum(), row, retain_graph=True)
        out[:, place] = slope.sum(0, dtype=torch.float64).numpy()[causes]
    return out


@torch.no_grad()
def _differences(f: RowFunction, row: Tensor, causes: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(J, I) differences summed over users."""
    out = np.empty((len(causes), len(items)))
    for place, j in enumerate(causes):
        one, zero = row.clone(), row.clone()
        one[:, j], zero[:, j] = 1.0, 0.0
        out[place] = (f(one) - f(zero)).sum(0, dtype=torch.float64).numpy()[items]
    return out


# ---------------------------------------------------------------------- a network with a Gaussian likelihood
def fit_network(
    a: np.ndarray,
    r: np.ndarray,
    given: np.ndarray,
    *,
    hidden: tuple[int, ...] = (100,),
    activation: Literal["tanh", "relu"] = "tanh",
    epochs: int = 60,
    lr: float = 3e-3,
    l2: float = 0.0,
    batch: int = 200,
    seed: int = 0,
) -> nn.Module:
    """{I + K + F -> hidden -> I} by least squares on all outcomes (paper 1, Eq. 7, with a Gaussian likelihood).

    Inputs are [a, given], a (n, I) unscaled and given (n, p) = z and x standardised; r is (n, I).
    """
    sizes = [a.shape[1] + given.shape[1], *hidden]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed_sequence(seed, "effects/network").generate_state(1)[0]))
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), nn.Tanh() if activation == "tanh" else nn.ReLU()]
        last = nn.Linear(sizes[-1], r.shape[1])
        net = nn.Sequential(*layers, last)
    with torch.no_grad():
        last.bias.copy_(torch.from_numpy(r.mean(0).astype(np.float32)))
    inputs = torch.from_numpy(np.column_stack([a, given]).astype(np.float32))
    target = torch.from_numpy(r.astype(np.float32))
    adam = torch.optim.Adam(net.parameters(), lr=lr, weight_decay=l2)
    steps = epochs * max(1, len(a) // batch)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    generator, done = torch_generator(seed, "effects/batches"), 0
    while done < steps:
        order = torch.randperm(len(inputs), generator=generator)
        for rows in order.split(batch)[: steps - done]:
            if len(rows) < batch and len(inputs) >= batch:
                continue
            loss = (net(inputs[rows]) - target[rows]).square().mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            decay.step()
            done += 1
    return net.eval()


def network_function(net: nn.Module, given: np.ndarray) -> OutcomeFunction:
    """The function of a network of `fit_network`; given is (n, p)."""
    extra = torch.from_numpy(given.astype(np.float32))

    def f(users: np.ndarray) -> RowFunction:
        own = extra[torch.from_numpy(users.astype(np.int64))]
        return lambda a: torch.as_tensor(net(torch.cat([a, own], 1)))

    return f


# ---------------------------------------------------------------------- the network of a fitted method
def method_function(
    model: RowEstimator, *, output: str = "logit", frozen: bool = True, zero: bool = False
) -> OutcomeFunction:
    """The function of a fitted method over user rows: item logits, or their softmax; z and x are the users'.

    Parameters
    ----------
    output: "logit" (centred over items: a softmax does not change with a user's constant) or "probability".
    frozen: hold each row's scale 1 / ||a|| at the user's own; False lets it follow a.
    zero: z = 0 and x = 0, and the scale of the mean user: the paper's point of expansion.

    Raises
    ------
    DataError: the method's network is not one of paper 1's.
    """
    nets: dict[str, Any] = dict(model.nets_.items())
    net = nets.get("outcome")
    first: Any = getattr(net, "first", None)
    if net is None or not isinstance(first, SparseLinear):
        raise DataError(
            f"effects of {type(model).__name__} needs an outcome network over exposures (concat-vae, deep-deconf); it "
            "has none. Pass outcomes= to estimate effects by regression."
        )
    scale = np.sqrt(1.0 / np.maximum(np.diff(model.rows_.indptr), 1)).astype(np.float32)

    def f(users: np.ndarray) -> RowFunction:
        rows, _ = user_rows(model.rows_, users.astype(np.int64))
        z, x = model.z(rows) if isinstance(model, OutcomeEstimator) else None, rows.x
        if zero:
            z, x = (None if t is None else torch.zeros_like(t) for t in (z, x))
        own = torch.from_numpy(np.full(len(users), scale.mean(), np.float32) if zero else scale[users])
        dense = [t for t in (x, None if net.late else z) if t is not None]
        extra = torch.cat(dense, 1) @ first.dense if first.dense is not None else 0.0

        def of_rows(a: Tensor) -> Tensor:
            size = own if frozen else a.detach().sum(1).clamp_min(1).rsqrt()
            h = (a * size[:, None]) @ first.items + extra + first.bias
            with _instead(net, h):  # everything behind the first layer is the network's own code
                logits = net(rows, x, z)[0]
            return (
                torch.softmax(logits, 1) if output == "probability" else logits - logits.mean(1, keepdim=True)
            )

        return of_rows

    model.nets_.eval()
    return f


@contextmanager
def _instead(net: Any, h: Tensor) -> Iterator[None]:
    """The network's first layer answers h; a spread of its code, which an answer does not use, answers zeros."""
    net.first.forward = lambda *_: h
    spread: Any = net.log_std if isinstance(net.log_std, SparseLinear) else None
    if spread is not None:
        spread.forward = lambda *_: torch.zeros_like(h)
    try:
        yield
    finally:
        for layer in (net.first, spread):
            if layer is not None:
                del layer.forward
