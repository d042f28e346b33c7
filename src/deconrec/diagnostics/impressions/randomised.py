"""Do the clicks that are called forced look like it? A check of what they were of.

The pCTR of forced clicks is set against that of all impressions, the users' own levels left out: whose clicks are
forced may be chosen as one likes. Where clicks were forced, or drawn at random, of the impressions of the log, the two
are alike; clicks that users chose lean to what is clicked anyway.
"""

from __future__ import annotations

import math

import numpy as np

from deconrec.data.impressions import unit_weight
from deconrec.diagnostics.impressions.confounding import ClickModel
from deconrec.diagnostics.randomised import Randomised

USERS = 0  # the factor whose levels are left out


def randomised(clicks: ClickModel) -> Randomised | None:
    """The check; None without forced clicks, or where pCTR is the same for all."""
    if clicks.forced is None or len(clicks.forced) < 2:
        return None
    n = len(clicks.shown)
    logit = clicks.logit(without=USERS)
    w = clicks.shown.weight.astype(np.float64)
    mean = float(np.average(logit[:n], weights=w))
    spread = math.sqrt(float(np.average((logit[:n] - mean) ** 2, weights=w)))
    if not spread > 1e-6:
        return None
    u = unit_weight(clicks.forced).astype(np.float64) / len(clicks.forced)
    gap = (logit[n:] - mean) / spread
    lean = float(u @ gap)
    return Randomised(lean, math.sqrt(float((u**2) @ (gap - lean) ** 2)))
