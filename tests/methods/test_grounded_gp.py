"""Grounded GP: its limits, what it may learn from what, its intervals, and worlds with a known truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.special import ndtr

from deconrec.checks.fixtures import confounded, rows_world
from deconrec.data.dataset import Dataset, Features, Log
from deconrec.data.split import UsersSplit
from deconrec.errors import DataError, ParameterError
from deconrec.methods import make
from deconrec.methods.grounded_gp import GroundedGP, quantile_of
from deconrec.simulate import pairs

FAST = {"burn": 10, "draws": 40, "kept": 20}
PLAIN = {"features": False, "exposure_kernel": False, "head": False, "dim": 0}


@pytest.fixture(scope="module")
def world() -> Dataset:
    return confounded()[0]


@pytest.fixture(scope="module")
def model(world: Dataset) -> GroundedGP:
    return GroundedGP(**FAST).fit(world, refit=True)


# ---------------------------------------------------------------------- limits
def test_without_kernels_and_factors_scores_are_sums_of_a_user_and_an_item(world: Dataset) -> None:
    plain = GroundedGP(**FAST, **PLAIN).fit(world)
    f = plain.posterior_.user_table @ plain.posterior_.item_table.T
    np.testing.assert_allclose(f - f[:1], (f - f[:1])[:, :1] * np.ones(f.shape[1]), atol=1e-5)
    assert np.ptp(f[:, 0]) > 0
    assert np.ptp(f[0]) > 0


def test_without_randomised_rows_there_is_no_shift(world: Dataset) -> None:
    bare = world.with_logs(world.biased)
    alone = GroundedGP(**FAST).fit(bare)
    assert alone.posterior_.d.shape[1] == 0
    assert alone.kappa_ == 0.0
    assert alone.unbiased_rows_ == 0
    assert alone.selection_shift_ is None
    with pytest.raises(DataError, match="told by randomised rows"):
        alone.selection_shift()
    # A randomised log that is not to be read changes nothing.
    blind = GroundedGP(**FAST, unbiased=False).fit(world)
    np.testing.assert_array_equal(blind.score(), alone.score())


def test_one_level_everywhere_is_that_level(world: Dataset) -> None:
    likes = Log(world.biased.user, world.biased.item, np.ones(len(world.biased)))
    sure = GroundedGP(**FAST).fit(world.with_logs(likes))
    assert sure.score().min() > 0.8


def test_a_large_kappa_orders_items_as_the_affinity_does() -> None:
    data = replace(rows_world(), unbiased=None)
    parts = UsersSplit(seed=1).apply(data)
    gp = GroundedGP(**FAST).fit(parts.train, validation=parts.holdout)
    gp.kappa_, gp.platt_ = 1e6, np.array([1e-7, 0.0])
    assert parts.holdout.history is not None
    history = parts.holdout.history
    e, scores = gp.affinity_._new_affinity(history), gp._fold_in(history)
    for mine, theirs in zip(scores, e, strict=True):
        clear = np.argsort(theirs)[:: max(1, len(theirs) // 5)]
        assert (np.diff(mine[clear]) > 0).all()


# ---------------------------------------------------------------------- what it learns from what
def test_kappa_is_learned_from_randomised_rows_alone() -> None:
    """The affinity's column is zero in every biased row, and the shift's in every randomised one."""
    data, _ = confounded()
    kept = {}
    run = GroundedGP._run

    def spy(self: GroundedGP, sampler, n_biased: int, steps: int) -> None:
        kept["columns"], kept["n"] = sampler.columns.copy(), n_biased
        run(self, sampler, n_biased, steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GroundedGP, "_run", spy)
        GroundedGP(**FAST).fit(data)
    columns, n = kept["columns"], kept["n"]
    assert (columns[:n, 3] == 0).all()
    assert (columns[:n, 0] == 1).all()
    assert (columns[n:, :3] == 0).all()
    assert columns[n:, 3].std() > 0


def test_the_shift_follows_the_hidden_confounding() -> None:
    shifts = []
    for confounding in (0.0, 2.0):
        data, _ = pairs(
            n_users=300, n_items=100, confounding=confounding, exposure_rate=0.15, unbiased_share=0.1, seed=1
        )
        shifts.append(GroundedGP(draws=60).fit(data, refit=True).selection_shift())
    none, strong = shifts
    assert none["low"] < 0.02
    assert none["high"] < strong["low"]
    assert strong["low"] > 0.05
    assert strong["share"] == 1.0
    assert strong["low"] < strong["mean"] < strong["high"]


def test_more_copies_of_a_randomised_row_count_for_more(world: Dataset) -> None:
    assert world.unbiased is not None
    flipped = Log(world.unbiased.user, world.unbiased.item, 1 - world.unbiased.rating)
    data = world.with_logs(world.biased, flipped)
    r = 1 - world.unbiased.rating
    errors = []
    for copies in (1, 8):
        gp = GroundedGP(**FAST, copies=copies).fit(data)
        errors.append(float(np.mean((gp._pairs(flipped.user, flipped.item) - r) ** 2)))
    assert errors[1] < errors[0] - 0.02


def test_a_new_item_is_known_by_its_features() -> None:
    data, truth = pairs(n_users=200, n_items=80, exposure_rate=0.2, unbiased_share=0.05, seed=3)
    assert data.unbiased is not None
    assert data.item_features is not None
    new = np.arange(80) % 8 == 0

    def without(log: Log) -> Log:
        return log.take(~new[log.item])

    cut = data.with_logs(without(data.biased), without(data.unbiased))
    gp = GroundedGP(draws=60).fit(cut, refit=True)
    scores, means = gp.score(), truth.outcome[:, new]
    inside = np.corrcoef(scores[:, new].reshape(-1), means.reshape(-1))[0, 1]
    blind = GroundedGP(draws=60, features=False).fit(cut, refit=True).score()
    assert inside > 0.45 > np.corrcoef(blind[:, new].reshape(-1), means.reshape(-1))[0, 1]
    # Features that are missing are not features of average.
    missing = Features(data.item_features.names, data.item_features.values, np.arange(80) >= 40)
    half = GroundedGP(draws=40).fit(replace(cut, item_features=missing))
    assert np.isfinite(half.score()).all()


def test_refit_learns_from_all_rows_at_once(world: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    learn = GroundedGP._learn

    def counted(self: GroundedGP, data: Dataset, with_head: bool) -> None:
        seen.append(len(data.biased))
        learn(self, data, with_head)

    monkeypatch.setattr(GroundedGP, "_learn", counted)
    GroundedGP(**FAST).fit(world, refit=True)
    assert seen == [len(world.biased)]


# ---------------------------------------------------------------------- outcomes of every kind
def test_levels_cuts_and_continuous_ratings(world: Dataset) -> None:
    graded = rows_world()
    gp = GroundedGP(**FAST).fit(graded)
    np.testing.assert_array_equal(gp.levels_, [1, 2, 3, 4, 5])
    assert len(gp.response_.parameters) == 4
    assert (np.diff(gp.response_.parameters) > 0).all()
    binary = GroundedGP(**FAST).fit(graded.with_task(binarize=4.0))
    assert binary.response_.parameters[2] == 0  # P(r >= 4) = Phi(f)
    rng = np.random.default_rng(0)
    log = Log(graded.biased.user, graded.biased.item, graded.biased.rating + rng.random(len(graded.biased)))
    wide = replace(graded, biased=log, unbiased=None).with_task(rating_range=(1.0, 6.0))
    smooth = GroundedGP(**FAST).fit(wide)
    assert len(smooth.levels_) == 0
    assert smooth.response_.parameters[0] > 0
    cut = GroundedGP(**FAST).fit(wide.with_task(binarize=4.0))
    np.testing.assert_allclose(cut._levels(np.array([1.0, 3.99, 4.0, 5.9])), [0, 0, 1, 1])


def test_a_rating_between_levels_is_the_level_that_it_reaches() -> None:
    gp = GroundedGP(**FAST).fit(rows_world().with_task(binarize=4.0))
    np.testing.assert_array_equal(gp._levels(np.array([0.0, 1.0, 3.9, 4.0, 9.0])), [0, 0, 2, 3, 4])


def test_a_new_user_is_answered_as_a_training_user_with_the_same_rows(world: Dataset) -> None:
    users = world.users.values
    log = world.frame(world.biased)
    gp = GroundedGP(burn=20, draws=150).fit(world.with_logs(world.biased), refit=True)
    known = gp.score()
    features = world.user_features
    assert features is not None
    table = pl.DataFrame({"user_id": users} | dict(zip(features.names, features.values.T, strict=True)))
    history = Dataset.from_frames(log, users=table, binarize=0.5, rating_range=(0.0, 1.0))
    folded = gp.score(users, history=history)
    assert np.corrcoef(known.reshape(-1), folded.reshape(-1))[0, 1] > 0.97
    assert np.abs(known - folded).mean() < 0.05


# ---------------------------------------------------------------------- the posterior
def test_intervals_hold_their_scores_and_widen_with_the_level(model: GroundedGP, world: Dataset) -> None:
    asked = (world.users.values[:10], world.items.values[:10])
    narrow, wide = model.intervals(asked, level=0.5), model.intervals(asked, level=0.95)
    assert narrow.columns == ["user_id", "item_id", "score", "low", "high"]
    assert ((wide["low"] < narrow["low"]) & (narrow["low"] < narrow["high"])).all()
    assert (narrow["high"] < wide["high"]).all()
    assert (wide["low"] >= 0).all()
    assert (wide["high"] <= 1).all()
    assert ((wide["low"] < wide["score"]) & (wide["score"] < wide["high"])).all()
    for level in (0, 1, 1.5, True):
        with pytest.raises(ParameterError, match="must be a number in"):
            model.intervals(asked, level=level)
    assert quantile_of(0.9) == pytest.approx(1.6449, abs=1e-4)


def test_intervals_of_single_ratings_are_those_of_outcomes(model: GroundedGP, world: Dataset) -> None:
    asked = (world.users.values[:10], world.items.values[:10])
    wide = model.intervals(asked, level=0.99, of="rating")
    assert set(wide["low"]) | set(wide["high"]) <= {0.0, 1.0}  # a like is one or is none
    sure = model.intervals(asked, level=1e-6, of="rating")
    score = sure["score"].to_numpy()
    for ends in (sure["low"].to_numpy(), sure["high"].to_numpy()):
        assert (ends[score > 0.6] == 1).all()
        assert (ends[score < 0.4] == 0).all()
    with pytest.raises(ParameterError, match="'of' of intervals"):
        model.intervals(asked, of="outcome")


def test_means_are_averages_over_the_other_side(model: GroundedGP, world: Dataset) -> None:
    scores = model.score()
    for side, axis, ids in (("items", 0, world.items), ("users", 1, world.users)):
        table = model.means(side)
        assert table.columns == [f"{side[:-1]}_id", "mean", "low", "high"]
        assert len(table) == len(ids)
        np.testing.assert_allclose(table["mean"], scores.mean(axis), atol=0.05)
        assert ((table["low"] < table["mean"]) & (table["mean"] < table["high"])).all()
    with pytest.raises(ParameterError, match="'items' or 'users'"):
        model.means("rows")


def test_exploring_by_the_posterior_has_the_propensities_of_its_draws(
    model: GroundedGP, world: Dataset
) -> None:
    user = world.users.values[0]
    shown = model.recommend([user], k=3, exclude_seen=False, explore="posterior", seed=0)
    drawn = model._posterior(np.array([0]))[:, 0]
    best = np.argsort(-drawn, axis=1, kind="stable")[:, :3]
    share = np.bincount(best.reshape(-1), minlength=world.n_items) / len(drawn)
    np.testing.assert_allclose(shown["propensity"], share[world.items.encode(shown["item_id"])])
    lists = {
        tuple(model.recommend([user], k=3, exclude_seen=False, explore="posterior", seed=s)["item_id"])
        for s in range(8)
    }
    assert len(lists) > 1
    history = pl.DataFrame({"user_id": ["new"], "item_id": world.items.values[:1], "rating": [1.0]})
    new = model.recommend(history=history, k=4, explore="posterior")
    assert len(new) == 4
    assert new["propensity"].is_between(0, 1, closed="right").all()
    with pytest.raises(ParameterError, match="has no posterior"):
        make("popularity").fit(world).recommend(k=2, explore="posterior")


def share_inside(table: pl.DataFrame, truth: np.ndarray) -> float:
    return float(((table["low"].to_numpy() <= truth) & (truth <= table["high"].to_numpy())).mean())


@pytest.mark.slow
@pytest.mark.parametrize("confounding", [0.0, 1.0, 2.0])
def test_intervals_cover_and_the_truth_is_nearer_than_without_grounding(confounding: float) -> None:
    covered, errors = [], []
    for seed in (31, 32, 33):
        data, truth = pairs(
            n_users=1000,
            n_items=300,
            confounding=confounding,
            unbiased_share=0.02,
            idiosyncratic=0.0,
            seed=seed,
        )
        gp = GroundedGP().fit(data, refit=True)
        for side, axis in (("items", 0), ("users", 1)):
            covered.append(share_inside(gp.means(side), truth.outcome.mean(axis)))
        rng = np.random.default_rng(seed)
        u, i = rng.integers(0, 1000, 3000), rng.integers(0, 300, 3000)
        table = gp.intervals((data.users.decode(u), data.items.decode(i)))
        covered.append(share_inside(table, truth.outcome[u, i]))
        alone = GroundedGP(unbiased=False).fit(data, refit=True)
        mse = [float(((m._block(np.arange(1000)) - truth.outcome) ** 2).mean()) for m in (gp, alone)]
        errors.append(mse[0] - mse[1])
    assert 0.85 <= np.mean(covered) <= 0.95, covered
    assert np.mean(errors) < (0.001 if confounding == 0 else -0.0005), errors


def test_one_user_is_enough() -> None:
    rows = pl.DataFrame({"user_id": [0] * 5, "item_id": range(5), "rating": [1.0, 2, 3, 4, 5]})
    gp = GroundedGP(burn=2, draws=4).fit(Dataset.from_frames(rows, rating_range=(1.0, 5.0)))
    assert np.isfinite(gp.score()).all()


def test_a_search_has_nothing_to_tune() -> None:
    from deconrec.experiments.search import search_space

    assert search_space(GroundedGP()) == {}


# ---------------------------------------------------------------------- slopes
def test_randomised_rows_say_how_much_users_differ() -> None:
    """People rate what they like anyway: users differ less in the biased log than they would if all rated at random."""
    rng = np.random.default_rng(0)
    n, m = 400, 120
    mood = rng.standard_normal(n)
    core = mood[:, None] + rng.standard_normal(m)
    like = core + rng.standard_normal((n, m))
    # Whoever likes little rates what they like best.
    chosen = rng.random((n, m)) < 0.3 / (1 + np.exp(-3 * (like - 1)))
    rating = (like > 0).astype(np.float32)
    random = rng.random((n, m)) < 0.08

    def frame(where: np.ndarray) -> pl.DataFrame:
        u, i = np.nonzero(where)
        return pl.DataFrame({"user_id": u, "item_id": i, "rating": rating[u, i]})

    data = Dataset.from_frames(frame(chosen), unbiased=frame(random), binarize=0.5, rating_range=(0.0, 1.0))
    settings = {"draws": 80, "exposure_kernel": False, "head": False, "dim": 0}
    gp = GroundedGP(**settings).fit(data, refit=True)
    assert gp.posterior_.d[:, -3].mean() > 0.1
    plain = GroundedGP(**settings, slopes=False).fit(data, refit=True)
    errors = [float(((model.score() - ndtr(core)) ** 2).mean()) for model in (gp, plain)]
    assert errors[0] < errors[1]


def test_a_new_user_is_rescaled_as_training_users_are(world: Dataset) -> None:
    gp = GroundedGP(burn=20, draws=100).fit(world, refit=True)
    draw = replace(
        gp.posterior_.draws[0], d=np.array([*gp.posterior_.draws[0].d[:-3], 0.4, -0.3, 0.2], np.float32)
    )
    left, right = gp.posterior_.tables(draw)
    np.testing.assert_allclose(
        gp.posterior_.rescaled(draw, gp.posterior_.core_tables(draw)[0]), left @ right.T, atol=5e-3
    )


# ---------------------------------------------------------------------- more rows
def test_more_rows_are_learned_without_a_new_start() -> None:
    data, truth = pairs(n_users=300, n_items=80, exposure_rate=0.2, unbiased_share=0.05, seed=1)
    assert data.unbiased is not None
    rng = np.random.default_rng(0)
    early, gone = rng.random(len(data.biased)) < 0.6, np.arange(80) % 10 == 0

    def cut(log: Log, rows: np.ndarray) -> pl.DataFrame:
        return data.frame(log.take(rows))

    rows = early & ~gone[data.biased.item] & (data.biased.user < 280)
    known = (~gone[data.unbiased.item]) & (data.unbiased.user < 280)
    options = {"binarize": 0.5, "rating_range": (0.0, 1.0)}
    tables = {}
    for side, features, ids in (
        ("users", data.user_features, data.users),
        ("items", data.item_features, data.items),
    ):
        assert features is not None
        columns = dict(zip(features.names, features.values.T, strict=True))
        tables[side] = pl.DataFrame({f"{side[:-1]}_id": ids.values} | columns)
    small = {
        "users": tables["users"].filter(pl.col("user_id") < 280),
        "items": tables["items"].filter(pl.col("item_id") % 10 != 0),
    }
    before = Dataset.from_frames(
        cut(data.biased, rows), unbiased=cut(data.unbiased, known), **small, **options
    )
    after = Dataset.from_frames(
        data.frame(data.biased), unbiased=data.frame(data.unbiased), **tables, **options
    )
    old = GroundedGP(draws=100).fit(before, refit=True)
    scores = old.score()
    new = old.update(after)
    np.testing.assert_array_equal(old.score(), scores)
    assert repr(new) == repr(old)
    assert len(new.users_) == 300
    assert len(new.items_) == 80
    fresh = GroundedGP(draws=100).fit(after, refit=True).score()
    assert np.corrcoef(new.score().reshape(-1), fresh.reshape(-1))[0, 1] > 0.85

    def error(model: GroundedGP) -> float:
        got = model.predict(
            (np.repeat(small["users"]["user_id"], 72), np.tile(small["items"]["item_id"], 280))
        )
        return float(((got - truth.outcome[:280][:, ~gone].reshape(-1)) ** 2).mean())

    assert error(new) < error(old)
    with pytest.raises(DataError, match="item features that the model was fitted to"):
        old.update(replace(after, item_features=None))
    for exposure in ("poisson", "vae"):
        settled = make(f"grounded-gp:exposure={exposure}+exposure.dim=8+draws=60").fit(before, refit=True)
        assert error(settled.update(after)) < error(settled)
