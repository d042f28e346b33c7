"""The semi-simulated worlds: exact counts, the dials, and the two data sets built from their raw files."""

from __future__ import annotations

import gzip
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconrec.catalogue import open_data, write_world
from deconrec.cli.main import main
from deconrec.data.dataset import Dataset
from deconrec.errors import DataError, MissingData, ParameterError
from deconrec.simulate import causal, ml_causal, vg_causal
from deconrec.simulate.causal_world import apportion, by_rank, log_share

FAST = {"n_factors": 4, "n_features": 2, "decoder_epochs": 4}


def ratings(n_users: int = 120, n_items: int = 60, seed: int = 0) -> list[tuple[int, int, int]]:
    """(user, item, rating): items of a long tail, shown and liked by taste and popularity; ids from 1."""
    rng = np.random.default_rng(seed)
    taste, kind = rng.normal(size=(n_users, 2)), rng.normal(size=(n_items, 2))
    popular = 2 - 1.5 * np.log1p(np.arange(n_items))
    affinity = taste @ kind.T
    shown = rng.random((n_users, n_items)) < 1 / (1 + np.exp(-(affinity + popular)))
    shown[:, 0] = True
    stars = np.clip(np.round(3 + affinity + rng.normal(size=shown.shape)), 1, 5).astype(int)
    return [(int(u) + 1, int(i) + 1, int(stars[u, i])) for u, i in np.argwhere(shown)]


@pytest.fixture(scope="module")
def raw():
    import polars as pl

    rows = pl.DataFrame(ratings(), schema=["user_id", "item_id", "rating"], orient="row")
    return Dataset.from_frames(rows, rating_range=(1, 5), name="little")


def exposed_of(data):
    a = np.zeros(data.shape, bool)
    a[data.biased.user, data.biased.item] = True
    return a


def histogram(rating):
    return np.bincount(np.asarray(rating, int).ravel(), minlength=6)[1:]


# ------------------------------------------------------------------ the pieces
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=6).filter(lambda w: sum(w) > 1e-3), st.integers(0, 10**9)
)
def test_apportioned_counts_sum_and_stay_within_one(weight, total):
    weight = np.array(weight)
    counts = apportion(weight, total)
    assert counts.sum() == total
    assert (np.abs(counts - weight / weight.sum() * total) < 1 + 1e-6 * total).all()


def test_apportioned_counts_of_whole_shares_are_exact():
    np.testing.assert_array_equal(
        apportion(np.array([56174, 107557, 261197]), 3 * 424928), [168522, 322671, 783591]
    )
    np.testing.assert_array_equal(apportion(np.array([1.0, 1, 1]), 4), [2, 1, 1])
    np.testing.assert_array_equal(apportion(np.array([0, 5.0]), 7), [0, 7])


def test_ratings_by_rank_are_the_nearest_of_all_with_these_counts():
    """Eq. 12 by brute force, for scores on the ratings' own scale and far off it."""
    rng = np.random.default_rng(0)
    counts = np.array([2, 1, 0, 2, 1])
    values = np.repeat(np.arange(1, 6), counts)
    for scale in (1, 0.01, 30):
        score = scale * rng.normal(size=(2, 3))
        best = min(np.abs(np.array(p) - score.ravel()).sum() for p in set(itertools.permutations(values)))
        assert np.abs(by_rank(score, counts) - score).sum() == pytest.approx(best)


def test_ties_are_rated_in_order():
    np.testing.assert_array_equal(by_rank(np.zeros((1, 6)), np.array([2, 0, 1, 1, 2])), [[5, 5, 4, 3, 1, 1]])


def test_log_share_is_the_log_softmax():
    rng = np.random.default_rng(0)
    code, w, b = rng.normal(size=(300, 3)), 20 * rng.normal(size=(3, 7)), rng.normal(size=7)
    share = log_share(code, w, b).astype(float)
    np.testing.assert_allclose(np.exp(share).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.diff(share, axis=1), np.diff(code @ w + b, axis=1), atol=1e-4)


