"""Multi-DR: doubly robust learning with the propensity and the imputation learned beside it.

Idea. As Multi-IPS, with a third tower over the shared factors that imputes: right if either the learned propensity or
the imputed error is right.

Risk (paper 2, section 3.1).
    L_CTR = E_D[ d(o, p^) ]                                      p^ = sigma(logit) of `propensity`
    L_DR  = (1/|D|) sum_D [ e_hat + o (e - e_hat) / p^ ]         e error of `prediction`
    L_IMP = (1/|O|) sum_O (e - e_hat)^2 / p^                     e_hat = d(sigma(m), r_hat), m of `imputation`
    L     = L_CTR + L_DR + alpha L_IMP

Needs.      a biased log.
Assumes.    every pair could have been exposed; no hidden confounding given ids; propensity or imputation right, though
            both are learned at the same time; exposure and outcome share factors (`shared`).
Limits.     e_hat = e: the ideal risk, whatever p^. e_hat = 0: Multi-IPS. `shared` = False: DR-JL with a learned
            propensity.
Deviations. 1. In one joint step each loss teaches its own tower and the shared factors: L_DR holds p^ and the imputed
            label fixed (otherwise it falls where the imputed error does), L_IMP holds r_hat and p^.
            `propensity_grad` = True lets the gradient of L_DR through 1 / p^, as public code does. 2. e_hat is the
            error against an imputed label, as in DR-JL. 3. `imputation_weight` alpha, 1 in the paper. 4. p^ is
            floored in value, not in gradient. 5. The towers are bilinear (a diagonal over the shared factors, own
            biases), not deep.
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
class MultiDR(PairEstimator):
    """Multi-task doubly robust learning."""

    paper = "Zhang2020"
    title = "Multi-task DR"

    batch: int = parameter(65_536, "pairs of D in a step", low=1)
    floor: float | None = parameter(
        None,
        "smallest propensity; none = the log's density, at most 0.1",
        above=0,
        high=1,
        search=Search(0.01, 0.5, log=True),
    )
    imputation_weight: float = parameter(
        0.1, "weight alpha of L_IMP (paper: 1)", above=0, search=Search(0.1, 10, log=True)
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
        losses = merged(self.exposure, self.dr, self.impute)
        return [Phase(Step(losses, updates=("prediction", "propensity", "imputation")))]

    def weight(self, nets: Nets, pairs: Pairs) -> Tensor:
        """(n,) 1 / p^."""
        w = inverse(nets.propensity(pairs), self.floor_)
        return w if self.propensity_grad else w.detach()

    def exposure(self, nets: Nets, b: Batch) -> Terms:
        """L_CTR."""
        return {"exposure": b.space.expect(cross_entropy(nets.propensity(b.space), b.space.o))}

    def dr(self, nets: Nets, b: Batch) -> Terms:
        """L_DR; the imputed label is held fixed."""
        o, d = b.observed, b.space
        r_hat = nets.prediction(o)
        e, e_hat = self.d(r_hat, o.r), self.d(r_hat, nets.imputation(o).sigmoid().detach())
        everywhere = self.d(nets.prediction(d), nets.imputation(d).sigmoid().detach())
        return reweighted.dr(o, d, e, e_hat, everywhere, self.weight(nets, o))

    def impute(self, nets: Nets, b: Batch) -> Terms:
        """Alpha L_IMP; r_hat and p^ are held fixed."""
        o = b.observed
        r_hat = nets.prediction(o).detach()
        e, e_hat = self.d(r_hat, o.r), self.d(r_hat, nets.imputation(o).sigmoid())
        value = reweighted.imputation(o, e, e_hat, self.weight(nets, o).detach())
        return {"imputation": self.imputation_weight * value}
