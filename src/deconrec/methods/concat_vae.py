"""Concat-VAE: the outcome network of Deep-Deconf without its exposure model.

Idea. Predict a user's ratings from exposures and features by one network; no confounder is adjusted for. The
control that shows what the substitute confounder adds.

Risk (paper 1, Eq. 2 and Algorithm 1).   -(1/|U|) sum_u [ sum_i r_ui log softmax(f(a_u, x_u))_i ] + beta KL
    f      `outcome`, {I + F -> K -> I}, a_u scaled to length 1, x_u standardised on training users
    r_ui   the rating as a count, on exposed items           KL   of the code, where `variational`

Needs.      a biased log of ratings; features help.
Assumes.    exposure tells of taste: users exposed alike rate alike; no hidden confounding given exposures and features.
Limits.     beta = 0 and not variational: a plain autoencoder over exposures and features.
Deviations. 1. Ratings as counts, as released. 2. x is standardised and enters beside the scaled exposures (released:
            scaled together with them, so that noisy features drown the exposures). 3. Scores become expected outcomes
            by a monotone logistic map fitted on training exposures; ranks are the network's.
Paper.      [Zhu2024] section 5.4.1; [Liang2018]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from deconrec.base import Spec, Tags
from deconrec.errors import ParameterError
from deconrec.losses.elbo import annealed, multinomial_log_likelihood
from deconrec.nn.vae import OutcomeNet
from deconrec.pairs import Batch, Rows
from deconrec.parameters import Search, parameter
from deconrec.torch_estimator import RowEstimator
from deconrec.training.program import Nets, Phase, Program, Step, Terms


@dataclass(kw_only=True, eq=False, repr=False)
class ConcatVAE(RowEstimator):
    """An autoencoder of ratings over exposures and features."""

    paper = "Zhu2024"
    title = "VAE on exposures and features"

    hidden: tuple[int, ...] = parameter((100,), "widths of the hidden layers, 0 to 2 of them", low=1)
    variational: bool = parameter(
        False, "the last hidden layer is a Gaussian code with a KL term (as released)"
    )
    kl: float = parameter(
        0.2, "largest weight beta of the code's KL term", low=0, search=Search(0.01, 1.0, log=True)
    )
    anneal: float = parameter(80.0, "epochs over which the KL weight grows from 0", low=0)
    dropout: float = parameter(
        0.5, "share of a user's exposures dropped from the input in training", low=0, below=1
    )
    activation: str = parameter("tanh", "between layers", choices=("tanh", "relu"))
    lr: float = parameter(1e-3, "learning rate of Adam", above=0, search=Search(3e-4, 1e-2, log=True))
    l2: float = parameter(0.0, "weight of (1/2)||theta||^2", low=0)
    epochs: int = parameter(80, "most passes over the users", low=0)
    batch: int = parameter(200, "users in a step", low=1)

    @property
    def tags(self) -> Tags:
        """Uses user features where there are some."""
        return Tags(uses_features=True, shape="rows", uses_rating=True)

    def check_params(self) -> None:
        """Ranges, and layers that make a network."""
        super().check_params()
        check_layers(self)

    def nets(self, spec: Spec) -> Nets:
        """The outcome network."""
        return Nets(outcome=outcome_net(self, spec, 0))

    def program(self) -> Program:
        """One step over user rows."""
        return [Phase(Step(self.elbo, updates=("outcome",)))]

    def logits(self, nets: Nets, rows: Rows) -> Tensor:
        """(B, n_items)."""
        return nets.outcome(rows, rows.x, None)[0]

    def elbo(self, nets: Nets, b: Batch) -> Terms:
        """The negative evidence lower bound, a user."""
        assert b.rows is not None
        logits, kl = nets.outcome(b.rows, b.rows.x, None)
        return elbo_terms(logits, kl, b, self.kl, self.anneal)


class OutcomeParameters(Protocol):
    """The parameters that shape an outcome network."""

    hidden: tuple[int, ...]
    variational: bool
    dropout: float
    activation: str


def check_layers(model: OutcomeParameters) -> None:
    """Refuse widths that are no widths, and a code without a layer to be.

    Raises
    ------
    ParameterError.
    """
    who = type(model).__name__
    if any(not isinstance(w, int) or w < 1 for w in model.hidden):
        raise ParameterError(f"'hidden' of {who} must be whole numbers >= 1; got {model.hidden!r}.")
    if model.variational and not model.hidden:
        raise ParameterError(
            f"'hidden' of {who} must name a layer when variational=True (the last one is the code); got "
            f"{model.hidden!r}."
        )


def outcome_net(model: OutcomeParameters, spec: Spec, n_confounder: int, late: bool = False) -> OutcomeNet:
    """f(a, x, z) with the parameters of a row method; n_confounder = 0: no z."""
    bias = None
    if spec.item_rate is not None:
        # A softmax is shift-invariant: log popularity, so that the first epochs need not learn it.
        bias = torch.from_numpy(spec.item_rate * spec.n_users + 0.5).log().float()
    return OutcomeNet(
        spec.n_items,
        spec.n_user_features,
        n_confounder,
        model.hidden,
        dropout=model.dropout,
        activation=model.activation,
        variational=model.variational,
        late=late,
        bias=bias,
    )


def elbo_terms(logits: Tensor, kl: Tensor | None, b: Batch, cap: float, anneal: float) -> Terms:
    """Negative log-likelihood of the ratings as counts, and the weighted KL of the code, each a mean over users."""
    assert b.rows is not None
    terms = {"outcome": -multinomial_log_likelihood(logits, b.rows, b.rows.rating).mean()}
    return terms if kl is None else terms | {"kl": annealed(b.epoch, anneal, cap) * kl.mean()}
