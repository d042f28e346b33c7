"""Popularity propensities: p_ui = (share of users that item i was exposed to) ** power.

Needs.   exposures only. Ignores users: a coarse propensity, and named as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from deconrec.base import Propensity, Spec
from deconrec.data.dataset import Dataset
from deconrec.pairs import Pairs
from deconrec.parameters import parameter
from deconrec.propensity.floor import Overlap, floored


@dataclass(kw_only=True, eq=False, repr=False)
class Popularity(Propensity):
    """Propensity given the item's popularity alone."""

    floor: float = parameter(0.05, "smallest propensity", above=0, high=1)
    power: float = parameter(
        1.0, "power of the popularity; 0.5 is common, 0 gives constant weights", low=0, high=1
    )

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        p_: np.ndarray
        overlap_: Overlap

    def fit(self, data: Dataset) -> Popularity:
        """Count exposures of items."""
        self.check_params()
        rate = np.bincount(data.biased.item, minlength=data.n_items) / data.n_users
        self.p_ = (rate**self.power).astype(np.float32)
        self.overlap_ = Overlap.of(self.p_[data.biased.item], self.floor)
        self.overlap_.warn("popularity")
        return self

    @torch.no_grad()
    def __call__(self, pairs: Pairs) -> Tensor:
        """(n,) in [floor, 1]."""
        return floored(torch.from_numpy(self.p_).to(pairs.o.device)[pairs.item], self.floor)

    def _state(self) -> dict[str, np.ndarray]:
        return {"p": self.p_}

    def _restore(self, state: Mapping[str, np.ndarray], spec: Spec) -> None:
        self.p_ = np.array(state["p"])