# ------------------------------------------------------------------ the world
@pytest.mark.parametrize("tilt", [1.0, 2.4])
@pytest.mark.parametrize("gamma", [0.1, 0.9])
def test_counts_are_exactly_those_of_the_real_data(raw, gamma, tilt):
    data, truth = causal(raw, n_users=77, gamma_theta=gamma, rating_tilt=tilt, **FAST)
    assert data.shape == (77, raw.n_items)
    assert len(data.biased) == round(len(raw.biased) / raw.n_users * 77)
    assert data.density == pytest.approx(raw.density, abs=0.5 / truth.rating.size)
    wanted = histogram(raw.biased.rating) * tilt ** np.array([4, 3, 2, 1, 0])
    np.testing.assert_array_equal(histogram(truth.rating), apportion(wanted, 77 * raw.n_items))
    np.testing.assert_array_equal(data.biased.rating, truth.rating[data.biased.user, data.biased.item])


def test_exposures_and_ratings_are_the_largest_decoded(raw):
    data, truth = causal(raw, gamma_theta=0.3, exposure_rate=0.05, **FAST)
    a = exposed_of(data)
    assert a.sum() == round(0.05 * a.size)
    extra = truth.extra
    score = truth.confounder @ extra["exposure_weights"] + extra["exposure_bias"]
    assert score[a].min() >= score[~a].max() - 1e-5
    code = extra["theta"] + 2 * truth.confounder
    share = log_share(code, extra["rating_weights"], extra["rating_bias"])
    for r in range(1, 5):
        assert share[truth.rating > r].min() >= share[truth.rating <= r].max() - 1e-5


def test_the_density_of_vg_causal_in_table_1_can_be_asked_for(raw):
    """0.406 %, where the crawl at hand has another: the count is exact all the same."""
    data, truth = causal(raw, n_users=2000, exposure_rate=0.00406, **FAST)
    assert len(data.biased) == round(0.00406 * truth.rating.size)
    assert f"{100 * data.density:.3f}" == "0.406"


def test_the_data_set_and_its_truth(raw):
    data, truth = causal(raw, n_users=50, unbiased_share=0.02, name="own", **FAST)
    assert (data.name, data.task.protocol, data.task.relevant, data.task.rating_range) == (
        "own",
        "users",
        5,
        (1, 5),
    )
    assert data.items.same(raw.items)
    assert data.user_features.values.shape == (50, 2)
    assert data.item_features is None
    assert len(data.unbiased) == round(0.02 * 50 * raw.n_items)
    assert "those of 'little'" in data.notes[0]
    assert truth.rating.dtype == np.int8
    np.testing.assert_array_equal(truth.outcome, truth.rating)
    assert truth.confounder.shape == truth.extra["theta"].shape == (50, 4)
    assert truth.propensity is None


def test_popular_items_stay_popular_and_exposure_selects_ratings(raw):
    data, truth = causal(raw, n_users=400, gamma_theta=0.5, **(FAST | {"decoder_epochs": 20}))
    real, drawn = (np.bincount(d.biased.item, minlength=raw.n_items) for d in (raw, data))
    assert np.corrcoef(real, drawn)[0, 1] > 0.8
    assert data.biased.rating.mean() > truth.rating.mean() + 0.3


def gaps(data, truth, fewest=30):
    """(mean, root mean square less sampling error) over items of how much higher their exposed pairs are rated."""
    a, r = exposed_of(data), truth.rating.astype(float)
    items = np.flatnonzero(np.minimum(a.sum(axis=0), (~a).sum(axis=0)) >= fewest)
    assert len(items) > 10
    shown, others = ([r[rows[:, i], i] for i in items] for rows in (a, ~a))
    gap = np.array([x.mean() - y.mean() for x, y in zip(shown, others, strict=True)])
    chance = np.array([x.var() / len(x) + y.var() / len(y) for x, y in zip(shown, others, strict=True)])
    return float(gap.mean()), float(np.sqrt(max((gap**2 - chance).mean(), 0)))


