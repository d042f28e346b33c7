"""Training with products in bfloat16 does not change what a method ranks, over three worlds."""

from __future__ import annotations

import numpy as np
import pytest

from deconrec.data.split import UsersSplit
from deconrec.experiments.metrics import evaluate_users
from deconrec.methods import METHODS, make
from deconrec.simulate import deep_deconf

METRICS = ["ndcg@20/full", "recall@20/full"]
MOST = 0.002  # set before a run


SPECS = ("concat-vae", "vsr-vae", "deep-deconf")


def dials(spec: str) -> list[str]:
    """Names of the parameters of precision, its own and those of a model that it holds."""
    return [n for n in make(spec).get_params(deep=True) if n.split("__")[-1] == "precision"]


def test_every_method_with_the_parameter_is_here() -> None:
    assert {key for key in METHODS if dials(key)} == set(SPECS)
    assert dials("deep-deconf") == ["precision", "exposure__precision"]


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS)
def test_a_ranking_metric_stays_within_two_thousandths(spec: str) -> None:
    """1,500 x 500 a world; every product of training in bfloat16, against float32."""
    moved = []
    for seed in range(3):
        data, truth = deep_deconf(
            n_users=1500, n_items=500, n_factors=30, exposure_rate=0.02, gamma_theta=0.9, seed=seed
        )
        found = {}
        for precision in ("float32", "bfloat16"):
            parts = UsersSplit(seed).apply(data, truth)
            model = make(spec).set_params(epochs=40, seed=seed, **dict.fromkeys(dials(spec), precision))
            model.fit(parts.train, validation=parts.holdout)
            metrics = evaluate_users(model, parts.test, data, METRICS, truth, parts.train).metrics
            found[precision] = np.array([metrics[m] for m in METRICS])
        moved.append(found["bfloat16"] - found["float32"])
    table = np.array(moved)
    print(spec, table)
    assert np.abs(table[:, 0]).max() <= MOST, "NDCG of a world"
    # One recalled item of one user more or less is 0.0004 of recall here: it is held in the mean.
    assert np.abs(table.mean(0)).max() <= MOST, "in the mean"
