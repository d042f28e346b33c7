"""Cross-fitted propensities: a pair's own exposure never reaches its propensity."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

import deconrec as dc
from deconrec.base import Spec
from deconrec.data.dataset import Dataset, Log
from deconrec.pairs import NO_TABLES, Pairs
from deconrec.training.samplers import Blocks, Source


@pytest.fixture(scope="module")
def data() -> Dataset:
    return dc.simulate.pairs(n_users=60, n_items=40, exposure_rate=0.2, unbiased_share=0.1, seed=0)[0]


def every_pair(data: Dataset) -> Pairs:
    user, item = np.indices(data.shape).reshape(2, -1)
    empty = torch.zeros(user.size)
    return Pairs(torch.from_numpy(user), torch.from_numpy(item), empty, empty)


def test_folds_are_about_even_and_fixed(data: Dataset) -> None:
    model = dc.LogisticMF(folds=4)
    fold = model.fold(every_pair(data)).numpy()
    share = np.bincount(fold, minlength=4) / fold.size
    assert (np.abs(share - 0.25) < 0.08).all()
    assert (model.fold(every_pair(data)).numpy() == fold).all()


def test_the_own_exposure_does_not_reach_the_propensity(data: Dataset) -> None:
    """With other rows of one fold in the log, the propensities of that fold stay what they were, bit for bit."""
    settings = {"folds": 3, "epochs": 4, "batch": 10**6, "floor": 1e-6, "dim": 3}
    cells = every_pair(data)
    whole = dc.LogisticMF(**settings).fit(data)
    own = whole.fold(cells).numpy() == 1
    seen = data.biased.pattern(data.shape).toarray().ravel() > 0
    swapped = np.flatnonzero(~seen & own)[
        : int((seen & own).sum())
    ]  # as many, so that the density is the same
    rows = np.concatenate([np.flatnonzero(seen & ~own), swapped])
    other = data.with_logs(Log(rows // data.n_items, rows % data.n_items, np.zeros(len(rows))))
    part = dc.LogisticMF(**settings).fit(other)
    torch.testing.assert_close(whole(cells)[own], part(cells)[own], rtol=0, atol=0)
    assert not torch.equal(whole(cells)[~own], part(cells)[~own])


def test_each_network_is_the_plain_one_on_its_folds(data: Dataset) -> None:
    model = dc.LogisticMF(folds=2, dim=3)
    (batch,) = Blocks(*data.shape).batches(Source.of(data, NO_TABLES), np.random.default_rng(0), 0)
    torch.manual_seed(0)
    nets = model.nets(Spec.of(data))
    fold = model.fold(batch.space)
    for k, (name, value) in enumerate(model.exposure(nets, batch).items()):
        l = nets[f"propensity_{k}"](batch.space)
        o, used = batch.space.o, fold != k
        loops = (
            torch.nn.functional.binary_cross_entropy_with_logits(l[used], o[used], reduction="sum")
            * 2
            / len(o)
        )
        assert name == f"exposure_{k}"
        assert value.item() == pytest.approx(loops.item(), rel=1e-5)


def test_methods_use_it_and_models_keep_it(data: Dataset, tmp_path) -> None:
    model = dc.make("ips:propensity.folds=3+epochs=3").fit(data)
    loaded = dc.load_model(model.save(tmp_path / "m"))
    cells = every_pair(data)
    assert torch.equal(model.propensity_(cells), loaded.propensity_(cells))  # type: ignore[attr-defined]


def test_it_removes_what_fitting_to_the_same_pairs_invents() -> None:
    """Where exposure is pure chance, in-sample propensities of observed pairs are too high; cross-fitted are not."""
    rng = np.random.default_rng(0)
    cells = rng.choice(60 * 40, 480, replace=False)
    frame = pl.DataFrame({"user_id": cells // 40, "item_id": cells % 40, "rating": rng.integers(0, 2, 480)})
    chance = Dataset.from_frames(frame, binarize=1)
    gap = {}
    for folds in (1, 5):
        p = dc.LogisticMF(folds=folds, dim=8, epochs=30, floor=0.02).fit(chance)(every_pair(chance)).numpy()
        o = chance.biased.pattern(chance.shape).toarray().ravel() > 0
        gap[folds] = p[o].mean() - p[~o].mean()
    assert gap[1] > 0.05
    assert gap[5] < 0.2 * gap[1]
