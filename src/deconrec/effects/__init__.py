"""Effects of exposures on outcomes, beside the naive ones, with what they rest on.

`dc.effects.estimate(data, outcomes)` needs the outcomes of all pairs; `model.effects()` reads the network of a fitted
method.
"""

from deconrec.effects.estimation import choose, estimate
from deconrec.effects.factors import LogisticFactors
from deconrec.effects.fitted import of_model
from deconrec.effects.result import Effects, SweepPoint, Verdict
from deconrec.effects.variance import VarianceTheorem, variance_theorem

__all__ = [
    "Effects",
    "LogisticFactors",
    "SweepPoint",
    "VarianceTheorem",
    "Verdict",
    "choose",
    "estimate",
    "of_model",
    "variance_theorem",
]
