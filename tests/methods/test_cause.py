"""CausE against loops, its limits, and the flaws of public code that it must not have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.checks import CHECKS, run
from deconrec.checks.fixtures import confounded
from deconrec.methods.cause import CausE
from deconrec.methods.mf import MF
from deconrec.training.program import evaluate_step
from deconrec.training.samplers import UniformPairs
from manual import distill, risks
from manual.batches import batches, dense, scramble, tiny, value

RATINGS = {"cross-entropy": (0.0, 1.0), "squared": (1.0, 3.0, 5.0)}
SMALL = {"dim": 3, "epochs": 6, "patience": 0}


def made(kind="cross-entropy", **parameters):
    data = tiny(RATINGS[kind])
    # One item without a randomised row, so that "learned" and "all" differ.
    data = data.with_logs(data.biased, data.unbiased.take(data.unbiased.item != data.biased.item[0]))
    model = CausE(**{"dim": 3, "epochs": 0} | parameters).fit(data, validation=data)
    return model, scramble(model.nets_), data


def table(net, users=None):
    """(logits, item factors) of a net, the user side taken from `users`, as lists."""
    users = users or net
    p, b_u, q, b_i, b = (
        t.detach().tolist() for t in (users.user, users.user_bias, net.item, net.item_bias, net.offset)
    )
    if users is not net:  # the other half has the user bias, but a global bias of its own
        return distill.logits(p, b_u, q, b_i, b), q
    return distill.logits(p, b_u, q, b_i, b), q


def halves(model, nets):
    mine = table(nets.prediction)
    other = table(nets["other"], nets["prediction"] if model.share_users else None)
    return (mine, other) if model.answers == "control" else (other, mine)


@pytest.mark.parametrize("kind", RATINGS)
@pytest.mark.parametrize("answers", ["control", "treatment"])
@pytest.mark.parametrize("share_users", [True, False])
@pytest.mark.parametrize(("distance", "ties"), [("l1", "learned"), ("l2", "all"), ("cos", "learned")])
def test_the_objective_equals_the_twin(kind, answers, share_users, distance, ties):
    settings = {"answers": answers, "share_users": share_users, "distance": distance, "ties": ties}
    model, nets, data = made(kind, tie=0.4, unbiased_weight=0.7, **settings)
    o, r, rows = dense(data)
    (control, q), (treatment, q_t) = halves(model, nets)
    known = [ties == "all" or i in set(data.unbiased.item) for i in range(data.n_items)]
    assert ties == "all" or not all(known)
    r_c, r_t = (1 / (1 + np.exp(-np.array(x))) for x in (control, treatment))
    twin = risks.naive(kind, o, r, r_c) + 0.7 * risks.unbiased(kind, rows, r_t)
    twin += 0.4 * distill.tie(distance, o, q, q_t, known)
    ((step,),) = [phase.steps for phase in model.program()]
    for sampler in (None, UniformPairs(4)):
        got = np.mean([b.weight * value(step.loss(nets, b)) for b in batches(data, sampler)])
        assert got == pytest.approx(twin, rel=1e-6)


@pytest.mark.parametrize("backbone", ["mf", "fm"])
def test_the_two_sides_of_a_net_make_its_logits(backbone):
    # What the other half is made of: the users of one net and the items of another.
    data, _ = confounded()
    net = CausE(dim=3, epochs=2, backbone=backbone).fit(data)
    prediction, tables = net.nets_["prediction"], net.tables_
    (p, b_u), (q, b_i) = prediction.user_side(tables), prediction.item_side(tables)
    (batch,) = batches(data, tables=tables)
    torch.testing.assert_close(
        (p @ q.T + b_u[:, None] + b_i).reshape(-1), prediction(batch.space), rtol=1e-4, atol=1e-5
    )


def gradients(model, nets, data, losses=None):
    ((step,),) = [phase.steps for phase in model.program()]
    if losses is not None:
        step = type(step)(losses, updates=step.updates)
    (batch,) = batches(data)
    _, parameters, found = evaluate_step(step, nets, batch)
    return dict(zip(parameters, found, strict=True))


@pytest.mark.parametrize(
    ("holds", "moves"),
    [
        ("treatment", {"prediction.item"}),
        ("control", {"other.item"}),
        ("none", {"prediction.item", "other.item"}),
    ],
)
def test_the_tie_moves_the_side_that_is_not_held_and_nothing_but_item_factors(holds, moves):
    model, nets, data = made(holds=holds)
    found = gradients(model, nets, data, model.distances)
    assert {name for name, g in found.items() if torch.any(g != 0)} == moves


def test_flaw_items_never_in_u_are_pulled_to_initial_noise():
    # Public code counts every observed item, whether the unbiased half has ever seen it or not.
    model, nets, data = made()
    absent = sorted(set(data.biased.item) - set(data.unbiased.item))
    assert absent
    assert not gradients(model, nets, data, model.distances)["prediction.item"][absent].any()
    public, nets, data = made(ties="all")
    assert gradients(public, nets, data, public.distances)["prediction.item"][absent].any()


def test_held_control_is_followed_by_every_observed_item():
    # There the side that learns is the treatment half, and items without randomised rows need the tie most.
    model, nets, data = made(holds="control", answers="treatment")
    absent = sorted(set(data.biased.item) - set(data.unbiased.item))
    assert gradients(model, nets, data, model.distances)["prediction.item"][absent].any()


def test_flaw_an_item_side_that_no_row_taught_answers_with_its_initial_noise():
    _, _, data = made()
    absent = sorted(set(data.biased.item) - set(data.unbiased.item))
    for parameters, covered in (
        ({"answers": "control"}, True),
        ({"answers": "treatment", "holds": "treatment"}, False),
        ({"answers": "treatment", "holds": "control"}, True),
        ({"answers": "treatment", "holds": "none"}, False),
        ({"answers": "treatment", "holds": "none", "ties": "all"}, True),
    ):
        model = CausE(dim=2, epochs=0, **parameters).fit(data, validation=data)
        assert model.covered_items_[absent].all() == covered, parameters
    item = int(data.unbiased.item[0])
    unseen = data.with_logs(data.biased.take(data.biased.item != item), data.unbiased)
    for answers, covered in (("control", False), ("treatment", True)):
        model = CausE(dim=2, epochs=0, answers=answers).fit(unseen, validation=unseen)
        assert model.covered_items_[item] == covered
    alone = CausE(dim=2, epochs=0, answers="treatment", share_users=False).fit(data, validation=data)
    assert set(np.flatnonzero(alone.covered_users_)) == set(data.unbiased.user)


@pytest.mark.parametrize("backbone", ["mf", "fm"])
def test_tie_0_and_users_of_their_own_are_two_independent_tasks(backbone):
    data, _ = confounded()
    nothing = data.with_logs(
        data.biased.take(np.zeros(0, np.int64))
    )  # no stopping: the last epoch is compared
    settings = {"backbone": backbone, "unbiased_weight": 1.0, "share_users": False, **SMALL}
    biased, uniform = (
        MF(population=p, backbone=backbone, **SMALL).fit(data, validation=nothing)
        for p in ("biased", "uniform")
    )
    for answers, alone in (("control", biased), ("treatment", uniform)):
        model = CausE(tie=0.0, answers=answers, **settings).fit(data, validation=nothing)
        np.testing.assert_array_equal(model._block(np.arange(40)), alone._block(np.arange(40)))
        tied = CausE(tie=1.0, holds="none", answers=answers, **settings).fit(data, validation=nothing)
        assert not np.array_equal(tied._block(np.arange(40)), alone._block(np.arange(40)))


def test_tie_0_with_shared_users_lets_no_item_side_feel_the_other_log():
    model, nets, data = made(tie=0.0)
    control = gradients(model, nets, data, model.control)
    treatment = gradients(model, nets, data, model.treatment)
    for name in control:
        if name.startswith("other") and control[name].numel():
            assert not control[name].any()
        if name.startswith("prediction.item"):
            assert not treatment[name].any()
    assert control["prediction.user"].any()
    assert treatment["prediction.user"].any()


def test_needs_follow_from_whether_u_can_reach_the_answer():
    assert CausE().tags.needs_unbiased
    bare = {"share_users": False, "answers": "control"}
    assert CausE(**bare).tags.needs_unbiased
    assert not CausE(tie=0.0, **bare).tags.needs_unbiased
    assert not CausE(holds="control", **bare).tags.uses_unbiased


def test_u_reaches_the_control_half_through_the_tie_alone():
    data, _ = confounded()
    nothing = data.with_logs(data.biased.take(np.zeros(0, np.int64)))
    log = data.unbiased
    flipped = data.with_logs(data.biased, type(log)(log.user, log.item, 1 - log.rating))
    settings = {"share_users": False, "distance": "l2", "tie": 1.0, **SMALL}
    a, b = (CausE(**settings).fit(d, validation=nothing).score() for d in (data, flipped))
    assert not np.array_equal(a, b)


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_checks_on_the_factorisation_machine(check, machine):
    outcome = run(check, machine)
    assert outcome.verdict in ("passed", "not applicable"), outcome.message


@pytest.fixture(scope="module")
def machine():
    return CausE(dim=4, epochs=4, backbone="fm")
