"""Naive Bayes propensities from a few randomised ratings [Schnabel2016].

p(o = 1 | r) = p(r | o = 1) p(o = 1) / p(r)
    p(r | o = 1)   histogram of outcomes in the biased log
    p(r)           histogram of outcomes in the randomised log, Laplace-smoothed
    p(o = 1)       density |O| / |D|

Needs.   a randomised log. Undefined for an unobserved pair, whose outcome is unknown: the density is given there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from deconrec.base import Propensity, Spec
from deconrec.data.dataset import Dataset
from deconrec.errors import MissingUnbiasedLog
from deconrec.pairs import Pairs
from deconrec.parameters import parameter
from deconrec.propensity.floor import Overlap, floored, refuse_constant


@dataclass(kw_only=True, eq=False, repr=False)
class NaiveBayes(Propensity):
    """Propensity given the outcome alone."""

    needs_unbiased: ClassVar[bool] = True

    floor: float = parameter(0.01, "smallest propensity", above=0, high=1)
    smoothing: float = parameter(1.0, "rows added to each outcome's count in both logs (Laplace)", above=0)

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        values_: np.ndarray
        p_: np.ndarray
        density_: float
        overlap_: Overlap

    def fit(self, data: Dataset, excluded: csr_matrix | None = None) -> NaiveBayes:
        """Count outcomes in both logs; the density is among pairs that were not `excluded`.

        Raises
        ------
        MissingUnbiasedLog: no randomised log.
        """
        self.check_params()
        if data.unbiased is None or not len(data.unbiased):
            raise MissingUnbiasedLog("NaiveBayes")
        seen, random = data.outcome(data.biased), data.outcome(data.unbiased)
        self.values_ = np.unique(np.concatenate([seen, random])).astype(np.float32)

        def histogram(r: np.ndarray) -> np.ndarray:
            count = (
                np.bincount(np.searchsorted(self.values_, r), minlength=len(self.values_)) + self.smoothing
            )
            return count / count.sum()

        space = data.n_users * data.n_items - (0 if excluded is None else excluded.nnz)
        self.density_ = len(data.biased) / max(space, 1)
        self.p_ = np.minimum(histogram(seen) * self.density_ / histogram(random), 1.0).astype(np.float32)
        refuse_constant(self.p_[np.searchsorted(self.values_, seen)], self.floor, "naive-bayes")
        self.overlap_ = Overlap.of(self.p_[np.searchsorted(self.values_, seen)], self.floor)
        self.overlap_.warn("naive-bayes")
        return self

    @torch.no_grad()
    def __call__(self, pairs: Pairs) -> Tensor:
        """(n,) in [floor, 1]."""
        values = torch.from_numpy(self.values_).to(pairs.r.device)
        place = torch.searchsorted(values, pairs.r.contiguous()).clamp(max=len(values) - 1)
        p = torch.from_numpy(self.p_).to(pairs.r.device)[place]
        return floored(torch.where(pairs.o > 0, p, torch.full_like(p, self.density_)), self.floor)

    def of_new(self, pairs: Pairs, n_users: int) -> Tensor:
        """(n,) in [floor, 1]: users make no difference."""
        return self(pairs)

    def _state(self) -> dict[str, np.ndarray]:
        return {"values": self.values_, "p": self.p_, "density": np.array([self.density_])}

    def _restore(self, state: Mapping[str, np.ndarray], spec: Spec) -> None:
        self.values_, self.p_ = np.array(state["values"]), np.array(state["p"])
        self.density_ = float(state["density"][0])
