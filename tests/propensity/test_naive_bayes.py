"""Naive Bayes propensities by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.errors import MissingUnbiasedLog
from deconrec.pairs import Pairs
from deconrec.propensity import NaiveBayes
from manual import risks
from manual.batches import batches, tiny


@pytest.mark.parametrize("ratings", [(0.0, 1.0), (1.0, 2.0, 3.0, 4.0, 5.0)])
@pytest.mark.parametrize("smoothing", [0.1, 1.0, 20.0])
def test_p_of_each_outcome_equals_the_twin(ratings, smoothing):
    data = tiny(ratings)
    seen, random = (data.outcome(log).tolist() for log in (data.biased, data.unbiased))
    twin = risks.naive_bayes(seen, random, data.density, smoothing)
    fitted = NaiveBayes(floor=1e-6, smoothing=smoothing).fit(data)
    (batch,) = batches(data)
    o = batch.observed
    got = fitted(Pairs(o.user, o.item, o.o.float(), o.r.float()))
    np.testing.assert_allclose(got, [twin[float(np.float32(r))] for r in o.r], rtol=1e-5)


def test_by_hand():
    import polars as pl

    from deconrec.data.dataset import Dataset

    log = pl.DataFrame({"user_id": [0, 0, 1], "item_id": [0, 1, 0], "rating": [1.0, 1.0, 0.0]})
    random = pl.DataFrame({"user_id": [0, 1, 1, 0], "item_id": [2, 2, 3, 3], "rating": [0.0, 0.0, 0.0, 1.0]})
    data = Dataset.from_frames(log, unbiased=random)
    assert data.density == 3 / 8
    fitted = NaiveBayes(floor=0.01, smoothing=1.0).fit(data)
    # p(r=1|o=1) = 3/5, p(r=1) = 2/6; p(r=0|o=1) = 2/5, p(r=0) = 4/6.
    one, zero = min(3 / 5 * 3 / 8 / (2 / 6), 1), 2 / 5 * 3 / 8 / (4 / 6)
    index = torch.zeros(3, dtype=torch.int64)
    got = fitted(Pairs(index, index, torch.tensor([1.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 1.0])))
    np.testing.assert_allclose(got, [one, zero, 3 / 8], rtol=1e-6)  # unobserved: the density


def test_the_floor_and_the_need():
    data = tiny()
    fitted = NaiveBayes(floor=0.3).fit(data)
    (batch,) = batches(data)
    assert float(fitted(batch.space).min()) == pytest.approx(0.3)
    for bare in (
        data.with_logs(data.biased),
        data.with_logs(data.biased, data.unbiased.take(np.zeros(0, int))),
    ):
        with pytest.raises(MissingUnbiasedLog, match="NaiveBayes needs a randomised log"):
            NaiveBayes().fit(bare)
