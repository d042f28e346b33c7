"""What weights would rest on: overlap, its tail, and whether propensities mean what they say out of fold.

The propensity is the default of the weighted methods, logistic matrix factorisation, cross-fitted: each pair's comes
from the network that was not fitted to it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconrec.data.dataset import Dataset
from deconrec.errors import DataError, OverlapWarning
from deconrec.evaluation.calibration import Reliability, reliability
from deconrec.evaluation.overlap import Overlap
from deconrec.pairs import Pairs
from deconrec.propensity import PROPENSITIES, LogisticMF
from deconrec.random import numpy_generator
from deconrec.training.features import feature_tables

FOLDS = 5
CHECKED = 2_000_000  # NOTE pairs that calibration is read off, drawn of a larger catalogue
BINS = 10
TAIL = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)  # shares of rows, heaviest first


@dataclass(frozen=True, eq=False)
class Propensities:
    """Propensities of a model, looked at.

    Attributes
    ----------
    observed: (n,) unfloored propensities of the biased rows, out of fold.
    weight: (n,) 1 / max(p, floor).
    overlap: what the weights rest on.
    reliability: predicted against observed exposure over all pairs (a draw of a large catalogue), out of fold.
    pairs: pairs that calibration was read off.
    features: whether the model read features.
    """

    observed: np.ndarray
    weight: np.ndarray
    overlap: Overlap
    reliability: Reliability
    pairs: int
    features: bool

    @property
    def tail(self) -> list[tuple[float, float]]:
        """(share of rows, share of the weights' sum that they hold), heaviest rows first."""
        w = np.sort(self.weight)[::-1]
        whole = np.cumsum(w) / w.sum()
        return [(s, float(whole[max(1, round(s * len(w))) - 1])) for s in TAIL]

    def overlap_dict(self) -> dict[str, Any]:
        """JSON-ready: what `Overlap.to_dict` gives, and the tail."""
        tail = [{"rows": s, "weight": v} for s, v in self.tail]
        return {
            **self.overlap.to_dict(),
            "tail_curve": tail,
            "model": "logistic-mf",
            "features": self.features,
        }

    def calibration_dict(self) -> dict[str, Any]:
        """JSON-ready: the reliability diagram's numbers and its error."""
        r = self.reliability
        kept = r.count > 0
        return {
            "ece": r.ece,
            "relative": r.ece / max(float((r.outcome[kept] @ r.count[kept]) / r.count.sum()), 1e-12),
            "folds": FOLDS,
            "pairs": self.pairs,
            "bins": [
                {"predicted": float(p), "observed": float(o), "pairs": int(n)}
                for p, o, n in zip(r.prediction[kept], r.outcome[kept], r.count[kept], strict=True)
            ],
        }


def propensities(data: Dataset, seed: int = 0) -> Propensities | None:
    """The default propensity of a data set's biased log; None where it is the same for every row."""
    features = data.user_features is not None or data.item_features is not None
    model = PROPENSITIES["logistic-mf"]()
    model.set_params(folds=FOLDS, backbone="fm" if features else "mf", seed=seed)
    assert isinstance(model, LogisticMF)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OverlapWarning)  # a verdict says it
        try:
            model.fit(data)
        except DataError:  # constant: weighting would change nothing
            return None
    tables = feature_tables(data)

    @torch.no_grad()
    def of(user: np.ndarray, item: np.ndarray) -> np.ndarray:
        parts = []
        for at in range(0, len(user), 1 << 19):
            u, i = (torch.from_numpy(x[at : at + (1 << 19)].astype(np.int64)) for x in (user, item))
            nothing: Tensor = torch.zeros(len(u))
            pairs = Pairs(u, i, nothing, nothing, tables=tables)
            parts.append(torch.sigmoid(model.logit(model.nets_, pairs)).numpy().astype(np.float64))
        return np.concatenate(parts) if parts else np.zeros(0)

    observed = of(data.biased.user, data.biased.item)
    size = data.n_users * data.n_items
    key = np.arange(size)
    if size > CHECKED:
        key = np.unique(numpy_generator(seed, "diagnose/calibration").integers(0, size, CHECKED))
    user, item = np.divmod(key, data.n_items)
    p = of(user, item)
    o = np.isin(key, data.biased.key(data.n_items)).astype(np.float64)
    overlap = Overlap.of(observed, model.floor_)
    return Propensities(
        observed,
        1 / np.maximum(observed, model.floor_),
        overlap,
        reliability(p, o, BINS, "mass"),
        len(key),
        features,
    )
