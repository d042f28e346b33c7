"""MF: matrix factorisation, and which ratings it learns from.

Idea. Predict an outcome from user and item factors; trained on the biased log alone (naive), on the randomised
log alone, or on both: the three floors that every debiasing method has to beat.

Risk.   biased     (1/|O|) sum_O e
        uniform    (1/|R|) sum_R e
        combined   (1/(|O| + w |R|)) (sum_O e + w sum_R e)
    e   error of `prediction` on (u, i)          w   `unbiased_weight`

Needs.      a biased log; a randomised log for uniform and combined.
Assumes.    biased: no hidden confounding given ids, that is, exposure is independent of the outcome once user and item
            are known. uniform and combined: representative randomised rows; combined also that w is large enough for
            them to outvote the bias of the other log.
Limits.     no randomised rows: combined = biased.
Deviations. 1. Adam with a shuffled mini-batch instead of SGD on user x item blocks. 2. A global bias. 3. Early
            stopping on a hold-out of the biased log (paper 2 does not say what its validation data are).
Paper.      [Koren2009]; as a baseline, [Li2023] section 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deconrec.base import Spec, Tags
from deconrec.data.dataset import Dataset
from deconrec.pairs import Batch
from deconrec.parameters import parameter
from deconrec.torch_estimator import PairEstimator
from deconrec.training.program import Nets, Phase, Program, Step, Terms


@dataclass(kw_only=True, eq=False, repr=False)
class MF(PairEstimator):
    """Matrix factorisation on the biased log, the randomised log, or both."""

    paper = "Koren2009"
    title = "Matrix factorisation"

    population: str = parameter(
        "biased", "which log is learned from", choices=("biased", "uniform", "combined")
    )
    # No search range: a hold-out of the biased log cannot say how much randomised rows should count.
    unbiased_weight: float = parameter(1.0, "weight w of a randomised row (combined)", above=0)

    @property
    def tags(self) -> Tags:
        """Needs a randomised log unless the population is the biased one."""
        uses = self.population != "biased"
        return Tags(
            needs_unbiased=uses,
            uses_unbiased=uses,
            shape="pairs",
            uses_features=self.reads_features,
            impressions=self.takes_impressions,
        )

    @property
    def reads_space(self) -> bool:
        """No risk reads D."""
        return False

    def _covered(self, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
        if self.population != "uniform":
            return super()._covered(data)
        assert data.unbiased is not None
        users, items = np.zeros(data.n_users, bool), np.zeros(data.n_items, bool)
        users[data.unbiased.user], items[data.unbiased.item] = True, True
        return users, items

    def nets(self, spec: Spec) -> Nets:
        """The prediction network."""
        return Nets(prediction=self.net(spec))

    def program(self) -> Program:
        """One step."""
        risk = {"biased": self.biased, "uniform": self.uniform, "combined": self.combined}[self.population]
        return [Phase(Step(risk, updates=("prediction",)))]

    def biased(self, nets: Nets, b: Batch) -> Terms:
        """(1/|O|) sum_O e."""
        o = b.observed
        return {"biased": o.average(self.d(nets.prediction(o), o.r))}

    def uniform(self, nets: Nets, b: Batch) -> Terms:
        """(1/|R|) sum_R e."""
        assert b.unbiased is not None
        return {"uniform": b.unbiased.expect(self.d(nets.prediction(b.unbiased), b.unbiased.r))}

    def combined(self, nets: Nets, b: Batch) -> Terms:
        """The mean over the rows of both logs."""
        n_unbiased = self.unbiased_weight * self.n_unbiased_
        share = n_unbiased / (self.spec_.rows + n_unbiased)
        biased, uniform = self.biased(nets, b)["biased"], self.uniform(nets, b)["uniform"]
        return {"biased": (1 - share) * biased, "uniform": share * uniform}
