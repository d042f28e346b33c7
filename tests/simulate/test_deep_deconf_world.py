from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import poisson

from deconrec.errors import ParameterError
from deconrec.simulate import deep_deconf
from deconrec.simulate.deep_deconf_world import expected_rating, largest, principal_components

SMALL = {"n_users": 300, "n_items": 150, "n_factors": 20, "n_features": 5}


def histogram(rating: np.ndarray) -> np.ndarray:
    return np.bincount(np.asarray(rating, int).ravel(), minlength=6)[1:] / rating.size


# ------------------------------------------------------------------ the paper's world, at full size
@pytest.fixture(scope="module")
def published():
    """Facts of the default world at three dials, and with independent weights."""
    out = {}
    for key, dials in {
        0.1: {"gamma_theta": 0.1},
        0.5: {},
        0.9: {"gamma_theta": 0.9},
        "independent": {"gamma_theta": 0.9, "shared_weights": False},
    }.items():
        data, truth = deep_deconf(seed=0, **dials)
        per_user = np.bincount(data.biased.user, minlength=data.n_users)
        gap = truth.rating.mean(dtype=float) - truth.outcome.mean(dtype=float)
        spread = np.sqrt(np.mean((truth.rating - truth.outcome) ** 2) / truth.rating.size)
        out[key] = {
            "exposed": histogram(data.biased.rating),
            "all": histogram(truth.rating),
            "per_user": per_user,
            "shape": data.shape,
            "rows": data.user_features.values.shape,
            "z": gap / spread,
        }
    return out


@pytest.mark.parametrize(
    ("gamma", "exposed", "everything"), [(0.1, 0.09, 0.056), (0.5, 0.30, 0.033), (0.9, 0.70, 0.056)]
)
def test_fives_among_the_exposed_follow_figure_6(published, gamma, exposed, everything):
    assert published[gamma]["exposed"][4] == pytest.approx(exposed, abs=0.02)
    assert published[gamma]["all"][4] == pytest.approx(everything, abs=0.005)


def test_independent_weights_show_no_selection(published):
    """Exposed pairs of one item have similar scores and ratings: hence a tolerance of 0.01 and not 0.003."""
    np.testing.assert_allclose(
        published["independent"]["exposed"], published["independent"]["all"], atol=0.01
    )
    assert np.abs(published[0.9]["exposed"] - published[0.9]["all"]).max() > 0.5


def test_density_and_exposures_per_user_are_those_of_table_1(published):
    for world in published.values():
        assert world["shape"] == (4000, 2000)
        assert world["per_user"].sum() == 80_000  # exactly 1 %
        assert world["per_user"].mean() == 20.0
        assert 9 < world["per_user"].std() < 11


def test_users_without_exposures_stay(published):
    world = published[0.5]
    assert (world["per_user"] == 0).any()
    assert world["rows"] == (4000, 10)


def test_drawn_ratings_have_the_expected_mean(published):
    for world in published.values():
        assert abs(world["z"]) < 4


# ------------------------------------------------------------------ the pieces
def test_expected_rating_is_the_truncated_poisson_mean():
    rate = np.array([0.0, 1e-3, 0.3, 1.0, 2.5, 4.0, 9.0, 60.0])
    k = np.arange(200)
    exact = (poisson.pmf(k, rate[:, None]) * np.minimum(1 + k, 5)).sum(axis=1)
    np.testing.assert_allclose(expected_rating(rate), exact, rtol=1e-12)
    draws = np.minimum(1 + np.random.default_rng(0).poisson(rate, size=(100_000, 8)), 5)
    assert (
        np.abs(draws.mean(axis=0) - expected_rating(rate)) <= 4 * draws.std(axis=0) / np.sqrt(1e5) + 1e-12
    ).all()


def test_each_rating_is_drawn_with_its_own_poisson():
    """Share of every rating 1 ... 5 in ten bins of the rate: |z| < 4.5 in all 50."""
    _, truth = deep_deconf(**SMALL, weight_scale=0.4, seed=3)
    rate = np.maximum(truth.extra["theta"] @ truth.extra["rating_weights"], 0).ravel().astype(float)
    rating = truth.rating.ravel()
    np.testing.assert_allclose(truth.outcome.ravel(), expected_rating(rate), atol=1e-5)
    groups = np.searchsorted(np.quantile(rate[rate > 0], np.linspace(0, 0.9, 10)), rate)
    for value in range(1, 6):
        p = poisson.pmf(value - 1, rate) if value < 5 else poisson.sf(3, rate)
        gap = np.bincount(groups, (rating == value) - p, 11)
        assert (np.abs(gap) <= 4.5 * np.sqrt(np.bincount(groups, p * (1 - p), 11)) + 1e-9).all()
    assert set(np.unique(rating)) == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("rate", [0.001, 0.0123, 0.1, 0.4])
