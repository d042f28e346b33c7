"""KD-Feature: a teacher trained on the randomised log hands its factors to a student of the biased log.

Idea. What a model learned from randomised ratings stands in its factors: start from them (init), start from them and
move the sides in turn (alter), keep them beside factors of one's own (concat), or stay near them (hint).

Risk ([Liu2020]).   (1/|O|) sum_O e, the logit of r_hat
    init, alter   p_u . q_i + biases, which start at the teacher's (`side`)
    concat        [p'_u, p_u] . [q'_i, q_i] + biases, the teacher's p', q' frozen
    hint          p_u . q_i + biases, and c ( mean_u ||p_u - p'_u||^2 + mean_i ||q_i - q'_i||^2 ) is added
    e       error of `prediction` on (u, i)           c   `weight`, read by hint alone
    p', q'  factors of `self.teacher_`, fitted first; the means are over users and items that it has rows of

Needs.      a biased log and a randomised log, which the teacher learns from.
Assumes.    representative randomised rows; what randomised rows teach carries over: it stands in the teacher's factors,
            and those of user and item mean the same in both logs. init and alter forget it as the biased log is
            learned.
Limits.     hint with c = 0: MF on the biased log, exactly. concat with teacher's factors at 0: MF on the biased log.
            init whose teacher was never trained (0 epochs): MF on the biased log, exactly.
Deviations. 1. Hint on factors (the paper's on hidden layers of an autoencoder). Factors are known up to a rotation: the
            student therefore starts at the values that the teacher started at (one seed), so that axes agree. 2. The
            teacher's biases are handed over in init and alter, so that factors are not read without them, not in
            concat. 3. alter: three passes over users for one over items, the global bias with the users.
            4. The teacher has the student's `backbone`, and but for concat its `dim`: where its own are those that a
            teacher has unless told otherwise, they are the student's. 5. Adam.
Paper.      [Liu2020]; as a baseline, [Li2023] section 5, which does not say which form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deconrec.base import Estimator, Spec, Tags
from deconrec.errors import ParameterError
from deconrec.methods.kd_label import TEACHERS, check_teacher, uniform_teacher
from deconrec.methods.mf import MF
from deconrec.pairs import Batch, Pairs, Tables
from deconrec.parameters import Parameterised, Search, nuisance, parameter
from deconrec.torch_estimator import PairEstimator
from deconrec.training.program import Nets, Phase, Program, Step, Terms, merged

USER_PASSES = 3  # NOTE alter: passes over the user side for one over the item side, as in KDCRec


class Beside(nn.Module):
    """A net over pairs with frozen factors beside its own: l = net + p'_u . q'_i.

    Parameters
    ----------
    net: the trainable part.
    user, item: (n_users, k) and (n_items, k), kept as buffers: no step moves them and no penalty sees them.
    """

    def __init__(self, net: nn.Module, user: Tensor, item: Tensor) -> None:
        super().__init__()
        self.net = net
        self.user: Tensor
        self.item: Tensor
        self.register_buffer("user", user.detach().clone())
        self.register_buffer("item", item.detach().clone())

    def forward(self, pairs: Pairs) -> Tensor:
        """(n,) logits."""
        own = self.net(pairs)
        if pairs.grid is not None:
            return own + (self.user[pairs.grid.users] @ self.item[pairs.grid.items].T).reshape(-1)
        return own + (self.user[pairs.user] * self.item[pairs.item]).sum(1)

    def item_side(self, tables: Tables) -> tuple[Tensor, Tensor]:
        """([q'_i, q_i] (n_items, k + dim), bias (n_items,)) of every item."""
        q, b_i = self.net.item_side(tables)  # type: ignore[operator]  # a net over pairs
        return torch.cat([self.item, q], 1), b_i

    def new_users(self, n: int, x: Tensor | None) -> tuple[Tensor, Tensor]:
        """Factors and bias of users without a row; the teacher's part is 0 and is fitted to the history."""
        p, b_u = self.net.new_users(n, x)  # type: ignore[operator]  # a net over pairs
        return torch.cat([self.user.new_zeros(n, self.user.shape[1]), p], 1), b_u


@dataclass(kw_only=True, eq=False, repr=False)
class KDFeature(PairEstimator):
    """Knowledge distillation by factors."""

    paper = "Liu2020"
    title = "Feature distillation"

    teacher: Estimator = nuisance(
        uniform_teacher, "method that learns from the randomised log, fitted first", TEACHERS
    )
    mode: str = parameter(
        "init",
        "what is done with the teacher's factors: see the module",
        choices=("init", "alter", "concat", "hint"),
    )
    side: str = parameter(
        "both", "init, alter, hint: whose factors are taken", choices=("both", "user", "item")
    )
    weight: float = parameter(0.1, "hint: weight c of the distance", low=0, search=Search(1e-3, 1, log=True))
    dim: int = parameter(
        32,
        "number of factors; but for concat also the teacher's",
        low=1,
        search=Search(4, 128, log=True, whole=True),
    )

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        teacher_: MF

    @property
    def tags(self) -> Tags:
        """Needs a randomised log unless the teacher has no weight."""
        uses = self.taught
        return Tags(needs_unbiased=uses, uses_unbiased=uses, shape="pairs", uses_features=self.reads_features)

    @property
    def inert(self) -> frozenset[str]:
        """What hint alone reads, and what the teacher takes from the student."""
        theirs = frozenset(f"teacher.{name}" for name in self.handed_down)
        return theirs if self.mode == "hint" else theirs | {"weight"}

    @property
    def taught(self) -> bool:
        """Whether the teacher can reach the student."""
        return self.mode != "hint" or self.weight > 0

    def check_params(self) -> None:
        """Ranges, and that the teacher's factors fit the student's."""
        super().check_params()
        check_teacher(self.teacher, "KDFeature")
        for name, usual in self.handed_down.items():
            theirs, mine = getattr(self.teacher, name, None), getattr(self, name)
            if theirs not in (usual, mine):
                raise ParameterError(
                    f"'{name}' of KDFeature must be its teacher's when mode='{self.mode}' ({theirs!r}); got {mine!r}. "
                    f"Leave teacher.{name} out, or set it to the same."
                )

    @property
    def handed_down(self) -> dict[str, Any]:
        """What the teacher takes from the student where its own value is the usual one, and that value."""
        usual = type(self.teacher)()
        same = ("backbone",) if self.mode == "concat" else ("backbone", "dim")
        return {name: getattr(usual, name, None) for name in same}

    def _nuisances(self) -> dict[str, Parameterised]:
        if not self.taught:
            return {}
        return {"teacher": self.teacher.clone().set_params(**{n: getattr(self, n) for n in self.handed_down})}

    @property
    def reads_space(self) -> bool:
        """No risk reads D."""
        return False

    @torch.no_grad()
    def nets(self, spec: Spec) -> Nets:
        """The student."""
        student = self.net(spec)
        if self.mode in ("init", "alter"):
            theirs = dict(self.teacher_.nets_.prediction.named_parameters())
            for name, mine in student.named_parameters():
                if name.startswith(self.sides):
                    mine.copy_(theirs[name])
        if self.mode == "concat":
            student = Beside(student, *self.factors(self.teacher_.nets_.prediction, self.teacher_.tables_))
        return Nets(prediction=student)

    @property
    def sides(self) -> tuple[str, ...]:
        """How the names of the parameters of the chosen side begin."""
        return ("user", "item") if self.side == "both" else (self.side,)

    def program(self) -> Program:
        """One step; alter: the sides in turn."""
        if self.mode == "alter":
            bias = {"mf": "prediction.{}_bias", "fm": "prediction.{}.bias"}[self.backbone]
            users, items = (
                Step(self.biased, updates=(f"prediction.{side}", bias.format(side), *more))
                for side, more in (("user", ("prediction.offset",)), ("item", ()))
            )
            return [Phase(users), Phase(items, every=USER_PASSES, start=USER_PASSES - 1)]
        loss = merged(self.biased, self.hint) if self.mode == "hint" and self.weight else self.biased
        return [Phase(Step(loss, updates=("prediction",)))]

    def factors(self, net: nn.Module, tables: Tables) -> tuple[Tensor, Tensor]:
        """Factors (n_users, dim) and (n_items, dim) of every user and item."""
        return net.user_side(tables)[0], net.item_side(tables)[0]  # type: ignore[operator]  # a net over pairs

    def biased(self, nets: Nets, b: Batch) -> Terms:
        """(1/|O|) sum_O e."""
        o = b.observed
        return {"biased": o.average(self.d(nets.prediction(o), o.r))}

    def hint(self, nets: Nets, b: Batch) -> Terms:
        """C (mean_u ||p_u - p'_u||^2 + mean_i ||q_i - q'_i||^2)."""
        teacher = self.teacher_
        with torch.no_grad():
            theirs = self.factors(teacher.nets_.prediction, teacher.tables_)
        mine = self.factors(nets.prediction, b.observed.tables)
        known = (teacher.covered_users_, teacher.covered_items_)
        terms: dict[str, Tensor] = {}
        for name, h, h_t, rows in zip(("user", "item"), mine, theirs, known, strict=True):
            if name in self.sides:
                distance = (h - h_t.to(h)).square().sum(1)
                terms[f"hint_{name}"] = self.weight * distance[torch.from_numpy(rows).to(h.device)].mean()
        return terms
