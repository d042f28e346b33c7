"""Res-IPS against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.checks.fixtures import confounded
from deconrec.errors import DataError
from deconrec.methods.escm2_ips import ESCM2IPS
from deconrec.methods.res_dr import ResDR
from deconrec.methods.res_ips import ResIPS, half
from deconrec.pairs import Pairs
from deconrec.training.samplers import Blocks
from manual import risks
from manual.batches import batches, dense, everywhere, probabilities, scramble, tiny, value

FLOOR = 0.2
SETTINGS = {
    "dim": 3,
    "epochs": 0,
    "floor": FLOOR,
    "ctcvr_weight": 0.7,
    "unbiased_weight": 1.3,
    "agreement": "loss",
}


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
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("sampler", [None, Blocks(3, 2)])
def test_risks_equal_the_twins(kind, residual, shared, sampler):
    switches = {"residual_propensity": residual, "shared": shared}
    model, nets, parts, o, r, rows, p_hat, p, r_hat = world(kind, sampler, **switches)
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


def test_shared_towers_learn_in_one_step_each_loss_its_own():
    model, nets, (whole,), *_ = world(shared=True, consistency=0.05)
    (phase,) = model.program()
    moved = {step.updates: set(step.loss(nets, whole)) for step in phase.steps}
    assert moved == {
        ("prediction", "propensity"): {"exposure", "ips", "ctcvr", "unbiased"},
        ("propensity_residual",): {"consistency"},
    }
    nets.zero_grad()
    model.ips(nets, whole)["ips"].backward()
    assert all(p.grad is None or not p.grad.any() for p in nets.propensity.parameters())
    nets.zero_grad()
    model.agree(nets, whole)["consistency"].backward()
    assert nets.propensity_residual.item.grad.any()


def test_shared_without_what_is_new_it_is_escm2_ips_exactly():
    data = tiny()
    same = {"dim": 3, "epochs": 4, "patience": 0, "floor": FLOOR, "ctcvr_weight": 0.7, "l2": 1e-3}
    bare = {"residual_propensity": False, "unbiased_weight": 0.0, "consistency": 0.0}
    res = ResIPS(shared=True, **same, **bare).fit(data, validation=data)
    escm2 = ESCM2IPS(**same).fit(data, validation=data)
    np.testing.assert_allclose(res.score(), escm2.score(), rtol=1e-6)


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
    model = ResIPS(dim=3, epochs=0, floor=1e-3, agreement="loss").fit(data, validation=data)
    (whole,) = batches(data)
    nets = model.nets_.double()
    assert (everywhere(nets.propensity_residual, whole) == 0).all()
    nets.zero_grad()
    model.agree(nets, whole)["consistency"].backward()
    assert torch.any(nets.propensity_residual.item.grad != 0)


# ---------------------------------------------------------------------- agreement="outcomes"
@pytest.mark.parametrize("cls", [ResIPS, ResDR])
def test_outcomes_agree_once_calibrated(cls):
    """After each epoch's start the doubly robust mean outcome of the log is that of R, and the weights' sum is kept."""
    data, _ = confounded()
    model = cls(dim=3, epochs=0, agreement="outcomes", slack=0.0)
    model.fit(data, validation=data)
    nets = scramble(model.nets_).float()
    model._source(data)
    with torch.no_grad():
        model.agree_on_outcomes(nets)
        seen = model.evidence_
        w = model.observed_weights(nets, seen.observed).numpy()
        nominal = 1 / np.maximum(nets.propensity(seen.observed).sigmoid().numpy(), model.floor_)
        r, r_hat = seen.observed.r.numpy(), nets.prediction(seen.observed).sigmoid().numpy()
        level = float(nets.prediction(seen.space).sigmoid().mean())
    assert w.sum() == pytest.approx(nominal.sum(), rel=1e-4)
    assert level + (w * (r - r_hat)).sum() / w.sum() == pytest.approx(seen.outcomes.mean(), abs=1e-4)
    if cls is ResDR:
        with torch.no_grad():
            assert float(model.label(nets, seen.space).sigmoid().mean()) == pytest.approx(
                seen.outcomes.mean(), abs=1e-4
            )


def test_l_ctcvr_reads_the_propensity_of_outcome_1():
    data, _ = confounded()
    model = ResIPS(dim=3, epochs=0, agreement="outcomes").fit(data, validation=data)
    nets = scramble(model.nets_)
    with torch.no_grad():
        nets.propensity_residual.values.copy_(torch.tensor([-0.5, 1.25]))
        (whole,) = batches(data)
        difference = model.propensities.logit(nets, whole.space) - nets.propensity(whole.space)
    np.testing.assert_allclose(difference.numpy(), 1.25, rtol=1e-5)


def test_the_evidence_is_not_kept():
    data, _ = confounded()
    model = ResIPS(dim=2, epochs=1).fit(data)
    assert not hasattr(model, "evidence_")


def test_an_empty_half_of_the_randomised_log_is_refused():
    pairs = Pairs(
        *(torch.zeros(3, dtype=t) for t in (torch.int64, torch.int64, torch.float32, torch.float32))
    )
    with pytest.raises(DataError, match="both halves"):
        half(pairs, 1)


@pytest.mark.parametrize("cls", [ResIPS, ResDR])
@pytest.mark.parametrize("shared", [True, False])
def test_a_residual_head_has_the_risks_of_the_twins_and_moves_nothing_but_itself(cls, shared):
    if cls is ResIPS:
        model, nets, parts, o, r, _, _, p, r_hat = world(residual="head", shared=shared)
        assert mean(model.ips, nets, parts) == pytest.approx(
            risks.ips("cross-entropy", o, r, r_hat, risks.raised(p, FLOOR)), rel=1e-6
        )
    data = tiny()
    model = cls(**SETTINGS | {"residual": "head", "shared": shared}).fit(data, validation=data)
    (whole,) = batches(data)
    nets = scramble(model.nets_)
    nets.zero_grad()
    sum(model.agree(nets, whole).values()).backward()
    moved = {name for name, q in nets.propensity_residual.named_parameters() if q.grad is not None}
    assert moved == {"of_user", "of_item", "of_both", "offset"}
    trained = cls(**SETTINGS | {"residual": "head", "shared": shared, "epochs": 3}).fit(data, validation=data)
    assert any(q.abs().max() > 0 for q in trained.nets_.propensity_residual.parameters())


@pytest.mark.parametrize("cls", [ResIPS, ResDR])
def test_the_distance_of_two_mean_errors_is_squared_or_absolute(cls):
    data = tiny()
    (whole,) = batches(data)
    seen = {}
    for distance in ("squared", "absolute"):
        model = cls(**SETTINGS | {"distance": distance}).fit(data, validation=data)
        seen[distance] = value(model.agree(scramble(model.nets_), whole))
    assert seen["squared"] == pytest.approx(seen["absolute"] ** 2, rel=1e-5)


@pytest.mark.parametrize("cls", [ResIPS, ResDR])
def test_l_ctcvr_moves_the_prediction_alone_unless_factors_are_shared(cls):
    data = tiny()
    (whole,) = batches(data)
    for shared in (True, False):
        model = cls(**SETTINGS | {"shared": shared}).fit(data, validation=data)
        moved = set()
        for phase in model.program():
            for step in phase.steps:
                if "ctcvr" in step.loss(model.nets_, whole):
                    moved |= set(step.updates)
        assert ("propensity" in moved) == shared  # ESCM2's entire-space loss, kept where towers are joined
