"""ESMM against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.methods.esmm import ESMM
from deconrec.nn.towers import Tower
from deconrec.training.samplers import Blocks
from manual import multitask, risks
from manual.batches import SHAPE, Table, batches, dense, probabilities, scramble, tiny, value

LOGITS = np.random.default_rng(3).normal(0, 1.5, SHAPE)
R_HAT = 1 / (1 + np.exp(-LOGITS))


def world(ratings=(0.0, 1.0), full=False, **parameters):
    data = tiny(ratings, full=full)
    model = ESMM(**{"dim": 3, "epochs": 0, "ctcvr_weight": 0.7} | parameters).fit(data, validation=data)
    return model, scramble(model.nets_), data


@pytest.mark.parametrize("backbone", ["mf", "fm"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("kind", "ratings"), [("cross-entropy", (0.0, 1.0)), ("squared", (1.0, 3.0, 5.0))])
@pytest.mark.parametrize("sampler", [None, Blocks(3, 2)])
def test_the_objective_equals_the_twin(kind, ratings, sampler, shared, backbone):
    model, nets, data = world(ratings, backbone=backbone, shared=shared)
    o, r, _ = dense(data)
    (whole,) = batches(data)
    p, r_hat = probabilities(nets.propensity, whole), probabilities(nets.prediction, whole)
    ((step,),) = (phase.steps for phase in model.program())
    got = np.mean([b.weight * value(step.loss(nets, b)) for b in batches(data, sampler)])
    assert got == pytest.approx(multitask.esmm(kind, o, r, p, r_hat, 0.7), rel=1e-6)


def test_full_observation_with_p_1_is_mf():
    model, nets, data = world(full=True, ctcvr_weight=1.0)
    o, r, _ = dense(data)
    nets["prediction"], nets["propensity"] = Table(LOGITS), Table(np.full(SHAPE, 40.0))
    (whole,) = batches(data)
    assert o.all()
    naive = risks.naive("cross-entropy", o, r, R_HAT)
    assert value(model.ctcvr(nets, whole)) == pytest.approx(naive, rel=1e-5)
    assert value(model.exposure(nets, whole)) == pytest.approx(0, abs=1e-6)


def test_no_error_of_the_outcome_stands_on_its_own():
    """The prediction is reached through the product alone: with p at 0 nothing of it counts."""
    model, nets, data = world()
    nets["prediction"], nets["propensity"] = Table(LOGITS), Table(np.full(SHAPE, -40.0))
    (whole,) = batches(data)
    terms = model.program()[0].steps[0].loss(nets, whole)
    assert set(terms) == {"exposure", "ctcvr"}
    (gradient,) = torch.autograd.grad(sum(terms.values()), nets.prediction.logits)
    o, r, _ = dense(data)
    assert not gradient[torch.from_numpy(o * r == 0)].abs().gt(1e-12).any()


def test_flaw_towers_that_share_nothing():
    model, nets, data = world()
    assert isinstance(nets.propensity, Tower)
    (whole,) = batches(data)
    (gradient,) = torch.autograd.grad(model.exposure(nets, whole)["exposure"], nets.prediction.user)
    assert gradient.any()
    model, nets, data = world(shared=False)
    (gradient,) = torch.autograd.grad(
        model.exposure(nets, whole)["exposure"], nets.prediction.user, allow_unused=True
    )
    assert gradient is None


def test_the_product_has_a_gradient_where_probabilities_have_none():
    """From logits: at sigma(-200) the product is 0 in float64 and its logarithm is not."""
    model, nets, data = world()
    nets["prediction"] = Table(np.full(SHAPE, -200.0))
    (whole,) = batches(data)
    term = model.ctcvr(nets, whole)["ctcvr"]
    (gradient,) = torch.autograd.grad(term, nets.prediction.logits)
    o, r, _ = dense(data)
    liked = torch.from_numpy(o * r > 0)
    assert torch.isfinite(term)
    assert (gradient[liked] < 0).all()
