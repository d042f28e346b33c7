"""DR-JL against loops."""

from __future__ import annotations

import numpy as np
import pytest

from deconrec.methods.dr_jl import DRJL
from deconrec.propensity import Known
from deconrec.training.samplers import Blocks
from manual import risks
from manual.batches import SHAPE, batches, dense, probabilities, scramble, tiny, value

P = np.linspace(0.1, 1.0, SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype(np.float32)


@pytest.mark.parametrize(("kind", "ratings"), [("cross-entropy", (0.0, 1.0)), ("squared", (1.0, 3.0, 5.0))])
@pytest.mark.parametrize("sampler", [None, Blocks(3, 2)])
def test_risks_equal_the_twins(kind, ratings, sampler):
    data = tiny(ratings)
    o, r, _ = dense(data)
    model = DRJL(dim=3, epochs=0, propensity=Known(values=P)).fit(data, validation=data)
    nets = scramble(model.nets_)
    (whole,) = batches(data)
    r_hat, label = probabilities(nets.prediction, whole), probabilities(nets.imputation, whole)
    e_hat = risks.errors_against(kind, label, r_hat)
    p = P.astype(float)
    twins = {
        model.dr_risk: risks.dr(kind, o, r, r_hat, p, e_hat),
        model.imputation_risk: risks.imputation(kind, o, r, r_hat, p, e_hat),
    }
    for risk, twin in twins.items():
        got = np.mean([b.weight * value(risk(nets, b)) for b in batches(data, sampler)])
        assert got == pytest.approx(twin, rel=1e-6)


def test_each_risk_moves_its_own_net():
    (phase,) = DRJL().program()
    assert [step.updates for step in phase.steps] == [("imputation",), ("prediction",)]


def test_the_imputed_error_pulls_the_prediction_towards_the_imputed_label():
    # An imputed error that did not depend on the prediction would leave cells outside O without any gradient.
    import torch

    data = tiny()
    model = DRJL(dim=3, epochs=0, propensity=Known(values=P)).fit(data, validation=data)
    nets = scramble(model.nets_)
    (whole,) = batches(data)
    nets.zero_grad()
    sum(model.dr_risk(nets, whole).values()).backward()
    unseen_user = 0  # no row in the biased log
    assert torch.any(nets.prediction.user.grad[unseen_user] != 0)
