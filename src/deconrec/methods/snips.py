"""SNIPS: self-normalised inverse propensity scoring.

Idea. Divide the weighted error by the sum of the weights instead of |D|: a propensity that is wrong by a factor then
does no harm, and a few large weights move the level of the risk less.

Risk.   L_SNIPS = ( sum_O e / p ) / ( sum_O 1 / p )
    e   error of `prediction` on (u, i)          p   propensity from `self.propensity_`, floored

Needs.      a biased log; propensities (default: logistic MF; naive Bayes needs a small randomised log).
Assumes.    every pair could have been exposed; no hidden confounding given what p is learned from (see IPS); the
            propensity is right up to a constant factor, and floored pairs are few.
Limits.     p constant, whatever its value: plain MF. p times a constant: the same risk. The weights sum to 1.
Deviations. 1. Both sums run over the observed rows of a step, not of the log: a larger `batch` makes the difference
            smaller. 2. The paper normalises the loss of a policy; here it is the risk of a rating model, as
            [Schnabel2016] evaluates it.
Paper.      [Swaminathan2015]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deconrec.base import Propensity, Spec, Tags
from deconrec.losses import reweighted
from deconrec.pairs import Batch
from deconrec.parameters import nuisance
from deconrec.propensity import PROPENSITIES, LogisticMF
from deconrec.torch_estimator import PairEstimator
from deconrec.training.program import Nets, Phase, Program, Step, Terms


@dataclass(kw_only=True, eq=False, repr=False)
class SNIPS(PairEstimator):
    """Self-normalised inverse propensity scoring."""

    paper = "Swaminathan2015"
    title = "Self-normalised inverse propensity scoring"

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
        return [Phase(Step(self.snips_risk, updates=("prediction",)))]

    def snips_risk(self, nets: Nets, b: Batch) -> Terms:
        """L_SNIPS."""
        o = b.observed
        e = self.d(nets.prediction(o), o.r)
        return {"snips": reweighted.snips(o, e, 1 / self.propensity_(o))}
