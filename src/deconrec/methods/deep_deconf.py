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
            permuted: z of somebody else, a control.
Deviations. 1. to 5. as in Concat-VAE. 6. Default: the paper's structure, z at the network's input; `late=True` with
            `variational=True` is the released form, z at the decoder. 7. z of validation users comes from the rows
            that the model is given; `leak` infers it from held-out rows too, as the released script does, so that
            the epoch is chosen by knowing the answers. 8. z at the input is dropped out as exposures are (the paper
            does not say; released: not, at the decoder): whole, it gives the dropped exposures back, and validation is
            best after 5 epochs. 9. The exposure model's own: see its page.
Paper.      [Zhu2024]
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from deconrec.base import ExposureModel, Spec
from deconrec.data.dataset import Dataset
from deconrec.data.split import ValidationPart
from deconrec.errors import ParameterError
from deconrec.exposure import EXPOSURE_MODELS, VAEExposure
from deconrec.exposure.substitutes import BLOCK, substitutes
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
    permuted: bool = parameter(
        False,
        "give every user the confounders of another: a control that keeps all but what they say of their user",
        later=True,
    )

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        exposure_: ExposureModel
        others_: Tensor

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
        """(B, K) substitute confounders; permuted, those of a training user whom the row's exposures draw."""
        if not self.permuted:
            return self.exposure_.confounder(rows)
        exposed = np.split(rows.item.cpu().numpy(), rows.offset[1:-1].cpu().numpy())
        drawn = [zlib.crc32(np.sort(items).tobytes()) % len(self.others_) for items in exposed]
        return self.others_[torch.tensor(drawn, device=self.others_.device)]

    def _source(self, data: Dataset) -> Source:
        if self.permuted:
            z = substitutes(self.exposure_, data, self.tables(data))
            self.others_ = torch.from_numpy(z).to(self.device)
        return super()._source(data)

    def _state(self) -> dict[str, np.ndarray]:
        return super()._state() | ({"others": self.others_.cpu().numpy()} if self.permuted else {})

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        super()._restore(state)
        if self.permuted:
            self.others_ = torch.from_numpy(np.array(state["others"])).to(self.device)

    def elbo(self, nets: Nets, b: Batch) -> Terms:
        """The negative evidence lower bound, a user."""
        assert b.rows is not None
        h, kl = nets.outcome.code(b.rows, b.rows.x, self.fixed_z(b.rows))
        likelihood = decoded_multinomial(h, nets.outcome.out, b.rows, b.rows.rating, self.precision)
        return negative_bound(b.rows, likelihood, kl, annealed(b.epoch, self.anneal, self.kl))

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
        source = self.rows_ if folded is None else Source.of(folded, self.tables(folded), self.device)
        with torch.no_grad():
            parts = [code[start : start + BLOCK] for start in range(0, max(len(code), 1), BLOCK)]
            return np.asarray(torch.cat([self.z(user_rows(source, p)[0]) for p in parts]).cpu().numpy())
