"""What a model says about where it comes from: its data, how training was stopped, and the features it read."""

from __future__ import annotations

from typing import Any

import numpy as np

from deconrec.data.dataset import Dataset, Features
from deconrec.data.split import ValidationPart


def provenance(data: Dataset, validation: ValidationPart | None, refit: bool) -> dict[str, Any]:
    """The record that a fitted model keeps as `about_`, JSON-ready but for numbers of numpy.

    Parameters
    ----------
    data: the data that were given to `fit`, less its test log.
    validation: what was given to stop it, None where `fit` held a part out itself.
    refit: whether training was repeated on all rows once stopped.
    """
    held = "a part of the biased log, drawn by the seed"
    if validation is not None:
        held = "other users" if validation.history is not None else "rows that were given"
        if validation.unbiased:
            held = "randomised rows"
    return {
        "data": {
            "name": data.name,
            "users": data.n_users,
            "items": data.n_items,
            "biased_rows": len(data.biased),
            "unbiased_rows": 0 if data.unbiased is None else len(data.unbiased),
            "density": data.density,
            "mean_outcome": float(data.outcome(data.biased).mean()),
            "mean_unbiased": None
            if data.unbiased is None or not len(data.unbiased)
            else float(data.outcome(data.unbiased).mean()),
        },
        "protocol": {
            "name": data.task.protocol,
            "stopped_on": held,
            "refit": refit,
            "duplicates": data.duplicates,
        },
        "features": {
            side: _facts(f) for side, f in (("user", data.user_features), ("item", data.item_features))
        },
        "diagnosis": None,
    }


def _facts(features: Features | None) -> dict[str, Any] | None:
    """Names of the numeric columns and their means over those that have features."""
    if features is None:
        return None
    there = features.values[~features.missing]
    mean = (there if len(there) else features.values).mean(0, dtype=np.float64)
    return {"names": list(features.names), "means": [float(m) for m in mean]}
