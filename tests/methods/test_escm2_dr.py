"""ESCM2-DR against loops, and the methods that it holds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from deconrec.methods.escm2_dr import ESCM2DR
from deconrec.methods.multi_dr import MultiDR
from deconrec.methods.res_dr import ResDR
from deconrec.training.samplers import Blocks
from manual import multitask, risks
from manual.batches import SHAPE, Table, batches, dense, probabilities, scramble, tiny, value

FLOOR = 0.2
LOGITS = np.random.default_rng(3).normal(0, 1.5, SHAPE)
R_HAT = 1 / (1 + np.exp(-LOGITS))
SETTINGS = {
    "dim": 3,
    "epochs": 0,
    "floor": FLOOR,
    "imputation_weight": 0.3,
    "outcome_weight": 0.4,
    "ctcvr_weight": 0.7,
}


def world(ratings=(0.0, 1.0), **parameters):
    data = tiny(ratings)
    model = ESCM2DR(**SETTINGS | parameters).fit(data, validation=data)
    return model, scramble(model.nets_), data


def objective(model):
    ((step,),) = (phase.steps for phase in model.program())
    return step.loss


def pieces(kind, nets, whole, data):
    """What the loops are given: o, r, p, p floored, r_hat, e_hat."""
    o, r, _ = dense(data)
    p, r_hat, label = (
        probabilities(nets[name], whole) for name in ("propensity", "prediction", "imputation")
    )
    return o, r, p, risks.raised(p, FLOOR), r_hat, risks.errors_against(kind, label, r_hat)


@pytest.mark.parametrize("backbone", ["mf", "fm"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("kind", "ratings"), [("cross-entropy", (0.0, 1.0)), ("squared", (1.0, 3.0, 5.0))])
@pytest.mark.parametrize("sampler", [None, Blocks(3, 2)])
def test_the_objective_equals_the_twin(kind, ratings, sampler, shared, backbone):
    model, nets, data = world(ratings, backbone=backbone, shared=shared)
    (whole,) = batches(data)
    o, r, p, p_floored, r_hat, e_hat = pieces(kind, nets, whole, data)
    twin = multitask.escm2(
        risks.ctr(o, p),
        risks.imputation(kind, o, r, r_hat, p_floored, e_hat),
        risks.dr(kind, o, r, r_hat, p_floored, e_hat),
        risks.ctcvr(kind, o, r, p, r_hat),
        (0.3, 0.4, 0.7),
    )
    got = np.mean([b.weight * value(objective(model)(nets, b)) for b in batches(data, sampler)])
    assert got == pytest.approx(twin, rel=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_e_hat_e_is_the_ideal_risk_whatever_p(seed):
    model, nets, data = world()
    o, r, _ = dense(data)
    everywhere = np.where(o == 1, r, np.random.default_rng(0).integers(0, 2, SHAPE))
    nets["prediction"], nets["imputation"] = Table(LOGITS), Table(40 * (2 * everywhere - 1))
    nets["propensity"] = Table(np.random.default_rng(seed).normal(size=SHAPE))
    (whole,) = batches(data)
    truth = risks.ideal("cross-entropy", everywhere, R_HAT)
    assert value(model.dr(nets, whole)) == pytest.approx(truth, rel=1e-6)


@pytest.mark.parametrize("shared", [True, False])
def test_without_ctcvr_it_is_multi_dr_exactly(shared):
    data = tiny()
    settings = {"dim": 3, "epochs": 4, "patience": 0, "imputation_weight": 0.3, "shared": shared}
    a = ESCM2DR(ctcvr_weight=0.0, **settings).fit(data, validation=data)
    b = MultiDR(**settings).fit(data, validation=data)
    np.testing.assert_allclose(a.score(), b.score(), atol=1e-6)  # terms are summed in another order


def test_the_outcome_risks_are_those_of_res_dr_without_its_residuals():
    model, nets, data = world(shared=False, outcome_weight=1.0, imputation_weight=1.0)
    bare = {"residual_propensity": False, "residual_imputation": False, "consistency": 0.0}
    res = ResDR(dim=3, epochs=0, floor=FLOOR, ctcvr_weight=0.7, unbiased_weight=0.0, **bare)
    res.fit(data, validation=data)
    (whole,) = batches(data)
    for mine, theirs in ((model.dr, res.dr), (model.impute, res.impute), (model.ctcvr, res.ctcvr)):
        assert value(mine(nets, whole)) == pytest.approx(value(theirs(nets, whole)), rel=1e-12)


def test_flaw_the_imputed_error_of_the_correction_without_1_over_p():
    model, nets, data = world()
    (whole,) = batches(data)
    o, r, _, p, r_hat, e_hat = pieces("cross-entropy", nets, whole, data)
    flawed = 0.0
    for u, i in risks.cells(o):
        if o[u][i]:
            flawed += risks.delta("cross-entropy", r[u][i], r_hat[u][i]) / p[u][i] - e_hat[u][i]
    assert abs(value({"c": model.dr(nets, whole)["correction"]}) - flawed / len(risks.cells(o))) > 0.1


def test_flaw_unseen_pairs_as_negatives_in_the_imputation_loss():
    """L_IMP runs over O: what is imputed elsewhere does not enter, whatever r reads there."""
    model, nets, data = world()
    (whole,) = batches(data)
    o, _, _ = dense(data)
    logits = np.random.default_rng(5).normal(size=SHAPE)
    nets["imputation"] = Table(logits)
    before = value(model.impute(nets, whole))
    nets["imputation"] = Table(np.where(o == 1, logits, 9.0))
    assert value(model.impute(nets, whole)) == before
    elsewhere = dataclasses.replace(whole, observed=whole.observed, space=None)
    assert value(model.impute(nets, elsewhere)) == before  # D is not read at all


def test_flaw_gradient_through_1_over_p_is_off_unless_asked_for():
    for through in (False, True):
        model, nets, data = world(propensity_grad=through)
        (whole,) = batches(data)
        loss = sum(model.dr(nets, whole).values())
        (gradient,) = torch.autograd.grad(loss, nets.propensity.diagonal, allow_unused=True)
        assert (gradient is not None) == through


def test_flaw_the_doubly_robust_risk_lowers_what_is_imputed():
    """L_DR would fall where imputed errors do; it does not teach the imputation."""
    model, nets, data = world(shared=False)
    (whole,) = batches(data)
    own = list(nets.imputation.parameters())
    loss = sum(model.dr(nets, whole).values())
    assert all(g is None for g in torch.autograd.grad(loss, own, allow_unused=True))
