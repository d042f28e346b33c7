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
Limits.     a constant z: Concat-VAE. late = False: Concat-VAE with this exposure model as its `deconfounder`, exactly.
Deviations. 1. to 4. as in Concat-VAE. 5. Default: the paper's structure, z at the network's input; `late=True` with
            `variational=True` is the released form, z at the decoder. 6. z of validation users comes from the rows
            that the model is given; `leak` infers it from held-out rows too, as the released script does, so that
            the epoch is chosen by knowing the answers. 7. z at the input is dropped out as exposures are (the paper
            does not say; released: not, at the decoder): whole, it gives the dropped exposures back, and validation is
            best after 5 epochs. 8. The exposure model's own: see its page.
Paper.      [Zhu2024]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from deconrec.base import ExposureModel, Spec
from deconrec.data.split import ValidationPart
from deconrec.errors import ParameterError
from deconrec.exposure import EXPOSURE_MODELS, VAEExposure
from deconrec.exposure.substitutes import substitutes
from deconrec.kernels.decoder import decoded_multinomial
from deconrec.losses.elbo import annealed, negative_bound
from deconrec.methods.concat_vae import OutcomeEstimator
from deconrec.pairs import Batch, Rows
from deconrec.parameters import nuisance, parameter
from deconrec.training.program import Nets, Phase, Program, Step, Terms
from deconrec.training.samplers import Source, user_rows


@dataclass(kw_only=True, eq=False, repr=False)
class DeepDeconf(OutcomeEstimator):
    """A deep outcome network with substitute confounders."""

    paper = "Zhu2024"
    title = "Deep deconfounded recommender"
    CONFOUNDER: ClassVar[str] = "exposure"

    exposure: ExposureModel = nuisance(VAEExposure, "exposure model, fitted first", EXPOSURE_MODELS)
    late: bool = parameter(False, "z joins at the decoder (released) instead of the input (paper)")
    leak: bool = parameter(
        False, "infer confounders of validation users from their held-out rows too (as released)"
    )

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        exposure_: ExposureModel

    def check_params(self) -> None:
        """Ranges, and that a confounder which joins at the decoder has a decoder to join."""
        super().check_params()
        if self.late and not self.hidden:
            raise ParameterError(
                "'hidden' of DeepDeconf must name a hidden layer when late=True (a single linear map has no decoder "
                f"that z could join); got {self.hidden!r}."
            )

    def nets(self, spec: Spec) -> Nets:
        """The outcome network."""
        return Nets(outcome=self.outcome_net(spec, self.late))

    def program(self) -> Program:
        """One step over user rows."""
        return [Phase(Step(self.elbo, updates=("outcome",)))]

    def z(self, rows: Rows) -> Tensor:
        """(B, K) substitute confounders."""
        return self.exposure_.confounder(rows)

    def elbo(self, nets: Nets, b: Batch) -> Terms:
        """The negative evidence lower bound, a user."""
        assert b.rows is not None
        h, kl = nets.outcome.code(b.rows, b.rows.x, self.fixed_z(b.rows))
        likelihood = decoded_multinomial(h, nets.outcome.out, b.rows, b.rows.rating, self.precision)
        return negative_bound(likelihood, kl, annealed(b.epoch, self.anneal, self.kl))

    def _validation_scorer(self, validation: ValidationPart) -> Callable[[np.ndarray], np.ndarray]:
        history, held = validation.history, validation.data.biased
        if history is None or not self.leak:
            return super()._validation_scorer(validation)
        joined = history.with_logs(history.biased.joined(held, history.n_items))
        given, both = (Source.of(d, self.tables(history), self.device) for d in (history, joined))

        @torch.no_grad()
        def scores(users: np.ndarray) -> np.ndarray:
            rows, more = user_rows(given, users)[0], user_rows(both, users)[0]
            logits = self.nets_.outcome(rows, rows.x, self.z(more))[0]
            return np.asarray(torch.log_softmax(logits, 1).cpu().numpy())

        return scores

    def substitute_confounder(self, users: object = None, *, history: object = None) -> np.ndarray:
        """(n, K) z of training users, or of those of `history`, from its rows; raw ids, None = all, in the order given.

        Raises
        ------
        UnknownUser.  NotFitted.
        """
        self._check_fitted()
        raw, folded = self._asked(users, history)
        code = (self.users_ if folded is None else folded.users).encode(raw).astype(np.int64)
        self._refuse_unknown(raw, code < 0, None, None)
        if folded is not None:
            return substitutes(self.exposure_, folded)[code]
        with torch.no_grad():
            return np.asarray(self.z(user_rows(self.rows_, code)[0]).cpu().numpy())
