"""IPS: inverse propensity scoring.

Idea. Weight each observed error by one over the probability that it was observed: the weighted sum then estimates
the sum over all pairs.

Risk (paper 2, section 3.1).   L_IPS = (1/|D|) sum_D o e / p
    e   error of `prediction` on (u, i)          p   propensity from `self.propensity_`, floored

Needs.      a biased log; propensities (default: logistic MF; naive Bayes needs a small randomised log).
Assumes.    every pair could have been exposed; no hidden confounding given what p is learned from (ids; features with
            an fm backbone), or, with naive Bayes, exposure that depends on the outcome alone; the propensity is right,
            and floored pairs are few.
Limits.     p = 1 and full observation: plain MF. True p: unbiased for the ideal risk. Hidden confounders that move
            both o and r leave a bias that no p given measured features removes.
Deviations. 1. Adam on mini-batches of O (the released relatives sum over blocks, so that learning rates differ).
Paper.      [Schnabel2016]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deconrec.base import Propensity, Spec, Tags
from deconrec.pairs import Batch
from deconrec.parameters import nuisance
from deconrec.propensity import PROPENSITIES, LogisticMF
from deconrec.torch_estimator import PairEstimator
from deconrec.training.program import Nets, Phase, Program, Step, Terms


@dataclass(kw_only=True, eq=False, repr=False)
class IPS(PairEstimator):
    """Inverse propensity scoring."""

    paper = "Schnabel2016"
    title = "Inverse propensity scoring"

    propensity: Propensity = nuisance(LogisticMF, "propensity model, fitted first", PROPENSITIES)

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

    @property
    def reads_space(self) -> bool:
        """No risk reads D."""
        return False

    def nets(self, spec: Spec) -> Nets:
        """The prediction network."""
        return Nets(prediction=self.net(spec))

    def program(self) -> Program:
        """One step."""
        return [Phase(Step(self.ips_risk, updates=("prediction",)))]

    def ips_risk(self, nets: Nets, b: Batch) -> Terms:
        """L_IPS."""
        o = b.observed
        e = self.d(nets.prediction(o), o.r)
        return {"ips": o.expect(e / self.propensity_(o))}
