"""DR-JL: doubly robust joint learning.

Idea. Impute the error of unseen ratings; correct the imputation with propensity-weighted residuals, so that the
risk is right if either the imputation or the propensity is right.

Risk (paper 2, section 3.1).   L_DR  = (1/|D|) sum_D [ e_hat + o (e - e_hat) / p ]
                               L_IMP = (1/|O|) sum_O (e - e_hat)^2 / p
    e      error of `prediction` on (u, i)       e_hat  d(sigma(m_ui), r_hat_ui), m the logit of `imputation`
    p      propensity from `self.propensity_`

Needs.      a biased log; propensities (default: logistic MF; naive Bayes needs a small randomised log).
Assumes.    every pair could have been exposed; no hidden confounding given ids; propensity or imputation right. A
            hidden confounder makes both wrong at once, and two wrong models may do worse than one.
Limits.     e_hat = e: the ideal risk, whatever p. p true: unbiased, whatever e_hat. e_hat = 0: IPS.
Deviations. 1. e_hat is the error against an imputed *label*, with gradient to r_hat: an imputed error that does not
            depend on the prediction gives the prediction the same gradient as IPS. 2. Both terms of the correction
            are divided by p (public code divides only e). 3. Adam; both nets step on the same block.
Paper.      [Wang2019]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from deconrec.base import Propensity, Spec, Tags
from deconrec.pairs import Batch, Pairs
from deconrec.parameters import nuisance, parameter
from deconrec.propensity import PROPENSITIES, LogisticMF
from deconrec.torch_estimator import PairEstimator
from deconrec.training.program import Nets, Phase, Program, Step, Terms


@dataclass(kw_only=True, eq=False, repr=False)
class DRJL(PairEstimator):
    """Doubly robust joint learning."""

    paper = "Wang2019"
    title = "Doubly robust joint learning"

    propensity: Propensity = nuisance(LogisticMF, "propensity model, fitted first", PROPENSITIES)
    batch: int = parameter(65_536, "pairs of D in a step", low=1)

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
        return [
            Phase(
                Step(self.imputation_risk, updates=("imputation",)),
                Step(self.dr_risk, updates=("prediction",)),
            )
        ]

    def errors(self, nets: Nets, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """(e, e_hat) of observed pairs."""
        return self.d(nets.prediction(pairs), pairs.r), self.imputed(nets, pairs)

    def imputed(self, nets: Nets, pairs: Pairs) -> Tensor:
        """(n,) e_hat."""
        return self.d(nets.prediction(pairs), nets.imputation(pairs).sigmoid())

    def imputation_risk(self, nets: Nets, b: Batch) -> Terms:
        """L_IMP."""
        o = b.observed
        e, e_hat = self.errors(nets, o)
        return {"imputation": o.average((e - e_hat) ** 2 / self.propensity_(o))}

    def dr_risk(self, nets: Nets, b: Batch) -> Terms:
        """L_DR."""
        o, d = b.observed, b.space
        e, e_hat = self.errors(nets, o)
        return {
            "direct": d.expect(self.imputed(nets, d)),
            "correction": o.expect((e - e_hat) / self.propensity_(o)),
        }
