"""Does the log that is called randomised look like one? A check of whom and what it holds.

For each of its pairs, the fitted exposure logit is set against that of other pairs of the same user that stand in
neither log. In a log that was drawn at random the two are alike; a log that a recommender had its hand in leans to what
the biased log holds. Users may be chosen as one likes: the comparison is within them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from deconrec.data.dataset import Dataset
from deconrec.diagnostics.additive import Additive
from deconrec.random import numpy_generator

DRAWN = 20  # NOTE pairs of the same user that a row is compared with
LEANS = 0.1  # standard deviations of the exposure logit
SURE = 4.0  # standard errors: with many rows, one standard error is next to nothing


@dataclass(frozen=True)
class Randomised:
    """How far the randomised log leans to what is exposed.

    Attributes
    ----------
    lean: mean difference of exposure logits, in standard deviations of them over pairs.
    error: its standard error, rows taken as independent.
    """

    lean: float
    error: float

    @property
    def doubtful(self) -> bool:
        """Whether the log leans by more than a tenth of a deviation, and surely."""
        return abs(self.lean) > LEANS and abs(self.lean) > SURE * self.error

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"lean": self.lean, "error": self.error, "doubtful": self.doubtful}


def randomised(data: Dataset, exposure: Additive, seed: int = 0) -> Randomised | None:
    """The check; None without usable rows, or where exposure is the same for every pair."""
    if data.unbiased is None:
        return None
    log = data.unbiased.take(~data.in_biased)
    if len(log) < 2:
        return None
    rng = numpy_generator(seed, "diagnose/randomised")
    user = np.repeat(log.user.astype(np.int64), DRAWN)
    item = rng.integers(0, data.n_items, len(user))
    key = user * data.n_items + item
    taken = np.concatenate([data.biased.key(data.n_items), log.key(data.n_items)])
    free = ~np.isin(key, taken)
    other = exposure.at(user, item)
    row = np.repeat(np.arange(len(log)), DRAWN)
    count = np.bincount(row[free], minlength=len(log))
    kept = count > 0
    spread = float(other[free].std()) if free.any() else 0.0
    if kept.sum() < 2 or not spread > 1e-9:
        return None
    mean = np.bincount(row[free], other[free], minlength=len(log))[kept] / count[kept]
    gap = (exposure.at(log.user, log.item)[kept] - mean) / spread
    return Randomised(float(gap.mean()), float(gap.std(ddof=1) / math.sqrt(len(gap))))
