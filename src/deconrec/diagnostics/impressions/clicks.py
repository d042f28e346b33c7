"""What weights 1 / pCTR would rest on: overlap, its tail, and whether pCTR means what it says out of fold.

The propensity is the default of the weighted methods, a network of ids and context, cross-fitted: each impression's
comes from the network that was not fitted to its pair.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch

from deconrec.data.dataset import Dataset
from deconrec.data.impressions import unit_weight
from deconrec.diagnostics.propensities import BINS, FOLDS, Propensities
from deconrec.errors import DataError, OverlapWarning
from deconrec.evaluation.calibration import reliability
from deconrec.evaluation.overlap import Overlap
from deconrec.pairs import NO_TABLES
from deconrec.propensity import PROPENSITIES, LogisticMF
from deconrec.random import numpy_generator
from deconrec.training.samplers import log_pairs

AT_ONCE = 1 << 17  # impressions that are answered at a time


def click_propensities(data: Dataset, seed: int = 0) -> Propensities | None:
    """The default propensity of a log's clicks; None where it is the same for every clicked row.

    Weights of the result are sample weight over propensity; with sample weights, calibration is read off a draw in
    which an impression stands as often as it weighs.
    """
    shown = data.impressions
    assert shown is not None
    model = PROPENSITIES["logistic-mf"]()
    model.set_params(folds=FOLDS, seed=seed)
    assert isinstance(model, LogisticMF)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OverlapWarning)  # a verdict says it
        try:
            model.fit(data)
        except DataError:  # constant: weighting would change nothing
            return None
    with torch.no_grad():
        parts = [
            torch.sigmoid(model.logit(model.nets_, log_pairs(data, shown.log.take(rows), NO_TABLES))).numpy()
            for rows in np.split(np.arange(len(shown)), range(AT_ONCE, len(shown), AT_ONCE))
        ]
    p = np.concatenate(parts).astype(np.float64)
    observed = p[shown.click]
    weight = unit_weight(shown.clicked) / np.maximum(observed, model.floor_)
    place = np.arange(len(shown))
    if shown.log.weight is not None:
        edges = np.cumsum(shown.weight, dtype=np.float64)
        drawn = numpy_generator(seed, "diagnose/calibration").random(len(shown)) * edges[-1]
        place = np.minimum(np.searchsorted(edges, drawn, side="right"), len(edges) - 1)
    return Propensities(
        observed,
        weight,
        Overlap.of(observed, model.floor_, weight),
        reliability(p[place], shown.click[place].astype(np.float64), BINS, "mass"),
        len(shown),
        bool(shown.schema.names),
    )
