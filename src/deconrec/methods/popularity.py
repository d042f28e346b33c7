"""Popularity: the same list for everybody, the items with the most rows first.

Idea. The ranker that any other must beat: it knows what is shown a lot, and of nobody what they like.

Risk.
    r_hat_ui = sigma( w_0 + w_1 log(1 + n_i) )       n_i     rows of item i in the biased log
    w        logistic regression on the rows, w_1 > 0: the order is that of n_i

Needs.      a biased log. No torch.
Assumes.    no assumption is made: it is a yardstick, and the more popular is not the better.
Limits.     items with equally many rows tie; one without a row gets the mean outcome, as from every method.
Deviations. 1. The counts become expected outcomes by a logistic map with a positive slope.
Paper.      [Cremonesi2010]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from deconrec.base import Estimator, Tags
from deconrec.data.dataset import Dataset
from deconrec.data.split import ValidationPart
from deconrec.evaluation.calibration import platt


@dataclass(kw_only=True, eq=False, repr=False)
class MostPopular(Estimator):
    """The items with the most rows."""

    paper = "Cremonesi2010"
    title = "Most popular items"

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        expected_: np.ndarray

    @property
    def tags(self) -> Tags:
        """The biased log alone, in either protocol."""
        return Tags(shape="both", yardstick=True)

    def _fit(self, data: Dataset, validation: ValidationPart, progress: bool) -> None:
        count = np.log1p(np.bincount(data.biased.item, minlength=data.n_items))
        slope, shift = platt(count[data.biased.item], data.outcome(data.biased))
        self.expected_ = expit(slope * count + shift)

    def _pairs(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        return self.expected_[item]

    def _block(self, users: np.ndarray) -> np.ndarray:
        return np.tile(self.expected_, (len(users), 1))

    def _fold_in(self, history: Dataset) -> np.ndarray:
        return self._block(np.arange(history.n_users))

    def _state(self) -> dict[str, np.ndarray]:
        return {"expected": self.expected_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.expected_ = np.array(state["expected"])
