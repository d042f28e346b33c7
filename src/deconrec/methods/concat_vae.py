"""Concat-VAE: the outcome network of Deep-Deconf without its exposure model.

Idea. Predict a user's ratings from exposures and features by one network; no confounder is adjusted for. The
control that shows what the substitute confounder adds. Two ways to plug one in: with a `deconfounder` the network is
given z of an exposure model; with a `branch` its own code must generate the exposures, each on its own, and is to be z.

Risk (paper 1, Eq. 2 and Algorithm 1).   -(1/|U|) sum_u [ sum_i r_ui log softmax(f(a_u, x_u))_i ] + beta KL
    and, with a branch (conclusion),     -(eta/|U|) sum_u sum_i [ a_ui log s_i + (1 - a_ui) log(1 - s_i) ]
    f      `outcome`, {I + F -> K -> I}, a_u scaled to length 1, x_u standardised on training users
    r_ui   the rating as a count, on exposed items           KL   of the code, where `variational`
    omega  `feature_weight`: answers are ranked by f(a, 0, z) + omega (f(a, x, z) - f(a, 0, z)); 1 = f itself
    s      sigma(g(h_u)), g linear (`exposure`), h_u the last hidden layer of f            eta  `branch`

Needs.      a biased log of ratings; features help.
Assumes.    exposure tells of taste: users exposed alike rate alike; no hidden confounding given exposures and features.
Limits.     beta = 0 and not variational: a plain autoencoder over exposures and features. With a `deconfounder`:
            Deep-Deconf with that exposure model, exactly.
Deviations. 1. Ratings as counts, as released. 2. x is standardised and enters beside the scaled exposures (released:
            scaled together with them, so that noisy features drown the exposures). 3. Scores become expected outcomes
            by a monotone logistic map fitted on training exposures; ranks are the network's. 4. Products of the
            decoder in bfloat16 where the processor has it (`precision`); answers are computed in single precision.
            5. `feature_weight` is ours: exposures show taste as far as the recommender followed it, features show the
            rest, and training on exposures need not weigh them as ratings would; None = the weight whose scores follow
            ratings within users, over held-out exposures (within one standard error of the best, the nearest to 1).
            6. The branch: the paper names it and gives no formula; a linear decoder of the last hidden layer.
Paper.      [Zhu2024] section 5.4.1; [Liang2018]
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from deconrec.base import ExposureModel, Spec, Tags
from deconrec.data.dataset import Dataset
from deconrec.data.split import ValidationPart
from deconrec.errors import ParameterError
from deconrec.exposure import EXPOSURE_MODELS, PredictiveCheck, predictive_check
from deconrec.exposure.vae import popularity_logit
from deconrec.kernels.decoder import PRECISIONS, decoded_bernoulli, decoded_multinomial
from deconrec.losses.elbo import annealed, negative_bound
from deconrec.nn.vae import OutcomeNet, decoder
from deconrec.pairs import Batch, Rows
from deconrec.parameters import Search, nuisance, parameter
from deconrec.torch_estimator import RowEstimator
from deconrec.training.features import weight_within_exposure
from deconrec.training.program import Nets, Phase, Program, Step, Terms
from deconrec.training.samplers import Source, user_rows

DECONFOUNDERS = {"none": None, **EXPOSURE_MODELS}  # of a branch that may be left out


@dataclass(kw_only=True, eq=False, repr=False)
class OutcomeEstimator(RowEstimator):
    """A row method with a net `outcome`: ratings from exposures, features and, where there is a model of them,
    substitute confounders z_u, which are held fixed.
    """

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        branch_check_: PredictiveCheck | None
        feature_weight_: float

    CONFOUNDER: ClassVar[str] = "deconfounder"  # the field that holds the model of z, or None

    hidden: tuple[int, ...] = parameter(
        (100,), "widths of the hidden layers (paper 1: 0 to 2 of them)", low=1
    )
    variational: bool = parameter(
        False, "the last hidden layer is a Gaussian code with a KL term (as released)"
    )
    kl: float = parameter(
        0.2, "largest weight beta of the code's KL term", low=0, search=Search(0.01, 1.0, log=True)
    )
    anneal: float = parameter(80.0, "epochs over which the KL weight grows from 0", low=0)
    dropout: float = parameter(
        0.5,
        "share of a user's exposures, and of confounders beside them, dropped from the input in training",
        low=0,
        below=1,
        search=Search(0.0, 0.8),
    )
    activation: str = parameter("tanh", "between layers", choices=("tanh", "relu"))
    precision: str = parameter(
        "auto",
        "of matrix products in training; auto = bfloat16 where the processor has it and the decoder is large",
        choices=PRECISIONS,
    )
    features: bool = parameter(True, "read user features where there are some", later=True)
    feature_weight: float | None = parameter(
        1.0,
        "weight omega of what features add to the logits, in answers; None = chosen within held-out exposures",
        low=0,
        later=True,
    )
    lr: float = parameter(3e-3, "learning rate of Adam", above=0, search=Search(3e-4, 1e-2, log=True))
    l2: float = parameter(0.0, "weight of (1/2)||theta||^2", low=0)
    epochs: int = parameter(80, "most passes over the users", low=0)
    batch: int = parameter(200, "users in a step", low=1)

    @property
    def tags(self) -> Tags:
        """Uses user features where there are some."""
        return Tags(uses_features=self.features, shape="rows", uses_rating=True)

    @property
    def inert(self) -> frozenset[str]:
        """Without a code there is no KL term."""
        return frozenset() if self.variational else frozenset({"kl", "anneal"})

    def check_params(self) -> None:
        """Ranges, and layers that make a network."""
        super().check_params()
        if self.variational and not self.hidden:
            raise ParameterError(
                f"'hidden' of {type(self).__name__} must name a layer when variational=True (the last one is the "
                f"code); got {self.hidden!r}."
            )

    def outcome_net(self, spec: Spec, late: bool = False) -> OutcomeNet:
        """f(a, x, z); without a model of z, f(a, x)."""
        bias = None
        if spec.item_rate is not None:
            # A softmax is shift-invariant: log popularity, so that the first epochs need not learn it.
            bias = torch.from_numpy(spec.item_rate * spec.n_users + 0.5).log().float()
        # The fitted one, where there is one: a known confounder is as wide as its data.
        model: ExposureModel | None = self.exposure_model or getattr(self, self.CONFOUNDER)
        return OutcomeNet(
            spec.n_items,
            spec.n_user_features if self.features else 0,
            0 if model is None else model.dim,
            self.hidden,
            dropout=self.dropout,
            activation=self.activation,
            variational=self.variational,
            late=late,
            bias=bias,
        )

    def branch_net(self, spec: Spec, weight: float) -> dict[str, nn.Module]:
        """The branch's decoder `exposure`, h -> exposure logits; none where its weight is 0."""
        if not weight:
            return {}
        return {"exposure": decoder(self.hidden[-1], spec.n_items, popularity_logit(spec))}

    @property
    def exposure_model(self) -> ExposureModel | None:
        """The fitted model of z."""
        return getattr(self, f"{self.CONFOUNDER}_", None)

    def z(self, rows: Rows) -> Tensor | None:
        """(B, K) substitute confounders of any users, from their exposures; None without a model of them."""
        model = self.exposure_model
        return None if model is None else model.confounder(rows)

    def logits(self, nets: Nets, rows: Rows) -> Tensor:
        """(B, n_items); what features add to them, f(a, x, z) - f(a, 0, z), has the weight `feature_weight_`."""
        if rows.x is None or self.feature_weight_ == 1.0:
            whole: Tensor = nets.outcome(rows, rows.x, self.z(rows))[0]
            return whole
        own, felt = self._own_and_felt(nets, rows)
        return own + self.feature_weight_ * felt

    def _own_and_felt(self, nets: Nets, rows: Rows) -> tuple[Tensor, Tensor]:
        """(f(a, 0, z), f(a, x, z) - f(a, 0, z)), each (B, n_items)."""
        assert rows.x is not None
        z = self.z(rows)
        own: Tensor = nets.outcome(rows, torch.zeros_like(rows.x), z)[0]
        return own, nets.outcome(rows, rows.x, z)[0] - own

    def fixed_z(self, rows: Rows) -> Tensor | None:
        """(B, K) confounders of training users: as inferred before training, where that is under way."""
        table: Tensor | None = self.__dict__.get("confounders_")
        return self.z(rows) if table is None else table[rows.user]

    # ------------------------------------------------------------------ fitting
    def _source(self, data: Dataset) -> Source:
        source = super()._source(data)
        self.feature_weight_ = 1.0  # while training
        parts = np.array_split(np.arange(data.n_users), math.ceil(data.n_users / 1024))
        z = [t for users in parts if (t := self.z(user_rows(source, users)[0])) is not None]
        if z:  # inferred once, not in every step; nobody needs the table after training
            self.confounders_ = torch.cat(z)
        return source

    def _fit(self, data: Dataset, validation: ValidationPart, progress: bool) -> None:
        try:
            super()._fit(data, validation, progress)
        finally:
            self.__dict__.pop("confounders_", None)
        if self.feature_weight != 1.0:
            self.feature_weight_ = self._weight_of_features(validation)
            self._calibrate()
        self.branch_check_ = None
        if self.branched:
            new = validation.history is not None
            whom = data if validation.history is None else validation.history
            self.branch_check_ = predictive_check(
                Branch(self), whom, new_users=new, seed=self.seed, tables=self.tables
            )

    @torch.no_grad()
    def _weight_of_features(self, validation: ValidationPart) -> float:
        """omega: as given or, among held-out exposures, the one whose scores follow ratings within users."""
        log, history = validation.data.biased, validation.history
        if self.feature_weight is not None:
            return float(self.feature_weight)
        source = self.rows_ if history is None else Source.of(history, self.tables(history), self.device)
        if source.tables.user is None or not len(log):
            return 1.0
        self.nets_.eval()
        own, felt = np.empty(len(log), np.float32), np.empty(len(log), np.float32)
        for users in np.array_split(np.arange(source.shape[0]), math.ceil(source.shape[0] / 1024)):
            at = np.flatnonzero((log.user >= users[0]) & (log.user <= users[-1]))
            both = self._own_and_felt(self.nets_, user_rows(source, users)[0])
            place = log.user[at] - users[0], log.item[at]
            own[at], felt[at] = (part.cpu().numpy()[place] for part in both)
        return weight_within_exposure(own, felt, log.rating, log.user)

    @property
    def branched(self) -> bool:
        """Whether the last hidden layer is decoded into exposures: it then is the substitute confounder."""
        return "exposure" in self.nets_

    # ------------------------------------------------------------------ saving
    def _state(self) -> dict[str, np.ndarray]:
        state = super()._state() | {"feature_weight": np.array([self.feature_weight_])}
        return state | ({} if self.branch_check_ is None else self.branch_check_._state())

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        super()._restore(state)
        self.feature_weight_ = float(state.get("feature_weight", [1.0])[0])  # models of before had none
        self.branch_check_ = PredictiveCheck._restored(state)


