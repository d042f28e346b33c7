"""KD-Label against loops, its limits, and the flaws of public code that it must not have."""

from __future__ import annotations

import numpy as np
import pytest

from deconrec.checks import CHECKS, run
from deconrec.checks.fixtures import confounded
from deconrec.errors import MissingUnbiasedLog, ParameterError
from deconrec.methods import make
from deconrec.methods.kd_label import KDLabel
from deconrec.methods.mf import MF
from deconrec.saving import load_model
from deconrec.training.samplers import Blocks, UniformPairs
from manual import distill, risks
from manual.batches import batches, dense, probabilities, scramble, tiny, value

RATINGS = {"cross-entropy": (0.0, 1.0), "squared": (1.0, 3.0, 5.0)}
SMALL = {"dim": 3, "epochs": 6, "patience": 0}
TEACHER = MF(population="uniform", dim=2, epochs=3)


def world(kind="cross-entropy", **parameters):
    data = tiny(RATINGS[kind])
    model = KDLabel(dim=3, epochs=0, teacher=TEACHER, **parameters).fit(data, validation=data)
    nets = scramble(model.nets_)
    (whole,) = batches(data)
    return (
        model,
        nets,
        data,
        whole,
        probabilities(nets.prediction, whole),
        model.teacher_._block(np.arange(7)),
    )


@pytest.mark.parametrize("kind", RATINGS)
@pytest.mark.parametrize("sampler", [None, Blocks(3, 2)])
def test_bridge_equals_the_twin(kind, sampler):
    model, nets, data, _, r_hat, teacher = world(kind, weight=0.3)
    o, r, _ = dense(data)
    twin = risks.naive(kind, o, r, r_hat) + 0.3 * distill.bridge(r_hat, teacher)
    ((step,),) = [phase.steps for phase in model.program()]
    got = np.mean([b.weight * value(step.loss(nets, b)) for b in batches(data, sampler)])
    assert got == pytest.approx(twin, rel=1e-6)


@pytest.mark.parametrize("kind", RATINGS)
@pytest.mark.parametrize("sampler", [None, UniformPairs(4)])
def test_refine_equals_the_twin(kind, sampler):
    model, nets, data, _, r_hat, teacher = world(kind, mode="refine", weight=0.3)
    o, r, _ = dense(data)
    twin = distill.refine(kind, o, r, r_hat, teacher, 0.3)
    ((step,),) = [phase.steps for phase in model.program()]
    got = np.mean([b.weight * value(step.loss(nets, b)) for b in batches(data, sampler)])
    assert got == pytest.approx(twin, rel=1e-6)


def test_the_bridge_is_unbiased_over_random_pairs():
    model, nets, data, _, r_hat, teacher = world(weight=1.0)
    assert isinstance(model.sampler(data), UniformPairs)
    (batch,) = batches(data, UniformPairs(100, 20_000))
    assert value(model.bridge(nets, batch)) == pytest.approx(distill.bridge(r_hat, teacher), rel=0.03)


@pytest.mark.parametrize("mode", ["bridge", "refine"])
@pytest.mark.parametrize("backbone", ["mf", "fm"])
def test_weight_0_is_mf_exactly(mode, backbone):
    data, _ = confounded()
    settings = {"backbone": backbone, **SMALL}
    mf = MF(**settings).fit(data)
    bare = KDLabel(mode=mode, weight=0.0, **settings)
    assert not bare.tags.needs_unbiased
    assert np.array_equal(bare.fit(data.with_logs(data.biased)).score(), mf.score())
    assert np.array_equal(bare.fit(data).score(), mf.score())
    taught = KDLabel(mode=mode, weight=0.5, teacher=TEACHER, **settings).fit(data)
    assert not np.array_equal(taught.score(), mf.score())


def test_refine_with_c_1_reads_no_biased_rating():
    data, _ = confounded()
    log = data.biased
    flipped = data.with_logs(type(log)(log.user, log.item, 1 - log.rating), data.unbiased)
    nothing = data.with_logs(log.take(np.zeros(0, np.int64)))
    for weight, same in ((1.0, True), (0.5, False)):
        model = KDLabel(mode="refine", weight=weight, teacher=TEACHER, **SMALL)
        a, b = (model.clone().fit(d, validation=nothing)._block(np.arange(40)) for d in (data, flipped))
        assert np.array_equal(a, b) == same


def test_flaw_labels_leave_the_unit_interval_and_depend_on_the_mini_batch():
    # Public code: r + c * minmax(teacher), the range taken over the mini-batch; labels then reach 2.
    model, _, data, whole, _, _ = world(mode="refine", weight=1.0)
    o = whole.observed
    taught = model.taught(o).numpy()
    assert (taught >= 0).all()
    assert (taught <= 1).all()
    one = [model.taught(b.observed).numpy() for b in batches(data, UniformPairs(1))]
    np.testing.assert_allclose(sorted(np.concatenate(one)), sorted(taught))
    with pytest.raises(ParameterError, match=r"'weight' of KDLabel must be a number <= 1 when mode='refine'"):
        KDLabel(mode="refine", weight=1.5).fit(data)


def test_the_teacher_is_fitted_on_the_randomised_log_alone():
    data, _ = confounded()
    model = KDLabel(teacher=TEACHER, **SMALL).fit(data, validation=data)
    alone = TEACHER.clone().fit(data, validation=data)
    assert np.array_equal(model.teacher_.score(), alone.score())
    assert not hasattr(model.teacher, "nets_")


def test_a_teacher_that_never_sees_the_randomised_log_is_refused():
    data = tiny()
    with pytest.raises(
        ParameterError, match=r"'teacher' of KDLabel must be a method that learns from the rand"
    ):
        KDLabel(teacher=MF()).fit(data)
    with pytest.raises(ParameterError, match=r"teacher\.population=uniform"):
        make("kd-label:teacher=mf")
    make("kd-label:teacher=mf+teacher.population=combined")
    with pytest.raises(MissingUnbiasedLog, match="KDLabel needs a randomised log"):
        KDLabel().fit(data.with_logs(data.biased))


def test_the_warm_up_hears_no_teacher():
    data = tiny()
    model = KDLabel(teacher=TEACHER, dim=2, epochs=3, warmup=2, mode="refine").fit(data, validation=data)
    names = [set(epoch) - {"score", "seconds"} for epoch in model.history_]
    assert names == [{"biased"}, {"biased"}, {"refine"}]


@pytest.mark.parametrize("backbone", ["mf", "fm"])
def test_a_saved_teacher_comes_back(tmp_path, backbone):
    data, _ = confounded()
    teacher = MF(population="uniform", dim=2, epochs=3, backbone=backbone)
    model = KDLabel(teacher=teacher, **SMALL).fit(data)
    again = load_model(model.save(tmp_path / "model"))
    assert np.array_equal(again.teacher_.score(), model.teacher_.score())
    assert np.array_equal(again.teacher_.covered_users_, model.teacher_.covered_users_)
    assert again.teacher_.recommend(k=3).equals(model.teacher_.recommend(k=3))
    assert again.teacher_.seconds_ == model.teacher_.seconds_


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_checks_on_the_factorisation_machine(check, machine):
    outcome = run(check, machine)
    assert outcome.verdict in ("passed", "not applicable"), outcome.message


@pytest.fixture(scope="module")
def machine():
    teacher = MF(population="uniform", dim=2, epochs=3, backbone="fm")
    return KDLabel(dim=4, epochs=4, backbone="fm", teacher=teacher)
