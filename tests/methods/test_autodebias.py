"""AutoDebias against loops, its Limits line, and its virtual step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.checks import cheap, check_estimator
from deconrec.checks.fixtures import confounded
from deconrec.errors import MissingUnbiasedLog, ParameterError
from deconrec.methods.autodebias import AutoDebias
from deconrec.methods.mf import MF
from deconrec.nn.tables import state
from deconrec.training.program import SGD, Adam, Mover, evaluate_step, total
from deconrec.training.samplers import Blocks
from manual import risks, robust
from manual.batches import Table, batches, dense, everywhere, probabilities, scramble, tiny, value

KINDS = [("cross-entropy", (0.0, 1.0)), ("squared", (1.0, 3.0, 5.0))]
LAMBDA, LARGEST = 0.7, 4.0
SMALL = {"dim": 3, "epochs": 0, "imputation_weight": LAMBDA, "largest": LARGEST, "virtual_lr": 5.0}


def world(ratings=(0.0, 1.0), **parameters):
    data = tiny(ratings)
    model = AutoDebias(**SMALL | parameters).fit(data, validation=data)
    nets = scramble(model.nets_)
    (whole,) = batches(data)
    o, r, rows = dense(data)
    return model, nets, data, whole, o, r, rows


def weight(net, largest=LARGEST):
    """A weight table as a function of u, i and the class, by the twin."""
    plain = robust.additive_weight(*(x.detach().tolist() for x in (net.user, net.item, net.kind)))
    return lambda u, i, k: robust.bounded(plain(u, i, k), largest)


def labels(nets):
    return [risks.sigma(x) for x in nets.imputation.values.detach().tolist()]


@pytest.mark.parametrize("backbone", ["mf", "fm"])
@pytest.mark.parametrize(("kind", "ratings"), KINDS)
@pytest.mark.parametrize("sampler", [None, Blocks(3, 2)])
def test_risks_equal_the_twins(kind, ratings, sampler, backbone):
    model, nets, data, whole, o, r, rows = world(ratings, backbone=backbone)
    r_hat = probabilities(nets.prediction, whole)
    w1, w2 = weight(nets.observed_weight), weight(nets.space_weight)
    twins = {
        model.base_risk: robust.autodebias(kind, o, r, r_hat, w1, w2, labels(nets), LAMBDA),
        model.unbiased: risks.unbiased(kind, rows, r_hat),
    }
    for risk, twin in twins.items():
        got = np.mean([b.weight * value(risk(nets, b)) for b in batches(data, sampler)])
        assert got == pytest.approx(twin, rel=1e-6)


# ---------------------------------------------------------------------- limits
def prediction(model):
    return model.nets_.prediction.state_dict().items()


@pytest.mark.parametrize("backbone", ["mf", "fm"])
def test_with_w_1_and_no_imputation_it_is_mf_exactly(backbone):
    data = tiny()
    settings = {"dim": 3, "backbone": backbone}
    nothing = data.with_logs(data.biased.take(np.zeros(0, np.int64)))  # the last epoch is kept
    mf = MF(epochs=6, **settings).fit(data, validation=nothing)
    # The weights would begin in the seventh epoch.
    model = AutoDebias(imputation_weight=0.0, delay=6, epochs=7, **settings)
    early, late = model.program()
    model.program = lambda: [early]
    model.fit(data, validation=nothing)
    assert model.history_.curve("weighted") == mf.history_.curve("biased")
    assert all(torch.equal(v, dict(prediction(model))[k]) for k, v in prediction(mf))
    model.program = lambda: [early, late]
    model.fit(data, validation=nothing)
    assert not any(torch.equal(v, dict(prediction(model))[k]) for k, v in prediction(mf))


# ---------------------------------------------------------------------- the virtual step
def test_the_meta_gradient_equals_differences_of_the_twin():
    model, nets, _, whole, o, r, rows = world()
    nets["prediction"] = Table(everywhere(nets.prediction, whole))
    logit = nets.prediction.logits.detach().tolist()
    meta = model.program()[-1].steps[0]
    terms, parameters, gradients = evaluate_step(meta, nets, whole)
    state_of = {name: p.detach().flatten().tolist() for name, p in parameters.items()}

    def upper(name, values):
        given = state_of | {name: values}
        w1, w2 = (
            robust.additive_weight(*(given[f"{net}.{part}"] for part in ("user", "item", "kind")))
            for net in ("observed_weight", "space_weight")
        )
        bounded1 = lambda u, i, k: robust.bounded(w1(u, i, k), LARGEST)  # noqa: E731
        bounded2 = lambda u, i, k: robust.bounded(w2(u, i, k), LARGEST)  # noqa: E731
        m = [risks.sigma(x) for x in given["imputation.values"]]
        moved = robust.autodebias_step(o, r, logit, bounded1, bounded2, m, LAMBDA, lr=5.0)
        return robust.unbiased_of_logits(rows, moved)

    name = next(iter(state_of))
    assert value(terms) == pytest.approx(upper(name, state_of[name]), rel=1e-9)
    assert len(gradients) == 7
    for (name, start), gradient in zip(state_of.items(), gradients, strict=True):
        wanted = robust.slope(lambda values, name=name: upper(name, values), start)
        np.testing.assert_allclose(gradient.flatten(), wanted, rtol=1e-5, atol=1e-10, err_msg=name)
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("backbone", ["mf", "fm"])
@pytest.mark.parametrize("kind", ["cross-entropy", "squared"])
def test_the_virtual_step_differentiates_on_every_backbone_and_error(backbone, kind):
    model, nets, _, whole, *_ = world(backbone=backbone, error=kind, virtual_lr=0.5)
    meta = model.program()[-1].steps[0]
    _, parameters, gradients = evaluate_step(meta, nets, whole)
    rng = np.random.default_rng(0)
    for parameter, gradient in zip(parameters.values(), gradients, strict=True):
        k, size = int(rng.integers(parameter.numel())), 1e-5
        ends = []
        for sign in (1, -1):
            parameter.data.view(-1)[k] += sign * size
            ends.append(value({"all": total(evaluate_step(meta, nets, whole)[0])}))
            parameter.data.view(-1)[k] -= sign * size
        assert float(gradient.view(-1)[k]) == pytest.approx(
            (ends[0] - ends[1]) / (2 * size), rel=1e-4, abs=1e-9
        )


def test_the_weights_learn_to_lower_the_loss_of_the_virtual_step():
    model, nets, _, whole, *_ = world()
    meta = model.program()[-1].steps[0]
    mover = Mover.of(meta, nets, Adam(0.05))
    seen = [value(mover.move(nets, whole)) for _ in range(15)]
    assert seen[-1] < seen[0]


# ---------------------------------------------------------------------- flaws of public code
def test_observed_negatives_are_not_read_as_unobserved():
    # 0/1 outcomes under the rule "observed where r != 0" lose every observed 0.
    _, _, _, whole, o, r, _ = world()
    got = state(whole.space).numpy().reshape(o.shape)
    assert (got[(o == 1) & (r == 0)] == 1).all()
    assert (got[(o == 1) & (r == 1)] == 2).all()
    assert (got[o == 0] == 0).all()
    assert ((o == 1) & (r == 0)).any()


def test_the_virtual_step_is_sgd_whatever_the_real_optimizer():
    model, nets, _, whole, *_ = world()
    meta, base = model.program()[-1].steps
    after = float(evaluate_step(meta, nets, whole)[0]["unbiased"].detach())
    Mover.of(base, nets, SGD(model.virtual_lr)).move(nets, whole)
    assert after == pytest.approx(float(model.unbiased(nets, whole)["unbiased"].detach()), rel=1e-9)


def test_imputed_labels_stay_labels():
    model, nets, _, whole, *_ = world()
    nets.imputation.values.data = torch.tensor([-500.0, 500.0, 3.0]).double()
    terms = model.base_risk(nets, whole)
    assert all(torch.isfinite(t) for t in terms.values())


def test_the_graph_is_bounded_by_the_block():
    data, _ = confounded()
    sizes = {}
    for batch in (100, 1000):
        model = AutoDebias(dim=2, epochs=0, batch=batch).fit(data, validation=data)
        b = batches(data, model.sampler(data))[0]
        nets, kept = model.nets_.double(), {}

        def pack(t, kept=kept):
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            evaluate_step(model.program()[-1].steps[0], nets, b)
        sizes[batch] = sum(kept.values())
        assert len(b.space) <= batch
    assert sizes[100] < sizes[1000] / 3


# ---------------------------------------------------------------------- the schedule
def test_weights_wait_and_labels_do_not():
    early, late = AutoDebias(delay=4).program()
    assert (early.stop, late.start) == (4, 4)
    assert [s.updates for s in early.steps] == [("imputation",), ("prediction",)]
    names = ("observed_weight", "space_weight", "imputation")
    assert [s.updates for s in late.steps] == [names, ("prediction",)]
    (only,) = AutoDebias(delay=0).program()
    assert only.steps[0].updates == names
    bare = AutoDebias(imputation_weight=0.0, delay=4).program()
    assert [[s.updates for s in phase.steps] for phase in bare] == [
        [("prediction",)],
        [("observed_weight",), ("prediction",)],
    ]
    data = tiny()
    model = AutoDebias(dim=2, epochs=3, delay=2, patience=0).fit(data, validation=data)
    assert len(model.history_) == 3
    with pytest.raises(ParameterError, match=r"'epochs' of AutoDebias must be a whole number > 10"):
        AutoDebias(dim=2, epochs=10).fit(data)


def test_a_randomised_log_is_needed():
    data = tiny()
    with pytest.raises(MissingUnbiasedLog):
        AutoDebias().fit(data.with_logs(data.biased))


@pytest.mark.parametrize("settings", [{"backbone": "fm"}, {"imputation_weight": 0.0}])
def test_checks_pass_with(settings):
    check_estimator(cheap(AutoDebias).set_params(**settings)).raise_for_failures()
