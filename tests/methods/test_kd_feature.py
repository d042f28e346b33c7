"""KD-Feature against loops, its limits, and the flaws of public code that it must not have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.checks import CHECKS, run
from deconrec.checks.fixtures import confounded
from deconrec.errors import ParameterError
from deconrec.methods.kd_feature import KDFeature
from deconrec.methods.mf import MF
from deconrec.saving import load_model
from deconrec.training.program import evaluate_step
from manual import distill, risks
from manual.batches import batches, dense, probabilities, scramble, tiny, value

SMALL = {"dim": 3, "epochs": 6, "patience": 0}


def teacher(**parameters):
    return MF(**{"population": "uniform", "dim": 3, "epochs": 5} | parameters)


def made(mode, data=None, **parameters):
    data = tiny() if data is None else data
    backbone = parameters.get("backbone", "mf")
    settings = {"dim": 3, "epochs": 0, "mode": mode, "teacher": teacher(backbone=backbone)} | parameters
    return KDFeature(**settings).fit(data, validation=data), data


def factors(net):
    return net.user.detach().tolist(), net.item.detach().tolist()


def test_concat_equals_the_twin():
    model, data = made("concat", teacher=teacher(dim=2))
    nets, theirs = scramble(model.nets_), model.teacher_.nets_.prediction
    net = nets["prediction"].net
    p, q = (
        [[*a, *b] for a, b in zip(x, y, strict=True)]
        for x, y in zip(factors(theirs), factors(net), strict=True)
    )
    b_u, b_i, b = (t.detach().tolist() for t in (net.user_bias, net.item_bias, net.offset))
    r_hat = 1 / (1 + np.exp(-np.array(distill.logits(p, b_u, q, b_i, b))))
    (whole,) = batches(data)
    o, r, _ = dense(data)
    assert value(model.biased(nets, whole)) == pytest.approx(
        risks.naive("cross-entropy", o, r, r_hat), rel=1e-6
    )
    np.testing.assert_allclose(probabilities(nets.prediction, whole), r_hat, rtol=1e-6)


@pytest.mark.parametrize("side", ["both", "user", "item"])
def test_hint_equals_the_twin(side):
    data = tiny()
    data = data.with_logs(data.biased, data.unbiased.take(data.unbiased.user != data.unbiased.user[0]))
    model, _ = made("hint", data, weight=0.3, side=side)
    nets, theirs = scramble(model.nets_), model.teacher_.nets_.prediction
    (whole,) = batches(data)
    o, r, rows = dense(data)
    twin = risks.naive("cross-entropy", o, r, probabilities(nets.prediction, whole))
    for k, name in enumerate(("user", "item")):
        known = [n in {row[k] for row in rows} for n in range(data.shape[k])]
        assert k or not all(known)
        if side in ("both", name):
            twin += 0.3 * distill.hint(factors(nets["prediction"])[k], factors(theirs)[k], known)
    ((step,),) = [phase.steps for phase in model.program()]
    assert value(step.loss(nets, whole)) == pytest.approx(twin, rel=1e-6)


@pytest.mark.parametrize("backbone", ["mf", "fm"])
@pytest.mark.parametrize("side", ["both", "user", "item"])
@pytest.mark.parametrize("mode", ["init", "alter"])
def test_the_student_starts_at_the_side_of_the_teacher(mode, side, backbone):
    data, _ = confounded()
    model, _ = made(mode, data, side=side, backbone=backbone)
    theirs = dict(model.teacher_.nets_.prediction.named_parameters())
    fresh = dict(MF(dim=3, epochs=0, backbone=backbone).fit(data).nets_.prediction.named_parameters())
    for name, mine in model.nets_["prediction"].named_parameters():
        taken = side == "both" or name.startswith(side)
        wanted = theirs[name] if taken and name != "offset" else fresh[name]
        assert torch.equal(mine, wanted), name
        assert not torch.equal(theirs[name], fresh[name])


@pytest.mark.parametrize("backbone", ["mf", "fm"])
def test_alter_moves_three_passes_of_users_for_one_of_items(backbone):
    model, _ = made("alter", backbone=backbone)
    users, items = model.program()
    assert [(users.active(e), items.active(e)) for e in range(6)] == [(True, e % 3 == 2) for e in range(6)]
    moved = [set(model.nets_.select(phase.steps[0].updates)) for phase in (users, items)]
    assert not moved[0] & moved[1]
    assert moved[0] | moved[1] == {name for name, _ in model.nets_.named_parameters()}
    assert all("item" not in name for name in moved[0])
    assert all("user" not in name for name in moved[1])


@pytest.mark.parametrize("backbone", ["mf", "fm"])
def test_flaw_the_penalty_shrinks_the_teachers_frozen_factors(backbone):
    data, _ = confounded()
    settings = {"dim": 3, "mode": "concat", "teacher": teacher(backbone=backbone), "backbone": backbone}
    model = KDFeature(l2=0.1, epochs=6, **settings).fit(data)
    theirs = model.teacher_.nets_.prediction
    with torch.no_grad():
        assert torch.equal(model.nets_["prediction"].user, theirs.user_side(model.teacher_.tables_)[0])
        assert torch.equal(model.nets_["prediction"].item, theirs.item_side(model.teacher_.tables_)[0])
    ((step,),) = [phase.steps for phase in model.program()]
    scramble(model.nets_)
    tables = type(model.tables_)(
        *(None if t is None else t.double() for t in (model.tables_.user, model.tables_.item))
    )
    (batch,) = batches(data, tables=tables)
    _, parameters, _ = evaluate_step(step, model.nets_, batch)
    assert all(name.startswith("prediction.net.") for name in parameters)


def test_flaw_the_hint_pulls_users_without_randomised_rows_to_noise():
    data = tiny()
    data = data.with_logs(data.biased, data.unbiased.take(data.unbiased.user != data.unbiased.user[0]))
    model, _ = made("hint", data, weight=1.0)
    nets = scramble(model.nets_)
    (batch,) = batches(data)
    nets.zero_grad()
    sum(model.hint(nets, batch).values()).backward()
    known = np.isin(np.arange(data.n_users), data.unbiased.user)
    gradient = nets["prediction"].user.grad.numpy()
    assert not gradient[~known].any()
    assert gradient[known].any()


def test_flaw_the_axes_of_student_and_teacher_are_unrelated():
    # Factors are known up to a rotation; student and teacher share their start, so that their axes mean the same.
    untrained = KDFeature(mode="hint", teacher=teacher(epochs=0), dim=3, epochs=0).fit(tiny())
    mine, theirs = (net.nets_["prediction"] for net in (untrained, untrained.teacher_))
    assert torch.equal(mine.user, theirs.user)
    assert torch.equal(mine.item, theirs.item)


@pytest.mark.parametrize("backbone", ["mf", "fm"])
def test_hint_with_weight_0_and_init_from_an_untrained_teacher_are_mf_exactly(backbone):
    data, _ = confounded()
    mf = MF(backbone=backbone, **SMALL).fit(data)
    bare = KDFeature(mode="hint", weight=0.0, backbone=backbone, teacher=teacher(backbone=backbone), **SMALL)
    assert not bare.tags.needs_unbiased
    assert np.array_equal(bare.fit(data.with_logs(data.biased)).score(), mf.score())
    for epochs, same in ((0, True), (5, False)):
        taught = teacher(backbone=backbone, epochs=epochs)
        init = KDFeature(mode="init", backbone=backbone, teacher=taught, **SMALL).fit(data)
        assert np.array_equal(init.score(), mf.score()) == same


def test_concat_with_factors_at_0_is_mf():
    model, data = made("concat")
    (whole,) = batches(data)
    net = scramble(model.nets_)["prediction"]
    before = net(whole.space).detach().clone()
    net.user.zero_()
    assert not torch.equal(net(whole.space), before)
    assert torch.equal(net(whole.space), net.net(whole.space))


@pytest.mark.parametrize(
    ("student", "own", "name"),
    [({"dim": 4}, {"dim": 3}, "dim"), ({"backbone": "mf"}, {"backbone": "fm"}, "backbone")],
    ids=["dim", "backbone"],
)
def test_a_teacher_of_another_form_is_refused(student, own, name):
    with pytest.raises(
        ParameterError, match=rf"'{name}' of KDFeature must be its teacher's when mode='hint'"
    ):
        KDFeature(mode="hint", teacher=MF(population="uniform", **own), **student).fit(tiny())


def test_a_teacher_that_says_nothing_has_the_form_of_its_student(tmp_path):
    data = tiny()
    alike = KDFeature(dim=5, epochs=3, backbone="fm").fit(data)
    told = KDFeature(dim=5, epochs=3, backbone="fm", teacher=MF(population="uniform", dim=5, backbone="fm"))
    assert alike.teacher_.get_params()["dim"] == 5
    assert alike.teacher_.backbone == "fm"
    pairs = np.array([0, 1]), np.array([1, 0])
    expected = told.fit(data)._pairs(*pairs)
    assert np.array_equal(alike._pairs(*pairs), expected)
    alike.save(tmp_path / "model")
    assert np.array_equal(load_model(tmp_path / "model")._pairs(*pairs), expected)


CHECKED = [("alter", "mf"), ("hint", "mf"), ("init", "fm"), ("concat", "fm")]


@pytest.mark.parametrize(("mode", "backbone"), CHECKED)
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_checks_of_modes(check, mode, backbone, students):
    outcome = run(check, students[mode, backbone])
    assert outcome.verdict in ("passed", "not applicable"), outcome.message


@pytest.fixture(scope="module")
def students():
    settings = {"dim": 4, "epochs": 4}
    return {
        (mode, b): KDFeature(mode=mode, backbone=b, teacher=teacher(backbone=b, **settings), **settings)
        for mode, b in CHECKED
    }
