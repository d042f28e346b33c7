"""LTD: propensities learned by what they do on a few randomised ratings.

Idea. The right propensities are those with which the weighted risk teaches a model that predicts randomised ratings
well: choose them for that, not for predicting exposure.

Risk (paper 2, section 3.2).
    L_IPS = (1/|D|) sum_D o e / p                                                          moves `prediction`
    L_U   = (1/|R|) sum_R e   after one virtual step of `prediction` on L_IPS              moves `propensity`
    L_CTR = E_D[ d(o, p) ]                                                                 starts `propensity`
    e   error of `prediction` on (u, i)           p   sigma of the logit of `propensity`, floored

Needs.      a biased log and a randomised log.
Assumes.    representative randomised rows; every pair could have been exposed; some weighting of the biased log, by
            propensities of the network's form, teaches what they show. They are the only judge of a whole network: few
            rows, and the propensities fit their noise.
Limits.     propensities that no longer move: IPS with them.
Deviations. 1. One virtual step of plain SGD with `virtual_lr` stands for the inner minimum; the real step is Adam.
            2. The propensities start as logistic factors fitted to the exposures in `warmup` epochs; `exposure_weight`
            keeps L_CTR beside L_U (0 = paper). 3. The floor is in the value of 1/p, and the gradient that of its
            logarithm, so that floored pairs go on learning. No public code is known.
Paper.      [Wang2021]

Memory. The virtual step keeps the graph of a gradient over the observed rows of a block of D: about 900 bytes a row
with MF and 2,800 with FM (dim 32, measured); `batch` bounds it whatever the size of the log.
"""

from __future__ import annotations

from dataclasses import dataclass

from deconrec.base import Spec, Tags
from deconrec.losses.elementwise import cross_entropy
from deconrec.methods.res_ips import warm
from deconrec.pairs import Batch, Pairs
from deconrec.parameters import Search, parameter
from deconrec.propensity.floor import automatic, learned_inverse
from deconrec.torch_estimator import PairEstimator
from deconrec.training.program import Adam, Loss, Nets, Phase, Program, Step, Terms, merged, scaled


@dataclass(kw_only=True, eq=False, repr=False)
class LTD(PairEstimator):
    """IPS with propensities learned through a virtual step."""

    paper = "Wang2021"
    title = "Learning to debias"

    batch: int = parameter(65_536, "pairs of D in a step", low=1)
    floor: float | None = parameter(
        None,
        "smallest propensity; none = the log's density, at most 0.1",
        above=0,
        high=1,
        search=Search(0.01, 0.5, log=True),
    )
    warmup: int = parameter(5, "epochs of L_CTR alone before the rest begins", low=0)
    exposure_weight: float = parameter(
        0.0, "weight of L_CTR beside L_U in the propensity's step (paper: 0)", low=0
    )
    propensity_l2: float = parameter(
        1e-5, "weight of (1/2)||theta||^2 of the propensity in the warm-up", low=0
    )
    weight_lr: float = parameter(
        0.01,
        "learning rate of the propensity through the virtual step",
        above=0,
        search=Search(1e-4, 0.1, log=True),
    )
    virtual_lr: float = parameter(
        10.0, "learning rate of the virtual step", above=0, search=Search(0.1, 1000, log=True)
    )

    @property
    def tags(self) -> Tags:
        """Needs a randomised log."""
        return Tags(
            needs_unbiased=True,
            uses_unbiased=True,
            shape="pairs",
            uses_features=self.reads_features,
            impressions=self.takes_impressions,
        )

    @property
    def floor_(self) -> float:
        """The floor in force."""
        return automatic(self.floor, self.spec_.density)

    def nets(self, spec: Spec) -> Nets:
        """Prediction and propensity."""
        return Nets(prediction=self.net(spec), propensity=self.exposure_net(spec))

    def click_logit(self, pairs: Pairs) -> None:
        """None: the propensity is what teaches well, and no longer the chance of a click."""

    def program(self) -> Program:
        """Exposure; then the propensity through a virtual step, and the prediction, on each block."""
        ips = Step(self.ips, updates=("prediction",))
        upper: list[Loss] = [self.unbiased]
        if self.exposure_weight:
            upper.append(scaled(self.exposure, self.exposure_weight))
        meta = Step(
            merged(*upper),
            updates=("propensity",),
            through=ips,
            virtual_lr=self.virtual_lr,
            optimizer=Adam(self.weight_lr),
        )
        start = Step(self.exposure, updates=("propensity",), optimizer=Adam(self.lr, self.propensity_l2))
        return [*warm(self.warmup, start), Phase(meta, ips, start=self.warmup)]

    def exposure(self, nets: Nets, b: Batch) -> Terms:
        """L_CTR."""
        return {"exposure": b.space.expect(cross_entropy(nets.propensity(b.space), b.space.o))}

    def ips(self, nets: Nets, b: Batch) -> Terms:
        """L_IPS with the learned propensities."""
        o = b.observed
        e = self.d(nets.prediction(o), o.r)
        return {"ips": o.expect(e * learned_inverse(nets.propensity(o), self.floor_))}

    def unbiased(self, nets: Nets, b: Batch) -> Terms:
        """L_U."""
        assert b.unbiased is not None
        return {"unbiased": b.unbiased.expect(self.d(nets.prediction(b.unbiased), b.unbiased.r))}
