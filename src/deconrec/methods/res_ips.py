"""Res-IPS: inverse propensity scoring with propensities calibrated by a residual network.

Idea. Propensities learned from the biased log miss what hidden confounders do. A residual network corrects them so
that the weighted error on the biased log agrees with the plain error on a few randomised ratings.

Risk (paper 2, section 4).
    p~ = sigma( logit p^ + rho )                                 logit p^ `propensity`, rho `propensity_residual`
    L_CTR     = E_D[ d(o, p^) ]                                  moves `propensity`
    L_IPS     = (1/|D|) sum_D o e / p~
    L_CTCVR   = E_D[ d(o r, p~ r_hat) ]
    L_U       = (1/|R|) sum_R e
    L_B&U     = (L_IPS - L_U)^2                                  moves `propensity_residual`
    L_Res     = L_CTR + beta (L_IPS + L_CTCVR + L_U) + gamma L_B&U

Needs.      a biased log and a randomised log.
Limits.     rho = 0 (gamma = 0): ESCM2-IPS with L_U added, exactly. U absent from the loss
            (`unbiased_weight` = 0) and gamma = 0: ESCM2-IPS.
Deviations. 1. Who learns from what is ambiguous (L_B&U lists all parameters; the text trains the residuals by it).
            `policy="paper"`: each loss moves one network; "joint": one backward pass through everything. 2. d of two
            scalars is their squared difference: a cross-entropy of losses is not defined above 1. 3. p~ is floored
            in value, not in gradient. 4. `ctcvr_weight` and `unbiased_weight` inside the bundle, 1 in the paper.
            5. Residual network: an MF whose item side starts at 0, so that p~ = p^ at the start (sizes unpublished).
Paper.      [Li2023]
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from deconrec.base import Spec, Tags
from deconrec.losses.elementwise import cross_entropy, product_error
from deconrec.pairs import Batch, Pairs
from deconrec.parameters import Search, parameter
from deconrec.propensity.floor import automatic, inverse
from deconrec.torch_estimator import PairEstimator
from deconrec.training.program import Loss, Nets, Phase, Program, Step, Terms, merged, scaled


@dataclass(kw_only=True, eq=False, repr=False)
class ResIPS(PairEstimator):
    """IPS with residual-calibrated propensities."""

    paper = "Li2023"
    title = "Residual IPS"

    batch: int = parameter(65_536, "pairs of D in a step", low=1)
    floor: float | None = parameter(
        None,
        "smallest propensity; none = the log's density, at most 0.1",
        above=0,
        high=1,
        search=Search(0.01, 0.5, log=True),
    )
    outcome_weight: float = parameter(
        1.0, "weight beta of the CVR bundle", above=0, search=Search(0.1, 10, log=True)
    )
    ctcvr_weight: float = parameter(
        0.5, "weight of L_CTCVR inside the bundle (paper: 1)", low=0, search=Search(0.1, 10, log=True)
    )
    unbiased_weight: float = parameter(
        0.3,
        "weight of L_U inside the bundle (paper: 1); 0 = Table 4's ablation",
        low=0,
        search=Search(0.03, 3, log=True),
    )
    consistency: float = parameter(
        0.01, "weight gamma of L_B&U; 0 = Table 4's ablation", low=0, search=Search(1e-3, 1.0, log=True)
    )
    residual_propensity: bool = parameter(True, "calibrate propensities; False = Table 3's ablation")
    policy: str = parameter(
        "paper",
        "who learns from what: paper = each loss one network, joint = all",
        choices=("paper", "joint"),
    )
    split_unbiased: bool = parameter(
        False, "train on one half of the randomised log and calibrate on the other (paper: both on all of it)"
    )
    warmup: int = parameter(0, "epochs of L_CTR alone before the rest begins", low=0)

    @property
    def tags(self) -> Tags:
        """Needs a randomised log unless both of its uses are switched off."""
        uses = self.unbiased_weight > 0 or self.consistency > 0
        return Tags(needs_unbiased=uses, uses_unbiased=uses, shape="pairs", uses_features=self.reads_features)

    @property
    def floor_(self) -> float:
        """The floor in force."""
        return automatic(self.floor, self.spec_.density)

    def nets(self, spec: Spec) -> Nets:
        """Prediction, propensity and its residual; the residual last, so that leaving it out moves no draw."""
        nets = {"prediction": self.net(spec), "propensity": self.exposure_net(spec)}
        if self.residual_propensity:
            nets["propensity_residual"] = self.net(spec, still=True)
        return Nets(**nets)

    def program(self) -> Program:
        """The paper's grouping, or one joint step."""
        bundle = self.outcome_weight
        outcome = scaled(merged(self.ips, self.ctcvr, *self.on_unbiased()), bundle)
        agree = (
            [scaled(self.agree, self.consistency)] if self.residual_propensity and self.consistency else []
        )
        if self.policy == "joint":
            everything = (
                "prediction",
                "propensity",
                *(["propensity_residual"] if self.residual_propensity else []),
            )
            joint: list[Loss] = [self.exposure, outcome, *agree]
            main = Phase(Step(merged(*joint), updates=everything), start=self.warmup)
        else:
            steps = [Step(self.exposure, updates=("propensity",)), Step(outcome, updates=("prediction",))]
            steps += [Step(loss, updates=("propensity_residual",)) for loss in agree]
            main = Phase(*steps, start=self.warmup)
        return [*warm(self.warmup, Step(self.exposure, updates=("propensity",))), main]

    def on_unbiased(self) -> list[Loss]:
        """L_U, unless switched off."""
        return [scaled(self.unbiased, self.unbiased_weight)] if self.unbiased_weight else []

    def calibrated(self, nets: Nets, pairs: Pairs) -> Tensor:
        """(n,) logit of p~."""
        nominal = nets.propensity(pairs)
        return nominal + nets.propensity_residual(pairs) if self.residual_propensity else nominal

    def exposure_logit(self, nets: Nets, pairs: Pairs) -> Tensor:
        """What is weighted by: the calibrated propensity."""
        return self.calibrated(nets, pairs)

    def exposure(self, nets: Nets, b: Batch) -> Terms:
        """L_CTR."""
        return {"exposure": b.space.expect(cross_entropy(nets.propensity(b.space), b.space.o))}

    def ips(self, nets: Nets, b: Batch) -> Terms:
        """L_IPS with calibrated propensities."""
        o = b.observed
        e = self.d(nets.prediction(o), o.r)
        return {"ips": o.expect(e * inverse(self.calibrated(nets, o), self.floor_))}

    def ctcvr(self, nets: Nets, b: Batch) -> Terms:
        """L_CTCVR with calibrated propensities."""
        if not self.ctcvr_weight:
            return {}
        d = b.space
        e = product_error(self.error_kind, self.calibrated(nets, d), nets.prediction(d), d.o * d.r)
        return {"ctcvr": self.ctcvr_weight * d.expect(e)}

    def unbiased(self, nets: Nets, b: Batch) -> Terms:
        """L_U, on the half of R that trains where R is split."""
        assert b.unbiased is not None
        r = half(b.unbiased, 0) if self.split_unbiased else b.unbiased
        return {"unbiased": r.expect(self.d(nets.prediction(r), r.r))}

    def agree(self, nets: Nets, b: Batch) -> Terms:
        """L_B&U, on the half of R that calibrates where R is split."""
        assert b.unbiased is not None
        r = half(b.unbiased, 1) if self.split_unbiased else b.unbiased
        gap = self.ips(nets, b)["ips"] - r.expect(self.d(nets.prediction(r), r.r))
        return {"consistency": gap**2}


def half(pairs: Pairs, which: int) -> Pairs:
    """One of two halves of a sample of R, the same pairs in every step: `which` is 0 or 1."""
    rows = ((pairs.user * 7919 + pairs.item * 104_729) >> 3) % 2 == which
    return Pairs(pairs.user[rows], pairs.item[rows], pairs.o[rows], pairs.r[rows], tables=pairs.tables)


def warm(epochs: int, *steps: Step) -> Program:
    """A phase of `epochs` epochs of these steps alone; nothing for 0."""
    return [Phase(*steps, stop=epochs)] if epochs else []
