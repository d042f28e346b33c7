"""How outcomes are distributed in the biased log, and in the randomised one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deconrec.data.dataset import Dataset

MOST = 12  # values shown one by one; more are put into this many bins of equal width


@dataclass(frozen=True, eq=False)
class Distribution:
    """Shares of every rating, on its own scale.

    Attributes
    ----------
    values: (k,) ratings, or the middles of bins.
    biased, unbiased: (k,) shares of rows; `unbiased` is None without a randomised log.
    mean_biased, mean_unbiased: mean ratings.
    distance: total variation, half the sum of absolute differences of the shares, in [0, 1].
    noise: the distance that chance alone gives on average, rows being independent draws from one distribution.
    """

    values: np.ndarray
    biased: np.ndarray
    unbiased: np.ndarray | None
    mean_biased: float
    mean_unbiased: float | None
    distance: float | None
    noise: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "values": [float(v) for v in self.values],
            "biased": [float(v) for v in self.biased],
            "unbiased": None if self.unbiased is None else [float(v) for v in self.unbiased],
            "mean_biased": self.mean_biased,
            "mean_unbiased": self.mean_unbiased,
            "distance": self.distance,
            "noise": self.noise,
        }


def distribution(data: Dataset) -> Distribution:
    """The distribution of ratings in both logs, all rows of each."""
    b = data.biased.rating.astype(np.float64)
    u = np.zeros(0) if data.unbiased is None else data.unbiased.rating.astype(np.float64)
    levels = np.unique(np.concatenate([b, u]))
    if len(levels) <= MOST:
        values, place = levels, [np.searchsorted(levels, x) for x in (b, u)]
    else:
        edges = np.linspace(levels[0], levels[-1], MOST + 1)
        values = (edges[1:] + edges[:-1]) / 2
        place = [np.clip(np.searchsorted(edges, x, side="right") - 1, 0, MOST - 1) for x in (b, u)]
    seen, drawn = (np.bincount(p, minlength=len(values)) / max(len(p), 1) for p in place)
    if not len(u):
        return Distribution(values, seen, None, float(b.mean()), None, None, None)
    both = (seen * len(b) + drawn * len(u)) / (len(b) + len(u))
    # E|x| of a normal variable is sqrt(2 / pi) of its deviation.
    noise = float((np.sqrt(2 / np.pi * both * (1 - both) * (1 / len(b) + 1 / len(u)))).sum() / 2)
    distance = float(np.abs(seen - drawn).sum() / 2)
    return Distribution(values, seen, drawn, float(b.mean()), float(u.mean()), distance, noise)
