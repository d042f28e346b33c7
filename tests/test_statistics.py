"""Estimators of the ideal risk over many worlds: who is unbiased, and when no longer.

A prediction is fixed at random (it knows nothing of the world), and its ideal risk, the mean error over all pairs, is
estimated from the biased log. Worlds are `simulate.pairs` with 300 users and 100 items, one a seed; risks are
those of the library's methods, in one batch of the whole space. Every bound here was fixed before a run.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from deconrec import simulate
from deconrec.methods.dr_jl import DRJL
from deconrec.methods.ips import IPS
from deconrec.methods.mf import MF
from deconrec.pairs import NO_TABLES
from deconrec.propensity import Known, NaiveBayes
from deconrec.training.program import Nets
from deconrec.training.samplers import Blocks, Source, UniformPairs
from manual.batches import Table

# Small true propensities are part of the question here.
pytestmark = pytest.mark.filterwarnings("ignore::deconrec.errors.OverlapWarning")

SEEDS = 24
SHAPE = (300, 100)
LOGITS = np.random.default_rng(0).normal(-0.5, 1.0, SHAPE)
IMPUTED = np.random.default_rng(1).normal(0.5, 1.0, SHAPE)


@functools.cache
def errors(confounding, propensity, sampler=None):
    """{estimator: (SEEDS,) estimate - ideal risk}; `propensity` is "true" or "nominal"."""
    out = {"naive": [], "ips": [], "dr": []}
    for seed in range(SEEDS):
        data, truth = simulate.pairs(
            n_users=SHAPE[0],
            n_items=SHAPE[1],
            confounding=confounding,
            exposure_rate=0.1,
            unbiased_share=0.02,
            seed=seed,
        )
        p = truth.propensity if propensity == "true" else truth.nominal_propensity
        nets = Nets(prediction=Table(LOGITS), imputation=Table(IMPUTED))
        r_hat = 1 / (1 + np.exp(-LOGITS))
        ideal = np.mean(-truth.rating * np.log(r_hat) - (1 - truth.rating) * np.log(1 - r_hat))
        known = Known(values=p.astype(np.float64), floor=1e-6)
        models = {
            "naive": MF(epochs=0).fit(data, validation=data),
            "ips": IPS(epochs=0, propensity=known).fit(data, validation=data),
            "dr": DRJL(epochs=0, propensity=known).fit(data, validation=data),
        }
        risks = {"naive": "biased", "ips": "ips_risk", "dr": "dr_risk"}
        cut = sampler or Blocks(*SHAPE)
        with torch.no_grad():
            parts = list(cut.batches(Source.of(data, NO_TABLES), np.random.default_rng(seed), 0))
            for name, model in models.items():
                risk = getattr(model, risks[name])
                estimate = np.mean([b.weight * float(sum(risk(nets, b).values())) for b in parts])
                out[name].append(estimate - ideal)
    return {name: np.array(values) for name, values in out.items()}


def z(values):
    """Mean over its standard error."""
    return values.mean() / (values.std(ddof=1) / np.sqrt(len(values)))


@pytest.mark.parametrize("confounding", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("estimator", ["ips", "dr"])
def test_with_the_true_propensity_the_risk_is_unbiased(confounding, estimator):
    assert abs(z(errors(confounding, "true")[estimator])) < 3


@pytest.mark.parametrize("confounding", [1.0, 2.0])
def test_the_naive_risk_is_not(confounding):
    naive = errors(confounding, "true")["naive"]
    assert abs(z(naive)) > 5
    for other in ("ips", "dr"):
        assert abs(errors(confounding, "true")[other].mean()) < 0.5 * abs(naive.mean())


@pytest.mark.parametrize("estimator", ["ips", "dr"])
def test_with_the_nominal_propensity_hidden_confounding_leaves_a_bias(estimator):
    assert abs(z(errors(2.0, "nominal")[estimator])) > 5


@pytest.mark.parametrize("estimator", ["ips", "dr"])
def test_without_hidden_confounding_the_nominal_propensity_is_enough(estimator):
    assert abs(z(errors(0.0, "nominal")[estimator])) < 3


def test_the_bias_of_the_nominal_propensity_grows_with_the_dial():
    bias = [abs(errors(c, "nominal")["ips"].mean()) for c in (0.0, 1.0, 2.0)]
    assert bias[0] < bias[1] < bias[2]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [Blocks(64, 64), UniformPairs(512, 4096)], ids=str)
@pytest.mark.parametrize("estimator", ["ips", "dr"])
def test_whatever_the_sampler(sampler, estimator):
    assert abs(z(errors(1.0, "true", sampler)[estimator])) < 3


@pytest.mark.slow
def test_imputing_well_lowers_the_variance():
    """DR with the truth as its imputed label has a smaller spread than IPS, at the same mean."""
    spread = {"ips": [], "dr": []}
    for seed in range(SEEDS):
        data, truth = simulate.pairs(
            n_users=300, n_items=100, confounding=1.0, exposure_rate=0.1, unbiased_share=0.02, seed=seed
        )
        p = np.clip(truth.outcome.astype(np.float64), 1e-6, 1 - 1e-6)
        nets = Nets(prediction=Table(LOGITS), imputation=Table(np.log(p / (1 - p))))
        known = Known(values=truth.propensity.astype(np.float64))
        r_hat = 1 / (1 + np.exp(-LOGITS))
        ideal = np.mean(-truth.rating * np.log(r_hat) - (1 - truth.rating) * np.log(1 - r_hat))
        ips = IPS(epochs=0, propensity=known).fit(data, validation=data)
        dr = DRJL(epochs=0, propensity=known).fit(data, validation=data)
        (batch,) = Blocks(*SHAPE).batches(Source.of(data, NO_TABLES), np.random.default_rng(0), 0)
        with torch.no_grad():
            spread["ips"].append(float(sum(ips.ips_risk(nets, batch).values())) - ideal)
            spread["dr"].append(float(sum(dr.dr_risk(nets, batch).values())) - ideal)
    assert np.std(spread["dr"]) < 0.8 * np.std(spread["ips"])
    assert abs(z(np.array(spread["dr"]))) < 3


@pytest.mark.slow
def test_naive_bayes_propensities_lower_the_naive_bias():
    """p given the outcome alone: what a hidden confounder does to the outcome's mix is undone, on average."""
    naive, weighted = [], []
    for seed in range(SEEDS):
        data, truth = simulate.pairs(
            n_users=300, n_items=100, confounding=1.0, exposure_rate=0.1, unbiased_share=0.05, seed=seed
        )
        nets = Nets(prediction=Table(LOGITS))
        r_hat = 1 / (1 + np.exp(-LOGITS))
        ideal = np.mean(-truth.rating * np.log(r_hat) - (1 - truth.rating) * np.log(1 - r_hat))
        (batch,) = Blocks(*SHAPE).batches(Source.of(data, NO_TABLES), np.random.default_rng(0), 0)
        with torch.no_grad():
            mf = MF(epochs=0).fit(data, validation=data)
            ips = IPS(epochs=0, propensity=NaiveBayes()).fit(data, validation=data)
            naive.append(float(mf.biased(nets, batch)["biased"]) - ideal)
            weighted.append(float(ips.ips_risk(nets, batch)["ips"]) - ideal)
    assert abs(np.mean(weighted)) < 0.5 * abs(np.mean(naive))
