"""RD-DR: doubly robust learning against the worst case of a hidden confounder.

Idea. As RD-IPS, on the doubly robust risk: the worst weights raise what the imputation underrates and lower what it
overrates.

Risk (Ding et al. 2022).   min_theta max_w  (1/|D|) sum_D [ e_hat + o w (e - e_hat) ]
                           min_phi   max_v  (1/|O|) sum_O v (e - e_hat)^2                  w, v in [a, b]
    a = 1 + (1/p - 1) / Gamma,   b = 1 + (1/p - 1) * Gamma             Gamma `uncertainty`, p from `self.propensity_`
    e      error of `prediction` on (u, i)       e_hat  d(sigma(m_ui), r_hat_ui), m the logit of `imputation`
The maximum over the box: w = b where e - e_hat > 0 and a elsewhere; v = b (`mode="closed"`).

Needs.      a biased log; propensities (default: logistic MF; naive Bayes needs a small randomised log).
Assumes.    every pair could have been exposed; bounded hidden confounding: the odds of the true propensity lie within a
            factor Gamma of those of p, which no data of this method can tell. The imputation of unexposed pairs is
            taken as it is: the box guards the weighted part alone.
Limits.     uncertainty = 1: DR-JL, exactly. e_hat = e: the ideal risk, whatever w. Closed form >= any table of odds.
            e_hat = 0: RD-IPS.
Deviations. 1. to 4. as in RD-IPS. 5. e_hat is the error against an imputed label, as in DR-JL. 6. The weights are held
            fixed in the descent: the gradient of a maximum is that at the maximiser.
Paper.      [Ding2022]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from deconrec.base import Propensity, Spec, Tags
from deconrec.methods.rd_ips import ascent
from deconrec.nn.tables import ItemOutcomeTable
from deconrec.pairs import Batch, Pairs
from deconrec.parameters import Search, nuisance, parameter
from deconrec.propensity import PROPENSITIES, LogisticMF
from deconrec.propensity.sensitivity import surplus, worst_odds
from deconrec.torch_estimator import PairEstimator
from deconrec.training.program import Nets, Phase, Program, Step, Terms


@dataclass(kw_only=True, eq=False, repr=False)
class RDDR(PairEstimator):
    """Doubly robust learning against the worst weights that a bounded hidden confounder allows."""

    paper = "Ding2022"
    title = "Robust deconfounder DR"

    propensity: Propensity = nuisance(LogisticMF, "propensity model, fitted first", PROPENSITIES)
    batch: int = parameter(65_536, "pairs of D in a step", low=1)
    uncertainty: float = parameter(
        1.5,
        "bound Gamma on the odds ratio of true and nominal propensity; 1 = no hidden confounding",
        low=1,
        search=Search(1, 25, log=True),
    )
    mode: str = parameter(
        "closed",
        "worst weights: closed = the exact maximum over the box, table = learned by gradient ascent",
        choices=("closed", "table"),
    )
    weight_lr: float = parameter(
        0.1, "table: learning rate of the ascent", above=0, search=Search(0.01, 1, log=True)
    )
    every: int = parameter(3, "table: epochs between two passes of the ascent", low=1)

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        propensity_: Propensity

    @property
    def inert(self) -> frozenset[str]:
        """What the table alone reads."""
        return frozenset() if self.mode == "table" else frozenset({"weight_lr", "every"})

    @property
    def tags(self) -> Tags:
        """Needs a randomised log where its propensity does."""
        needs = self.propensity.needs_unbiased
        return Tags(
            needs_unbiased=needs,
            uses_unbiased=needs,
            shape="pairs",
            uses_features=self.reads_features,
            impressions=self.takes_impressions,
        )

    def nets(self, spec: Spec) -> Nets:
        """Prediction and imputation; a table of odds for each in table mode."""
        nets = {"prediction": self.net(spec), "imputation": self.net(spec)}
        if self.mode == "table":
            nets |= {name: ItemOutcomeTable(spec.n_items) for name in ("weight", "imputation_weight")}
        return Nets(**nets)

    def program(self) -> Program:
        """Imputation and prediction in turn, on each block; in table mode an ascent pass before, every few epochs."""
        descent = Phase(
            Step(self.imputation_risk, updates=("imputation",)),
            Step(self.rd_risk, updates=("prediction",)),
        )
        if self.mode == "closed":
            return [descent]
        worst = [
            ascent(loss, self.uncertainty, self.weight_lr, name)
            for loss, name in ((self.adversary, "weight"), (self.imputation_adversary, "imputation_weight"))
        ]
        return [Phase(*worst, every=self.every), descent]

    def errors(self, nets: Nets, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """(e, e_hat) of observed pairs."""
        return self.d(nets.prediction(pairs), pairs.r), self.imputed(nets, pairs)

    def imputed(self, nets: Nets, pairs: Pairs) -> Tensor:
        """(n,) e_hat."""
        return self.d(nets.prediction(pairs), nets.imputation(pairs).sigmoid())

    def odds(self, nets: Nets, pairs: Pairs, x: Tensor, name: str) -> Tensor:
        """(n,) odds of the weights on x: worst over the box, or from the table `name`."""
        return worst_odds(x, self.uncertainty) if self.mode == "closed" else nets[name](pairs)

    def imputation_risk(self, nets: Nets, b: Batch) -> Terms:
        """max_v L_IMP(v), as the nominal risk and what the worst case adds to it."""
        o = b.observed
        e, e_hat = self.errors(nets, o)
        x, p = (e - e_hat) ** 2, self.propensity_(o)
        odds = self.odds(nets, o, x, "imputation_weight")
        return {"imputation": o.average(x / p), "imputation_robust": o.average(surplus(p, odds) * x)}

    def rd_risk(self, nets: Nets, b: Batch) -> Terms:
        """max_w L_DR(w), as the nominal risk and what the worst case adds to it."""
        o, d = b.observed, b.space
        e, e_hat = self.errors(nets, o)
        x, p = e - e_hat, self.propensity_(o)
        return {
            "direct": d.expect(self.imputed(nets, d)),
            "correction": o.expect(x / p),
            "robust": o.expect(surplus(p, self.odds(nets, o, x, "weight")) * x),
        }

    def adversary(self, nets: Nets, b: Batch) -> Terms:
        """What the table adds to L_DR."""
        o = b.observed
        e, e_hat = self.errors(nets, o)
        return {"adversary": o.expect(surplus(self.propensity_(o), nets.weight(o)) * (e - e_hat))}

    def imputation_adversary(self, nets: Nets, b: Batch) -> Terms:
        """What the table adds to L_IMP."""
        o = b.observed
        e, e_hat = self.errors(nets, o)
        w = surplus(self.propensity_(o), nets.imputation_weight(o))
        return {"imputation_adversary": o.average(w * (e - e_hat) ** 2)}
