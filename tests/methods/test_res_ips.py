"""Res-IPS against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.methods.res_ips import ResIPS
from deconrec.training.samplers import Blocks
from manual import risks
from manual.batches import batches, dense, everywhere, probabilities, scramble, tiny, value

FLOOR = 0.2
SETTINGS = {"dim": 3, "epochs": 0, "floor": FLOOR, "ctcvr_weight": 0.7, "unbiased_weight": 1.3}


def world(kind="cross-entropy", sampler=None, **parameters):
    data = tiny() if kind == "cross-entropy" else tiny((1.0, 3.0, 5.0))
    model = ResIPS(**SETTINGS | parameters).fit(data, validation=data)
    nets = scramble(model.nets_)
    (whole,) = batches(data)
    o, r, rows = dense(data)
    p_hat, r_hat = probabilities(nets.propensity, whole), probabilities(nets.prediction, whole)
    p = p_hat
    if model.residual_propensity:
        rho = everywhere(nets.propensity_residual, whole)
        p = np.array(risks.calibrated(p_hat, 1 / (1 + np.exp(-rho))))
    return model, nets, batches(data, sampler), o, r, rows, p_hat, p, r_hat


def mean(loss, nets, parts):
    return np.mean([b.weight * value(loss(nets, b)) for b in parts])


@pytest.mark.parametrize("kind", ["cross-entropy", "squared"])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("sampler", [None, Blocks(3, 2)])
def test_risks_equal_the_twins(kind, residual, sampler):
    model, nets, parts, o, r, rows, p_hat, p, r_hat = world(kind, sampler, residual_propensity=residual)
    twins = {
        model.exposure: risks.ctr(o, p_hat),
        model.ips: risks.ips(kind, o, r, r_hat, risks.raised(p, FLOOR)),
        model.ctcvr: 0.7 * risks.ctcvr(kind, o, r, p, r_hat),
        model.unbiased: risks.unbiased(kind, rows, r_hat),
    }
    for loss, twin in twins.items():
        assert mean(loss, nets, parts) == pytest.approx(twin, rel=1e-6), loss.__name__


def test_the_consistency_and_the_whole_objective_equal_the_twins():
    model, nets, (whole,), o, r, rows, p_hat, p, r_hat = world(
        policy="joint", outcome_weight=0.4, consistency=0.05
    )
    kind = "cross-entropy"
    biased = risks.ips(kind, o, r, r_hat, risks.raised(p, FLOOR))
    unbiased = risks.unbiased(kind, rows, r_hat)
    assert value(model.agree(nets, whole)) == pytest.approx(risks.agreement(biased, unbiased), rel=1e-6)
    bundle = biased + 0.7 * risks.ctcvr(kind, o, r, p, r_hat) + 1.3 * unbiased
    twin = risks.ctr(o, p_hat) + 0.4 * bundle + 0.05 * risks.agreement(biased, unbiased)
    (phase,) = model.program()
    (step,) = phase.steps
    assert set(step.updates) == set(nets.keys())
    assert value(step.loss(nets, whole)) == pytest.approx(twin, rel=1e-6)


def test_policy_paper_gives_each_net_its_own_loss():
    model, nets, (whole,), *_ = world(policy="paper", consistency=0.05)
    (phase,) = model.program()
    moved = {step.updates: set(step.loss(nets, whole)) for step in phase.steps}
    assert moved == {
        ("propensity",): {"exposure"},
        ("prediction",): {"ips", "ctcvr", "unbiased"},
        ("propensity_residual",): {"consistency"},
    }


@pytest.mark.parametrize(
    ("off", "absent"),
    [("unbiased_weight", "unbiased"), ("consistency", "consistency"), ("ctcvr_weight", "ctcvr")],
)
def test_ablations_leave_their_term_out(off, absent):
    model, nets, (whole,), *_ = world(**{off: 0.0})
    terms = {name for phase in model.program() for step in phase.steps for name in step.loss(nets, whole)}
    assert absent not in terms
    assert {"exposure", "ips", "unbiased", "consistency", "ctcvr"} - {absent} == terms


def test_no_randomised_log_is_needed_once_both_of_its_uses_are_off():
    assert ResIPS().tags.needs_unbiased
    assert ResIPS(unbiased_weight=0.0).tags.needs_unbiased
    bare = ResIPS(unbiased_weight=0.0, consistency=0.0, dim=2, epochs=1)
    assert not bare.tags.needs_unbiased
    data = tiny()
    bare.fit(data.with_logs(data.biased))


def test_warm_up_moves_the_propensity_alone():
    data = tiny()
    cold = ResIPS(dim=2, epochs=0).fit(data, validation=data)
    model = ResIPS(dim=2, epochs=3, warmup=2).fit(data, validation=data)
    names = [set(epoch) - {"score", "seconds"} for epoch in model.history_]
    assert names[:2] == [{"exposure"}, {"exposure"}]
    assert "ips" in names[2]
    assert not torch.equal(cold.nets_.propensity.user, model.nets_.propensity.user)


def test_the_residual_starts_at_zero_with_a_gradient():
    data = tiny()
    model = ResIPS(dim=3, epochs=0, floor=1e-3).fit(data, validation=data)
    (whole,) = batches(data)
    nets = model.nets_.double()
    assert (everywhere(nets.propensity_residual, whole) == 0).all()
    nets.zero_grad()
    model.agree(nets, whole)["consistency"].backward()
    assert torch.any(nets.propensity_residual.item.grad != 0)
