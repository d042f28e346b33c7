"""KD-Label: a teacher trained on the randomised log hands its predictions to a student of the biased log.

Idea. Predictions of a model that never saw a biased rating are labels without selection bias; the student learns from
the biased log and agrees with them (bridge), or learns from labels that are mixed with them (refine).

Risk ([Liu2020]).
    bridge   (1/|O|) sum_O e + c E_D[ (r_hat - r_teacher)^2 ]
    refine   (1/|O|) sum_O d((1 - c) r + c r_teacher, r_hat)
    e          error of `prediction` on (u, i)        c   `weight`
    r_teacher  prediction of `self.teacher_`, fitted first

Needs.      a biased log and a randomised log, which the teacher learns from.
Assumes.    representative randomised rows; what randomised rows teach carries over: the teacher is nearer to the truth
            than biased labels are, also on users and items that it has no row of.
Limits.     c = 0: MF on the biased log, exactly. refine with c = 1: the biased log says which pairs, not which ratings.
Deviations. 1. Bridge draws as many random pairs of D as rows of O in each step (the paper: any number).
            2. Refine's target (1 - c) r + c r_teacher stays in [0, 1]; the paper's r + c * minmax(r_teacher over the
            mini-batch) leaves it and depends on who shares the mini-batch. 3. Distances of probabilities, not logits.
            4. The student starts cold; `warmup` epochs on the biased log alone are the paper's warm start. 5. Adam.
Paper.      [Liu2020]; as a baseline, [Li2023] section 5, which does not say which form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deconrec.base import Estimator, Spec, Tags
from deconrec.data.dataset import Dataset
from deconrec.errors import ParameterError
from deconrec.methods import make
from deconrec.methods.mf import MF
from deconrec.pairs import Batch, Pairs
from deconrec.parameters import Parameterised, Search, nuisance, parameter
from deconrec.torch_estimator import PairEstimator
from deconrec.training.program import Nets, Phase, Program, Step, Terms, merged
from deconrec.training.samplers import Sampler, UniformPairs


def uniform_teacher() -> Estimator:
    """MF on the randomised log alone."""
    return make("mf-uniform")


TEACHERS = {"mf": MF}


@dataclass(kw_only=True, eq=False, repr=False)
class KDLabel(PairEstimator):
    """Knowledge distillation by labels."""

    paper = "Liu2020"
    title = "Label distillation"

    teacher: Estimator = nuisance(
        uniform_teacher, "method that learns from the randomised log, fitted first", TEACHERS
    )
    mode: str = parameter(
        "bridge", "agree with the teacher on random pairs, or mix its labels in", choices=("bridge", "refine")
    )
    weight: float = parameter(
        0.3, "weight c of the teacher; at most 1 in refine", low=0, search=Search(1e-2, 1, log=True)
    )
    warmup: int = parameter(0, "epochs on the biased log alone before the teacher speaks", low=0)

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        teacher_: Estimator

    @property
    def tags(self) -> Tags:
        """Needs a randomised log unless the teacher has no weight."""
        uses = self.weight > 0
        return Tags(needs_unbiased=uses, uses_unbiased=uses, shape="pairs", uses_features=self.reads_features)

    def check_params(self) -> None:
        """Ranges, and that the teacher learns from the randomised log."""
        super().check_params()
        check_teacher(self.teacher, type(self).__name__)
        if self.mode == "refine" and self.weight > 1:
            raise ParameterError(
                f"'weight' of KDLabel must be a number <= 1 when mode='refine' (a share of the label); got "
                f"{self.weight}."
            )

    def _nuisances(self) -> dict[str, Parameterised]:
        return super()._nuisances() if self.weight else {}

    @property
    def reads_space(self) -> bool:
        """Bridge compares on random pairs of D."""
        return self.mode == "bridge" and self.weight > 0

    def sampler(self, data: Dataset) -> Sampler:
        """Rows of O and, for bridge, as many random pairs of D."""
        return UniformPairs(self.batch, self.batch if self.reads_space else 0)

    def nets(self, spec: Spec) -> Nets:
        """The student."""
        return Nets(prediction=self.net(spec))

    def program(self) -> Program:
        """One step, perhaps after a warm-up."""
        alone = Step(self.biased, updates=("prediction",))
        if not self.weight:
            return [Phase(alone)]
        taught = Step(
            self.refine if self.mode == "refine" else merged(self.biased, self.bridge),
            updates=("prediction",),
        )
        start = [Phase(alone, stop=self.warmup)] if self.warmup else []
        return [*start, Phase(taught, start=self.warmup)]

    def taught(self, pairs: Pairs) -> Tensor:
        """(n,) r_teacher in [0, 1]."""
        r = self.teacher_._pairs(pairs.user.cpu().numpy(), pairs.item.cpu().numpy())
        return torch.from_numpy(r).to(pairs.o)

    def biased(self, nets: Nets, b: Batch) -> Terms:
        """(1/|O|) sum_O e."""
        o = b.observed
        return {"biased": o.average(self.d(nets.prediction(o), o.r))}

    def bridge(self, nets: Nets, b: Batch) -> Terms:
        """C E_D[(r_hat - r_teacher)^2]."""
        d = b.space
        distance = (nets.prediction(d).sigmoid() - self.taught(d)) ** 2
        return {"bridge": self.weight * d.expect(distance)}

    def refine(self, nets: Nets, b: Batch) -> Terms:
        """(1/|O|) sum_O d((1 - c) r + c r_teacher, r_hat)."""
        o = b.observed
        label = (1 - self.weight) * o.r + self.weight * self.taught(o)
        return {"refine": o.average(self.d(nets.prediction(o), label))}


def check_teacher(teacher: object, who: str) -> None:
    """Refuse a teacher that never sees the randomised log.

    Raises
    ------
    ParameterError.
    """
    if not isinstance(teacher, Estimator) or not teacher.tags.uses_unbiased:
        raise ParameterError(
            f"'teacher' of {who} must be a method that learns from the randomised log (teacher.population=uniform); "
            f"got {teacher!r}."
        )
