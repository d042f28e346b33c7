"""Deep-Deconf: a deep outcome network that adjusts for substitute confounders.

Idea. A factor model of exposures gives z_u, which stands in for confounders of several items; ratings given exposures,
z and user features are then predicted as in a randomised experiment.

Risk (paper 1, Eq. 1, 2, 7 and Algorithm 1).
    stage 1   z_u = mean of q(z | a_u) of the exposure model (`exposure`), held fixed
    stage 2   -(1/|U|) sum_u [ sum_i r_ui log softmax(f(a_u, z_u, x_u))_i ] + beta KL
    f      `outcome`, {I + F + K -> K -> I}, z_u at the input
    r_ui   the rating as a count, on exposed items           KL   of the code, where `variational`

Needs.      a biased log of ratings; features help.
Assumes.    exposure tells of taste; no confounder of a single item; every pair could have been exposed given z: where
            exposure is a function of the confounder, z improves the estimate of what is shown to whom, and does not
            remove the bias. No data of this method can tell.
Limits.     a constant z: Concat-VAE.
Deviations. 1. to 3. as in Concat-VAE. 4. Default: the paper's structure, z at the network's input; `late=True` with
            `variational=True` is the released form, z at the decoder. 5. z of validation users comes from the rows
            that the model is given (the released script uses held-out rows too).
Paper.      [Zhu2024]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deconrec.base import ExposureModel, Spec, Tags
from deconrec.errors import ParameterError
from deconrec.exposure import EXPOSURE_MODELS, VAEExposure
from deconrec.methods.concat_vae import check_layers, elbo_terms, outcome_net
from deconrec.pairs import Batch, Rows
from deconrec.parameters import Search, nuisance, parameter
from deconrec.torch_estimator import RowEstimator
from deconrec.training.program import Nets, Phase, Program, Step, Terms


@dataclass(kw_only=True, eq=False, repr=False)
class DeepDeconf(RowEstimator):
    """A deep outcome network with substitute confounders."""

    paper = "Zhu2024"
    title = "Deep deconfounded recommender"

    exposure: ExposureModel = nuisance(VAEExposure, "exposure model, fitted first", EXPOSURE_MODELS)
    late: bool = parameter(False, "z joins at the decoder (released) instead of the input (paper)")
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

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        exposure_: ExposureModel

    @property
    def tags(self) -> Tags:
        """Uses user features where there are some."""
        return Tags(uses_features=True, shape="rows", uses_rating=True)

    def check_params(self) -> None:
        """Ranges, and that a confounder which joins at the decoder has a decoder to join."""
        super().check_params()
        check_layers(self)
        if self.late and not self.hidden:
            raise ParameterError(
                "'hidden' of DeepDeconf must name a hidden layer when late=True (a single linear map has no decoder "
                f"that z could join); got {self.hidden!r}."
            )

    def nets(self, spec: Spec) -> Nets:
        """The outcome network."""
        return Nets(outcome=outcome_net(self, spec, self.exposure.dim, self.late))

    def program(self) -> Program:
        """One step over user rows."""
        return [Phase(Step(self.elbo, updates=("outcome",)))]

    def logits(self, nets: Nets, rows: Rows) -> Tensor:
        """(B, n_items)."""
        return nets.outcome(rows, rows.x, self.z(rows))[0]

    def z(self, rows: Rows) -> Tensor:
        """(B, K) substitute confounders."""
        return self.exposure_.confounder(rows)

    def elbo(self, nets: Nets, b: Batch) -> Terms:
        """The negative evidence lower bound, a user."""
        assert b.rows is not None
        logits, kl = nets.outcome(b.rows, b.rows.x, self.z(b.rows))
        return elbo_terms(logits, kl, b, self.kl, self.anneal)

    def substitute_confounder(self, users: object = None) -> object:
        """(n, K) z of training users (raw ids; None = all), in the order given."""
        import numpy as np

        from deconrec.data.ids import as_series
        from deconrec.training.samplers import user_rows

        self._check_fitted()
        raw = self.users_.values if users is None else as_series(users)
        code = self.users_.encode(raw)
        self._refuse_unknown(raw, code < 0, None, None)
        with torch.no_grad():
            rows, _ = user_rows(self.rows_, code.astype(np.int64))
            return self.z(rows).cpu().numpy()