def test_exposed_are_exactly_the_largest_scores(rate):
    data, truth = deep_deconf(**SMALL, exposure_rate=rate, seed=2)
    assert len(data.biased) == round(rate * 300 * 150)
    score = truth.confounder @ truth.extra["exposure_weights"]
    exposed = np.zeros(data.shape, bool)
    exposed[data.biased.user, data.biased.item] = True
    assert score[exposed].min() >= score[~exposed].max() - 1e-5
    np.testing.assert_array_equal(data.biased.rating, truth.rating[data.biased.user, data.biased.item])
    assert truth.propensity is None
    assert truth.nominal_propensity is None


def test_ties_go_to_the_first():
    score = np.array([[1.0, 3.0, 2.0], [2.0, 2.0, 0.0]])
    np.testing.assert_array_equal(largest(score, 3), [[False, True, True], [True, False, False]])
    np.testing.assert_array_equal(largest(np.zeros((2, 2)), 1), [[True, False], [False, False]])
    assert largest(score, 6).all()


def test_principal_components_are_the_eigenvectors_scores_with_a_fixed_sign():
    values = np.random.default_rng(0).normal(size=(200, 6)) * [5, 4, 3, 2, 1, 0.5] + 7
    scores = principal_components(values, 6)
    centred = values - values.mean(axis=0)
    vectors = np.linalg.eigh(centred.T @ centred)[1][:, ::-1]  # largest first
    for k, vector in enumerate(vectors.T):
        loading = vector if vector[np.abs(vector).argmax()] > 0 else -vector
        assert np.abs(scores[:, k] - centred @ loading).max() < 0.5e-3 + 1e-5  # 3 decimals
    np.testing.assert_array_equal(principal_components(values, 2), scores[:, :2])


def test_principal_components_have_decimals_that_every_machine_agrees_on():
    values = np.random.default_rng(0).normal(size=(300, 40)).astype(np.float32)
    pc = principal_components(values, 10)
    np.testing.assert_array_equal(pc, np.round(pc.astype(float), 3).astype(np.float32))


def test_a_seed_gives_one_data_set_whatever_the_processor():
    """OpenBLAS told to use the kernels of other processors, whose sums are rounded differently."""
    says = (
        "import deconrec as dc;"
        "print(dc.simulate.deep_deconf(n_users=1000, n_items=500, gamma_b=0.0, weight_scale=0.2)[0].fingerprint)"
    )
    found = set()
    for kernels in ("Haswell", "Nehalem"):
        environment = os.environ | {"OPENBLAS_CORETYPE": kernels, "OMP_NUM_THREADS": "1"}
        run = subprocess.run(
            [sys.executable, "-c", says], env=environment, capture_output=True, text=True, check=True
        )
        found.add(run.stdout.strip())
    assert len(found) == 1


def test_feature_noise_is_a_variance():
    """With F = K nothing is projected away: noise of variance v adds v to each of the K variances."""
    size = {"n_users": 4000, "n_items": 5, "n_factors": 8, "n_features": 8, "exposure_rate": 0.1, "seed": 0}
    quiet, truth = deep_deconf(**size, feature_noise=0)
    theta = truth.extra["theta"] - truth.extra["theta"].mean(axis=0)
    assert quiet.user_features.values.var(axis=0).sum() == pytest.approx(theta.var(axis=0).sum(), rel=1e-4)
    for noise in (0.1, 0.9):
        loud, _ = deep_deconf(**size, feature_noise=noise)
        added = loud.user_features.values.var(axis=0).sum() - theta.var(axis=0).sum()
        assert added == pytest.approx(8 * noise, rel=0.1)


# ------------------------------------------------------------------ the dials
def test_preference_mixes_confounder_and_own_part():
    worlds = {g: deep_deconf(**SMALL, gamma_theta=g, seed=1)[1] for g in (0.0, 0.3, 1.0)}
    np.testing.assert_array_equal(worlds[1.0].extra["theta"], worlds[1.0].confounder)
    mixed = 0.3 * worlds[0.3].confounder + 0.7 * worlds[0.0].extra["theta"]
    np.testing.assert_allclose(worlds[0.3].extra["theta"], mixed, atol=1e-6)
    _, normalised = deep_deconf(**SMALL, gamma_theta=0.3, normalize_theta=True, seed=1)
    np.testing.assert_allclose(normalised.extra["theta"], mixed / np.sqrt(0.09 + 0.49), rtol=1e-5, atol=1e-6)


