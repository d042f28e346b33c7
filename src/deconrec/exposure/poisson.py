"""The exposure model of the deconfounded recommender: Poisson factorisation, fitted by coordinate ascent.

Idea.   If theta_u renders exposures independent, no confounder of several items is left out; the reconstructed
exposure a_hat_ui = E[theta_u] . E[beta_i] stands in for the confounder ([Wang2020], section 3).

Risk.   the evidence lower bound of
            a_ui ~ Poisson(theta_u . beta_i),   theta_uk, beta_ik ~ Gamma(shape a, rate b)
        under factorised Gamma posteriors. Updates, each the exact maximum:
            phi_uik = exp(E log theta_uk + E log beta_ik), normalised over k
            theta_uk ~ Gamma(a + sum_i a_ui phi_uik,  b + sum_i E beta_ik)        the last sum over all items
            beta_ik  ~ Gamma(a + sum_u a_ui phi_uik,  b + sum_u E theta_uk)

P(a_ui = 1 | theta) is taken as P(Poisson >= 1) = 1 - exp(-theta_u . beta_i): exposures are 0 or 1.

Needs.      exposures only.
Limits.     one factor: a_ui depends on the user's activity and the item's popularity, multiplied.
Deviations. 1. Starts near shape a + 1 and rate b, each by a tenth (published: 100 and 100). 2. Stops when the bound
            rises by less than `tolerance` of itself. 3. A new user's theta is the same update with beta fixed, from the
            rows that a model is given; cells held out by the predictive check are missing, not zero.
Paper.      [Wang2020]; [Gopalan2015]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from deconrec.base import ExposureModel, Spec
from deconrec.data.dataset import Dataset
from deconrec.exposure.check import PredictiveCheck, predictive_check
from deconrec.kernels.als import Entries
from deconrec.kernels.poisson import TINY, gamma_divergence, gamma_means, shares
from deconrec.pairs import Rows
from deconrec.parameters import Search, parameter
from deconrec.random import numpy_generator

FOLD_IN = 50  # NOTE updates of a new user's factors; after 30 they move by less than 1e-3 of themselves
NEVER = 1e300  # rate of the Gamma posterior of an item whose factors are 0


@dataclass(kw_only=True, eq=False, repr=False)
class PoissonExposure(ExposureModel):
    """Substitute confounders from Poisson factorisation of exposures."""

    dim: int = parameter(50, "number of factors K", low=1, search=Search(2, 200, log=True, whole=True))
    shape: float = parameter(0.3, "shape a of the Gamma priors", above=0, search=Search(0.05, 3, log=True))
    rate: float = parameter(0.3, "rate b of the Gamma priors", above=0, search=Search(0.05, 3, log=True))
    iterations: int = parameter(100, "most rounds of updates", low=1)
    tolerance: float = parameter(1e-5, "relative rise of the bound below which updates stop", low=0)
    check_draws: int = parameter(100, "replications in the predictive check; 0 = no check", low=0)
    seed: int = parameter(0, "draws initial values", low=0)

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        item_shape_: np.ndarray
        item_rate_: np.ndarray
        bound_: np.ndarray
        check_: PredictiveCheck | None

    def fit(self, data: Dataset, validation: Dataset | None = None) -> PoissonExposure:
        """Fit to the exposures of the biased log; `validation` (the rows given for new users) is only checked on."""
        self.check_params()
        n_users, n_items = data.shape
        user, item = data.biased.user, data.biased.item
        by_user, by_item = Entries.of(user, item, n_users), Entries.of(item, user, n_items)
        x = np.ones(len(user), np.float32)
        rng = numpy_generator(self.seed, "exposure")

        def start(n: int) -> tuple[np.ndarray, np.ndarray]:
            near = rng.gamma(100.0, 0.01, (2, n, self.dim))
            return (self.shape + 1.0) * near[0], self.rate * near[1]  # as if after one count

        (u_shape, u_rate), (i_shape, i_rate) = start(n_users), start(n_items)
        bounds: list[float] = []
        for _ in range(self.iterations):
            (u_mean, u_log), (i_mean, i_log) = gamma_means(u_shape, u_rate), gamma_means(i_shape, i_rate)
            to_users, ratio = shares(by_user, u_log, i_log, x)
            to_items, _ = shares(by_item, i_log, u_log, x)
            # x / s is the ratio, so that log s = -log ratio: the bound at the best phi for these factors.
            bound = -float(np.log(np.maximum(ratio, TINY), dtype=np.float64).sum())
            bound -= float(u_mean.sum(0) @ i_mean.sum(0))
            bound -= gamma_divergence(u_shape, u_rate, self.shape, self.rate)
            bound -= gamma_divergence(i_shape, i_rate, self.shape, self.rate)
            bounds.append(bound)
            if len(bounds) > 1 and abs(bounds[-1] - bounds[-2]) <= self.tolerance * abs(bounds[-1]):
                break
            u_shape = self.shape + to_users.astype(np.float64)
            u_rate = np.tile(self.rate + i_mean.sum(0), (n_users, 1))
            i_shape = self.shape + to_items.astype(np.float64)
            i_rate = np.tile(self.rate + (u_shape / u_rate).sum(0), (n_items, 1))
        self.item_shape_, self.item_rate_, self.bound_ = i_shape, i_rate, np.array(bounds)
        self.check_ = None
        if self.check_draws:
            whom = data if validation is None else validation
            self.check_ = predictive_check(
                self, whom, new_users=validation is not None, draws=self.check_draws, seed=self.seed
            )
        return self

    def factors(self, rows: Rows, held: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(shape (B, dim), rate (dim,)) of the posterior of theta given rows; items `held` are missing, not zero."""
        i_mean, i_log = gamma_means(self.item_shape_, self.item_rate_)
        rate = self.rate + i_mean.sum(0) - (0.0 if held is None else i_mean[held].sum(0))
        row, item = rows.row.cpu().numpy(), rows.item.cpu().numpy()
        entries = Entries.of(row, item, len(rows))
        x = np.ones(len(item), np.float32)
        shape = self.shape + np.tile(np.diff(entries.indptr)[:, None] / self.dim, (1, self.dim))
        for _ in range(FOLD_IN):
            _, u_log = gamma_means(shape, rate)
            shape = self.shape + shares(entries, u_log, i_log, x)[0].astype(np.float64)
        return shape, rate

    def confounder(self, rows: Rows) -> Tensor:
        """(B, dim) E[theta_u | a_u]."""
        shape, rate = self.factors(rows)
        return torch.from_numpy((shape / rate).astype(np.float32)).to(rows.item.device)

    def decode(self, z: Tensor) -> Tensor:
        """(B, n_items) a_hat = z . E[beta_i], the expected count of exposures; may exceed 1."""
        item = (self.item_shape_ / self.item_rate_).astype(np.float32)
        return z @ torch.from_numpy(item).to(z.device).T

    def reconstruct(self, rows: Rows) -> Tensor:
        """(B, n_items) P(a_ui = 1 | z_u) = 1 - exp(-a_hat_ui)."""
        return -torch.expm1(-self.decode(self.confounder(rows)))

    def posterior_logits(
        self, rows: Rows, held: np.ndarray, draws: int, rng: np.random.Generator
    ) -> np.ndarray:
        """(draws, B, J) logits of exposure to the items `held`, theta drawn from its posterior given rows."""
        shape, rate = self.factors(rows, held)
        theta = rng.gamma(shape, 1.0 / rate, (draws, *shape.shape))
        mean = theta @ (self.item_shape_ / self.item_rate_)[held].T
        logits: np.ndarray = np.log(np.expm1(np.clip(mean, 1e-12, 500.0)))
        return logits

    def moved(self, code: np.ndarray) -> PoissonExposure:
        """The model over other items; code (n_items,): each one here, or -1 for a new one, which says nothing.

        A new item's rate is known to be 0: its rows belong to no factor.
        """
        out = self.clone()
        known = (code >= 0)[:, None]
        out.item_shape_ = np.where(known, self.item_shape_[code], self.shape)
        out.item_rate_ = np.where(known, self.item_rate_[code], NEVER)
        out.bound_, out.check_ = self.bound_, self.check_
        return out

    def _state(self) -> dict[str, np.ndarray]:
        out = {"item_shape": self.item_shape_, "item_rate": self.item_rate_, "bound": self.bound_}
        return out if self.check_ is None else out | self.check_._state()

    def _restore(self, state: Mapping[str, np.ndarray], spec: Spec) -> None:
        self.item_shape_, self.item_rate_, self.bound_ = (
            np.array(state[name]) for name in ("item_shape", "item_rate", "bound")
        )
        self.check_ = PredictiveCheck._restored(state)
