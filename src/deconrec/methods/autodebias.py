"""AutoDebias: weights and imputed labels learned by what they do on a few randomised ratings.

Idea. Any bias of the log is a wrong weight or a missing label. Learn both so that one step of the model on the
weighted, imputed risk lowers its error on randomised ratings.

Risk (Chen et al. 2021).
    L_T = (1/|O|) sum_O w1 e  +  lambda (1/|D|) sum_D w2 d(m, r_hat)                       moves `prediction`
    L_U = (1/|R|) sum_R e   after one virtual step of `prediction` on L_T                  moves w1, w2 and m
    w1  = exp((a_u + b_i + c_r) / 5)      `observed_weight`, r the outcome's class
    w2  = exp((a_u + b_i + c_o) / 5)      `space_weight`, o the observation
    m   = sigma(c_s)                      `imputation`, s: unobserved, observed below 1/2, observed from 1/2 on
    e   error of `prediction` on (u, i)           lambda `imputation_weight`

Needs.      a biased log and a randomised log.
Assumes.    representative randomised rows; some weighting of the biased log, by user, item and outcome, with one label
            for what was not observed, teaches what they show. They are the only judge of n_users + n_items weights: few
            rows, and the weights fit their noise.
Limits.     w1 = 1 (as at the start) and lambda = 0: the risk of MF, exactly.
Deviations. 1. The virtual step is plain SGD with `virtual_lr`; the real one is Adam (the paper: SGD in both).
            2. Outcomes in [0, 1], m by the logistic function (the paper: +-1 and tanh, the same function rescaled);
            observation is o, so that an observed 0 is an outcome. 3. m starts at the mean outcome, not at the middle
            of the scale, and w1 and w2 start at 1 exactly. 4. Weights stay in [1/largest, largest]; the paper's
            exponential is unbounded. 5. Means, not sums: lambda is not the released code's. 6. One learning rate for
            w1, w2 and m.
Paper.      [Chen2021]

Memory. The virtual step keeps the graph of a gradient over a whole block of D: about 125 bytes a pair with MF and 215
with FM (dim 32, measured), that is 8 and 14 MB at the default `batch`, which bounds it whatever the size of the log.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from deconrec.base import Spec, Tags
from deconrec.nn.tables import AdditiveWeight, ClassLogit, liked, state
from deconrec.pairs import Batch
from deconrec.parameters import Search, parameter
from deconrec.torch_estimator import PairEstimator
from deconrec.training.program import Adam, Nets, Phase, Program, Step, Terms


@dataclass(kw_only=True, eq=False, repr=False)
class AutoDebias(PairEstimator):
    """Weights and imputed labels learned through a virtual step."""

    paper = "Chen2021"
    title = "AutoDebias"

    batch: int = parameter(65_536, "pairs of D in a step: the block of the second-order graph", low=1)
    imputation_weight: float = parameter(
        0.1, "weight lambda of the imputed part; 0 leaves it out", low=0, search=Search(0.01, 10, log=True)
    )
    weight_lr: float = parameter(
        0.01, "learning rate of weights and labels", above=0, search=Search(1e-3, 0.1, log=True)
    )
    weight_l2: float = parameter(0.0, "weight of (1/2)||phi||^2 of weights and labels", low=0)
    virtual_lr: float = parameter(
        10.0, "learning rate of the virtual step", above=0, search=Search(0.1, 1000, log=True)
    )
    largest: float = parameter(10.0, "weights stay in [1/largest, largest]", above=1)
    delay: int = parameter(10, "epochs before the weights begin to learn (labels learn at once)", low=0)

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
    def reads_space(self) -> bool:
        """The imputed part reads D."""
        return self.imputation_weight > 0

    @property
    def weights(self) -> tuple[str, ...]:
        """The weight tables at work."""
        return ("observed_weight", "space_weight") if self.imputation_weight else ("observed_weight",)

    def nets(self, spec: Spec) -> Nets:
        """Prediction, the weights, the imputed labels."""
        mean = min(max(spec.mean_outcome, 1e-3), 1 - 1e-3)
        nets = {"prediction": self.net(spec)}
        nets |= {n: AdditiveWeight(spec.n_users, spec.n_items, 2, self.largest) for n in self.weights}
        if self.imputation_weight:
            nets["imputation"] = ClassLogit(3, math.log(mean / (1 - mean)))
        return Nets(**nets)

    def program(self) -> Program:
        """Labels, and after `delay` weights too, through a virtual step; then the prediction."""
        base = Step(self.base_risk, updates=("prediction",))
        labels = ("imputation",) if self.imputation_weight else ()
        early = [self.meta(base, labels)] if labels else []
        program = [Phase(*early, base, stop=self.delay)] if self.delay else []
        return [*program, Phase(self.meta(base, (*self.weights, *labels)), base, start=self.delay)]

    def meta(self, base: Step, names: tuple[str, ...]) -> Step:
        """The step of these nets on L_U after a virtual step on L_T."""
        optimizer = Adam(self.weight_lr, self.weight_l2)
        return Step(
            self.unbiased, updates=names, through=base, virtual_lr=self.virtual_lr, optimizer=optimizer
        )

    def base_risk(self, nets: Nets, b: Batch) -> Terms:
        """L_T."""
        o, d = b.observed, b.space
        e = self.d(nets.prediction(o), o.r)
        weighted = {"weighted": o.average(nets.observed_weight(o, liked(o)) * e)}
        if not self.imputation_weight:
            return weighted
        label = nets.imputation(state(d)).sigmoid()
        w2 = nets.space_weight(d, (d.o > 0).to(torch.int64))
        return weighted | {
            "imputed": self.imputation_weight * d.expect(w2 * self.d(nets.prediction(d), label))
        }

    def unbiased(self, nets: Nets, b: Batch) -> Terms:
        """L_U."""
        assert b.unbiased is not None
        return {"unbiased": b.unbiased.expect(self.d(nets.prediction(b.unbiased), b.unbiased.r))}
