"""LTD against loops, its Limits line, and its virtual step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.checks import cheap, check_estimator
from deconrec.errors import MissingUnbiasedLog
from deconrec.methods.ips import IPS
from deconrec.methods.ltd import LTD
from deconrec.propensity import Known
from deconrec.propensity.floor import inverse, learned_inverse
from deconrec.training.program import Adam, Mover, evaluate_step, total
from deconrec.training.samplers import Blocks
from manual import risks, robust
from manual.batches import SHAPE, Table, batches, dense, everywhere, probabilities, scramble, tiny, value

KINDS = [("cross-entropy", (0.0, 1.0)), ("squared", (1.0, 3.0, 5.0))]
FLOOR = 0.2
SMALL = {"dim": 3, "epochs": 0, "floor": FLOOR, "virtual_lr": 5.0}


def world(ratings=(0.0, 1.0), **parameters):
    data = tiny(ratings)
    model = LTD(**SMALL | parameters).fit(data, validation=data)
    nets = scramble(model.nets_)
    (whole,) = batches(data)
    o, r, rows = dense(data)
    return model, nets, data, whole, o, r, rows


@pytest.mark.parametrize("backbone", ["mf", "fm"])
@pytest.mark.parametrize(("kind", "ratings"), KINDS)
@pytest.mark.parametrize("sampler", [None, Blocks(3, 2)])
def test_risks_equal_the_twins(kind, ratings, sampler, backbone):
    model, nets, data, whole, o, r, rows = world(ratings, backbone=backbone)
    r_hat, p = probabilities(nets.prediction, whole), probabilities(nets.propensity, whole)
    assert p.min() < FLOOR < p.max()
    twins = {
        model.ips: risks.ips(kind, o, r, r_hat, risks.raised(p, FLOOR)),
        model.unbiased: risks.unbiased(kind, rows, r_hat),
        model.exposure: risks.ctr(o, p),
    }
    for risk, twin in twins.items():
        got = np.mean([b.weight * value(risk(nets, b)) for b in batches(data, sampler)])
        assert got == pytest.approx(twin, rel=1e-6)


# ---------------------------------------------------------------------- limits
@pytest.mark.parametrize("backbone", ["mf", "fm"])
def test_with_propensities_that_do_not_move_it_is_ips(backbone):
    data = tiny()
    nothing = data.with_logs(data.biased.take(np.zeros(0, np.int64)))  # the last epoch is kept
    settings = {"dim": 3, "epochs": 6, "backbone": backbone, "seed": 2}
    model = LTD(warmup=0, weight_lr=1e-12, floor=0.01, **settings)
    start = LTD(warmup=0, floor=0.01, **settings | {"epochs": 0}).fit(data, validation=nothing)
    (whole,) = batches(data)
    p = probabilities(start.nets_.double().propensity, whole).astype(np.float32)
    ips = IPS(batch=1000, propensity=Known(values=np.maximum(p, 0.01)), **settings)
    ips.fit(data, validation=nothing)
    model.fit(data, validation=nothing)
    assert [e["ips"] for e in model.history_] == pytest.approx([e["ips"] for e in ips.history_], rel=1e-4)
    np.testing.assert_allclose(model.score()[1:], ips.score()[1:], atol=1e-4)  # 0 has randomised rows alone
    moving = LTD(warmup=0, weight_lr=0.3, floor=0.01, **settings).fit(data, validation=nothing)
    assert np.abs(moving.score() - ips.score())[1:].max() > 1e-3


# ---------------------------------------------------------------------- the virtual step
def test_the_meta_gradient_equals_differences_of_the_twin():
    model, nets, _, whole, o, r, rows = world(floor=1e-9)  # a floored value has no slope of its own
    logit, exposure = (everywhere(nets[name], whole) for name in ("prediction", "propensity"))
    nets["prediction"], nets["propensity"] = Table(logit), Table(exposure)
    meta = model.program()[-1].steps[0]
    terms, _, (gradient,) = evaluate_step(meta, nets, whole)

    def upper(values):
        p = [[risks.sigma(x) for x in values[5 * u : 5 * u + 5]] for u in range(SHAPE[0])]
        return robust.unbiased_of_logits(rows, robust.ips_step(o, r, logit.tolist(), p, lr=5.0))

    start = exposure.flatten().tolist()
    assert value(terms) == pytest.approx(upper(start), rel=1e-9)
    wanted = robust.slope(upper, start)
    np.testing.assert_allclose(gradient.flatten(), wanted, rtol=1e-5, atol=1e-10)
    both = {(u, i) for u, i, _ in rows} & set(zip(*np.nonzero(o), strict=True))
    assert both
    assert all(gradient[u, i] != 0 for u, i in both)


@pytest.mark.parametrize("backbone", ["mf", "fm"])
@pytest.mark.parametrize("kind", ["cross-entropy", "squared"])
def test_the_virtual_step_differentiates_on_every_backbone_and_error(backbone, kind):
    model, nets, _, whole, *_ = world(backbone=backbone, error=kind, virtual_lr=0.5, floor=1e-9)
    meta = model.program()[-1].steps[0]
    _, parameters, gradients = evaluate_step(meta, nets, whole)
    for parameter, gradient in zip(parameters.values(), gradients, strict=True):
        k, size, ends = int(gradient.abs().argmax()), 1e-5, []
        for sign in (1, -1):
            parameter.data.view(-1)[k] += sign * size
            ends.append(value({"all": total(evaluate_step(meta, nets, whole)[0])}))
            parameter.data.view(-1)[k] -= sign * size
        assert gradient.abs().max() > 0
        assert float(gradient.view(-1)[k]) == pytest.approx((ends[0] - ends[1]) / (2 * size), rel=1e-4)


def test_propensities_learn_to_lower_the_loss_of_the_virtual_step():
    model, nets, _, whole, *_ = world()
    mover = Mover.of(model.program()[-1].steps[0], nets, Adam(0.05))
    seen = [value(mover.move(nets, whole)) for _ in range(15)]
    assert seen[-1] < seen[0]


# ---------------------------------------------------------------------- flaws that clipping brings
def test_floored_propensities_still_get_a_meta_gradient():
    model, nets, _, whole, o, _, rows = world()
    seen = {(u, i) for u, i, _ in rows} & set(zip(*np.nonzero(o), strict=True))
    u, i = sorted(seen)[0]
    exposure = np.full(SHAPE, 2.0)
    exposure[u, i] = -12.0  # far below the floor
    nets["prediction"], nets["propensity"] = Table(everywhere(nets.prediction, whole)), Table(exposure)
    _, _, (gradient,) = evaluate_step(model.program()[-1].steps[0], nets, whole)
    assert abs(float(gradient[u, i])) > 1e-4


def test_the_learned_inverse_keeps_its_value_and_bounds_its_gradient():
    logit = torch.tensor(
        [-800.0, -60.0, -12.0, -1.0, 0.0, 3.0, 60.0], dtype=torch.float64, requires_grad=True
    )
    p = torch.sigmoid(logit.detach()).numpy()
    out = learned_inverse(logit, 0.1)
    np.testing.assert_allclose(out.detach(), 1 / np.maximum(p, 0.1), rtol=1e-12)
    out.sum().backward()
    np.testing.assert_allclose(logit.grad, -(1 - p) / np.maximum(p, 0.1), rtol=1e-12, atol=1e-20)
    assert logit.grad.abs().max() <= 10 + 1e-9  # 1 + exp(-l) itself has a gradient of exp(800)
    plain = torch.tensor([-12.0], dtype=torch.float64, requires_grad=True)
    inverse(plain, 0.1).sum().backward()
    assert plain.grad.abs() < 1e-3 < 9 < logit.grad[2].abs()


# ---------------------------------------------------------------------- the schedule
def test_warm_up_fits_exposures_alone():
    first, second = LTD(warmup=3).program()
    assert (first.stop, second.start) == (3, 3)
    assert [s.updates for s in first.steps] == [("propensity",)]
    assert [s.updates for s in second.steps] == [("propensity",), ("prediction",)]
    data = tiny()
    cold = LTD(dim=2, epochs=0).fit(data, validation=data)
    model = LTD(dim=2, epochs=4, warmup=3).fit(data, validation=data)
    names = [set(epoch) - {"score", "seconds"} for epoch in model.history_]
    assert names == [{"exposure"}] * 3 + [{"unbiased", "ips"}]
    assert not torch.equal(cold.nets_.propensity.user, model.nets_.propensity.user)


def test_the_exposures_may_hold_the_propensities():
    model, nets, _, whole, *_ = world(exposure_weight=0.4)
    step = model.program()[-1].steps[0]
    terms = evaluate_step(step, nets, whole)[0]
    assert set(terms) == {"unbiased", "exposure"}
    wanted = 0.4 * value(model.exposure(nets, whole))
    assert value({"exposure": terms["exposure"]}) == pytest.approx(wanted, rel=1e-9)


def test_no_l2_works_against_the_small_meta_gradient():
    assert LTD(l2=0.5).program()[-1].steps[0].optimizer.l2 == 0.0


def test_a_randomised_log_is_needed():
    data = tiny()
    with pytest.raises(MissingUnbiasedLog):
        LTD().fit(data.with_logs(data.biased))


@pytest.mark.parametrize("settings", [{"backbone": "fm"}])
def test_checks_pass_with(settings):
    check_estimator(cheap(LTD).set_params(**settings)).raise_for_failures()