def test_gamma_confounds_each_items_ratings_one_way_only_on_shared_axes(raw):
    """As released, the axes of two fits decide whether an item's exposed pairs are rated above or below its others."""

    def found(**dials):
        settings = FAST | {"decoder_epochs": 20}
        return gaps(*causal(raw, n_users=1000, gamma_b=0, rating_tilt=2.4, **settings, **dials))

    for shared in (False, True):
        (low, least), (mid, _), (high, most) = (
            found(gamma_theta=g, shared_axes=shared) for g in (0.0, 0.5, 0.9)
        )
        assert abs(low) < 0.1
        assert least < 0.1
        assert most > 0.3  # confounded either way
        if shared:
            assert high > mid > low + 0.1
            assert high > 0.8 * most
            highest = high
    # As released it is chance: other fits of the same data have another direction, none as far as shared axes.
    fits = [found(gamma_theta=0.9, shared_axes=False, decoder_seed=k) for k in range(4)]
    assert min(mean for mean, _ in fits) < 0 < max(mean for mean, _ in fits)
    assert max(abs(mean) for mean, _ in fits) < 0.7 * highest
    assert min(size for _, size in fits) > 0.3


def test_dials_keep_the_other_draws(raw):
    base, truth = causal(raw, gamma_theta=0.5, seed=3, **FAST)
    for dials in ({"gamma_theta": 0.9}, {"gamma_b": 0.0}, {"rating_tilt": 2.4}, {"shared_axes": True}):
        other, moved = causal(raw, **({"gamma_theta": 0.5} | dials), seed=3, **FAST)
        np.testing.assert_array_equal(moved.confounder, truth.confounder)
        np.testing.assert_array_equal(exposed_of(other), exposed_of(base))
        assert (moved.rating != truth.rating).any()
    _, moved = causal(raw, gamma_theta=0.51, seed=3, **FAST)
    assert 0 < (moved.rating != truth.rating).mean() < 0.05
    ends = {g: causal(raw, gamma_theta=g, seed=3, **FAST)[1] for g in (0.0, 1.0)}
    np.testing.assert_array_equal(ends[1.0].extra["theta"], truth.confounder)
    mixed = 0.5 * truth.confounder + 0.5 * ends[0.0].extra["theta"]
    np.testing.assert_allclose(truth.extra["theta"], mixed, atol=1e-6)
    scaled = causal(raw, gamma_theta=0.5, normalize_theta=True, seed=3, **FAST)[1].extra["theta"]
    np.testing.assert_allclose(scaled, truth.extra["theta"] / np.sqrt(0.5), rtol=1e-5)


def test_seeds_draw_users_and_decoder_seeds_decoders(raw):
    base, truth = causal(raw, seed=1, **FAST)
    again, _ = causal(raw, seed=1, **FAST)
    other, moved = causal(raw, seed=2, **FAST)
    assert again.fingerprint == base.fingerprint != other.fingerprint
    np.testing.assert_array_equal(moved.extra["exposure_weights"], truth.extra["exposure_weights"])
    _, refitted = causal(raw, seed=1, decoder_seed=1, **FAST)
    np.testing.assert_array_equal(refitted.confounder, truth.confounder)
    assert (refitted.extra["exposure_weights"] != truth.extra["exposure_weights"]).any()


