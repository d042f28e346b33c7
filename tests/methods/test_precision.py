"""Matrix products in bfloat16 do not change what a method ranks: the methods that may train with them, over three worlds."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from deconrec.data.split import UsersSplit
from deconrec.experiments.metrics import evaluate_users
from deconrec.methods import METHODS, make
from deconrec.simulate import deep_deconf

METRICS = ["ndcg@20/full", "recall@20/full"]
MOST = 0.002  # set before a run


def with_precision() -> list[str]:
    """Methods that have the parameter, themselves or in a model that they hold."""
    return [key for key in METHODS if any(n.split(".")[-1] == "precision" for n in _params(key))]


def _params(key: str) -> dict[str, Any]:
    return make(key).get_params(deep=True)


def test_these_are_the_methods_with_reduced_precision() -> None:
    own = [
        key
        for key, cls in METHODS.items()
        if any(
            f.name == "precision" and "bfloat16" in str(f.metadata.get("rules"))
            for f in dataclasses.fields(cls)
        )
    ]
    assert set(own) <= set(with_precision())
    assert {"concat-vae", "vsr-vae", "deep-deconf"} <= set(with_precision())


@pytest.mark.slow
@pytest.mark.parametrize("key", ["concat-vae", "vsr-vae", "deep-deconf"])
def test_a_ranking_metric_stays_within_two_thousandths(key: str) -> None:
    """1,500 x 500 a world; every product of training in bfloat16, against float32."""
    moved = []
    for seed in range(3):
        data, truth = deep_deconf(
            n_users=1500, n_items=500, n_factors=30, exposure_rate=0.02, gamma_theta=0.9, seed=seed
        )
        found = {}
        for precision in ("float32", "bfloat16"):
            parts = UsersSplit(seed).apply(data, truth)
            model = make(f"{key}:epochs=40+seed={seed}")
            model.set_params(**{n: precision for n in _params(key) if n.split(".")[-1] == "precision"})
            model.fit(parts.train, validation=parts.holdout)
            metrics = evaluate_users(model, parts.test, data, METRICS, truth, parts.train).metrics
            found[precision] = np.array([metrics[m] for m in METRICS])
        moved.append(found["bfloat16"] - found["float32"])
    table = np.array(moved)
    print(key, table)
    assert np.abs(table[:, 0]).max() <= MOST, "NDCG of a world"
    # One recalled item of one user more or less is 0.0004 of recall here: it is held in the mean.
    assert np.abs(table.mean(0)).max() <= MOST, "in the mean"
