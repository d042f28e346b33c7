"""CausE: causal embeddings, two item sides that are trained on two logs and tied to each other.

Idea. The biased log teaches one set of item factors, the randomised log another; a penalty on their distance lets the
few randomised ratings say where the many biased ones have drifted to.

Risk ([Bonner2018]).
    L = (1/|O|) sum_O e_c + w (1/|R|) sum_R e_t + tie (1/|O|) sum_O 1[i tied] dist(q_i, q'_i)
    e_c     error of the control half, item factors q             w     `unbiased_weight`
    e_t     error of the treatment half, item factors q'          tie   `tie`
    dist    |q - q'|_1 (l1), ||q - q'||^2 (l2) or 1 - cos(q, q') (cos)

The net `prediction` is the half that answers (`answers`); `other` is the other half.

Needs.      a biased log and a randomised log.
Assumes.    representative randomised rows; what randomised rows teach carries over: both item sides are near each
            other, and, with `share_users`, tastes are the same in both logs.
Limits.     tie = 0 and users of their own (`share_users=False`): two independent tasks, MF on the biased log and MF on
            the randomised log, exactly. tie = 0 with shared users: no item side feels the other log.
Deviations. 1. Means of each log and a weight w instead of sums: under sums a randomised row counts as a biased one
            (w = |R|/|O|). 2. Only items that the held side has learned are tied (`ties`="learned"): an item without
            randomised rows would be pulled to its initial noise. "all" is the public code. 3. Which side is held
            fixed in the tie (`holds`) is the treatment in the public re-implementations (the biased half follows
            the unbiased one), the control in the authors' code. 4. l2 is the squared norm, which has a gradient at 0.
            5. Factors are tied, biases are not. 6. Adam. 7. No loss scale that is learned.
Paper.      [Bonner2018]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from deconrec.base import Spec, Tags
from deconrec.data.dataset import Dataset
from deconrec.data.split import ValidationPart
from deconrec.pairs import Batch, Pairs
from deconrec.parameters import Search, parameter
from deconrec.torch_estimator import PairEstimator
from deconrec.training.program import Nets, Phase, Program, Step, Terms, merged


@dataclass(kw_only=True, eq=False, repr=False)
class CausE(PairEstimator):
    """Causal embeddings."""

    paper = "Bonner2018"
    title = "Causal embeddings"

    tie: float = parameter(
        0.01, "weight of the distance of the item sides", low=0, search=Search(1e-3, 10, log=True)
    )
    distance: str = parameter(
        "l1",
        "distance of two item factors: L1 norm, squared L2 norm, 1 - cosine",
        choices=("l1", "l2", "cos"),
    )
    holds: str = parameter(
        "treatment",
        "side that the tie does not move (stop-gradient)",
        choices=("treatment", "control", "none"),
    )
    ties: str = parameter(
        "learned",
        "items that are tied: those that the held side has learned (has rows of), or all",
        choices=("learned", "all"),
    )
    unbiased_weight: float = parameter(
        0.3, "weight w of the randomised log's mean error", above=0, search=Search(0.01, 3, log=True)
    )
    share_users: bool = parameter(True, "one user side for both halves")
    answers: str = parameter(
        "control", "half that predicts: control = biased log, treatment", choices=("control", "treatment")
    )

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        tied_: Tensor

    @property
    def tags(self) -> Tags:
        """Needs a randomised log unless it cannot reach the half that answers."""
        needs = self.two_halves
        return Tags(
            needs_unbiased=needs, uses_unbiased=needs, shape="pairs", uses_features=self.reads_features
        )

    @property
    def two_halves(self) -> bool:
        """Whether the randomised log can reach the half that answers."""
        return self.share_users or self.answers == "treatment" or (self.tie > 0 and self.holds != "control")

    @property
    def reads_space(self) -> bool:
        """No risk reads D."""
        return False

    def _covered(self, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
        users, items = super()._covered(data)
        if data.unbiased is None:
            return users, items
        control, treatment = (np.zeros(data.n_items, bool) for _ in range(2))
        control[data.biased.item], treatment[data.unbiased.item] = True, True
        if self.answers == "control":
            items = control
        elif not (
            self.tie > 0 and (self.holds == "control" or (self.holds == "none" and self.ties == "all"))
        ):
            items = treatment  # nothing else moved the treatment half away from its initial noise
        if not self.share_users:
            log = data.biased if self.answers == "control" else data.unbiased
            users = np.zeros(data.n_users, bool)
            users[log.user] = True
        return users, items

    def _fit(self, data: Dataset, validation: ValidationPart, progress: bool) -> None:
        tied = np.ones(data.n_items, bool)
        if self.ties == "learned" and self.holds != "control" and data.unbiased is not None:
            tied = np.bincount(data.unbiased.item, minlength=data.n_items) > 0
        self.tied_ = torch.from_numpy(tied.astype(np.float32)).to(self.device)
        super()._fit(data, validation, progress)

    def nets(self, spec: Spec) -> Nets:
        """The half that answers, and the other one: without users where they are shared."""
        nets = {"prediction": self.net(spec)}
        if self.two_halves:
            bare = replace(spec, n_users=0, n_user_features=0)
            nets["other"] = self.net(bare if self.share_users else spec)
        return Nets(**nets)

    def program(self) -> Program:
        """One joint step."""
        if not self.two_halves:
            return [Phase(Step(self.control, updates=("prediction",)))]
        losses = [self.control, self.treatment, *([self.distances] if self.tie else [])]
        return [Phase(Step(merged(*losses), updates=("prediction", "other")))]

    def half(self, nets: Nets, pairs: Pairs, name: str) -> Tensor:
        """(n,) logits of the half "control" or "treatment"."""
        if name == self.answers:
            return nets.prediction(pairs)
        if not self.share_users:
            return nets.other(pairs)
        p, b_u = nets.prediction.user_side(pairs.tables)
        q, b_i = nets.other.item_side(pairs.tables)
        u, i = pairs.user, pairs.item
        dot = (torch.index_select(p, 0, u) * torch.index_select(q, 0, i)).sum(1)
        return dot + torch.index_select(b_u, 0, u) + torch.index_select(b_i, 0, i)

    def control(self, nets: Nets, b: Batch) -> Terms:
        """(1/|O|) sum_O e_c."""
        o = b.observed
        return {"control": o.average(self.d(self.half(nets, o, "control"), o.r))}

    def treatment(self, nets: Nets, b: Batch) -> Terms:
        """W (1/|R|) sum_R e_t."""
        assert b.unbiased is not None
        e = self.d(self.half(nets, b.unbiased, "treatment"), b.unbiased.r)
        return {"treatment": self.unbiased_weight * b.unbiased.expect(e)}

    def distances(self, nets: Nets, b: Batch) -> Terms:
        """The tie: an item counts as often as it was observed."""
        o = b.observed
        mine, other = (net.item_side(o.tables)[0] for net in (nets.prediction, nets.other))
        control, treatment = (mine, other) if self.answers == "control" else (other, mine)
        if self.holds == "treatment":
            treatment = treatment.detach()
        elif self.holds == "control":
            control = control.detach()
        if self.distance == "cos":
            far = 1 - cosine_similarity(control, treatment, dim=1)
        else:
            difference = control - treatment
            far = (difference.abs() if self.distance == "l1" else difference.square()).sum(1)
        return {"tie": self.tie * o.average(torch.index_select(far * self.tied_.to(far), 0, o.item))}
