"""Every loss and its gradients are finite: logits in +-60, propensities down to 1e-12, no rows, a single class."""

from __future__ import annotations

import importlib
import inspect
import itertools
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from deconrec import losses
from deconrec.losses import elbo, elementwise, reweighted
from deconrec.pairs import Pairs, Rows

LOGITS = torch.tensor([-60.0, -30.0, -8.0, -1e-3, 0.0, 1e-3, 8.0, 30.0, 60.0])
PROPENSITIES = torch.tensor([1e-12, 1e-6, 0.1, 1.0])
LABELS = {"both classes": None, "all 0": 0.0, "all 1": 1.0, "all one half": 0.5}


@dataclass(frozen=True)
class Case:
    """Rows in every combination of logits, labels and propensities.

    Attributes
    ----------
    logit, other: (n,) leaves that need a gradient.  label: (n,).  p: (n,) propensities.
    o, d: a sample of O and one of D, of these n rows.
    rows: n_users whole rows of the items; logits is (n_users, n_items), a leaf.
    """

    logit: Tensor
    other: Tensor
    label: Tensor
    p: Tensor
    o: Pairs
    d: Pairs
    rows: Rows
    logits: Tensor

    @property
    def e(self) -> Tensor:
        return elementwise.cross_entropy(self.logit, self.label)

    @property
    def e_hat(self) -> Tensor:
        return elementwise.squared(self.other, self.label)

    @property
    def w(self) -> Tensor:
        return 1 / self.p


def case(label: float | None, empty: bool) -> Case:
    labels = [0.0, 1.0, 0.3] if label is None else [label]
    grid = (
        []
        if empty
        else list(itertools.product(LOGITS.tolist(), LOGITS.tolist(), labels, PROPENSITIES.tolist()))
    )
    logit, other, r, p = torch.tensor(grid).reshape(-1, 4).T.clone()
    n, n_users, n_items = len(r), 0 if empty else 3, len(LOGITS)
    index = torch.zeros(n, dtype=torch.int64)
    o = Pairs(index, index, torch.ones(n), r, mass=0.0 if empty else 0.25, share=0.25)
    d = Pairs(index, index, torch.arange(n) % 2 * 1.0, r)
    # A user who saw all items, one who saw none, one who saw the last.
    item = torch.cat([torch.arange(n_items), torch.tensor([n_items - 1])])[: 0 if empty else None]
    offset = torch.tensor([0] if empty else [0, n_items, n_items, n_items + 1])
    outcome = torch.full((len(item),), 1.0 if label is None else label)
    rows = Rows(torch.arange(n_users), item, offset, outcome, outcome, None, n_items)
    logits = torch.stack([LOGITS, LOGITS.flip(0), LOGITS])[:n_users].clone()
    return Case(logit.requires_grad_(), other.requires_grad_(), r, p, o, d, rows, logits.requires_grad_())


# A row for each public function of deconrec.losses: what it gives for a case.
TABLE: Mapping[Callable[..., Any], Callable[[Case], Any]] = {
    elementwise.cross_entropy: lambda c: (
        elementwise.cross_entropy(c.logit, c.label),
        elementwise.cross_entropy(c.logit, torch.sigmoid(c.other)),  # a soft label that learns
    ),
    elementwise.squared: lambda c: elementwise.squared(c.logit, c.label),
    elementwise.error: lambda c: [
        elementwise.error(k, c.logit, c.label) for k in ("cross-entropy", "squared")
    ],
    elementwise.product_cross_entropy: lambda c: elementwise.product_cross_entropy(c.logit, c.other, c.label),
    elementwise.product_error: lambda c: [
        elementwise.product_error(k, c.logit, c.other, c.label) for k in ("cross-entropy", "squared")
    ],
    reweighted.ips: lambda c: reweighted.ips(c.o, c.e, c.w),
    reweighted.snips: lambda c: reweighted.snips(c.o, c.e, c.w),
    reweighted.eib: lambda c: reweighted.eib(c.o, c.d, c.e, c.e_hat),
    reweighted.dr: lambda c: reweighted.dr(c.o, c.d, c.e, c.e_hat, c.e_hat, c.w),
    reweighted.imputation: lambda c: (
        reweighted.imputation(c.o, c.e, c.e_hat, c.w),
        reweighted.imputation(c.o, c.e, c.e_hat),
    ),
    elbo.bernoulli_log_likelihood: lambda c: elbo.bernoulli_log_likelihood(c.logits, c.rows),
    elbo.multinomial_log_likelihood: lambda c: elbo.multinomial_log_likelihood(
        c.logits, c.rows, 5 * torch.ones_like(c.rows.r)
    ),
    elbo.negative_bound: lambda c: (
        elbo.negative_bound(c.rows, c.logits.sum(1), c.logits.sum(1) ** 2, 0.2),
        elbo.negative_bound(c.rows, c.logits.sum(1), None, 0.2, 1e12 * torch.ones(len(c.rows))),
    ),
    elbo.annealed: lambda c: [torch.tensor(elbo.annealed(e, over, 0.2)) for e in (0, 3) for over in (0, 5)],
}


def tensors(found: Any) -> list[Tensor]:
    """Every tensor of what a function gave."""
    if isinstance(found, Tensor):
        return [found]
    return [t for part in (found.values() if isinstance(found, Mapping) else found) for t in tensors(part)]


def test_every_loss_has_a_row() -> None:
    public = {
        f"{module.name}.{name}"
        for module in pkgutil.iter_modules(losses.__path__)
        for name, thing in vars(importlib.import_module(f"deconrec.losses.{module.name}")).items()
        if inspect.isfunction(thing)
        and thing.__module__ == f"deconrec.losses.{module.name}"
        and name[0] != "_"
    }
    assert public == {f"{f.__module__.rpartition('.')[2]}.{f.__name__}" for f in TABLE}


@pytest.mark.parametrize("empty", [False, True], ids=["rows", "no rows"])
@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("loss", TABLE, ids=lambda f: f.__name__)
def test_finite_with_finite_gradients(loss: Callable[..., Any], label: float | None, empty: bool) -> None:
    given = case(label, empty)
    found = tensors(TABLE[loss](given))
    for value in found:
        assert torch.isfinite(value).all()
    leaves = [given.logit, given.other, given.logits]
    total = sum((v.sum() for v in found), torch.zeros(())) + sum(0 * leaf.sum() for leaf in leaves)
    for gradient in torch.autograd.grad(total, leaves):
        assert torch.isfinite(gradient).all()
    if empty:
        assert float(total.detach()) == 0 or loss is elbo.annealed
