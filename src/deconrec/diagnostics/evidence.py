"""How much randomised data there is, and whether it is enough for an answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from deconrec.data.dataset import Dataset
from deconrec.diagnostics.confounding import POWER, Confounding

MATTERS = 0.05  # NOTE a gap of this share of the outcome's range is taken to matter,
PART = 0.25  # ... or of this share of a rarer outcome's mean, or of its distance from 1


@dataclass(frozen=True)
class Evidence:
    """Randomised rows and what they can tell.

    Attributes
    ----------
    rows: of the randomised log. used: of them, those whose pair is not in the biased log. users: that they are of.
    smallest: gap that would be found 4 times in 5; None without a test.
    enough: whether `smallest` is at most `matters`; None without a test.
    needed: rows for which it would be, by the square-root law; without a test, from the biased log's variance.
    matters: the gap that is taken to matter.
    """

    rows: int
    used: int
    users: int
    smallest: float | None
    enough: bool | None
    needed: int
    matters: float = MATTERS

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "rows": self.rows,
            "used": self.used,
            "users": self.users,
            "smallest_gap": self.smallest,
            "gap_that_matters": self.matters,
            "enough": self.enough,
            "rows_needed": self.needed,
        }


def evidence(data: Dataset, found: Confounding) -> Evidence:
    """The randomised rows of a data set."""
    log = data.unbiased
    rows = 0 if log is None else len(log)
    users = 0 if log is None else len(np.unique(log.user))
    outcome = data.outcome(log if log is not None and rows else data.biased).astype(np.float64)
    mean = float(outcome.mean())
    rare = PART * min(mean, 1 - mean)
    matters = min(MATTERS, rare) if rare > 0 else MATTERS
    if found.smallest is not None:
        needed = math.ceil(found.rows * (found.smallest / matters) ** 2)
        enough = found.smallest <= matters
        return Evidence(rows, found.rows, users, found.smallest, enough, max(needed, 1), matters)
    reach = float(norm.ppf(0.975) + norm.ppf(POWER))
    variance = float(data.outcome(data.biased).astype(np.float64).var()) or 0.25
    return Evidence(rows, found.rows, users, None, None, math.ceil(reach**2 * variance / matters**2), matters)
