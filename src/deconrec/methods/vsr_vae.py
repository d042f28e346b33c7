"""VSR-VAE: Concat-VAE on users that are weighted so that features no longer foretell exposures.

Idea. Where user features x decide what is shown, ratings of one kind of user are seen under few bundles of exposures.
Weights that make x and the bundle a independent ask what each kind would rate under any bundle. A bundle's propensity
is out of reach, that of its code z is not.

Risk ([Zou2020]; paper 1, section 5.4.1).
    z          a code of the bundle: q(z | a) of the exposure model (`exposure`), fitted first
    `ratio`    d(x, z) tells pairs of independent x_u and z_v from joint ones, z_u ~ q(z | a_u):
               (1/2|U|) sum_u [ -log d(x_u, z_v) - log(1 - d(x_u, z_u)) ],   so that d / (1 - d) = p(x) p(z) / p(x, z)
    w_u        p(a_u) / p(a_u | x_u) = 1 / E_{z ~ q(z | a_u)}[ (1 - d(x_u, z)) / d(x_u, z) ],
               divided by its mean, held in [1 / largest, largest], divided by its mean again
    `outcome`  (1/|U|) sum_u w_u ( - sum_i r_ui log softmax(f(a_u, x_u))_i + beta KL_u ),   see Concat-VAE; so too
               with its `branch`

Needs.      a biased log of ratings and user features; without features every weight is 1.
Assumes.    no hidden confounding: whatever moves exposures and ratings is in x. every pair could have been exposed,
            whatever x. exposure tells of taste.
Limits.     no features, or largest = 1: Concat-VAE, exactly. x independent of a: weights of 1, up to noise. Short
            bundles leave q(z | a) wide, and weights nearer 1 than they should be: x and a stay dependent in part.
Deviations. 1. Independent pairs are x_u with the code of another user of the batch; `independent=prior` takes
            z ~ N(0, I), which also weights users by how far the codes are from the prior. 2. A user's weight comes from
            a classifier that was not trained on that user (`folds`): one that was knows its pairs by heart. 3. Weights
            are bounded. 4. The classifier has a product of x and z beside its network. 5. Sizes, draws, bounds and
            rates are ours. 6. Those of Concat-VAE and of the exposure model.
Note.       Where the network can be right for every (a, x) it is so without weights too: weights say where it should be
            right, and cost variance.
Paper.      [Zou2020]; [Zhu2024] section 5.4.1
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from deconrec.base import ExposureModel, Spec
from deconrec.data.dataset import Dataset
from deconrec.data.split import ValidationPart
from deconrec.errors import OverlapWarning
from deconrec.exposure import VAEExposure
from deconrec.kernels.decoder import decoded_bernoulli, decoded_multinomial
from deconrec.losses.elbo import annealed, negative_bound
from deconrec.methods.concat_vae import DECONFOUNDERS, OutcomeEstimator, check_branch
from deconrec.nn.density_ratio import DensityRatio
from deconrec.pairs import Batch, Rows
from deconrec.parameters import Search, nuisance, parameter
from deconrec.random import torch_generator
from deconrec.training.program import Adam, Nets, Phase, Program, Step, Terms
from deconrec.training.samplers import Source, user_rows

FEW = 0.1  # share of the users that weights may rest on before there is a warning; as for propensities


@dataclass(kw_only=True, eq=False, repr=False)
class VSRVAE(OutcomeEstimator):
    """An autoencoder of ratings over exposures and features, users weighted to make the two independent."""

    paper = "Zou2020"
    title = "Variational sample re-weighting"

    exposure: ExposureModel = nuisance(
        VAEExposure,
        "exposure model whose codes the weights are learned on, fitted first",
        {"vae": VAEExposure},
    )
    deconfounder: ExposureModel | None = nuisance(
        lambda: None, "exposure model whose confounders the network is given too, fitted first", DECONFOUNDERS
    )
    branch: float = parameter(
        0.0, "weight eta of a branch that decodes the last hidden layer into exposures; 0 = none", low=0
    )
    independent: str = parameter(
        "permuted",
        "codes of independent pairs: other users', or draws of the prior",
        choices=("permuted", "prior"),
    )
    largest: float = parameter(
        10.0,
        "largest weight over the mean weight; 1 = no weighting",
        low=1,
        search=Search(1.5, 50, log=True),
    )
    SHARED: ClassVar[bool] = False  # the classifier pairs the users of a batch with one another

    draws: int = parameter(20, "codes drawn from q(z | a_u) for a weight", low=1)
    folds: int = parameter(2, "classifiers, each trained without a part of the users; 1 = one for all", low=1)
    width: int = parameter(
        16, "width of a classifier's hidden layer", low=1, search=Search(4, 64, log=True, whole=True)
    )
    warmup: int = parameter(30, "epochs in which the classifiers are trained, before the outcome", low=1)
    ratio_lr: float = parameter(
        3e-3, "learning rate of the classifiers", above=0, search=Search(1e-3, 3e-2, log=True)
    )
    ratio_l2: float = parameter(
        1e-2, "weight of (1/2)||theta||^2 of the classifiers", low=0, search=Search(1e-4, 0.1, log=True)
    )
    epochs: int = parameter(110, "most passes over the users, those of the warm-up included", low=0)

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        exposure_: VAEExposure
        deconfounder_: ExposureModel
        weight_: np.ndarray

    def check_params(self) -> None:
        """Ranges, and a layer for the branch to decode."""
        super().check_params()
        check_branch(self, self.branch)

    def nets(self, spec: Spec) -> Nets:
        """The outcome network, its branch, and, where users are weighted, the classifiers."""
        nets = {"outcome": self.outcome_net(spec), **self.branch_net(spec, self.branch)}
        if self._weighted(spec):
            nets["ratio"] = DensityRatio(spec.n_user_features, self.exposure.dim, self.width, self.folds)
        return Nets(**nets)

    def program(self) -> Program:
        """The classifiers; the weights, once; then the outcome."""
        outcome = Step(self.elbo, updates=("outcome", "exposure") if self.branch else ("outcome",))
        if not self._weighted(self.spec_):
            return [Phase(outcome)]
        classify = Step(self.classify, updates=("ratio",), optimizer=Adam(self.ratio_lr, self.ratio_l2))
        return [
            Phase(classify, stop=self.warmup),
            Phase(before=self.weigh, start=self.warmup, stop=self.warmup + 1),
            Phase(outcome, start=self.warmup),
        ]

    def classify(self, nets: Nets, b: Batch) -> Terms:
        """The classifiers' cross-entropy; a pair counts where neither of its users is in the classifier's fold."""
        assert b.rows is not None
        assert b.rows.x is not None
        mean, std = self.exposure_.posterior(b.rows)
        n, random = len(mean), self._random(b.epoch)
        joint = mean + std * torch.randn(mean.shape, generator=random, dtype=mean.dtype).to(mean)
        used = self._used(b.rows)
        if self.independent == "prior":
            other, of_other = torch.randn(mean.shape, generator=random, dtype=mean.dtype).to(mean), used
        else:
            shift = int(torch.randint(1, max(n, 2), (), generator=random))
            other, of_other = joint.roll(shift, 0), used * used.roll(shift, 1)
        losses = softplus(nets.ratio(b.rows.x, joint)), softplus(-nets.ratio(b.rows.x, other))
        means = [(e * w).sum() / w.sum().clamp_min(1) for e, w in zip(losses, (used, of_other), strict=True)]
        return {"ratio": 0.5 * (means[0] + means[1])}

    def elbo(self, nets: Nets, b: Batch) -> Terms:
        """The weighted negative evidence lower bound, a user."""
        assert b.rows is not None
        h, kl = nets.outcome.code(b.rows, b.rows.x, self.fixed_z(b.rows))
        likelihood = decoded_multinomial(h, nets.outcome.out, b.rows, b.rows.rating, self.precision)
        since = self.warmup if self._weighted(self.spec_) else 0
        w = torch.as_tensor(self.weight_[b.rows.user.cpu().numpy()]).to(likelihood)
        terms = negative_bound(b.rows, likelihood, kl, annealed(b.epoch - since, self.anneal, self.kl), w)
        if self.branch:
            exposures = decoded_bernoulli(h, nets.exposure, b.rows, self.precision)
            terms["exposures"] = -self.branch * b.rows.mean(w * exposures)
        return terms

    # ------------------------------------------------------------------ weights
    def weigh(self, nets: Nets) -> None:
        """The weights of the training users, from the classifiers as they are."""
        n_users = self.rows_.shape[0]
        log_w = np.empty(n_users)
        for start in range(0, n_users, 1024):
            users = np.arange(start, min(start + 1024, n_users))
            log_w[users] = self.log_weights(nets, user_rows(self.rows_, users)[0]).cpu().numpy()
        w = np.exp(log_w - log_w.max())
        w = np.clip(w / w.mean(), 1.0 / self.largest, self.largest)
        self.weight_ = (w / w.mean()).astype(np.float32)

    @torch.no_grad()
    def log_weights(self, nets: Nets, rows: Rows) -> Tensor:
        """(B,) log w_u of training users, not yet divided by a mean or bounded."""
        assert rows.x is not None
        mean, std = self.exposure_.posterior(rows)
        random = self._random(float(rows.user[0]) if len(rows) else 0.0)
        own = (rows.user % self.folds)[None]
        inverse = []
        for _ in range(self.draws):
            z = mean + std * torch.randn(mean.shape, generator=random, dtype=mean.dtype).to(mean)
            inverse.append(-nets.ratio(rows.x, z).gather(0, own)[0])
        return float(np.log(self.draws)) - torch.logsumexp(torch.stack(inverse), 0)

    @property
    def effective_users_(self) -> float:
        """Kish's effective number of users, (sum w)^2 / sum w^2."""
        return float(self.weight_.sum() ** 2 / (self.weight_**2).sum())

    def _weighted(self, spec: Spec) -> bool:
        return spec.n_user_features > 0 and self.largest > 1

    def _used(self, rows: Rows) -> Tensor:
        """(folds, B) 1 where a classifier is trained on a user."""
        fold = torch.arange(self.folds, device=rows.user.device)
        of_user = (rows.user % self.folds)[None]
        return ((of_user != fold[:, None]) | (self.folds == 1)).to(rows.rating.dtype)

    def _random(self, moment: float) -> torch.Generator:
        """Draws that depend on the seed and the moment alone: the loss of a batch is a function."""
        return torch_generator(self.seed, f"codes/{moment!r}")

    # ------------------------------------------------------------------ fitting
    def _source(self, data: Dataset) -> Source:
        self.weight_ = np.ones(data.n_users, np.float32)
        return super()._source(data)

    def _fit(self, data: Dataset, validation: ValidationPart, progress: bool) -> None:
        super()._fit(data, validation, progress)
        share = self.effective_users_ / len(self.weight_)
        if share < FEW:
            warnings.warn(
                f"[OVERLAP] VSRVAE: weights rest on {self.effective_users_:,.0f} of {len(self.weight_):,} users. "
                "Weighting may add more variance than it removes bias: compare with 'concat-vae', or lower `largest`.",
                OverlapWarning,
                stacklevel=2,
            )

    def _state(self) -> dict[str, np.ndarray]:
        return super()._state() | {"weight": self.weight_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        super()._restore(state)
        self.weight_ = np.array(state["weight"])