@dataclass(frozen=True)
class Branch:
    """A fitted method's branch as a model of exposures: its code h_u is what z_u is to others, and has no posterior."""

    model: OutcomeEstimator

    @torch.no_grad()
    def confounder(self, rows: Rows) -> Tensor:
        """(B, K) h_u."""
        self.model.nets_.eval()
        h: Tensor = self.model.nets_.outcome.code(rows, rows.x, self.model.z(rows))[0]
        return h

    @torch.no_grad()
    def posterior_logits(
        self, rows: Rows, held: np.ndarray, draws: int, rng: np.random.Generator
    ) -> np.ndarray:
        """(draws, B, J) logits of exposure to the items `held`, all draws alike."""
        rows = rows.to(self.model.device)
        logits = self.model.nets_.exposure(self.confounder(rows))[:, torch.as_tensor(held)]
        return np.broadcast_to(logits.cpu().numpy(), (draws, *logits.shape))


@dataclass(kw_only=True, eq=False, repr=False)
class ConcatVAE(OutcomeEstimator):
    """An autoencoder of ratings over exposures and features."""

    paper = "Zhu2024"
    title = "VAE on exposures and features"

    deconfounder: ExposureModel | None = nuisance(
        lambda: None, "exposure model whose confounders the network is given too, fitted first", DECONFOUNDERS
    )
    branch: float = parameter(
        0.0, "weight eta of a branch that decodes the last hidden layer into exposures; 0 = none", low=0
    )

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        deconfounder_: ExposureModel

    def check_params(self) -> None:
        """Ranges, and a layer for the branch to decode."""
        super().check_params()
        check_branch(self, self.branch)

    def nets(self, spec: Spec) -> Nets:
        """The outcome network and, where there is a branch, its decoder."""
        return Nets(outcome=self.outcome_net(spec), **self.branch_net(spec, self.branch))

    def program(self) -> Program:
        """One step over user rows."""
        return [Phase(Step(self.elbo, updates=("outcome", "exposure") if self.branch else ("outcome",)))]

    def elbo(self, nets: Nets, b: Batch) -> Terms:
        """The negative evidence lower bound, a user, and the branch's."""
        assert b.rows is not None
        h, kl = nets.outcome.code(b.rows, b.rows.x, self.fixed_z(b.rows))
        likelihood = decoded_multinomial(h, nets.outcome.out, b.rows, b.rows.rating, self.precision)
        terms = negative_bound(b.rows, likelihood, kl, annealed(b.epoch, self.anneal, self.kl))
        if self.branch:
            exposures = decoded_bernoulli(h, nets.exposure, b.rows, self.precision)
            terms["exposures"] = -self.branch * b.rows.mean(exposures)
        return terms


def check_branch(model: OutcomeEstimator, weight: float) -> None:
    """Refuse a branch without a hidden layer to decode.

    Raises
    ------
    ParameterError.
    """
    if weight and not model.hidden:
        raise ParameterError(
            f"'hidden' of {type(model).__name__} must name a layer when branch > 0 (it is what the branch decodes); "
            f"got {model.hidden!r}."
        )
