"""BRD-DR against loops, and its Limits lines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.checks import cheap, check_estimator
from deconrec.methods.brd_dr import BRDDR
from deconrec.methods.brd_ips import BRDIPS
from deconrec.methods.dr_jl import DRJL
from deconrec.methods.ips import IPS
from deconrec.propensity import Known, NaiveBayes
from deconrec.training.samplers import Blocks
from manual import risks, robust
from manual.batches import SHAPE, batches, dense, probabilities, scramble, tiny, value

P = np.linspace(0.1, 1.0, SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype(np.float32)
KINDS = [("cross-entropy", (0.0, 1.0)), ("squared", (1.0, 3.0, 5.0))]
GAMMA = 3.0
SMALL = {"dim": 3, "epochs": 0, "uncertainty": GAMMA}


def bench(**parameters):
    return DRJL(**{"epochs": 2, "propensity": Known(values=P)} | parameters)


def world(ratings=(0.0, 1.0), **parameters):
    data = tiny(ratings)
    model = BRDDR(**SMALL | {"benchmark": bench()} | parameters).fit(data, validation=data)
    nets = scramble(model.nets_)
    scramble(model.benchmark_.nets_, seed=1)
    (whole,) = batches(data)
    o, r, _ = dense(data)
    r_hat, other = (probabilities(n.prediction, whole) for n in (nets, model.benchmark_.nets_))
    return model, nets, data, whole, o, r, r_hat, other, probabilities(nets.imputation, whole)


@pytest.mark.parametrize("backbone", ["mf", "fm"])
@pytest.mark.parametrize(("kind", "ratings"), KINDS)
@pytest.mark.parametrize("sampler", [None, Blocks(3, 2)])
def test_risks_equal_the_twins(kind, ratings, sampler, backbone):
    model, nets, data, _, o, r, r_hat, other, label = world(ratings, backbone=backbone)
    p = P.astype(float)
    e_hat = risks.errors_against(kind, label, r_hat)
    twins = {
        model.brd_risk: robust.brd_dr(kind, o, r, r_hat, other, p, label, GAMMA),
        model.imputation_risk: risks.imputation(kind, o, r, r_hat, p, e_hat),
    }
    for risk, twin in twins.items():
        got = np.mean([b.weight * value(risk(nets, b)) for b in batches(data, sampler)])
        assert got == pytest.approx(twin, rel=1e-6)


def test_the_table_equals_the_twin_and_is_at_most_the_closed_form():
    closed, its, *_ = world()
    model, nets, _, whole, o, r, _, other, _ = world(mode="table")
    nets.prediction.load_state_dict(its.prediction.state_dict())
    nets.imputation.load_state_dict(its.imputation.state_dict())
    r_hat, label = probabilities(nets.prediction, whole), probabilities(nets.imputation, whole)
    for _ in range(10):
        nets.weight.values.data.uniform_(1 / GAMMA, GAMMA)
        weights = robust.table_weights(P.astype(float), r, nets.weight.values.tolist())
        p = [[1 / w for w in row] for row in weights]
        mine, benchmarks = (
            risks.dr("cross-entropy", o, r, x, p, risks.errors_against("cross-entropy", label, x))
            for x in (r_hat, other)
        )
        got = value(model.brd_risk(nets, whole))
        assert got == pytest.approx(mine - benchmarks, rel=1e-5)
        assert got <= value(closed.brd_risk(its, whole)) + 1e-9
    ascent, descent = model.program()
    assert [(step.updates, step.ascend) for step in ascent.steps] == [(("weight",), True)]
    assert [step.updates for step in descent.steps] == [("imputation",), ("prediction",)]


# ---------------------------------------------------------------------- limits
@pytest.mark.parametrize("backbone", ["mf", "fm"])
def test_the_benchmark_itself_has_risk_0_under_every_weight_and_imputation(backbone):
    data = tiny()
    model = BRDDR(**SMALL, backbone=backbone, benchmark=bench()).fit(data, validation=data)
    (whole,) = batches(data)
    torch.nn.init.normal_(model.nets_.imputation.offset)
    assert all(float(term.detach()) == 0 for term in model.brd_risk(model.nets_, whole).values())


def test_uncertainty_1_is_dr_less_a_constant_with_its_gradient():
    model, nets, _, whole, o, r, r_hat, other, label = world(uncertainty=1.0)
    kind, p = "cross-entropy", P.astype(float)
    nominal, constant = (
        risks.dr(kind, o, r, x, p, risks.errors_against(kind, label, x)) for x in (r_hat, other)
    )
    assert value(model.brd_risk(nets, whole)) == pytest.approx(nominal - constant, rel=1e-6)

    def gradient(loss):
        nets.zero_grad()
        sum(loss(nets, whole).values()).backward()
        return nets.prediction.user.grad.clone()

    model.propensity_ = model.benchmark_.propensity_
    torch.testing.assert_close(
        gradient(model.brd_risk), gradient(lambda n, b: DRJL.dr_risk(model, n, b)), rtol=1e-9, atol=1e-12
    )


def test_with_e_hat_0_it_is_brd_ips():
    # Squared errors against the label that each model predicts itself are 0.
    model, nets, data, whole, o, r, r_hat, other, _ = world(error="squared")

    class Own(torch.nn.Module):
        def forward(self, pairs):
            return nets["prediction"](pairs)

    twin = robust.brd_ips("squared", o, r, r_hat, other, P.astype(float), GAMMA)
    ips = BRDIPS(**SMALL, error="squared", benchmark=IPS(epochs=2, propensity=Known(values=P)))
    ips.fit(data, validation=data)
    scramble(ips.benchmark_.nets_, seed=1)
    assert value(ips.brd_risk(nets, whole)) == pytest.approx(twin, rel=1e-6)
    model.imputed_gap = lambda n, pairs: torch.zeros(len(pairs))  # e_hat = e_hat_0 = 0
    assert value(model.brd_risk(nets, whole)) == pytest.approx(twin, rel=1e-6)


# ---------------------------------------------------------------------- flaws of public code
def test_the_worst_weights_are_of_the_difference_not_of_the_risk():
    model, nets, _, whole, o, r, r_hat, other, label = world()
    kind = "cross-entropy"
    closed, rng = value(model.brd_risk(nets, whole)), np.random.default_rng(0)
    mine, theirs = (risks.errors_against(kind, label, x) for x in (r_hat, other))

    def gap(odds):
        p = 1 / (1 + (1 / P.astype(float) - 1) * odds)
        return risks.dr(kind, o, r, r_hat, p, mine) - risks.dr(kind, o, r, other, p, theirs)

    for _ in range(20):
        assert gap(rng.uniform(1 / GAMMA, GAMMA, SHAPE)) <= closed + 1e-9
    # Weights that are worst for the model's own risk are not worst for the difference.
    own = np.array(
        [[risks.delta(kind, r[u][i], r_hat[u][i]) - mine[u][i] for i in range(5)] for u in range(7)]
    )
    assert gap(np.where(own > 0, GAMMA, 1 / GAMMA)) < closed - 1e-3


def test_the_benchmark_is_frozen_and_starts_both_nets():
    data = tiny()
    start = BRDDR(**SMALL, benchmark=bench()).fit(data, validation=data)
    for name in ("prediction", "imputation"):
        assert torch.equal(start.nets_[name].user, start.benchmark_.nets_[name].user)
    model = BRDDR(**SMALL | {"epochs": 3}, benchmark=bench()).fit(data, validation=data)
    before, after = start.benchmark_.nets_.state_dict(), model.benchmark_.nets_.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(p.grad is None for p in model.benchmark_.nets_.parameters())
    assert not torch.equal(model.nets_.imputation.user, model.benchmark_.nets_.imputation.user)


def test_tags_follow_the_benchmark():
    assert not BRDDR().tags.needs_unbiased
    assert BRDDR(benchmark=DRJL(propensity=NaiveBayes())).tags.needs_unbiased
    assert BRDDR(backbone="fm").tags.uses_features


@pytest.mark.parametrize("settings", [{"backbone": "fm"}, {"mode": "table"}])
def test_checks_pass_with(settings):
    check_estimator(cheap(BRDDR).set_params(**settings)).raise_for_failures()
