"""Multi-IPS: inverse propensity scoring with the propensity learned beside it.

Idea. Exposures are many and outcomes few: learn the propensity (the click rate) and the outcome at once, over shared
factors, so that the many teach the few; and weight by what the propensity says at that moment.

Risk (paper 2, section 3.1).
    L_CTR = E_D[ d(o, p^) ]                                      p^ = sigma(logit) of `propensity`
    L_IPS = (1/|D|) sum_D o e / p^                               e error of `prediction`
    L     = L_CTR + L_IPS

Needs.      a biased log.
Assumes.    every pair could have been exposed; no hidden confounding given ids; the propensity is right, though it is
            learned at the same time; exposure and outcome share factors (`shared`).
Limits.     `shared` = False: IPS with a learned propensity. p^ = 1 and full observation: L_IPS is plain
            MF's risk.
Deviations. 1. The weight 1 / p^ is held fixed in L_IPS: otherwise the risk falls where p^ rises on large errors.
            `propensity_grad` = True lets the gradient through, as public code does. 2. p^ is floored in value, not in
            gradient. 3. The towers are bilinear (a diagonal over the shared factors, own biases), not deep.
Paper.      [Zhang2020]
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from deconrec.base import Spec, Tags
from deconrec.losses import reweighted
from deconrec.losses.elementwise import cross_entropy
from deconrec.nn.backbone import density_logit, tower
from deconrec.pairs import Batch, Pairs
from deconrec.parameters import Search, parameter
from deconrec.propensity.floor import automatic, inverse
from deconrec.torch_estimator import PairEstimator
from deconrec.training.program import Nets, Phase, Program, Step, Terms, merged


@dataclass(kw_only=True, eq=False, repr=False)
class MultiIPS(PairEstimator):
    """Multi-task inverse propensity scoring."""

    paper = "Zhang2020"
    title = "Multi-task IPS"

    PRIOR = 2.4  # NOTE chosen on hold-outs of Coat: at the common value the factors vanish
    batch: int = parameter(65_536, "pairs of D in a step", low=1)
    floor: float | None = parameter(
        None,
        "smallest propensity; none = the log's density, at most 0.1",
        above=0,
        high=1,
        search=Search(0.01, 0.5, log=True),
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
        return [Phase(Step(merged(self.exposure, self.ips), updates=("prediction", "propensity")))]

    def weight(self, nets: Nets, pairs: Pairs) -> Tensor:
        """(n,) 1 / p^."""
        w = inverse(nets.propensity(pairs), self.floor_)
        return w if self.propensity_grad else w.detach()

    def exposure(self, nets: Nets, b: Batch) -> Terms:
        """L_CTR."""
        return {"exposure": b.space.expect(cross_entropy(nets.propensity(b.space), b.space.o))}

    def ips(self, nets: Nets, b: Batch) -> Terms:
        """L_IPS."""
        o = b.observed
        e = self.d(nets.prediction(o), o.r)
        return {"ips": reweighted.ips(o, e, self.weight(nets, o))}
