"""What the engine's methods share: calibration of row methods, samplers by size, nuisances, validation scores."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from deconrec import torch_estimator
from deconrec.checks.fixtures import checkerboard, confounded, rows_world
from deconrec.data.dataset import Dataset, Features
from deconrec.data.split import ValidationPart
from deconrec.evaluation.rating import auc, logloss, mse
from deconrec.methods.concat_vae import ConcatVAE
from deconrec.methods.deep_deconf import DeepDeconf
from deconrec.methods.dr_jl import DRJL
from deconrec.methods.ips import IPS
from deconrec.methods.mf import MF
from deconrec.propensity import LogisticMF
from deconrec.torch_estimator import pairs_score, platt
from deconrec.training.samplers import Blocks, UniformPairs


# ---------------------------------------------------------------------- the map from affinities to outcomes
def test_platt_finds_the_curve_again():
    x = np.random.default_rng(0).normal(-4, 2, 20_000)
    slope, shift = platt(x, expit(0.7 * x + 1.5))
    assert slope == pytest.approx(0.7, rel=1e-3)
    assert shift == pytest.approx(1.5, abs=5e-3)


def test_platt_is_calibrated_in_the_mean():
    rng = np.random.default_rng(1)
    x = rng.normal(size=5000)
    r = (rng.random(5000) < expit(2 * x)).astype(float)
    slope, shift = platt(x, r)
    assert expit(slope * x + shift).mean() == pytest.approx(r.mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("x", "r"),
    [
        (np.linspace(-9, 0, 200), np.ones(200)),
        (np.linspace(-9, 0, 200), np.zeros(200)),
        (np.linspace(-9, 0, 200), np.linspace(1, 0, 200)),  # falling: the ranking stays the network's
        (np.full(200, -3.0), np.arange(200) % 2.0),
        (np.zeros(0), np.zeros(0)),
        (np.array([-1.0]), np.array([1.0])),
        (np.linspace(-9, 0, 200), (np.arange(200) > 100) * 1.0),  # separable
    ],
    ids=["ones", "zeros", "falling", "flat", "empty", "single", "separable"],
)
def test_platt_keeps_the_ranking_in_single_precision(x, r):
    slope, shift = platt(x, r)
    assert slope > 0
    assert np.isfinite([slope, shift]).all()
    grid = np.linspace(-9, 0, 500, dtype=np.float32)
    p = np.asarray(expit(slope * grid + shift), np.float32)
    if "separable" not in str((r[:1], len(r))) and not ((x.size > 1) and np.array_equal(r, (x > x[100]) * 1.0)):
        assert (np.diff(p) > 0).all()
    assert (np.diff(p) >= 0).all()
