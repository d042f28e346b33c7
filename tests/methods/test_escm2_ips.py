"""ESCM2-IPS against loops, and the methods that it holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.methods.escm2_ips import ESCM2IPS
from deconrec.methods.esmm import ESMM
from deconrec.methods.ips import IPS
from deconrec.methods.multi_ips import MultiIPS
from deconrec.methods.res_ips import ResIPS
from deconrec.propensity import Known
from deconrec.training.samplers import Blocks
from manual import multitask, risks
from manual.batches import batches, dense, probabilities, scramble, tiny, value

FLOOR = 0.2
SETTINGS = {"dim": 3, "epochs": 0, "floor": FLOOR, "outcome_weight": 0.4, "ctcvr_weight": 0.7}


def world(ratings=(0.0, 1.0), **parameters):
    data = tiny(ratings)
    model = ESCM2IPS(**SETTINGS | parameters).fit(data, validation=data)
    return model, scramble(model.nets_), data


def objective(model):
    ((step,),) = (phase.steps for phase in model.program())
    return step.loss


@pytest.mark.parametrize("backbone", ["mf", "fm"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("kind", "ratings"), [("cross-entropy", (0.0, 1.0)), ("squared", (1.0, 3.0, 5.0))])
@pytest.mark.parametrize("sampler", [None, Blocks(3, 2)])
def test_the_objective_equals_the_twin(kind, ratings, sampler, shared, backbone):
    model, nets, data = world(ratings, backbone=backbone, shared=shared)
    o, r, _ = dense(data)
    (whole,) = batches(data)
    p, r_hat = probabilities(nets.propensity, whole), probabilities(nets.prediction, whole)
    l_cvr = risks.ips(kind, o, r, r_hat, risks.raised(p, FLOOR))
    l_ctcvr = risks.ctcvr(kind, o, r, p, r_hat)
    twin = multitask.escm2(risks.ctr(o, p), 0.0, l_cvr, l_ctcvr, (0.0, 0.4, 0.7))
    got = np.mean([b.weight * value(objective(model)(nets, b)) for b in batches(data, sampler)])
    assert got == pytest.approx(twin, rel=1e-6)


def test_without_ctcvr_and_sharing_it_is_ips_with_a_learned_propensity():
    model, nets, data = world(shared=False, ctcvr_weight=0.0, outcome_weight=1.0)
    (whole,) = batches(data)
    learned = Known(values=probabilities(nets.propensity, whole), floor=FLOOR)
    ips = IPS(dim=3, epochs=0, propensity=learned).fit(data, validation=data)
    terms = objective(model)(nets, whole)
    assert set(terms) == {"exposure", "ips"}
    theirs = ips.ips_risk(nets, whole)["ips"]
    torch.testing.assert_close(terms["ips"], theirs, rtol=1e-6, atol=0)
    own = list(nets.prediction.parameters())
    mine = torch.autograd.grad(sum(terms.values()), own)
    for a, b in zip(mine, torch.autograd.grad(theirs, own), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("shared", [True, False])
def test_without_ctcvr_it_is_multi_ips_exactly(shared):
    data = tiny()
    settings = {"dim": 3, "epochs": 4, "patience": 0, "l2": 1e-3, "shared": shared}
    a = ESCM2IPS(ctcvr_weight=0.0, **settings).fit(data, validation=data)
    b = MultiIPS(**settings).fit(data, validation=data)
    assert np.array_equal(a.score(), b.score())


def test_without_the_ips_risk_it_is_esmm():
    model, nets, data = world()
    (whole,) = batches(data)
    esmm = ESMM(dim=3, epochs=0, ctcvr_weight=0.7).fit(data, validation=data)
    terms = dict(objective(model)(nets, whole))
    del terms["ips"]
    assert value(terms) == pytest.approx(value(objective(esmm)(nets, whole)), rel=1e-12)


def test_the_outcome_risk_is_that_of_res_ips_without_its_residual():
    model, nets, data = world(shared=False, outcome_weight=1.0)
    bare = {"residual_propensity": False, "consistency": 0.0, "unbiased_weight": 0.0}
    res = ResIPS(dim=3, epochs=0, floor=FLOOR, ctcvr_weight=0.7, **bare).fit(data, validation=data)
    (whole,) = batches(data)
    for mine, theirs in ((model.ips, res.ips), (model.ctcvr, res.ctcvr), (model.exposure, res.exposure)):
        assert value(mine(nets, whole)) == pytest.approx(value(theirs(nets, whole)), rel=1e-12)


def test_flaw_gradient_through_1_over_p_is_off_unless_asked_for():
    for through in (False, True):
        model, nets, data = world(propensity_grad=through)
        (whole,) = batches(data)
        (gradient,) = torch.autograd.grad(
            model.ips(nets, whole)["ips"], nets.propensity.diagonal, allow_unused=True
        )
        assert (gradient is not None) == through


def test_flaw_the_product_label_in_the_outcome_risk():
    """L_CTCVR has the label o r over D; L_IPS the label r over O, and no unseen pair is a negative there."""
    model, nets, data = world()
    (whole,) = batches(data)
    nobody = 0  # a user without rows in the biased log
    (ips,) = torch.autograd.grad(model.ips(nets, whole)["ips"], nets.prediction.user_bias)
    (ctcvr,) = torch.autograd.grad(model.ctcvr(nets, whole)["ctcvr"], nets.prediction.user_bias)
    assert ips[nobody] == 0
    assert ctcvr[nobody] > 0


def test_flaw_weights_without_a_floor():
    model, nets, data = world()
    (whole,) = batches(data)
    with torch.no_grad():
        nets.propensity.offset -= 30.0
    assert (model.weight(nets, whole.observed) == 1 / FLOOR).all()
