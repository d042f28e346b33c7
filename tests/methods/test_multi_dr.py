"""Multi-DR against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.methods.dr_jl import DRJL
from deconrec.methods.multi_dr import MultiDR
from deconrec.methods.multi_ips import MultiIPS
from deconrec.propensity import Known
from deconrec.training.samplers import Blocks
from manual import multitask, risks
from manual.batches import SHAPE, Table, batches, dense, probabilities, scramble, tiny, value

FLOOR = 0.2
LOGITS = np.random.default_rng(3).normal(0, 1.5, SHAPE)
R_HAT = 1 / (1 + np.exp(-LOGITS))
SETTINGS = {"dim": 3, "epochs": 0, "floor": FLOOR, "imputation_weight": 0.3}


def world(ratings=(0.0, 1.0), **parameters):
    data = tiny(ratings)
    model = MultiDR(**SETTINGS | parameters).fit(data, validation=data)
    return model, scramble(model.nets_), data


def reached(loss, nets):
    """The nets that a term has a gradient for."""
    named = list(nets.named_parameters())
    gradients = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    return {name.split(".")[0] for (name, _), g in zip(named, gradients, strict=True) if g is not None}


@pytest.mark.parametrize("backbone", ["mf", "fm"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("kind", "ratings"), [("cross-entropy", (0.0, 1.0)), ("squared", (1.0, 3.0, 5.0))])
@pytest.mark.parametrize("sampler", [None, Blocks(3, 2)])
def test_the_objective_equals_the_twin(kind, ratings, sampler, shared, backbone):
    model, nets, data = world(ratings, backbone=backbone, shared=shared)
    o, r, _ = dense(data)
    (whole,) = batches(data)
    p, r_hat, label = (
        probabilities(nets[name], whole) for name in ("propensity", "prediction", "imputation")
    )
    e_hat = risks.errors_against(kind, label, r_hat)
    twin = multitask.multi_dr(kind, o, r, p, risks.raised(p, FLOOR), r_hat, e_hat, 0.3)
    ((step,),) = (phase.steps for phase in model.program())
    got = np.mean([b.weight * value(step.loss(nets, b)) for b in batches(data, sampler)])
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


def test_e_hat_0_is_multi_ips():
    model, nets, data = world(error="squared")
    nets["prediction"] = nets["imputation"] = Table(LOGITS)  # the prediction's own label has no error
    ips = MultiIPS(dim=3, epochs=0, floor=FLOOR, error="squared").fit(data, validation=data)
    (whole,) = batches(data)
    assert value(model.dr(nets, whole)) == pytest.approx(value(ips.ips(nets, whole)), rel=1e-9)


def test_without_sharing_it_is_dr_jl_with_a_learned_propensity():
    model, nets, data = world(shared=False, imputation_weight=1.0)
    (whole,) = batches(data)
    learned = Known(values=probabilities(nets.propensity, whole), floor=FLOOR)
    jl = DRJL(dim=3, epochs=0, propensity=learned).fit(data, validation=data)
    joint = sum(model.program()[0].steps[0].loss(nets, whole).values())
    for step in jl.program()[0].steps:
        own = list(nets.select(step.updates).values())
        theirs = torch.autograd.grad(sum(step.loss(nets, whole).values()), own)
        mine = torch.autograd.grad(joint, own, retain_graph=True)
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)


def test_each_loss_teaches_its_own_tower():
    model, nets, data = world(shared=False)
    (whole,) = batches(data)
    assert reached(model.exposure(nets, whole)["exposure"], nets) == {"propensity"}
    assert reached(model.impute(nets, whole)["imputation"], nets) == {"imputation"}
    assert reached(sum(model.dr(nets, whole).values()), nets) == {"prediction"}


def test_shared_factors_learn_from_all_three():
    model, nets, data = world()
    (whole,) = batches(data)
    for loss in (model.exposure, model.impute, model.dr):
        (gradient,) = torch.autograd.grad(sum(loss(nets, whole).values()), nets.prediction.user)
        assert gradient.any()


def test_flaw_weights_that_are_never_trained():
    """The weight is 1 / p of a propensity that L_CTR teaches, and L_IMP is there."""
    model, nets, data = world()
    (whole,) = batches(data)
    assert set(model.program()[0].steps[0].loss(nets, whole)) == {
        "exposure",
        "direct",
        "correction",
        "imputation",
    }
    assert "propensity" in reached(model.exposure(nets, whole)["exposure"], nets)
    p = np.maximum(probabilities(nets.propensity, whole), FLOOR).reshape(-1)
    cells = whole.observed.user * SHAPE[1] + whole.observed.item
    np.testing.assert_allclose(model.weight(nets, whole.observed).detach(), 1 / p[cells], rtol=1e-9)


def test_flaw_gradient_through_1_over_p_is_off_unless_asked_for():
    for through in (False, True):
        model, nets, data = world(shared=False, propensity_grad=through)
        (whole,) = batches(data)
        assert ("propensity" in reached(sum(model.dr(nets, whole).values()), nets)) == through
        assert "propensity" not in reached(model.impute(nets, whole)["imputation"], nets)
