"""ESMM: entire space multi-task model.

Idea. An outcome seen is an exposure times an outcome, and that product is known on all of D: learn the outcome through
it, over factors shared with the exposure, and never from the observed rows alone.

Risk (paper 2, section 3.1).
    L_CTR   = E_D[ d(o, p^) ]                                    p^ = sigma(logit) of `propensity`
    L_CTCVR = E_D[ d(o r, p^ r_hat) ]                            r_hat = sigma(logit) of `prediction`
    L       = L_CTR + lambda L_CTCVR                             no error of r_hat on its own

Needs.      a biased log.
Assumes.    no hidden confounding given ids: r_hat is the chance of the outcome among exposures, which is E[r] only
            where exposure is independent of the outcome; exposure and outcome share factors (`shared`).
Limits.     Full observation with p^ = 1: plain MF. p^ = 0: nothing is learned of the outcome. An unseen pair
            is a product of 0, whatever its outcome would be: biased for the ideal risk.
Deviations. 1. The towers are bilinear (a diagonal over the shared factors, own biases), not deep. 2. The product is
            taken from logits, log p^ r_hat as a sum of log-sigmoids.
Paper.      [Ma2018]
"""

from __future__ import annotations

from dataclasses import dataclass

from deconrec.base import Spec, Tags
from deconrec.losses.elementwise import cross_entropy, product_error
from deconrec.nn.backbone import density_logit, tower
from deconrec.pairs import Batch
from deconrec.parameters import Search, parameter
from deconrec.torch_estimator import PairEstimator
from deconrec.training.program import Nets, Phase, Program, Step, Terms, merged


@dataclass(kw_only=True, eq=False, repr=False)
class ESMM(PairEstimator):
    """Entire space multi-task model."""

    paper = "Ma2018"
    title = "Entire space multi-task model"

    PRIOR = 1.8  # NOTE chosen on hold-outs of Coat: at the common value the factors vanish
    OVER_SPACE = True
    batch: int = parameter(65_536, "pairs of D in a step", low=1)
    ctcvr_weight: float = parameter(
        1.0, "weight lambda of L_CTCVR", above=0, search=Search(0.1, 10, log=True)
    )
    shared: bool = parameter(True, "propensity and prediction share their factors")

    @property
    def tags(self) -> Tags:
        """The biased log alone."""
        return Tags(shape="pairs", uses_features=self.reads_features, impressions=self.takes_impressions)

    def nets(self, spec: Spec) -> Nets:
        """Prediction and propensity."""
        prediction = self.net(spec)
        if not self.shared:
            return Nets(prediction=prediction, propensity=self.exposure_net(spec))
        return Nets(prediction=prediction, propensity=tower(prediction, spec, offset=density_logit(spec)))

    def program(self) -> Program:
        """One joint step."""
        return [Phase(Step(merged(self.exposure, self.ctcvr), updates=("prediction", "propensity")))]

    def exposure(self, nets: Nets, b: Batch) -> Terms:
        """L_CTR."""
        return {"exposure": b.space.expect(cross_entropy(nets.propensity(b.space), b.space.o))}

    def ctcvr(self, nets: Nets, b: Batch) -> Terms:
        """Lambda L_CTCVR."""
        d = b.space
        e = product_error(self.error_kind, nets.propensity(d), nets.prediction(d), d.o * d.r)
        return {"ctcvr": self.ctcvr_weight * d.expect(e)}
