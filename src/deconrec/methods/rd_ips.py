"""RD-IPS: inverse propensity scoring against the worst case of a hidden confounder.

Idea. A hidden confounder makes the nominal propensities wrong by an unknown, bounded factor in the odds. Learn the
model whose weighted error is smallest under the worst weights that the bound allows.

Risk (Ding et al. 2022).   min_theta max_w (1/|D|) sum_D o w e,   w in [a, b]
    a = 1 + (1/p - 1) / Gamma,   b = 1 + (1/p - 1) * Gamma             Gamma `uncertainty`, p from `self.propensity_`
    e   error of `prediction` on (u, i)
As e >= 0, the maximum is at w = b everywhere (`mode="closed"`).

Needs.      a biased log; propensities (default: logistic MF; naive Bayes needs a small randomised log).
Assumes.    every pair could have been exposed; bounded hidden confounding: the odds of the true propensity lie within a
            factor Gamma of those of p. No data of this method can tell Gamma: too small misses the confounder, too
            large guards against worlds that are not there.
Limits.     uncertainty = 1: IPS, exactly. Uncertainty to infinity: error weighted by 1/p - 1. Closed form >= any table
            of odds >= IPS, at the same model.
Deviations. 1. The default is the exact maximum in closed form; the paper's learned table (item x outcome class,
            ascended by gradient) is `mode="table"`. 2. The table holds odds, w = 1 + (1/p - 1) odds, odds in
            [1/Gamma, Gamma] and 1 at the start: an entry shared by users stays inside the box of each of them, also
            where p differs between users (the paper's p depends on the outcome alone). 3. Adam, means instead of sums,
            L2 applied once. 4. One Gamma for both outcomes.
Paper.      [Ding2022]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from deconrec.base import Propensity, Spec, Tags
from deconrec.nn.tables import ItemOutcomeTable
from deconrec.pairs import Batch, Pairs
from deconrec.parameters import Search, nuisance, parameter
from deconrec.propensity import PROPENSITIES, LogisticMF
from deconrec.propensity.sensitivity import surplus, worst_odds
from deconrec.torch_estimator import PairEstimator
from deconrec.training.program import Adam, Loss, Nets, Phase, Program, Step, Terms


@dataclass(kw_only=True, eq=False, repr=False)
class RDIPS(PairEstimator):
    """IPS against the worst weights that a bounded hidden confounder allows."""

    paper = "Ding2022"
    title = "Robust deconfounder IPS"

    propensity: Propensity = nuisance(LogisticMF, "propensity model, fitted first", PROPENSITIES)
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
    every: int = parameter(5, "table: epochs between two passes of the ascent", low=1)

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

    @property
    def reads_space(self) -> bool:
        """No risk reads D."""
        return False

    def nets(self, spec: Spec) -> Nets:
        """Prediction; the table of odds in table mode."""
        if self.mode == "closed":
            return Nets(prediction=self.net(spec))
        return Nets(prediction=self.net(spec), weight=ItemOutcomeTable(spec.n_items))

    def program(self) -> Program:
        """Descent; in table mode an ascent pass before it, every few epochs."""
        descent = Phase(Step(self.rd_risk, updates=("prediction",)))
        if self.mode == "closed":
            return [descent]
        return [Phase(ascent(self.adversary, self.uncertainty, self.weight_lr), every=self.every), descent]

    def odds(self, nets: Nets, pairs: Pairs, x: Tensor) -> Tensor:
        """(n,) odds of the weights on x: worst over the box, or from the table."""
        return worst_odds(x, self.uncertainty) if self.mode == "closed" else nets.weight(pairs)

    def rd_risk(self, nets: Nets, b: Batch) -> Terms:
        """max_w L_IPS(w), as the nominal risk and what the worst case adds to it."""
        o = b.observed
        e, p = self.d(nets.prediction(o), o.r), self.propensity_(o)
        return {"ips": o.expect(e / p), "robust": o.expect(surplus(p, self.odds(nets, o, e)) * e)}

    def adversary(self, nets: Nets, b: Batch) -> Terms:
        """What the table adds to the nominal risk."""
        o = b.observed
        e = self.d(nets.prediction(o), o.r)
        return {"adversary": o.expect(surplus(self.propensity_(o), nets.weight(o)) * e)}


def ascent(loss: Loss, uncertainty: float, lr: float, name: str = "weight") -> Step:
    """The step that raises a loss in the table `name` of odds, inside its box."""
    return Step(loss, updates=(name,), ascend=True, project=into_box(uncertainty, name), optimizer=Adam(lr))


def into_box(uncertainty: float, name: str) -> Callable[[Nets], None]:
    """A projection of the table `name` of odds into [1/Gamma, Gamma]."""

    def project(nets: Nets) -> None:
        getattr(nets, name).values.clamp_(1 / uncertainty, uncertainty)

    return project