def test_no_confounding_without_gammas_and_the_direct_effect():
    size = {"n_users": 1500, "n_items": 400, "gamma_theta": 0.0, "seed": 1}
    data, truth = deep_deconf(**size)
    np.testing.assert_allclose(histogram(data.biased.rating), histogram(truth.rating), atol=0.03)
    data, truth = deep_deconf(**size, gamma_b=1.0)
    assert histogram(data.biased.rating)[4] > histogram(truth.rating)[4] + 0.3
    rate = np.maximum((truth.extra["theta"] + truth.confounder) @ truth.extra["rating_weights"], 0)
    np.testing.assert_allclose(truth.outcome, expected_rating(rate), atol=1e-4)


def test_shared_weights_is_a_correlation():
    size = SMALL | {"n_factors": 100, "n_items": 300}
    worlds = {mix: deep_deconf(**size, shared_weights=mix, seed=1) for mix in (True, 0.6, False)}
    for mix, (data, truth) in worlds.items():
        a, r = truth.extra["exposure_weights"], truth.extra["rating_weights"]
        assert np.corrcoef(a.ravel(), r.ravel())[0, 1] == pytest.approx(float(mix), abs=0.03)
        assert r.std() == pytest.approx(0.2, abs=0.005)
        # The exposure side does not move.
        np.testing.assert_array_equal(data.biased.key(300), worlds[True][0].biased.key(300))


def test_dials_keep_the_other_draws():
    base, truth = deep_deconf(**SMALL, seed=4)
    other, moved = deep_deconf(**SMALL, gamma_theta=0.51, seed=4)
    np.testing.assert_array_equal(truth.confounder, moved.confounder)
    np.testing.assert_array_equal(truth.extra["rating_weights"], moved.extra["rating_weights"])
    np.testing.assert_array_equal(base.biased.key(150), other.biased.key(150))
    # The same uniforms: a nudge of the dial moves few ratings (independent draws would move about 40 %).
    assert 0 < (truth.rating != moved.rating).mean() < 0.03
    with_log, _ = deep_deconf(**SMALL, unbiased_share=0.05, seed=4)
    assert base.unbiased is None
    assert len(with_log.unbiased) == round(0.05 * 300 * 150)
    assert with_log.without_test().with_logs(with_log.biased).fingerprint == base.fingerprint


def test_the_same_seed_repeats_every_bit_and_another_does_not():
    (a, truth_a), (b, truth_b) = (deep_deconf(**SMALL, seed=5) for _ in range(2))
    assert a.fingerprint == b.fingerprint
    for name in ("outcome", "rating", "confounder"):
        assert getattr(truth_a, name).tobytes() == getattr(truth_b, name).tobytes()
    assert deep_deconf(**SMALL, seed=6)[0].fingerprint != a.fingerprint


def test_numpy_scalars_are_plain_numbers():
    data, truth = deep_deconf(
        **SMALL, gamma_theta=np.float64(0.5), weight_scale=np.float64(0.2), seed=np.int64(0)
    )
    assert data.fingerprint == deep_deconf(**SMALL, seed=0)[0].fingerprint
    assert truth.outcome.dtype == truth.extra["theta"].dtype == np.float32
    assert truth.rating.dtype == np.int8


def test_task_and_names():
    data, truth = deep_deconf(**SMALL, seed=0)
    assert (data.name, data.task.protocol, data.task.relevant, data.task.binarize) == (
        "sim-deconf",
        "users",
        5,
        None,
    )
    assert (data.outcome_scale.low, data.outcome_scale.high) == (1, 5)
    assert data.user_features.names == ("pc1", "pc2", "pc3", "pc4", "pc5")
    assert data.item_features is None
    assert not any(v is truth for v in vars(data).values())


# ------------------------------------------------------------------ range checks
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_users", 1),
        ("n_items", 1),
        ("n_factors", 0),
        ("n_features", 0),
        ("n_features", 21),
        ("seed", -1),
        ("gamma_theta", -0.1),
        ("gamma_theta", 1.1),
        ("gamma_theta", "half"),
        ("shared_weights", 1.5),
        ("shared_weights", "yes"),
        ("shared_weights", None),
        ("gamma_b", -1),
        ("weight_scale", 0),
        ("exposure_rate", 0),
        ("exposure_rate", 1),
        ("feature_noise", -0.1),
        ("feature_noise", float("nan")),
        ("unbiased_share", 2),
    ],
)
def test_a_parameter_out_of_range(name, value):
    with pytest.raises(
        ParameterError, match=rf"^'{name}' of simulate.deep_deconf must be .*; got {value!r}\.$"
    ):
        deep_deconf(**(SMALL | {name: value}))


@pytest.mark.parametrize("rate", [0.9, 1e-9])
def test_a_rate_that_scores_cannot_decide(rate):
    """Above the share of positive scores the ReLU's zeros would be exposed in the order of the users."""
    with pytest.raises(ParameterError, match="only pairs with a positive score"):
        deep_deconf(**SMALL, exposure_rate=rate)
