"""RD-DR against loops, and its Limits lines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.checks import cheap, check_estimator
from deconrec.methods.dr_jl import DRJL
from deconrec.methods.rd_dr import RDDR
from deconrec.methods.rd_ips import RDIPS
from deconrec.propensity import Known
from deconrec.training.program import Mover
from deconrec.training.samplers import Blocks
from manual import risks, robust
from manual.batches import SHAPE, Table, batches, dense, probabilities, scramble, tiny, value

P = np.linspace(0.1, 1.0, SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype(np.float32)
KINDS = [("cross-entropy", (0.0, 1.0)), ("squared", (1.0, 3.0, 5.0))]
GAMMA = 3.0


def world(ratings=(0.0, 1.0), **parameters):
    data = tiny(ratings)
    model = RDDR(**{"dim": 3, "epochs": 0, "propensity": Known(values=P), "uncertainty": GAMMA} | parameters)
    model.fit(data, validation=data)
    nets = scramble(model.nets_)
    (whole,) = batches(data)
    o, r, _ = dense(data)
    return model, nets, data, whole, o, r


def imputed(kind, nets, whole):
    r_hat, label = probabilities(nets.prediction, whole), probabilities(nets.imputation, whole)
    return r_hat, risks.errors_against(kind, label, r_hat)


@pytest.mark.parametrize("backbone", ["mf", "fm"])
@pytest.mark.parametrize(("kind", "ratings"), KINDS)
@pytest.mark.parametrize("sampler", [None, Blocks(3, 2)])
def test_risks_equal_the_twins(kind, ratings, sampler, backbone):
    model, nets, data, whole, o, r = world(ratings, backbone=backbone)
    r_hat, e_hat = imputed(kind, nets, whole)
    p = P.astype(float)
    twins = {
        model.rd_risk: robust.rd_dr(kind, o, r, r_hat, p, e_hat, GAMMA),
        model.imputation_risk: robust.rd_imputation(kind, o, r, r_hat, p, e_hat, GAMMA),
    }
    for risk, twin in twins.items():
        got = np.mean([b.weight * value(risk(nets, b)) for b in batches(data, sampler)])
        assert got == pytest.approx(twin, rel=1e-6)


def test_the_tables_equal_the_twins():
    model, nets, _, whole, o, r = world(mode="table")
    r_hat, e_hat = imputed("cross-entropy", nets, whole)
    twins = {
        "weight": (model.rd_risk, risks.dr),
        "imputation_weight": (model.imputation_risk, risks.imputation),
    }
    for name, (risk, twin) in twins.items():
        nets[name].values.data.uniform_(1 / GAMMA, GAMMA)
        weights = robust.table_weights(P.astype(float), r, nets[name].values.tolist())
        inverse = [[1 / w for w in row] for row in weights]
        wanted = twin("cross-entropy", o, r, r_hat, inverse, e_hat)
        assert value(risk(nets, whole)) == pytest.approx(wanted, rel=1e-6)


# ---------------------------------------------------------------------- limits
@pytest.mark.parametrize("backbone", ["mf", "fm"])
@pytest.mark.parametrize("mode", ["closed", "table"])
def test_uncertainty_1_is_dr_jl_exactly(mode, backbone):
    data = tiny()
    nothing = data.with_logs(data.biased.take(np.zeros(0, np.int64)))  # the last epoch is kept
    settings = {"dim": 3, "epochs": 6, "backbone": backbone, "propensity": Known(values=P)}
    base = DRJL(**settings).fit(data, validation=nothing)
    same = RDDR(uncertainty=1.0, mode=mode, every=2, **settings).fit(data, validation=nothing)
    for mine, other in zip(same.history_, base.history_, strict=True):
        assert all(mine[name] == other[name] for name in ("direct", "correction", "imputation"))
        assert mine["robust"] == mine["imputation_robust"] == 0
    assert np.array_equal(same.score(), base.score())
    other = RDDR(uncertainty=GAMMA, mode=mode, every=2, **settings).fit(data, validation=nothing)
    assert np.abs(other.score() - base.score()).max() > 1e-3


def test_closed_form_is_at_least_any_table_and_a_learned_table_at_least_dr():
    model, nets, _, whole, o, r = world()
    r_hat, e_hat = imputed("cross-entropy", nets, whole)
    nominal = risks.dr("cross-entropy", o, r, r_hat, P.astype(float), e_hat)
    closed = value(model.rd_risk(nets, whole))
    table, tabled, *_ = world(mode="table", weight_lr=0.3)
    for name in ("prediction", "imputation"):
        tabled[name].load_state_dict(nets[name].state_dict())
    ascent, _ = table.program()[0].steps
    tabled.weight.values.data.fill_(1)
    mover = Mover.of(ascent, tabled, ascent.optimizer)
    assert value(table.rd_risk(tabled, whole)) == pytest.approx(nominal, rel=1e-6)
    for _ in range(12):
        mover.move(tabled, whole)
        assert nominal < value(table.rd_risk(tabled, whole)) < closed
    for _ in range(20):
        tabled.weight.values.data.uniform_(1 / GAMMA, GAMMA)
        assert value(table.rd_risk(tabled, whole)) < closed


@pytest.mark.parametrize("gamma", [1.0, 2.0, 20.0])
def test_with_e_hat_e_it_is_the_ideal_risk_whatever_the_uncertainty(gamma):
    model, nets, _, whole, o, r = world(uncertainty=gamma)
    everywhere = np.where(o == 1, r, np.random.default_rng(0).integers(0, 2, SHAPE))
    nets["imputation"] = Table(40 * (2 * everywhere - 1))
    r_hat = probabilities(nets.prediction, whole)
    assert value(model.rd_risk(nets, whole)) == pytest.approx(
        risks.ideal("cross-entropy", everywhere, r_hat), rel=1e-6
    )


def test_with_e_hat_0_it_is_rd_ips():
    # The label that is imputed is the prediction itself, so that its squared error is 0.
    model, nets, data, whole, *_ = world(error="squared")
    nets["imputation"] = nets["prediction"]
    other = RDIPS(dim=3, epochs=0, propensity=Known(values=P), uncertainty=GAMMA, error="squared")
    other.fit(data, validation=data)
    assert value(model.rd_risk(nets, whole)) == pytest.approx(value(other.rd_risk(nets, whole)), rel=1e-6)


# ---------------------------------------------------------------------- flaws of public code
def test_the_gradient_takes_the_worst_weights_as_given():
    model, nets, _, whole, *_ = world()
    o = whole.observed

    def gradient(loss):
        nets.zero_grad()
        loss.backward()
        return nets.prediction.user.grad.clone()

    e, e_hat = model.errors(nets, o)
    p = model.propensity_(o)
    w = torch.where(e > e_hat, 1 + (1 / p - 1) * GAMMA, 1 + (1 / p - 1) / GAMMA).detach()
    by_hand = whole.space.expect(model.errors(nets, whole.space)[1]) + o.expect(w * (e - e_hat))
    torch.testing.assert_close(gradient(by_hand), gradient(sum(model.rd_risk(nets, whole).values())))


def test_both_terms_of_the_correction_are_weighted():
    # e = e_hat on every observed pair: nothing is left to weight (public code weights e alone).
    model, nets, _, whole, _, r = world()
    nets["imputation"] = Table(40 * (2 * r - 1))
    terms = model.rd_risk(nets, whole)
    for name in ("correction", "robust"):
        assert abs(value({name: terms[name]})) < 1e-9


def test_each_risk_moves_its_own_net():
    (phase,) = RDDR().program()
    assert [step.updates for step in phase.steps] == [("imputation",), ("prediction",)]
    ascent, _ = RDDR(mode="table", every=4).program()
    assert [step.updates for step in ascent.steps] == [("weight",), ("imputation_weight",)]
    assert all(step.ascend for step in ascent.steps)
    assert ascent.every == 4


@pytest.mark.parametrize("settings", [{"backbone": "fm"}, {"mode": "table"}])
def test_checks_pass_with(settings):
    check_estimator(cheap(RDDR).set_params(**settings)).raise_for_failures()
