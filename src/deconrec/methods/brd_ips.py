"""BRD-IPS: never worse than IPS, whatever a bounded hidden confounder did.

Idea. RD-IPS guards against weights that hurt any model. What matters is the gain over the model that one would use
otherwise: minimise the worst case of the difference to a frozen benchmark.

Risk (Ding et al. 2022).   min_theta max_w  L_IPS(theta, w) - L_IPS(theta_0, w)
                         = min_theta (1/|D|) sum_D o max_w w (e - e_0),   w in [a, b]
    a, b   as in RD-IPS, Gamma `uncertainty`     p     the benchmark's propensity
    e      error of `prediction` on (u, i)       e_0   error of the benchmark, an IPS fitted first and frozen
The maximum over the box (`mode="closed"`): w = b where e > e_0 and a elsewhere.

Needs.      a biased log; what the benchmark's propensity needs.
Assumes.    every pair could have been exposed; bounded hidden confounding, as in RD-IPS. "Never worse" is said of the
            weighted error on the training log under each weight in the box, at the minimum; not of a test metric, nor
            where training stops early.
Limits.     theta = theta_0: the risk is 0 for every w, so that its minimum is at most 0. uncertainty = 1: L_IPS less a
            constant, with its gradient exactly. Closed form >= any table of odds >= 0 at theta = theta_0.
Deviations. 1. The default is the maximum in closed form; the paper's learned weights (item x outcome class, ascended by
            gradient) are `mode="table"`, without its clipping, as odds in a box as in RD-IPS. 2. Adam, means instead
            of sums. 3. The benchmark's network has this method's backbone, dim and error.
Paper.      [Ding2022]
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from deconrec.base import Spec, Tags
from deconrec.data.dataset import Dataset
from deconrec.evaluation.overlap import Overlap
from deconrec.methods.ips import IPS
from deconrec.methods.rd_ips import ascent
from deconrec.nn.tables import ItemOutcomeTable
from deconrec.pairs import Batch, Pairs
from deconrec.parameters import Parameterised, Search, nuisance, parameter
from deconrec.propensity.sensitivity import surplus, worst_odds
from deconrec.torch_estimator import PairEstimator
from deconrec.training.program import Nets, Phase, Program, Step, Terms

SHARED = ("backbone", "dim", "error")  # of a benchmark and the method that starts from it


@dataclass(kw_only=True, eq=False, repr=False)
class BRDIPS(PairEstimator):
    """IPS whose worst-case gain over a benchmark is largest."""

    paper = "Ding2022"
    title = "Benchmarked robust deconfounder IPS"

    benchmark: IPS = nuisance(
        IPS, "what is to be beaten, fitted first; with this method's backbone, dim and error", {"ips": IPS}
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
        benchmark_: IPS

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

    @property
    def reads_space(self) -> bool:
        """No risk reads D."""
        return False

    def _nuisances(self) -> dict[str, Parameterised]:
        return {"benchmark": matched(self.benchmark, self)}

    def _overlap(self, data: Dataset) -> Overlap | None:
        return self.benchmark_.overlap_

    def nets(self, spec: Spec) -> Nets:
        """Prediction, the benchmark's values in it on a warm start; the table of odds in table mode."""
        prediction = started(self, "prediction", spec, self.benchmark_)
        if self.mode == "closed":
            return Nets(prediction=prediction)
        return Nets(prediction=prediction, weight=ItemOutcomeTable(spec.n_items))

    def program(self) -> Program:
        """Descent; in table mode an ascent pass before it, every few epochs."""
        descent = Phase(Step(self.brd_risk, updates=("prediction",)))
        if self.mode == "closed":
            return [descent]
        return [Phase(ascent(self.adversary, self.uncertainty, self.weight_lr), every=self.every), descent]

    def odds(self, nets: Nets, pairs: Pairs, x: Tensor) -> Tensor:
        """(n,) odds of the weights on x: worst over the box, or from the table."""
        return worst_odds(x, self.uncertainty) if self.mode == "closed" else nets.weight(pairs)

    @torch.no_grad()
    def benchmark_error(self, pairs: Pairs) -> Tensor:
        """(n,) e_0."""
        return self.d(self.benchmark_.nets_.prediction(pairs), pairs.r)

    def brd_risk(self, nets: Nets, b: Batch) -> Terms:
        """max_w L_IPS(theta, w) - L_IPS(theta_0, w), as the nominal gap and what the worst case adds to it."""
        o = b.observed
        gap = self.d(nets.prediction(o), o.r) - self.benchmark_error(o)
        p = self.benchmark_.propensity_(o)
        return {
            "gap": o.expect(gap / p),
            "robust": o.expect(surplus(p, self.odds(nets, o, gap)) * gap),
        }

    def adversary(self, nets: Nets, b: Batch) -> Terms:
        """What the table adds to the nominal gap."""
        o = b.observed
        gap = self.d(nets.prediction(o), o.r) - self.benchmark_error(o)
        return {"adversary": o.expect(surplus(self.benchmark_.propensity_(o), nets.weight(o)) * gap)}


def matched(benchmark: PairEstimator, model: PairEstimator) -> PairEstimator:
    """A copy of the benchmark with the model's backbone, dim and error."""
    return benchmark.clone().set_params(**{name: getattr(model, name) for name in SHARED})


def started(model: PairEstimator, name: str, spec: Spec, benchmark: PairEstimator) -> nn.Module:
    """A network of the model: the benchmark's net of that name, copied, on a warm start; random otherwise."""
    warm = model.get_params()["warm_start"]
    return copy.deepcopy(benchmark.nets_[name]) if warm else model.net(spec)
