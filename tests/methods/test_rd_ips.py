"""RD-IPS against loops, and its Limits lines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.checks import cheap, check_estimator
from deconrec.errors import ParameterError
from deconrec.methods.ips import IPS
from deconrec.methods.rd_ips import RDIPS
from deconrec.propensity import Known
from deconrec.training.program import Mover
from deconrec.training.samplers import Blocks, UniformPairs
from manual import risks, robust
from manual.batches import SHAPE, batches, dense, probabilities, scramble, tiny, value

P = np.linspace(0.02, 1.0, SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype(np.float32)
KINDS = [("cross-entropy", (0.0, 1.0)), ("squared", (1.0, 3.0, 5.0))]


def world(ratings=(0.0, 1.0), **parameters):
    data = tiny(ratings)
    model = RDIPS(**{"dim": 3, "epochs": 0, "propensity": Known(values=P), "uncertainty": 3.0} | parameters)
    model.fit(data, validation=data)
    nets = scramble(model.nets_)
    (whole,) = batches(data)
    o, r, _ = dense(data)
    return model, nets, data, whole, o, r, probabilities(nets.prediction, whole)


@pytest.mark.parametrize("backbone", ["mf", "fm"])
@pytest.mark.parametrize(("kind", "ratings"), KINDS)
@pytest.mark.parametrize("sampler", [None, Blocks(3, 2), UniformPairs(4)])
def test_the_risk_equals_the_twin(kind, ratings, sampler, backbone):
    model, nets, data, _, o, r, r_hat = world(ratings, backbone=backbone)
    twin = robust.rd_ips(kind, o, r, r_hat, P.astype(float), 3.0)
    got = np.mean([b.weight * value(model.rd_risk(nets, b)) for b in batches(data, sampler)])
    assert got == pytest.approx(twin, rel=1e-6)


@pytest.mark.parametrize(("kind", "ratings"), KINDS)
def test_the_table_equals_the_twin(kind, ratings):
    model, nets, _, whole, o, r, r_hat = world(ratings, mode="table")
    nets.weight.values.data.uniform_(1 / 3, 3)
    weights = robust.table_weights(P.astype(float), r, nets.weight.values.tolist())
    inverse = [[1 / w for w in row] for row in weights]
    assert value(model.rd_risk(nets, whole)) == pytest.approx(risks.ips(kind, o, r, r_hat, inverse), rel=1e-6)


# ---------------------------------------------------------------------- limits
@pytest.mark.parametrize("backbone", ["mf", "fm"])
def test_uncertainty_1_is_ips_exactly(backbone):
    data = tiny()
    nothing = data.with_logs(data.biased.take(np.zeros(0, np.int64)))  # the last epoch is kept
    settings = {"dim": 3, "epochs": 6, "backbone": backbone, "propensity": Known(values=P)}
    base = IPS(**settings).fit(data, validation=nothing)
    same = RDIPS(uncertainty=1.0, **settings).fit(data, validation=nothing)
    assert [e["ips"] for e in same.history_] == [e["ips"] for e in base.history_]
    assert np.array_equal(same.score(), base.score())
    table = RDIPS(uncertainty=1.0, mode="table", every=2, **settings).fit(data, validation=nothing)
    np.testing.assert_allclose(table.score(), base.score(), atol=1e-6)  # its passes shuffle the rows anew
    for mode in ("closed", "table"):
        other = RDIPS(uncertainty=3.0, mode=mode, every=2, **settings).fit(data, validation=nothing)
        assert np.abs(other.score() - base.score()).max() > 1e-3


def test_closed_form_is_at_least_any_table_and_a_learned_table_at_least_ips():
    model, nets, _, whole, o, r, r_hat = world()
    nominal = risks.ips("cross-entropy", o, r, r_hat, P.astype(float))
    closed = value(model.rd_risk(nets, whole))
    table, tabled, *_ = world(mode="table", weight_lr=0.3)
    ascent = table.program()[0].steps[0]
    tabled.prediction.load_state_dict(nets.prediction.state_dict())
    tabled.weight.values.data.fill_(1)
    mover, seen = Mover.of(ascent, tabled, ascent.optimizer), [nominal]
    for _ in range(12):
        mover.move(tabled, whole)
        seen.append(value(table.rd_risk(tabled, whole)))
    assert (np.diff(seen) >= -1e-12).all()
    assert nominal < seen[3] < closed
    assert seen[-1] == pytest.approx(closed, rel=1e-9)  # as all errors are positive, it gets there
    for _ in range(20):
        tabled.weight.values.data.uniform_(1 / 3, 3)
        assert value(table.rd_risk(tabled, whole)) < closed


def test_great_uncertainty_weights_by_the_inverse_odds():
    model, nets, _, whole, o, r, r_hat = world(uncertainty=1e6)
    p = P.astype(float)
    odds = risks.ips("cross-entropy", o, r, r_hat, p / (1 - np.minimum(p, 1 - 1e-12)))
    assert value(model.rd_risk(nets, whole)) / 1e6 == pytest.approx(odds, rel=1e-4)


# ---------------------------------------------------------------------- flaws of public code
def test_the_table_stays_inside_the_box_of_every_pair():
    # A table of weights that users share leaves the box of some of them where p differs between users.
    model, nets, _, whole, *_ = world(mode="table", weight_lr=10.0)
    ascent = model.program()[0].steps[0]
    Mover.of(ascent, nets, ascent.optimizer).move(nets, whole)
    assert nets.weight.values.max() == 3.0
    o = whole.observed
    p = model.propensity_(o).double()
    w = 1 + (1 / p - 1) * nets.weight(o).detach()
    a, b = 1 + (1 / p - 1) / 3, 1 + (1 / p - 1) * 3
    assert ((w >= a - 1e-9) & (w <= b + 1e-9)).all()


def test_the_projection_is_idempotent():
    model, nets, *_ = world(mode="table")
    project = model.program()[0].steps[0].project
    with torch.no_grad():
        nets.weight.values.normal_(1, 5)
        project(nets)
        once = nets.weight.values.clone()
        project(nets)
    assert torch.equal(once, nets.weight.values)
    assert once.min() == pytest.approx(1 / 3)


def test_descent_leaves_the_table_alone_and_ascent_the_prediction():
    (ascent,), (descent,) = (phase.steps for phase in RDIPS(mode="table").program())
    assert (ascent.updates, ascent.ascend) == (("weight",), True)
    assert (descent.updates, descent.ascend) == (("prediction",), False)
    assert [phase.every for phase in RDIPS(mode="table", every=7).program()] == [7, 1]


def test_the_table_is_not_pulled_to_zero_by_the_l2_of_the_network():
    assert RDIPS(mode="table", l2=0.5).program()[0].steps[0].optimizer.l2 == 0.0


# ---------------------------------------------------------------------- the rest
def test_uncertainty_below_1_is_refused():
    with pytest.raises(ParameterError, match=r"'uncertainty' of RDIPS must be a number >= 1; got 0\.5"):
        RDIPS(uncertainty=0.5).check_params()


def test_needs_follow_the_propensity():
    from deconrec.propensity import NaiveBayes

    assert not RDIPS().tags.needs_unbiased
    assert RDIPS(propensity=NaiveBayes()).tags.needs_unbiased


@pytest.mark.parametrize("settings", [{"backbone": "fm"}, {"mode": "table"}])
def test_checks_pass_with(settings):
    check_estimator(cheap(RDIPS).set_params(**settings)).raise_for_failures()