def test_noise_on_the_features_is_a_variance(raw):
    size = {"n_users": 4000, "n_factors": 4, "n_features": 4, "decoder_epochs": 1}
    spread = [
        causal(raw, **size, feature_noise=v)[0].user_features.values.var(axis=0).sum() for v in (0, 0.9)
    ]
    assert spread[1] - spread[0] == pytest.approx(4 * 0.9, rel=0.1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gamma_theta", 1.1),
        ("gamma_b", -1),
        ("shared_axes", 0.5),
        ("n_users", 1),
        ("n_factors", 0),
        ("n_features", 5),
        ("exposure_rate", 0),
        ("exposure_rate", "much"),
        ("rating_tilt", 0),
        ("feature_noise", -0.1),
        ("unbiased_share", 2),
        ("decoder_epochs", 0),
        ("decoder_seed", -1),
        ("seed", -1),
    ],
)
def test_a_parameter_out_of_range(raw, name, value):
    with pytest.raises(ParameterError, match=rf"^'{name}' of simulate\.causal must be .*; got {value!r}\.$"):
        causal(raw, **(FAST | {name: value}))


def test_too_small_a_rate_and_ratings_of_another_kind(raw):
    with pytest.raises(ParameterError, match="expose at least one of 7,080 pairs; got 1e-09"):
        causal(raw, exposure_rate=1e-9, **FAST)
    log = raw.biased
    halves = raw.with_logs(type(log)(log.user, log.item, log.rating - 0.5))
    with pytest.raises(DataError, match=r"needs ratings 1, 2, 3, 4, 5 .* 'little' has \[0\.5, 1\.5"):
        causal(halves, **FAST)


# ------------------------------------------------------------------ from raw files
def put_movielens(root):
    folder = root / "ml-1m"
    folder.mkdir()
    rows = ratings()
    (folder / "ratings.dat").write_text("".join(f"{u}::{i}::{r}::{k}\n" for k, (u, i, r) in enumerate(rows)))
    (folder / "users.dat").write_text(
        "".join(f"{u}::F::25::{u % 21}::1\n" for u, _, _ in {r[0]: r for r in rows}.values())
    )
    (folder / "movies.dat").write_text("".join(f"{i}::Film {i} (2000)::Drama\n" for i in range(1, 61)))
    return rows


SPEC = "check_counts=false+n_users=90+n_factors=4+n_features=2+decoder_epochs=3"


def test_ml_causal_from_its_files(tmp_path):
    rows = put_movielens(tmp_path)
    data, _ = ml_causal(tmp_path, n_users=90, check_counts=False, **FAST)
    assert data.name == "ml-causal"
    assert data.n_items == len({i for _, i, _ in rows})
    assert len(data.biased) == round(len(rows) / len({u for u, _, _ in rows}) * 90)
    with pytest.raises(DataError, match="1,000,209 ratings as published"):
        ml_causal(tmp_path)


def test_ml_causal_by_name(tmp_path):
    put_movielens(tmp_path)
    opened = open_data(f"ml-causal:gamma_theta=0.9+{SPEC}", tmp_path)
    assert opened.fresh
    assert not opened.same_users
    (data, truth), (other, _) = opened.draw(0), opened.draw(1)
    assert data.fingerprint != other.fingerprint
    np.testing.assert_allclose(
        truth.extra["theta"],
        0.9 * truth.confounder
        + 0.1 * open_data(f"ml-causal:gamma_theta=0+{SPEC}", tmp_path).draw(0)[1].extra["theta"],
        atol=1e-6,
    )


def test_ml_causal_is_written_with_its_truth_apart(tmp_path, capsys):
    put_movielens(tmp_path)
    out = tmp_path / "world"
    sets = [word for part in f"{SPEC}+gamma_theta=0.3".split("+") for word in ("--set", part)]
    assert (
        main(["simulate", "ml-causal", *sets, "--root", str(tmp_path), "--out", str(out), "--seed", "4"]) == 0
    )
    data, truth = open_data(f"ml-causal:gamma_theta=0.3+{SPEC}", tmp_path).draw(4)
    written = Dataset.from_file(out / "data.toml")
    assert sorted(written.frame(written.biased).rows()) == sorted(data.frame(data.biased).rows())
    from safetensors.numpy import load_file

    secrets = load_file(out / "truth" / "truth.safetensors")
    np.testing.assert_array_equal(secrets["rating"], truth.rating)
    np.testing.assert_array_equal(secrets["confounder"], truth.confounder)
    assert not any("truth" in p.name for p in out.iterdir() if p.is_file())


