"""EIB against loops."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from deconrec.methods.eib import EIB
from deconrec.training.samplers import Blocks
from manual import multitask, risks
from manual.batches import SHAPE, Table, batches, dense, probabilities, scramble, tiny, value

LOGITS = np.random.default_rng(3).normal(0, 1.5, SHAPE)
R_HAT = 1 / (1 + np.exp(-LOGITS))


def world(ratings=(0.0, 1.0), full=False, **parameters):
    data = tiny(ratings, full=full)
    model = EIB(dim=3, epochs=0, **parameters).fit(data, validation=data)
    return model, scramble(model.nets_), data


@pytest.mark.parametrize("backbone", ["mf", "fm"])
@pytest.mark.parametrize(("kind", "ratings"), [("cross-entropy", (0.0, 1.0)), ("squared", (1.0, 3.0, 5.0))])
@pytest.mark.parametrize("sampler", [None, Blocks(3, 2)])
def test_risks_equal_the_twins(kind, ratings, sampler, backbone):
    model, nets, data = world(ratings, backbone=backbone)
    o, r, _ = dense(data)
    (whole,) = batches(data)
    r_hat, label = probabilities(nets.prediction, whole), probabilities(nets.imputation, whole)
    e_hat = risks.errors_against(kind, label, r_hat)
    twins = {
        model.eib_risk: multitask.eib(kind, o, r, r_hat, e_hat),
        model.imputation_risk: multitask.plain_imputation(kind, o, r, r_hat, e_hat),
    }
    for risk, twin in twins.items():
        got = np.mean([b.weight * value(risk(nets, b)) for b in batches(data, sampler)])
        assert got == pytest.approx(twin, rel=1e-6)


def test_e_hat_e_is_the_ideal_risk():
    model, nets, data = world()
    o, r, _ = dense(data)
    everywhere = np.where(o == 1, r, np.random.default_rng(0).integers(0, 2, SHAPE))
    nets["prediction"], nets["imputation"] = Table(LOGITS), Table(40 * (2 * everywhere - 1))
    (whole,) = batches(data)
    truth = risks.ideal("cross-entropy", everywhere, R_HAT)
    assert value(model.eib_risk(nets, whole)) == pytest.approx(truth, rel=1e-6)


def test_full_observation_is_mf_whatever_is_imputed():
    model, nets, data = world(full=True)
    o, r, _ = dense(data)
    nets["prediction"] = Table(LOGITS)
    (whole,) = batches(data)
    assert value(model.eib_risk(nets, whole)) == pytest.approx(
        risks.naive("cross-entropy", o, r, R_HAT), rel=1e-6
    )


def test_flaw_imputation_taught_by_the_prediction_alone():
    """The imputation learns from observed ratings: where they turn, so does its gradient."""
    model, nets, data = world()
    (whole,) = batches(data)
    turned = dataclasses.replace(whole, observed=dataclasses.replace(whole.observed, r=1 - whole.observed.r))

    def gradient(b):
        value = model.imputation_risk(nets, b)["imputation"]
        return torch.autograd.grad(value, nets.imputation.user_bias)[0]

    assert not torch.allclose(gradient(whole), gradient(turned))
    (phase,) = model.program()
    assert [step.updates for step in phase.steps] == [("imputation",), ("prediction",)]


def test_flaw_observed_errors_weighted_by_a_propensity():
    """Every observed error counts 1 / |D|: there is no propensity to weigh by."""
    model, nets, data = world()
    assert "propensity" not in nets
    assert not hasattr(model, "propensity")
    (whole,) = batches(data)
    logits = nets.prediction(whole.observed).detach().requires_grad_()
    e = model.d(logits, whole.observed.r)
    (mine,) = torch.autograd.grad(whole.observed.expect(e), logits)
    wanted = (logits.sigmoid() - whole.observed.r) / (SHAPE[0] * SHAPE[1])
    torch.testing.assert_close(mine, wanted.detach())
    # and the prediction's own risk has that gradient and, from unseen cells, the imputed one.
    unseen = whole.space.expect((1 - whole.space.o) * model.imputed(nets, whole.space))
    total = model.eib_risk(nets, whole)["eib"]
    torch.testing.assert_close(total, whole.observed.expect(e) + unseen)
