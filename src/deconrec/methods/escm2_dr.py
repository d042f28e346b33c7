"""ESCM2-DR: entire space counterfactual multi-task model, with doubly robust learning.

Idea. As ESCM2-IPS, with the doubly robust error as the counterfactual risk of the outcome, and a third tower that
imputes.

Risk (paper 2, section 3.1).
    L_CTR   = E_D[ d(o, p^) ]                                    p^ = sigma(logit) of `propensity`
    L_IMP   = (1/|O|) sum_O (e - e_hat)^2 / p^                   e_hat = d(sigma(m), r_hat), m of `imputation`
    L_DR    = (1/|D|) sum_D [ e_hat + o (e - e_hat) / p^ ]       e error of `prediction`
    L_CTCVR = E_D[ d(o r, p^ r_hat) ]                            r_hat = sigma(logit) of `prediction`
    L       = L_CTR + lambda_1 L_IMP + lambda_2 L_DR + lambda_3 L_CTCVR

Needs.      a biased log.
Assumes.    every pair could have been exposed; no hidden confounding given ids, in L_DR as in L_CTCVR; propensity or
            imputation right, though both are learned at the same time; exposure and outcome share factors (`shared`).
Limits.     e_hat = e: L_DR is the ideal risk, whatever p^. lambda_3 = 0: Multi-DR. The same L_DR and L_IMP as Res-DR
            without its residual networks.
Deviations. 1. In one joint step L_DR holds p^ and the imputed label fixed, L_IMP holds r_hat and p^ (see Multi-DR);
            `propensity_grad` = True lets the gradient of L_DR through 1 / p^, as public code of paper 2's group does.
            2. e_hat is the error against an imputed label, as in DR-JL; both terms of the correction are divided by
            p^, and L_IMP runs over O alone (public code does neither). 3. p^ is floored in value, not in gradient.
            4. The towers are bilinear (a diagonal over the shared factors, own biases), not a mixture of experts.
Paper.      [Wang2022]
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from deconrec.base import Spec, Tags
from deconrec.losses import reweighted
from deconrec.losses.elementwise import cross_entropy, product_error
from deconrec.nn.backbone import density_logit, tower
from deconrec.pairs import Batch, Pairs
from deconrec.parameters import Search, parameter
from deconrec.propensity.floor import automatic, inverse
from deconrec.torch_estimator import PairEstimator
from deconrec.training.program import Nets, Phase, Program, Step, Terms, merged, scaled


@dataclass(kw_only=True, eq=False, repr=False)
class ESCM2DR(PairEstimator):
    """Entire space counterfactual multi-task model with DR."""

    paper = "Wang2022"
    title = "ESCM2 with DR"

    batch: int = parameter(65_536, "pairs of D in a step", low=1)
    floor: float | None = parameter(
        None,
        "smallest propensity; none = the log's density, at most 0.1",
        above=0,
        high=1,
        search=Search(0.01, 0.5, log=True),
    )
    imputation_weight: float = parameter(
        0.1, "weight lambda_1 of L_IMP", above=0, search=Search(0.1, 10, log=True)
    )
    outcome_weight: float = parameter(
        1.0, "weight lambda_2 of L_DR", above=0, search=Search(0.1, 10, log=True)
    )
    ctcvr_weight: float = parameter(
        1.0, "weight lambda_3 of L_CTCVR; 0 = Multi-DR", low=0, search=Search(0.1, 10, log=True)
    )
    shared: bool = parameter(True, "propensity, imputation and prediction share their factors")
    propensity_grad: bool = parameter(False, "let the gradient of L_DR through 1 / p")

    @property
    def tags(self) -> Tags:
        """The biased log alone."""
        return Tags(shape="pairs", uses_features=self.reads_features, impressions=self.takes_impressions)

    @property
    def floor_(self) -> float:
        """The floor in force."""
        return automatic(self.floor, self.spec_.density)

    def nets(self, spec: Spec) -> Nets:
        """Prediction, propensity and imputation."""
        prediction = self.net(spec)
        if not self.shared:
            return Nets(prediction=prediction, propensity=self.exposure_net(spec), imputation=self.net(spec))
        return Nets(
            prediction=prediction,
            propensity=tower(prediction, spec, offset=density_logit(spec)),
            imputation=tower(prediction, spec),
        )

    def program(self) -> Program:
        """One joint step."""
        losses = merged(self.exposure, self.impute, scaled(self.dr, self.outcome_weight), self.ctcvr)
        return [Phase(Step(losses, updates=("prediction", "propensity", "imputation")))]

    def weight(self, nets: Nets, pairs: Pairs) -> Tensor:
        """(n,) 1 / p^."""
        w = inverse(nets.propensity(pairs), self.floor_)
        return w if self.propensity_grad else w.detach()

    def exposure(self, nets: Nets, b: Batch) -> Terms:
        """L_CTR."""
        return {"exposure": b.space.expect(cross_entropy(nets.propensity(b.space), b.space.o))}

    def impute(self, nets: Nets, b: Batch) -> Terms:
        """lambda_1 L_IMP; r_hat and p^ are held fixed."""
        o = b.observed
        r_hat = nets.prediction(o).detach()
        e, e_hat = self.d(r_hat, o.r), self.d(r_hat, nets.imputation(o).sigmoid())
        value = reweighted.imputation(o, e, e_hat, self.weight(nets, o).detach())
        return {"imputation": self.imputation_weight * value}

    def dr(self, nets: Nets, b: Batch) -> Terms:
        """L_DR; the imputed label is held fixed."""
        o, d = b.observed, b.space
        r_hat = nets.prediction(o)
        e, e_hat = self.d(r_hat, o.r), self.d(r_hat, nets.imputation(o).sigmoid().detach())
        everywhere = self.d(nets.prediction(d), nets.imputation(d).sigmoid().detach())
        return reweighted.dr(o, d, e, e_hat, everywhere, self.weight(nets, o))

    def ctcvr(self, nets: Nets, b: Batch) -> Terms:
        """lambda_3 L_CTCVR."""
        if not self.ctcvr_weight:
            return {}
        d = b.space
        e = product_error(self.error_kind, nets.propensity(d), nets.prediction(d), d.o * d.r)
        return {"ctcvr": self.ctcvr_weight * d.expect(e)}
