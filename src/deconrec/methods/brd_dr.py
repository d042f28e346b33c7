"""BRD-DR: never worse than DR-JL, whatever a bounded hidden confounder did.

Idea. As BRD-IPS, on the doubly robust risk.

Risk (Ding et al. 2022).   min_theta max_w  L_DR(theta, w) - L_DR(theta_0, w)
                         = min_theta (1/|D|) sum_D [ g_hat + o max_w w (g - g_hat) ],   w in [a, b]
                           L_IMP = (1/|O|) sum_O (e - e_hat)^2 / p                         moves `imputation`
    a, b    as in RD-IPS, Gamma `uncertainty`    p      the benchmark's propensity
    e       error of `prediction` on (u, i)      e_hat  d(sigma(m_ui), r_hat_ui), m the logit of `imputation`
    e_0     error of the benchmark, a DR-JL      e_hat_0  d(sigma(m_ui), r_hat_0,ui)
            fitted first and frozen              g = e - e_0,  g_hat = e_hat - e_hat_0
The maximum over the box (`mode="closed"`): w = b where g > g_hat and a elsewhere.

Needs.      a biased log; what the benchmark's propensity needs.
Assumes.    every pair could have been exposed; bounded hidden confounding, as in RD-DR. "Never worse" is said as in
            BRD-IPS, given the imputation.
Limits.     theta = theta_0: the risk is 0 for every w and every imputation. uncertainty = 1: L_DR less a constant, with
            its gradient exactly. e_hat = 0: BRD-IPS.
Deviations. 1. to 3. as in BRD-IPS. 4. e_hat is the error against an imputed label, as in DR-JL. 5. One imputation,
            which goes on learning, serves both models: a difference of two imputations would be no difference of
            models. 6. The worst case is that of the difference (public code ascends the model's risk alone).
Paper.      [Ding2022]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deconrec.base import Spec, Tags
from deconrec.data.dataset import Dataset
from deconrec.evaluation.overlap import Overlap
from deconrec.methods.brd_ips import SHARED, matched, started
from deconrec.methods.dr_jl import DRJL
from deconrec.methods.rd_ips import ascent
from deconrec.nn.tables import ItemOutcomeTable
from deconrec.pairs import Batch, Pairs
from deconrec.parameters import Parameterised, Search, nuisance, parameter
from deconrec.propensity.sensitivity import surplus, worst_odds
from deconrec.torch_estimator import PairEstimator
from deconrec.training.program import Nets, Phase, Program, Step, Terms


@dataclass(kw_only=True, eq=False, repr=False)
class BRDDR(PairEstimator):
    """Doubly robust learning whose worst-case gain over a benchmark is largest."""

    paper = "Ding2022"
    title = "Benchmarked robust deconfounder DR"

    batch: int = parameter(65_536, "pairs of D in a step", low=1)
    benchmark: DRJL = nuisance(
        DRJL,
        "what is to be beaten, fitted first; with this method's backbone, dim and error",
        {"dr-jl": DRJL},
    )
    uncertainty: float = parameter(
        2.0,
        "bound Gamma on the odds ratio of true and nominal propensity; 1 = no hidden confounding",
        low=1,
        search=Search(1, 25, log=True),
    )
    warm_start: bool = parameter(True, "start from the benchmark; False = from random values")
    mode: str = parameter(
        "closed",
        "worst weights: closed = the exact maximum over the box, table = learned by gradient ascent",
        choices=("closed", "table"),
        later=True,
    )
    weight_lr: float = parameter(
        0.1,
        "table: learning rate of the ascent",
        above=0,
        search=Search(0.01, 1, log=True),
        later=True,
    )
    every: int = parameter(5, "table: epochs between two passes of the ascent", low=1, later=True)

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        benchmark_: DRJL

    @property
    def inert(self) -> frozenset[str]:
        """What the table alone reads, and what the benchmark takes from this method."""
        theirs = frozenset(f"benchmark.{name}" for name in SHARED)
        return theirs if self.mode == "table" else theirs | {"weight_lr", "every"}

    @property
    def tags(self) -> Tags:
        """Needs what the benchmark needs."""
        needs = self.benchmark.tags.needs_unbiased
        return Tags(
            needs_unbiased=needs,
            uses_unbiased=needs,
            shape="pairs",
            uses_features=self.reads_features,
            impressions=self.takes_impressions,
        )

    @property
    def reads_features(self) -> bool:
        """Whether a network of the method, the benchmark or its propensity reads features."""
        return matched(self.benchmark, self).reads_features

    def _nuisances(self) -> dict[str, Parameterised]:
        return {"benchmark": matched(self.benchmark, self)}

    def _overlap(self, data: Dataset) -> Overlap | None:
        return self.benchmark_.overlap_

    def nets(self, spec: Spec) -> Nets:
        """Prediction and imputation, the benchmark's values in both on a warm start; the odds in table mode."""
        names = ("prediction", "imputation")
        nets = {name: started(self, name, spec, self.benchmark_) for name in names}
        if self.mode == "table":
            nets["weight"] = ItemOutcomeTable(spec.n_items)
        return Nets(**nets)

    def program(self) -> Program:
        """Imputation and prediction in turn, on each block; in table mode an ascent pass before, every few epochs."""
        descent = Phase(
            Step(self.imputation_risk, updates=("imputation",)),
            Step(self.brd_risk, updates=("prediction",)),
        )
        if self.mode == "closed":
            return [descent]
        return [Phase(ascent(self.adversary, self.uncertainty, self.weight_lr), every=self.every), descent]

    def odds(self, nets: Nets, pairs: Pairs, x: Tensor) -> Tensor:
        """(n,) odds of the weights on x: worst over the box, or from the table."""
        return worst_odds(x, self.uncertainty) if self.mode == "closed" else nets.weight(pairs)

    def errors(self, nets: Nets, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """(e, e_hat) of observed pairs."""
        return self.d(nets.prediction(pairs), pairs.r), self.imputed(nets, pairs)

    def imputed(self, nets: Nets, pairs: Pairs) -> Tensor:
        """(n,) e_hat."""
        return self.d(nets.prediction(pairs), nets.imputation(pairs).sigmoid())

    def gap(self, nets: Nets, pairs: Pairs, r: Tensor) -> Tensor:
        """(n,) error of the prediction minus the benchmark's, against r."""
        with torch.no_grad():
            r_hat = self.benchmark_.nets_.prediction(pairs)
        return self.d(nets.prediction(pairs), r) - self.d(r_hat, r)

    def imputed_gap(self, nets: Nets, pairs: Pairs) -> Tensor:
        """(n,) g_hat."""
        return self.gap(nets, pairs, nets.imputation(pairs).sigmoid())

    def gaps(self, nets: Nets, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """(g, g_hat) of observed pairs."""
        return self.gap(nets, pairs, pairs.r), self.imputed_gap(nets, pairs)

    def imputation_risk(self, nets: Nets, b: Batch) -> Terms:
        """L_IMP."""
        o = b.observed
        e, e_hat = self.errors(nets, o)
        return {"imputation": o.average((e - e_hat) ** 2 / self.benchmark_.propensity_(o))}

    def brd_risk(self, nets: Nets, b: Batch) -> Terms:
        """max_w L_DR(theta, w) - L_DR(theta_0, w), as the nominal gap and what the worst case adds to it."""
        o, d = b.observed, b.space
        g, g_hat = self.gaps(nets, o)
        x, p = g - g_hat, self.benchmark_.propensity_(o)
        return {
            "direct_gap": d.expect(self.imputed_gap(nets, d)),
            "correction_gap": o.expect(x / p),
            "robust": o.expect(surplus(p, self.odds(nets, o, x)) * x),
        }

    def adversary(self, nets: Nets, b: Batch) -> Terms:
        """What the table adds to the nominal gap."""
        o = b.observed
        g, g_hat = self.gaps(nets, o)
        return {"adversary": o.expect(surplus(self.benchmark_.propensity_(o), nets.weight(o)) * (g - g_hat))}
