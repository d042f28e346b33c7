"""ESCM2-IPS: entire space counterfactual multi-task model, with inverse propensity scoring.

Idea. ESMM learns the outcome from a product over all pairs, Multi-IPS from weighted observed errors: do both, the
weighted error as the counterfactual risk of the outcome and the product as a global one.

Risk (paper 2, section 3.1).
    L_CTR   = E_D[ d(o, p^) ]                                    p^ = sigma(logit) of `propensity`
    L_IPS   = (1/|D|) sum_D o e / p^                             e error of `prediction`
    L_CTCVR = E_D[ d(o r, p^ r_hat) ]                            r_hat = sigma(logit) of `prediction`
    L       = L_CTR + lambda_2 L_IPS + lambda_3 L_CTCVR

Needs.      a biased log.
Assumes.    every pair could have been exposed; no hidden confounding given ids, in L_IPS as in L_CTCVR; the propensity
            is right, though it is learned at the same time; exposure and outcome share factors (`shared`).
Limits.     lambda_3 = 0, `shared` = False: IPS with a learned propensity. lambda_3 = 0: Multi-IPS. The same L_IPS as
            Res-IPS without its residual network. Without L_IPS: ESMM.
Deviations. 1. The weight 1 / p^ is held fixed in L_IPS, as in the original; `propensity_grad` = True lets the
            gradient through, as public code of paper 2's group does. 2. p^ is floored in value, not in gradient. 3. The
            towers are bilinear (a diagonal over the shared factors, own biases), not a mixture of experts.
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
from deconrec.training.program import Nets, Phase, Program, Step, Terms, merged


@dataclass(kw_only=True, eq=False, repr=False)
class ESCM2IPS(PairEstimator):
    """Entire space counterfactual multi-task model with IPS."""

    paper = "Wang2022"
    title = "ESCM2 with IPS"

    batch: int = parameter(65_536, "pairs of D in a step", low=1)
    floor: float | None = parameter(
        None,
        "smallest propensity; none = the log's density, at most 0.1",
        above=0,
        high=1,
        search=Search(0.01, 0.5, log=True),
    )
    outcome_weight: float = parameter(
        1.0, "weight lambda_2 of L_IPS", above=0, search=Search(0.1, 10, log=True)
    )
    ctcvr_weight: float = parameter(
        3.0, "weight lambda_3 of L_CTCVR; 0 = Multi-IPS", low=0, search=Search(0.1, 10, log=True)
    )
    shared: bool = parameter(True, "propensity and prediction share their factors")
    propensity_grad: bool = parameter(False, "let the gradient of L_IPS through 1 / p")

    @property
    def tags(self) -> Tags:
        """The biased log alone."""
        return Tags(shape="pairs", uses_features=self.reads_features, impressions=self.takes_impressions)

    @property
    def floor_(self) -> float:
        """The floor in force."""
        return automatic(self.floor, self.spec_.density)

    def nets(self, spec: Spec) -> Nets:
        """Prediction and propensity."""
        prediction = self.net(spec)
        if not self.shared:
            return Nets(prediction=prediction, propensity=self.exposure_net(spec))
        return Nets(prediction=prediction, propensity=tower(prediction, spec, offset=density_logit(spec)))

    def program(self) -> Program:
        """One joint step."""
        losses = merged(self.exposure, self.ips, self.ctcvr)
        return [Phase(Step(losses, updates=("prediction", "propensity")))]

    def weight(self, nets: Nets, pairs: Pairs) -> Tensor:
        """(n,) 1 / p^."""
        w = inverse(nets.propensity(pairs), self.floor_)
        return w if self.propensity_grad else w.detach()

    def exposure(self, nets: Nets, b: Batch) -> Terms:
        """L_CTR."""
        return {"exposure": b.space.expect(cross_entropy(nets.propensity(b.space), b.space.o))}

    def ips(self, nets: Nets, b: Batch) -> Terms:
        """lambda_2 L_IPS."""
        o = b.observed
        e = self.d(nets.prediction(o), o.r)
        return {"ips": self.outcome_weight * reweighted.ips(o, e, self.weight(nets, o))}

    def ctcvr(self, nets: Nets, b: Batch) -> Terms:
        """lambda_3 L_CTCVR."""
        if not self.ctcvr_weight:
            return {}
        d = b.space
        e = product_error(self.error_kind, nets.propensity(d), nets.prediction(d), d.o * d.r)
        return {"ctcvr": self.ctcvr_weight * d.expect(e)}