def put_amazon(root, form):
    folder = root / "amazon_vg"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    rows = [(f"A{u}", f"B{i:04}", r, k) for k, (u, i, r) in enumerate(ratings())]
    if form == "ratings":
        text = "".join(f"{u},{i},{r}.0,{k}\n" for u, i, r, k in rows)
        (folder / "ratings_Video_Games.csv").write_text(text)
    else:
        lines = (
            {"reviewerID": u, "asin": i, "overall": float(r), "unixReviewTime": k, "reviewText": "fun"}
            for u, i, r, k in rows
        )
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "reviews_Video_Games_5.json.gz").write_bytes(gzip.compress(text.encode()))


def test_vg_causal_from_either_published_file(tmp_path):
    """The same world from both; users and items with fewer than `core` ratings are left out first."""
    found = []
    for form in ("ratings", "reviews"):
        put_amazon(tmp_path, form)
        data, truth = vg_causal(tmp_path, core=5, n_users=80, check_counts=False, **FAST)
        assert data.name == "vg-causal"
        assert data.n_items < 60
        found.append((data.fingerprint, truth.rating.tobytes()))
    assert found[0] == found[1]
    with pytest.raises(DataError, match="231,780 ratings as published"):
        vg_causal(tmp_path)


def test_vg_causal_says_what_is_missing(tmp_path):
    (tmp_path / "amazon_vg").mkdir()
    (tmp_path / "amazon_vg" / "video_games_2014_5core_pairs.csv.gz").write_bytes(b"")
    with pytest.raises(MissingData) as caught:
        write_world("vg-causal", {}, 0, tmp_path / "out", tmp_path)
    said = str(caught.value)
    for words in (
        "'reviews_Video_Games_5.json.gz' or 'ratings_Video_Games.csv'",
        "lacks",
        "has no ratings",
        "https://",
    ):
        assert words in said
    assert not (tmp_path / "out").exists()


@pytest.mark.data
def test_the_real_ml_causal_has_the_density_of_table_1(data_root):
    """4.468 %, 165 exposures a user; one epoch, since no count depends on what the decoders have learnt."""
    data, truth = ml_causal(data_root, decoder_epochs=1, n_factors=20)
    assert data.shape == (6000, 3706)
    assert f"{100 * data.density:.3f}" == "4.468"
    assert int(len(data.biased) / data.n_users) == 165
    raw = np.array([56174, 107557, 261197, 348971, 226310])
    np.testing.assert_array_equal(histogram(truth.rating), apportion(raw, 6000 * 3706))


@pytest.mark.slow
@pytest.mark.data
def test_how_far_films_are_confounded(data_root):
    """What the first deviation says of ML-1M at gamma_b = 2: each film is confounded, on either axes."""
    found = {
        (shared, g): ml_causal(data_root, gamma_theta=g, shared_axes=shared)
        for shared in (False, True)
        for g in (0.1, 0.9)
    }
    for (shared, g), world in found.items():
        mean, spread = gaps(*world, fewest=50)
        wanted = {(False, 0.1): (-0.05, 0.16), (False, 0.9): (-0.07, 0.19)}.get((shared, g), (0.8, 0.83))
        assert (mean, spread) == pytest.approx(wanted, abs=0.05)
    fives = {key: float((data.biased.rating == 5).mean()) for key, (data, _) in found.items()}
    assert fives[False, 0.1] == pytest.approx(0.40, abs=0.02)
    assert fives[False, 0.9] == pytest.approx(0.35, abs=0.02)
    assert fives[True, 0.9] < fives[True, 0.1] < 0.73
