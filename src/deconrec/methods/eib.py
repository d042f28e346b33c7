"""EIB: error imputation.

Idea. Where a rating was observed, count its error; where it was not, count an imputed one. No propensity is needed, and
nothing corrects an imputation that is wrong.

Risk (paper 2, section 1).     L_EIB = (1/|D|) sum_D [ o e + (1 - o) e_hat ]
                               L_IMP = (1/|O|) sum_O (e - e_hat)^2
    e      error of `prediction` on (u, i)       e_hat  d(sigma(m_ui), r_hat_ui), m the logit of `imputation`

Needs.      a biased log.
Assumes.    no hidden confounding given ids; the imputation is right: what it learned from exposed pairs holds for the
            others.
Limits.     e_hat = e: the ideal risk. Full observation: plain MF, whatever e_hat. The imputation is fitted to O and
            read outside it: what selection hides from O stays hidden.
Deviations. 1. e_hat is the error against an imputed *label*, learned by a network, with gradient to r_hat; the older
            heuristic is one constant label. 2. Adam; both nets step on the same block.
Paper.      [Steck2010]; as a baseline, [Li2023] section 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from deconrec.base import Spec, Tags
from deconrec.losses import reweighted
from deconrec.pairs import Batch, Pairs
from deconrec.parameters import parameter
from deconrec.torch_estimator import PairEstimator
from deconrec.training.program import Nets, Phase, Program, Step, Terms


@dataclass(kw_only=True, eq=False, repr=False)
class EIB(PairEstimator):
    """Error imputation."""

    paper = "Steck2010"
    title = "Error imputation"

    batch: int = parameter(65_536, "pairs of D in a step", low=1)

    @property
    def tags(self) -> Tags:
        """The biased log alone."""
        return Tags(shape="pairs", uses_features=self.reads_features, impressions=self.takes_impressions)

    def nets(self, spec: Spec) -> Nets:
        """Prediction and imputation."""
        return Nets(prediction=self.net(spec), imputation=self.net(spec))

    def program(self) -> Program:
        """Imputation and prediction in turn, on each block."""
        return [
            Phase(
                Step(self.imputation_risk, updates=("imputation",)),
                Step(self.eib_risk, updates=("prediction",)),
            )
        ]

    def imputed(self, nets: Nets, pairs: Pairs) -> Tensor:
        """(n,) e_hat."""
        return self.d(nets.prediction(pairs), nets.imputation(pairs).sigmoid())

    def imputation_risk(self, nets: Nets, b: Batch) -> Terms:
        """L_IMP: every observed error counts the same."""
        o = b.observed
        e = self.d(nets.prediction(o), o.r)
        return {"imputation": reweighted.imputation(o, e, self.imputed(nets, o))}

    def eib_risk(self, nets: Nets, b: Batch) -> Terms:
        """L_EIB."""
        o, d = b.observed, b.space
        e = self.d(nets.prediction(o), o.r)
        return {"eib": reweighted.eib(o, d, e, self.imputed(nets, d))}
