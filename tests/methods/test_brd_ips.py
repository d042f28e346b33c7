"""BRD-IPS against loops, and its Limits lines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import deconrec as dc
from deconrec.checks import cheap, check_estimator
from deconrec.methods.brd_ips import BRDIPS
from deconrec.methods.ips import IPS
from deconrec.propensity import Known, NaiveBayes
from deconrec.training.program import Mover, evaluate_step
from deconrec.training.samplers import Blocks, UniformPairs
from manual import risks, robust
from manual.batches import SHAPE, batches, dense, probabilities, scramble, tiny, value

P = np.linspace(0.02, 1.0, SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype(np.float32)
KINDS = [("cross-entropy", (0.0, 1.0)), ("squared", (1.0, 3.0, 5.0))]
GAMMA = 3.0
SMALL = {"dim": 3, "epochs": 0, "uncertainty": GAMMA}


def bench(**parameters):
    return IPS(**{"epochs": 2, "propensity": Known(values=P)} | parameters)


def world(ratings=(0.0, 1.0), **parameters):
    data = tiny(ratings)
    model = BRDIPS(**SMALL | {"benchmark": bench()} | parameters).fit(data, validation=data)
    nets = scramble(model.nets_)
    scramble(model.benchmark_.nets_, seed=1)
    (whole,) = batches(data)
    o, r, _ = dense(data)
    r_hat, other = (probabilities(n.prediction, whole) for n in (nets, model.benchmark_.nets_))
    return model, nets, data, whole, o, r, r_hat, other


@pytest.mark.parametrize("backbone", ["mf", "fm"])
@pytest.mark.parametrize(("kind", "ratings"), KINDS)
@pytest.mark.parametrize("sampler", [None, Blocks(3, 2), UniformPairs(4)])
def test_the_risk_equals_the_twin(kind, ratings, sampler, backbone):
    model, nets, data, _, o, r, r_hat, other = world(ratings, backbone=backbone)
    twin = robust.brd_ips(kind, o, r, r_hat, other, P.astype(float), GAMMA)
    got = np.mean([b.weight * value(model.brd_risk(nets, b)) for b in batches(data, sampler)])
    assert got == pytest.approx(twin, rel=1e-6)


@pytest.mark.parametrize(("kind", "ratings"), KINDS)
def test_the_table_equals_the_twin(kind, ratings):
    model, nets, _, whole, o, r, r_hat, other = world(ratings, mode="table")
    nets.weight.values.data.uniform_(1 / GAMMA, GAMMA)
    weights = robust.table_weights(P.astype(float), r, nets.weight.values.tolist())
    inverse = [[1 / w for w in row] for row in weights]
    twin = risks.ips(kind, o, r, r_hat, inverse) - risks.ips(kind, o, r, other, inverse)
    assert value(model.brd_risk(nets, whole)) == pytest.approx(twin, rel=1e-6)


# ---------------------------------------------------------------------- limits
def test_closed_form_is_at_least_any_table_and_the_ascent_raises_the_difference():
    model, nets, _, whole, *_ = world()
    closed = value(model.brd_risk(nets, whole))
    table, tabled, *_ = world(mode="table", weight_lr=0.3)
    tabled.prediction.load_state_dict(nets.prediction.state_dict())
    tabled.weight.values.data.fill_(1)
    step = table.program()[0].steps[0]
    assert (step.updates, step.ascend) == (("weight",), True)
    mover, seen = Mover.of(step, tabled, step.optimizer), []
    for _ in range(12):
        seen.append(value(table.brd_risk(tabled, whole)))
        mover.move(tabled, whole)
    assert (np.diff(seen) >= -1e-12).all()
    assert seen[0] < seen[-1] <= closed + 1e-9
    for _ in range(20):
        tabled.weight.values.data.uniform_(1 / GAMMA, GAMMA)
        assert value(table.brd_risk(tabled, whole)) <= closed + 1e-9


@pytest.mark.parametrize("backbone", ["mf", "fm"])
def test_the_benchmark_itself_has_risk_0_under_every_weight(backbone):
    data = tiny()
    model = BRDIPS(**SMALL, backbone=backbone, benchmark=bench()).fit(data, validation=data)
    (whole,) = batches(data)
    assert all(float(term.detach()) == 0 for term in model.brd_risk(model.nets_, whole).values())


def test_uncertainty_1_is_ips_less_a_constant_with_its_gradient():
    model, nets, _, whole, o, r, r_hat, other = world(uncertainty=1.0)
    p = P.astype(float)
    constant = risks.ips("cross-entropy", o, r, other, p)
    nominal = risks.ips("cross-entropy", o, r, r_hat, p)
    assert value(model.brd_risk(nets, whole)) == pytest.approx(nominal - constant, rel=1e-6)

    def gradient(loss):
        nets.zero_grad()
        sum(loss(nets, whole).values()).backward()
        return nets.prediction.user.grad.clone()

    model.propensity_ = model.benchmark_.propensity_
    torch.testing.assert_close(
        gradient(model.brd_risk), gradient(lambda n, b: IPS.ips_risk(model, n, b)), rtol=1e-9, atol=1e-12
    )


def test_the_worst_case_is_at_least_every_other_and_training_brings_it_below_0():
    model, nets, data, whole, o, r, r_hat, other = world()
    closed = value(model.brd_risk(nets, whole))
    rng = np.random.default_rng(0)
    for _ in range(20):
        odds = rng.uniform(1 / GAMMA, GAMMA, SHAPE)
        p = 1 / (1 + (1 / P.astype(float) - 1) * odds)
        gap = risks.ips("cross-entropy", o, r, r_hat, p) - risks.ips("cross-entropy", o, r, other, p)
        assert gap <= closed + 1e-9
    trained = BRDIPS(**SMALL | {"epochs": 15, "patience": 0}, benchmark=bench()).fit(data, validation=data)
    total = [e["gap"] + e["robust"] for e in trained.history_]
    assert total[0] == 0  # the warm start
    assert total[-1] < -0.01


# ---------------------------------------------------------------------- flaws of public code
def test_the_worst_weights_are_of_the_difference_not_of_the_risk():
    model, nets, _, whole, *_ = world()
    o = whole.observed
    gap = (model.d(nets.prediction(o), o.r) - model.benchmark_error(o)).detach()
    assert 0 < (gap > 0).double().mean() < 1  # of the risk alone, every weight would be the largest
    p = model.benchmark_.propensity_(o)
    w = torch.where(gap > 0, 1 + (1 / p - 1) * GAMMA, 1 + (1 / p - 1) / GAMMA)
    assert value(model.brd_risk(nets, whole)) == pytest.approx(float(o.expect(w * gap)), rel=1e-6)


def test_the_benchmark_is_frozen():
    data = tiny()
    (whole,) = batches(data)
    model = BRDIPS(**SMALL, benchmark=bench()).fit(data, validation=data)
    before = {k: v.clone() for k, v in model.benchmark_.nets_.state_dict().items()}
    (step,) = model.program()[0].steps
    evaluate_step(step, model.nets_, whole)
    assert all(p.grad is None for p in model.benchmark_.nets_.parameters())
    trained = BRDIPS(**SMALL | {"epochs": 3}, benchmark=bench()).fit(data, validation=data)
    after = trained.benchmark_.nets_.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert not torch.equal(trained.nets_.prediction.user, trained.benchmark_.nets_.prediction.user)


# ---------------------------------------------------------------------- the benchmark
def test_the_benchmark_is_the_method_fitted_alone():
    data = tiny()
    alone = bench(dim=3, seed=5).fit(data, validation=data)
    model = BRDIPS(**SMALL, seed=5, benchmark=bench()).fit(data, validation=data)
    assert np.array_equal(model.benchmark_.score(), alone.score())
    assert np.array_equal(model.score(), alone.score())  # warm start, no epoch
    cold = BRDIPS(**SMALL, seed=5, benchmark=bench(), warm_start=False).fit(data, validation=data)
    assert not np.array_equal(cold.score(), alone.score())


def test_the_benchmark_takes_the_network_of_the_method():
    model = BRDIPS(dim=5, backbone="fm", error="squared", benchmark=IPS(dim=9, l2=0.5))
    (benchmark,) = model._nuisances().values()
    assert (benchmark.dim, benchmark.backbone, benchmark.error, benchmark.l2) == (5, "fm", "squared", 0.5)
    assert model.benchmark.dim == 9  # a parameter is not written to


def test_tags_follow_the_benchmark():
    assert not BRDIPS().tags.needs_unbiased
    assert not BRDIPS().tags.uses_features
    assert BRDIPS(benchmark=IPS(propensity=NaiveBayes())).tags.needs_unbiased
    assert BRDIPS(backbone="fm").tags.uses_features
    assert dc.make("brd-ips:benchmark.propensity.backbone=fm").tags.uses_features


@pytest.mark.parametrize("settings", [{"backbone": "fm"}, {"warm_start": False}, {"mode": "table"}])
def test_checks_pass_with(settings):
    check_estimator(cheap(BRDIPS).set_params(**settings)).raise_for_failures()
