"""How often impressions are clicked, how often clicks convert, and what of that is unknown.

Rates count sample weights. Their 95 % intervals are clustered by user and by item (`diagnostics.confounding.error`), on
the scale of logits. Nobody saw whether impressions without a click would have converted: with nothing assumed of them,
the mean pCVR over all impressions lies in [CTR x CVR, CTR x CVR + 1 - CTR] [Manski1990].
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit

from deconrec.data.dataset import Dataset, Log
from deconrec.data.impressions import unit_weight
from deconrec.diagnostics.confounding import error
from deconrec.diagnostics.propensities import Propensities


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % interval, and the rows and events that it is of."""

    value: float
    low: float
    high: float
    rows: int
    events: int


@dataclass(frozen=True)
class Rates:
    """Rates of an impression log.

    Attributes
    ----------
    click: over all impressions. conversion: over clicked ones. both: clicked and converted, over all impressions.
    weighted: mean pCVR over all impressions if clicks depend on the outcome through what pCTR reads alone; its interval
        takes pCTR as known. None without propensities that differ.
    forced: conversion among impressions with a forced click; None without any.
    least, most: of the mean pCVR over all impressions with nothing assumed.
    silent_users, silent_items: shares of the users and items of the log that have no click.
    """

    click: Rate
    conversion: Rate
    both: Rate
    weighted: Rate | None
    forced: Rate | None
    least: float
    most: float
    silent_users: float
    silent_items: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def rates(data: Dataset, p: Propensities | None = None) -> Rates:
    """The rates of a log of impressions; `p`: propensities of its clicked rows, in their order."""
    shown = data.impressions
    assert shown is not None
    click = rate(shown.log, shown.click.astype(np.float64), shown.weight)
    both = rate(shown.log, shown.log.rating.astype(np.float64), shown.weight)
    clicked, forced = shown.clicked, data.unbiased
    converted = clicked.rating.astype(np.float64)
    silent = [
        1 - len(np.unique(getattr(clicked, side))) / len(np.unique(getattr(shown.log, side)))
        for side in ("user", "item")
    ]
    return Rates(
        click,
        rate(clicked, converted, unit_weight(clicked)),
        both,
        None if p is None else rate(clicked, converted, p.weight),
        None
        if forced is None or not len(forced)
        else rate(forced, forced.rating.astype(np.float64), unit_weight(forced)),
        both.value,
        both.value + 1 - click.value,
        silent[0],
        silent[1],
    )


def rate(log: Log, y: np.ndarray, weight: np.ndarray) -> Rate:
    """The weighted share of y (n,) in {0, 1} over the rows of a log."""
    w = weight.astype(np.float64) / weight.sum(dtype=np.float64)
    value, events = float(w @ y), int(y.sum())
    if not 0 < events < len(y):  # the rule of three
        reach = min(3 / len(y), 1.0)
        return Rate(value, max(value - reach, 0.0), min(value + reach, 1.0), len(y), events)
    influence = w * (y - value)
    size = error(influence, influence**2, log.user, log.item, len(y))[0]
    centre, step = float(logit(value)), 1.96 * size / (value * (1 - value))
    return Rate(value, float(expit(centre - step)), float(expit(centre + step)), len(y), events)


def auc_reach(events: float, others: float, auc: float = 0.7) -> float:
    """Half the 95 % interval of an AUC of that size with so many rows of either label [Hanley1982]; NaN without any."""
    if events <= 0 or others <= 0:
        return math.nan
    one, two = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    spread = auc * (1 - auc) + (events - 1) * (one - auc * auc) + (others - 1) * (two - auc * auc)
    return 1.96 * math.sqrt(max(spread, 0.0) / (events * others))
