"""Splits are values, leak nothing, nest, and open their test once."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import deconrec as dc
from deconrec.data.dataset import Dataset, Log
from deconrec.data.split import PairsSplit, Sealed, UsersSplit, take_users
from deconrec.errors import DataError, ParameterError, SealedTest


def keys(log: Log | None, data: Dataset) -> set[int]:
    return set() if log is None else set(log.key(data.n_items).tolist())


@pytest.fixture(scope="module")
def data() -> Dataset:
    return dc.simulate.pairs(n_users=120, n_items=50, exposure_rate=0.2, unbiased_share=0.2, seed=1)[0]


def test_parts_are_disjoint_and_complete(data: Dataset) -> None:
    parts = PairsSplit(seed=3).apply(data)
    test = parts.test.open()
    assert parts.validation is not None
    train, hold = keys(parts.train.biased, data), keys(parts.holdout.data.biased, data)
    u, v, t = keys(parts.train.unbiased, data), keys(parts.validation.data.biased, data), keys(test.log, data)
    assert train | hold == keys(data.biased, data)
    assert not train & hold
    for a, b in ((u, v), (u, t), (v, t), (u | v | t, train | hold)):
        assert not a & b
    assert u | v | t == keys(data.unbiased, data) - keys(data.biased, data)
    assert t < keys(test.leaked, data) <= keys(data.unbiased, data)
    assert keys(test.leaked, data) - t <= keys(data.biased, data)
    assert len(hold) == round(0.15 * len(data.biased))


def test_same_seed_same_parts_other_seed_other_parts(data: Dataset) -> None:
    one, two, other = (PairsSplit(seed=s).apply(data).train.fingerprint for s in (0, 0, 1))
    assert one == two != other


def test_order_of_the_file_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"user_id": np.repeat(np.arange(30), 5), "item_id": np.tile(np.arange(5), 30)})
    frame = frame.with_columns(rating=pl.Series(rng.integers(0, 2, 150)))
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=4)
    prints = [PairsSplit(0).apply(Dataset.from_frames(f)).train.fingerprint for f in (frame, shuffled)]
    assert prints[0] == prints[1]


def test_test_part_opens_once(data: Dataset) -> None:
    parts = PairsSplit(seed=0).apply(data)
    parts.test.open()
    with pytest.raises(SealedTest, match="once"):
        parts.test.open()
    assert "unopened" in repr(Sealed(1))


def test_ratio_sweep_nests_on_one_test(data: Dataset) -> None:
    us, tests, vs = [], [], []
    for share in (0.02, 0.05, 0.10):
        parts = PairsSplit(seed=2, shares=(share, 0.05, 0.85), largest_train=0.10).apply(data)
        us.append(keys(parts.train.unbiased, data))
        tests.append(keys(parts.test.open().leaked, data))
        assert parts.validation is not None
        vs.append(keys(parts.validation.data.biased, data))
    assert us[0] < us[1] < us[2]
    assert tests[0] == tests[1] == tests[2]
    assert vs[0] == vs[1] == vs[2]
    assert not us[2] & tests[0]


def test_fixed_test_log_leaves_the_bucket_to_u_and_v() -> None:
    rng = np.random.default_rng(1)

    def frame(n: int) -> pl.DataFrame:
        cells = rng.choice(2_000, n, replace=False)
        return pl.DataFrame({"user_id": cells // 40, "item_id": cells % 40, "rating": rng.integers(0, 2, n)})

    data = Dataset.from_frames(frame(600), unbiased=frame(200), test=frame(300), binarize=1)
    parts = PairsSplit(seed=0).apply(data)
    test = parts.test.open()
    assert keys(test.leaked, data) == keys(data.test, data)
    assert not keys(test.log, data) & (keys(data.biased, data) | keys(data.unbiased, data))
    assert parts.train.test is None
    assert parts.counts["U"] + parts.counts["V"] == len(data.unbiased) - int(data.in_biased.sum())  # type: ignore[arg-type]


def test_without_unbiased_data_the_test_is_a_second_cut() -> None:
    rng = np.random.default_rng(2)
    cells = rng.choice(900, 400, replace=False)
    data = Dataset.from_frames(
        pl.DataFrame({"user_id": cells // 30, "item_id": cells % 30, "rating": rng.integers(0, 2, 400)}),
        binarize=1,
    )
    parts = PairsSplit(seed=0).apply(data)
    test = parts.test.open()
    assert test.biased
    a, b, c = keys(parts.train.biased, data), keys(parts.holdout.data.biased, data), keys(test.log, data)
    assert a | b | c == keys(data.biased, data)
    assert not a & b
    assert not a & c
    assert not b & c


def test_by_time_trains_on_the_past() -> None:
    n = 200
    rng = np.random.default_rng(3)
    cells = rng.choice(1_000, n, replace=False)
    frame = pl.DataFrame(
        {
            "user_id": cells // 25,
            "item_id": cells % 25,
            "rating": rng.integers(0, 2, n),
            "timestamp": rng.permutation(n),
        }
    )
    data = Dataset.from_frames(frame, binarize=1)
    parts = PairsSplit(seed=0, by="time").apply(data)
    test = parts.test.open().log
    stamps = [log.timestamp for log in (parts.train.biased, test, parts.holdout.data.biased)]
    assert all(s is not None for s in stamps)
    assert stamps[0].max() < stamps[1].min() < stamps[1].max() < stamps[2].min()  # type: ignore[union-attr]
    no_time = Dataset.from_frames(frame.drop("timestamp"))
    with pytest.raises(DataError, match="timestamps"):
        PairsSplit(seed=0, by="time").apply(no_time)


def test_users_split_keeps_users_apart() -> None:
    data, truth = dc.simulate.deep_deconf(n_users=200, n_items=60, exposure_rate=0.1, seed=0)
    parts = UsersSplit(seed=1).apply(data, truth)
    test = parts.test.open()
    assert parts.holdout.history is not None
    groups = [set(d.users.values.to_list()) for d in (parts.train, parts.holdout.data, test.history)]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 200
    assert [len(g) for g in groups] == [160, 20, 20]
    # Validation: given rows and rows to be found are disjoint and complete.
    history, target = parts.holdout.history, parts.holdout.data
    assert not keys(history.biased, history) & keys(target.biased, target)
    # Test: positives are exactly the unexposed cells rated 5 or more.
    codes = data.users.encode(test.history.users.values)
    expected = (truth.rating[codes] >= 5) & (test.history.biased.pattern(test.history.shape).toarray() == 0)
    assert (test.relevant.toarray() == expected).all()
    assert not test.biased


def test_users_split_without_truth_holds_out_own_rows() -> None:
    data, _ = dc.simulate.deep_deconf(n_users=200, n_items=60, exposure_rate=0.1, seed=0)
    test = UsersSplit(seed=1).apply(data).test.open()
    assert test.biased
    assert not test.relevant.multiply(test.history.biased.pattern(test.history.shape)).nnz


def test_take_users_recodes() -> None:
    data, _ = dc.simulate.deep_deconf(n_users=50, n_items=30, exposure_rate=0.2, seed=0)
    part = take_users(data, np.array([3, 7, 20]))
    assert part.users.values.to_list() == data.users.values.gather([3, 7, 20]).to_list()
    whole = data.frame(data.biased).filter(pl.col("user_id").is_in(part.users.values.to_list()))
    assert part.frame(part.biased).sort("user_id", "item_id").equals(whole.sort("user_id", "item_id"))
    assert part.user_features is not None
    assert data.user_features is not None
    assert (part.user_features.values == data.user_features.values[[3, 7, 20]]).all()


def test_bad_shares(data: Dataset) -> None:
    with pytest.raises(ParameterError, match="sum"):
        PairsSplit(shares=(0.5, 0.5, 0.5)).apply(data)
    with pytest.raises(ParameterError, match="holdout"):
        PairsSplit(holdout=0.95).apply(data)
    with pytest.raises(ParameterError, match="UsersSplit"):
        UsersSplit(validation=0.6, test=0.6).apply(data)
