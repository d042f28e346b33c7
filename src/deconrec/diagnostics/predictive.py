"""The deconfounder's predictive check of the exposure model that `deep-deconf` reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deconrec.data.dataset import Dataset
from deconrec.data.split import take_users
from deconrec.exposure import EXPOSURE_MODELS, PredictiveCheck
from deconrec.random import numpy_generator

CHECKED = 0.2  # of the users, at most `MOST`: the model does not see them
MOST = 500
SMALLEST = 20, 10  # active users and items below which nothing is fitted


@dataclass(frozen=True, eq=False)
class ExposureCheck:
    """The check; `check` is None where there are too few users or items, and `why` says so."""

    check: PredictiveCheck | None
    why: str = ""

    @property
    def p(self) -> float | None:
        """The overall p, or None."""
        return None if self.check is None or not len(self.check.p) else self.check.overall

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        if self.check is None or self.p is None:
            return {
                "p": None,
                "standard_error": None,
                "satisfactory": None,
                "users": 0,
                "model": "vae",
                "why": self.why,
            }
        error = self.check.standard_error
        return {
            "p": self.p,
            "standard_error": None if np.isnan(error) else error,
            "satisfactory": self.check.satisfactory,
            "users": len(self.check.p),
            "log_likelihood": self.check.mean_log_likelihood,
            "model": "vae",
            "why": "",
        }


def exposure_check(data: Dataset, seed: int = 0) -> ExposureCheck:
    """Fit the default exposure model to four fifths of the users, and check it on the others."""
    active = np.flatnonzero(np.bincount(data.biased.user, minlength=data.n_users))
    if len(active) < SMALLEST[0] or data.n_items < SMALLEST[1]:
        return ExposureCheck(None, f"fewer than {SMALLEST[0]} active users or {SMALLEST[1]} items")
    order = numpy_generator(seed, "diagnose/check").permutation(active)
    cut = min(MOST, round(CHECKED * len(active)))
    held, kept = (take_users(data, np.sort(part)) for part in (order[:cut], order[cut:]))
    model = EXPOSURE_MODELS["vae"]().set_params(seed=seed).fit(kept, held)
    return ExposureCheck(model.check_)
