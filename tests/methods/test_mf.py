"""MF's three risks against loops."""

from __future__ import annotations

import numpy as np
import pytest

from deconrec.errors import DataError, MissingUnbiasedLog
from deconrec.methods.mf import MF
from deconrec.training.samplers import Blocks, UniformPairs
from manual import risks
from manual.batches import batches, dense, probabilities, scramble, tiny, value

RATINGS = {"cross-entropy": (0.0, 1.0), "squared": (1.0, 2.0, 3.0, 4.0, 5.0)}


@pytest.mark.parametrize("kind", RATINGS)
def test_risks_equal_the_twins(kind):
    data = tiny(RATINGS[kind])
    o, r, rows = dense(data)
    for population in ("biased", "uniform", "combined"):
        model = MF(dim=3, epochs=0, population=population, unbiased_weight=2.5).fit(data, validation=data)
        nets = scramble(model.nets_)
        (batch,) = batches(data)
        r_hat = probabilities(nets.prediction, batch)
        twin = {
            "biased": lambda r_hat=r_hat: risks.naive(kind, o, r, r_hat),
            "uniform": lambda r_hat=r_hat: risks.unbiased(kind, rows, r_hat),
            "combined": lambda r_hat=r_hat: risks.combined(kind, o, r, rows, r_hat, 2.5),
        }[population]()
        (step,) = model.program()[0].steps
        assert value(step.loss(nets, batch)) == pytest.approx(twin, rel=1e-6)


@pytest.mark.parametrize("sampler", [Blocks(3, 2), Blocks(7, 1), UniformPairs(4)])
def test_a_pass_averages_to_the_risk_whatever_the_sampler(sampler):
    data = tiny()
    o, r, rows = dense(data)
    model = MF(dim=3, epochs=0, population="combined").fit(data, validation=data)
    nets = scramble(model.nets_)
    (whole,) = batches(data)
    twin = risks.combined("cross-entropy", o, r, rows, probabilities(nets.prediction, whole), 1.0)
    parts = batches(data, sampler)
    got = np.mean([b.weight * value(model.combined(nets, b)) for b in parts])
    assert len(parts) > 1
    assert got == pytest.approx(twin, rel=1e-6)


def test_a_randomised_row_counts_once_although_validation_rows_were_consumed_too():
    from deconrec.data.split import ValidationPart

    data = tiny()
    assert data.unbiased is not None
    u, v = data.unbiased.take(np.arange(4)), data.unbiased.take(np.arange(4, 9))
    part = ValidationPart(data.with_logs(v), unbiased=True)
    model = MF(population="combined", epochs=0).fit(data.with_logs(data.biased, u), validation=part)
    assert model.unbiased_rows_ == 9
    (batch,) = batches(data.with_logs(data.biased, u))
    nets = scramble(model.nets_)
    o, r, _ = dense(data)
    twin = risks.combined(
        "cross-entropy",
        o,
        r,
        dense(data.with_logs(data.biased, u))[2],
        probabilities(nets.prediction, batch),
        1.0,
    )
    assert value(model.combined(nets, batch)) == pytest.approx(twin, rel=1e-6)


def test_needs_follow_the_population():
    data = tiny().with_logs(tiny().biased)
    assert not MF().tags.uses_unbiased
    for population in ("uniform", "combined"):
        assert MF(population=population).tags.needs_unbiased
        with pytest.raises(MissingUnbiasedLog, match="MF needs a randomised log"):
            MF(population=population).fit(data)


def test_a_cross_entropy_of_stars_is_refused():
    with pytest.raises(DataError, match="needs outcomes 0 and 1; the ratings run from 1 to 5"):
        MF(error="cross-entropy", epochs=1).fit(tiny(RATINGS["squared"]))
