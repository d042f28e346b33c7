"""MRDR against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.methods.dr_jl import DRJL
from deconrec.methods.mrdr import MRDR
from deconrec.propensity import Known, NaiveBayes
from deconrec.training.samplers import Blocks
from manual import multitask, risks
from manual.batches import SHAPE, Table, batches, dense, probabilities, scramble, tiny, value

P = np.linspace(0.1, 1.0, SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype(np.float32)
LOGITS = np.random.default_rng(3).normal(0, 1.5, SHAPE)
R_HAT = 1 / (1 + np.exp(-LOGITS))


def world(ratings=(0.0, 1.0), p=P, full=False, **parameters):
    data = tiny(ratings, full=full)
    model = MRDR(dim=3, epochs=0, propensity=Known(values=p), **parameters).fit(data, validation=data)
    return model, scramble(model.nets_), data


@pytest.mark.parametrize("backbone", ["mf", "fm"])
@pytest.mark.parametrize(("kind", "ratings"), [("cross-entropy", (0.0, 1.0)), ("squared", (1.0, 3.0, 5.0))])
@pytest.mark.parametrize("sampler", [None, Blocks(3, 2)])
def test_risks_equal_the_twins(kind, ratings, sampler, backbone):
    model, nets, data = world(ratings, backbone=backbone)
    o, r, _ = dense(data)
    (whole,) = batches(data)
    r_hat, label = probabilities(nets.prediction, whole), probabilities(nets.imputation, whole)
    e_hat, p = risks.errors_against(kind, label, r_hat), P.astype(float)
    twins = {
        model.dr_risk: risks.dr(kind, o, r, r_hat, p, e_hat),
        model.imputation_risk: multitask.more_robust_imputation(kind, o, r, r_hat, p, e_hat),
    }
    for risk, twin in twins.items():
        got = np.mean([b.weight * value(risk(nets, b)) for b in batches(data, sampler)])
        assert got == pytest.approx(twin, rel=1e-6)


@pytest.mark.parametrize("p", [P, P[::-1].copy()])
def test_e_hat_e_is_the_ideal_risk_whatever_p(p):
    model, nets, data = world(p=p)
    o, r, _ = dense(data)
    everywhere = np.where(o == 1, r, np.random.default_rng(0).integers(0, 2, SHAPE))
    nets["prediction"], nets["imputation"] = Table(LOGITS), Table(40 * (2 * everywhere - 1))
    (whole,) = batches(data)
    truth = risks.ideal("cross-entropy", everywhere, R_HAT)
    assert value(model.dr_risk(nets, whole)) == pytest.approx(truth, rel=1e-6)


def test_p_1_and_full_observation_is_mf_with_nothing_to_impute():
    model, nets, data = world(p=np.ones(SHAPE, np.float32), full=True)
    nets["prediction"] = Table(LOGITS)
    o, r, _ = dense(data)
    (whole,) = batches(data)
    naive = risks.naive("cross-entropy", o, r, R_HAT)
    assert value(model.dr_risk(nets, whole)) == pytest.approx(naive, rel=1e-6)
    assert value(model.imputation_risk(nets, whole)) == 0


def test_a_constant_p_is_dr_jl_with_another_weight_of_the_imputation():
    p = 0.4
    model, nets, data = world(p=np.full(SHAPE, p, np.float32))
    jl = DRJL(dim=3, epochs=0, propensity=Known(values=np.full(SHAPE, p, np.float32)))
    jl.fit(data, validation=data)
    (whole,) = batches(data)
    assert value(model.dr_risk(nets, whole)) == pytest.approx(value(jl.dr_risk(nets, whole)), rel=1e-6)
    mine, theirs = (value(m.imputation_risk(nets, whole)) for m in (model, jl))
    assert mine == pytest.approx((1 - p) / p * theirs, rel=1e-6)


def test_flaw_the_imputed_error_of_the_correction_without_1_over_p():
    model, nets, data = world()
    o, r, _ = dense(data)
    (whole,) = batches(data)
    r_hat, label = probabilities(nets.prediction, whole), probabilities(nets.imputation, whole)
    e_hat = risks.errors_against("cross-entropy", label, r_hat)
    flawed = 0.0
    for u, i in risks.cells(o):
        flawed += e_hat[u][i]
        if o[u][i]:
            flawed += risks.delta("cross-entropy", r[u][i], r_hat[u][i]) / P[u][i] - e_hat[u][i]
    assert abs(value(model.dr_risk(nets, whole)) - flawed / len(risks.cells(o))) > 0.1


def test_double_learning_moves_the_imputation_towards_the_prediction():
    model, nets, _ = world(sharing=0.25)
    before = [p.detach().clone() for p in nets.imputation.parameters()]
    (phase,) = model.program()
    with torch.no_grad():
        phase.steps[0].project(nets)
    for old, new, other in zip(
        before, nets.imputation.parameters(), nets.prediction.parameters(), strict=True
    ):
        torch.testing.assert_close(new.detach(), 0.75 * old + 0.25 * other.detach())
    (phase,) = MRDR().program()
    assert [step.project for step in phase.steps] == [None, None]


def test_needs_follow_the_propensity():
    assert not MRDR().tags.needs_unbiased
    assert MRDR(propensity=NaiveBayes()).tags.needs_unbiased
