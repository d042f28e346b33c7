"""Popularity propensities: p_ui = (share of users, or of its impressions, that item i was exposed to) ** power.

Needs.   exposures only. Ignores users: a coarse propensity, and named as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from deconrec.base import Propensity, Spec
from deconrec.data.dataset import Dataset
from deconrec.pairs import Pairs
from deconrec.parameters import parameter
from deconrec.propensity.floor import Overlap, automatic, floored, refuse_constant


@dataclass(kw_only=True, eq=False, repr=False)
class Popularity(Propensity):
    """Propensity given the item's popularity alone."""

    floor: float | None = parameter(
        None, "smallest propensity; none = the log's density, at most 0.1", above=0, high=1
    )
    power: float = parameter(1.0, "power of the popularity; 0.5 is common", above=0, high=1)

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        p_: np.ndarray
        overlap_: Overlap
        floor_: float

    def fit(self, data: Dataset, excluded: csr_matrix | None = None) -> Popularity:
        """Count exposures of items, among the users that were not `excluded`."""
        self.check_params()
        offered: int | np.ndarray = data.n_users
        if data.impressions is not None:
            offered = np.maximum(np.bincount(data.impressions.log.item, minlength=data.n_items), 1)
        elif excluded is not None:
            offered = np.maximum(data.n_users - np.bincount(excluded.indices, minlength=data.n_items), 1)
        rate = np.bincount(data.biased.item, minlength=data.n_items) / offered
        self.p_ = (rate**self.power).astype(np.float32)
        self.floor_ = automatic(self.floor, data.density)
        refuse_constant(self.p_[data.biased.item], self.floor_, "popularity")
        self.overlap_ = Overlap.of(self.p_[data.biased.item], self.floor_)
        self.overlap_.warn("popularity")
        return self

    @torch.no_grad()
    def __call__(self, pairs: Pairs) -> Tensor:
        """(n,) in [floor, 1]."""
        return floored(torch.from_numpy(self.p_).to(pairs.o.device)[pairs.item], self.floor_)

    def of_new(self, pairs: Pairs, n_users: int) -> Tensor:
        """(n,) in [floor, 1]: users make no difference."""
        return self(pairs)

    def _state(self) -> dict[str, np.ndarray]:
        return {"p": self.p_, "floor": np.array([self.floor_])}

    def _restore(self, state: Mapping[str, np.ndarray], spec: Spec) -> None:
        self.p_, self.floor_ = np.array(state["p"]), float(state["floor"][0])
