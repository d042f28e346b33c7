"""Multi-IPS against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.methods.ips import IPS
from deconrec.methods.mf import MF
from deconrec.methods.multi_ips import MultiIPS
from deconrec.propensity import Known
from deconrec.training.samplers import Blocks
from manual import multitask, risks
from manual.batches import SHAPE, Table, batches, dense, probabilities, scramble, tiny, value

FLOOR = 0.2


def world(ratings=(0.0, 1.0), **parameters):
    data = tiny(ratings)
    model = MultiIPS(**{"dim": 3, "epochs": 0, "floor": FLOOR} | parameters).fit(data, validation=data)
    return model, scramble(model.nets_), data


@pytest.mark.parametrize("backbone", ["mf", "fm"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("kind", "ratings"), [("cross-entropy", (0.0, 1.0)), ("squared", (1.0, 3.0, 5.0))])
@pytest.mark.parametrize("sampler", [None, Blocks(3, 2)])
def test_the_objective_equals_the_twin(kind, ratings, sampler, shared, backbone):
    model, nets, data = world(ratings, backbone=backbone, shared=shared)
    o, r, _ = dense(data)
    (whole,) = batches(data)
    p, r_hat = probabilities(nets.propensity, whole), probabilities(nets.prediction, whole)
    ((step,),) = (phase.steps for phase in model.program())
    got = np.mean([b.weight * value(step.loss(nets, b)) for b in batches(data, sampler)])
    assert got == pytest.approx(multitask.multi_ips(kind, o, r, p, risks.raised(p, FLOOR), r_hat), rel=1e-6)


def test_without_sharing_it_is_ips_with_a_learned_propensity():
    model, nets, data = world(shared=False)
    (whole,) = batches(data)
    learned = Known(values=probabilities(nets.propensity, whole), floor=FLOOR)
    ips = IPS(dim=3, epochs=0, propensity=learned).fit(data, validation=data)
    mine, theirs = model.ips(nets, whole)["ips"], ips.ips_risk(nets, whole)["ips"]
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=0)  # known propensities are single precision
    parameters = list(nets.prediction.parameters())
    everything = sum(model.program()[0].steps[0].loss(nets, whole).values())
    for a, b in zip(
        torch.autograd.grad(everything, parameters), torch.autograd.grad(theirs, parameters), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)


def test_full_observation_with_p_1_is_the_risk_of_mf():
    data = tiny(full=True)
    model = MultiIPS(dim=3, epochs=0).fit(data, validation=data)
    mf = MF(dim=3, epochs=0).fit(data, validation=data)
    nets = scramble(model.nets_)
    nets["propensity"] = Table(np.full(SHAPE, 40.0))
    (whole,) = batches(data)
    assert value(model.ips(nets, whole)) == pytest.approx(value(mf.biased(nets, whole)), rel=1e-9)


def test_flaw_multiplies_by_p():
    """A smaller p weighs more."""
    model, nets, data = world(floor=1e-3)
    (whole,) = batches(data)
    before = value(model.ips(nets, whole))
    with torch.no_grad():
        nets.propensity.offset -= 2.0
    assert value(model.ips(nets, whole)) > before


def test_flaw_no_exposure_loss_and_a_propensity_driven_by_the_outcome():
    """The propensity learns from exposures, and from nothing else."""
    model, nets, data = world(shared=False)
    (whole,) = batches(data)
    own = list(nets.propensity.parameters())
    terms = model.program()[0].steps[0].loss(nets, whole)
    assert set(terms) == {"exposure", "ips"}
    exposure = torch.autograd.grad(terms["exposure"], own)
    both = torch.autograd.grad(sum(model.program()[0].steps[0].loss(nets, whole).values()), own)
    assert all(torch.equal(a, b) for a, b in zip(exposure, both, strict=True))
    assert any(g.any() for g in exposure)


def test_flaw_gradient_through_1_over_p_is_off_unless_asked_for():
    for through in (False, True):
        model, nets, data = world(propensity_grad=through)
        (whole,) = batches(data)
        (gradient,) = torch.autograd.grad(
            model.ips(nets, whole)["ips"], nets.propensity.diagonal, allow_unused=True
        )
        assert (gradient is not None) == through


def test_the_floor_follows_the_log_unless_given():
    data = tiny()
    assert MultiIPS(dim=2, epochs=0).fit(data, validation=data).floor_ == min(0.1, data.density)
    assert world()[0].floor_ == FLOOR
