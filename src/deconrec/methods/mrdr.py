"""MRDR: more robust doubly robust learning.

Idea. The variance of the doubly robust risk grows with (1 - p) / p^2 times the squared imputation residual: fit the
imputation by that weight, so that its mistakes fall where they cost least.

Risk (paper 2, section 3.1, with another L_IMP).
    L_DR  = (1/|D|) sum_D [ e_hat + o (e - e_hat) / p ]
    L_IMP = (1/|O|) sum_O (1 - p) / p^2 (e - e_hat)^2
    e      error of `prediction` on (u, i)       e_hat  d(sigma(m_ui), r_hat_ui), m the logit of `imputation`
    p      propensity from `self.propensity_`, floored

Needs.      a biased log; propensities (default: logistic MF; naive Bayes needs a small randomised log).
Assumes.    every pair could have been exposed; no hidden confounding given ids; propensity or imputation right. The
            weight of L_IMP measures variance only where p is right.
Limits.     e_hat = e: the ideal risk, whatever p. p true: unbiased, whatever e_hat. p = 1 and full observation: plain
            MF, and nothing to impute. p constant: DR-JL with another weight of L_IMP.
Deviations. 1. e_hat is the error against an imputed label, with gradient to r_hat, as in DR-JL. 2. Double learning,
            the paper's second idea, is `sharing`: after each of its steps the imputation moves towards the prediction
            by that share (0, the default: joint learning); the form of the sharing is ours. 3. Adam; both nets step on
            the same block.
Paper.      [Guo2021]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from deconrec.base import Propensity, Spec, Tags
from deconrec.losses import reweighted
from deconrec.pairs import Batch, Pairs
from deconrec.parameters import Search, nuisance, parameter
from deconrec.propensity import PROPENSITIES, LogisticMF
from deconrec.torch_estimator import PairEstimator
from deconrec.training.program import Nets, Phase, Program, Step, Terms


@dataclass(kw_only=True, eq=False, repr=False)
class MRDR(PairEstimator):
    """More robust doubly robust learning."""

    paper = "Guo2021"
    title = "More robust doubly robust learning"

    propensity: Propensity = nuisance(LogisticMF, "propensity model, fitted first", PROPENSITIES)
    batch: int = parameter(65_536, "pairs of D in a step", low=1)
    sharing: float = parameter(
        0.0,
        "double learning: how far the imputation moves to the prediction after a step; 0 = joint learning",
        low=0,
        high=1,
        search=Search(0, 0.1),
    )

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        propensity_: Propensity

    @property
    def tags(self) -> Tags:
        """Needs a randomised log where its propensity does."""
        needs = self.propensity.needs_unbiased
        return Tags(
            needs_unbiased=needs,
            uses_unbiased=needs,
            shape="pairs",
            uses_features=self.reads_features,
            impressions=self.takes_impressions,
        )

    def nets(self, spec: Spec) -> Nets:
        """Prediction and imputation."""
        return Nets(prediction=self.net(spec), imputation=self.net(spec))

    def program(self) -> Program:
        """Imputation and prediction in turn, on each block."""
        share = self.share if self.sharing else None
        return [
            Phase(
                Step(self.imputation_risk, updates=("imputation",), project=share),
                Step(self.dr_risk, updates=("prediction",)),
            )
        ]

    def share(self, nets: Nets) -> None:
        """Double learning: imputation <- (1 - sharing) imputation + sharing prediction."""
        for mine, other in zip(nets.imputation.parameters(), nets.prediction.parameters(), strict=True):
            mine.lerp_(other, self.sharing)

    def errors(self, nets: Nets, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """(e, e_hat) of observed pairs."""
        return self.d(nets.prediction(pairs), pairs.r), self.imputed(nets, pairs)

    def imputed(self, nets: Nets, pairs: Pairs) -> Tensor:
        """(n,) e_hat."""
        return self.d(nets.prediction(pairs), nets.imputation(pairs).sigmoid())

    def imputation_risk(self, nets: Nets, b: Batch) -> Terms:
        """L_IMP."""
        o = b.observed
        p = self.propensity_(o)
        return {"imputation": reweighted.imputation(o, *self.errors(nets, o), (1 - p) / p**2)}

    def dr_risk(self, nets: Nets, b: Batch) -> Terms:
        """L_DR."""
        o, d = b.observed, b.space
        e, e_hat = self.errors(nets, o)
        return reweighted.dr(o, d, e, e_hat, self.imputed(nets, d), 1 / self.propensity_(o))
