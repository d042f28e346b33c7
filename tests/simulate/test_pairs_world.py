from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit

import deconrec.simulate as simulate
from deconrec.data.dataset import Dataset, Truth
from deconrec.errors import ParameterError
from deconrec.simulate import pairs
from deconrec.simulate.pairs_world import _feature_scores, nominal_propensity

SMALL = {"n_users": 300, "n_items": 200}
WORLDS = range(40)


def same_log(a, b) -> bool:
    return all(np.array_equal(getattr(a, c), getattr(b, c)) for c in ("user", "item", "rating"))


# ------------------------------------------------------------------ what comes back
def test_shapes_types_and_task():
    data, truth = pairs(n_users=70, n_items=50, n_features=5, hidden_dim=3, exposure_rate=0.2, seed=1)
    assert isinstance(data, Dataset)
    assert isinstance(truth, Truth)
    assert (data.shape, data.name, data.task.protocol, data.task.binarize) == (
        (70, 50),
        "sim-pairs",
        "pairs",
        0.5,
    )
    assert data.outcome_scale.binary
    for name in ("outcome", "propensity", "nominal_propensity"):
        array = getattr(truth, name)
        assert (array.shape, array.dtype) == ((70, 50), np.float32)
        assert array.min() > 0
        assert array.max() < 1
    assert set(np.unique(truth.rating)) == {0, 1}
    assert truth.confounder.shape == (70, 3)
    assert data.user_features.values.shape == (70, 5)
    assert data.item_features.values.shape == (50, 6)
    assert data.item_features.names[-1] == "popularity"
    np.testing.assert_array_equal(data.item_features.values[:, -1], truth.extra["popularity"])
    assert data.users.decode(np.array([0, 69])).to_list() == [0, 69]


@pytest.mark.parametrize(
    "dials", [{}, {"confounding": 0, "exposure_rate": 0.3}, {"confounding": 8, "outcome_rate": 0.9}]
)
def test_rates_are_met_and_logs_show_the_potential_rating(dials):
    data, truth = pairs(**SMALL, unbiased_share=0.05, seed=2, **dials)
    assert truth.propensity.mean(dtype=float) == pytest.approx(dials.get("exposure_rate", 0.05), abs=1e-5)
    assert truth.outcome.mean(dtype=float) == pytest.approx(dials.get("outcome_rate", 0.3), abs=1e-5)
    np.testing.assert_allclose(expit(truth.extra["exposure_logit"]), truth.propensity, rtol=1e-6)
    np.testing.assert_allclose(expit(truth.extra["outcome_logit"]), truth.outcome, rtol=1e-6)
    assert len(data.unbiased) == 3000
    for log in (data.biased, data.unbiased):
        assert len(np.unique(log.key(200))) == len(log)
        np.testing.assert_array_equal(log.rating, truth.rating[log.user, log.item])


def test_draws_follow_their_probabilities():
    """Drawn minus expected counts of outcome and exposure in ten bins of probability: |z| < 4."""
    data, truth = pairs(n_users=1000, n_items=300, seed=5)
    exposed = np.zeros(data.shape, bool)
    exposed[data.biased.user, data.biased.item] = True
    for drawn, p in ((truth.rating, truth.outcome), (exposed, truth.propensity)):
        drawn, p = drawn.ravel().astype(float), p.ravel().astype(float)
        groups = np.searchsorted(np.quantile(p, np.linspace(0.1, 0.9, 9)), p)
        gap = np.bincount(groups, drawn - p, 10)
        assert (np.abs(gap) < 4 * np.sqrt(np.bincount(groups, p * (1 - p), 10))).all()


# ------------------------------------------------------------------ the hidden confounder
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_confounder_is_standard_normal_and_splits_as_asked(share):
    _, truth = pairs(n_users=3000, n_items=100, idiosyncratic=share, hidden_dim=4, seed=6)
    h = truth.extra["pair_confounder"]
    direction = truth.extra["item_direction"]
    np.testing.assert_allclose(np.linalg.norm(direction, axis=1), 1, rtol=1e-5)
    assert abs(h.mean()) < 0.03
    assert h.var() == pytest.approx(1, abs=0.03)
    tips = h - np.sqrt(1 - share) * truth.confounder @ direction.T
    assert tips.var() == pytest.approx(share, abs=0.01)
    # Two items share the confounder only through the taste: (1 - s) <d_i, d_j>, item by item.
    covariance = h.T @ h / len(h)
    off = ~np.eye(100, dtype=bool)
    np.testing.assert_allclose(covariance[off], ((1 - share) * direction @ direction.T)[off], atol=0.1)


def test_feature_scores_have_unit_variance_and_the_asked_correlation():
    generator = np.random.default_rng(0)
    x_user, x_item = generator.normal(size=(2000, 3)), generator.normal(size=(1500, 3))
    for overlap in (-1.0, 0.0, 0.5, 1.0):
        weights = np.random.default_rng(1)
        a, b = _feature_scores(x_user, x_item, overlap, lambda _, n, rng=weights: rng.normal(size=n))
        # 0.1: the scores rest on 1,500 items' features, whose means are not exactly 0.
        assert a.var() == pytest.approx(1, abs=0.1)
        assert b.var() == pytest.approx(1, abs=0.1)
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] == pytest.approx(overlap, abs=0.1)


# ------------------------------------------------------------------ nominal propensity
@pytest.mark.parametrize("confounding", [0.3, 1.0, 2.0])
def test_nominal_propensity_is_gauss_hermite(confounding):
    logit = np.random.default_rng(0).normal(-4, 2.5, size=(40, 30)).astype(np.float32)
    node, weight = np.polynomial.hermite_e.hermegauss(80)
    direct = expit(logit[..., None].astype(float) + confounding * node) @ (weight / weight.sum())
    np.testing.assert_allclose(nominal_propensity(logit, confounding), direct, rtol=2e-6, atol=1e-9)


def test_nominal_propensity_at_the_ends_of_the_dial():
    logit = np.array([[-12.0, -3.0, 0.0, 4.0]], np.float32)
    np.testing.assert_array_equal(nominal_propensity(logit, 0), expit(logit))
    direct = [
        quad(lambda h, l=l: expit(l + 10 * h) * np.exp(-h * h / 2), -12, 12, points=[-l / 10], epsabs=1e-12)[
            0
        ]
        for l in logit[0]
    ]
    np.testing.assert_allclose(
        nominal_propensity(logit, 10)[0], np.array(direct) / np.sqrt(2 * np.pi), atol=1e-6
    )
    assert nominal_propensity(np.full((2, 2), -1.0, np.float32), 10) == pytest.approx(
        nominal_propensity(np.array([[-1.0, 5.0]], np.float32), 10)[0, 0], abs=1e-7
    )


def test_nominal_is_the_mean_of_the_true_propensity_given_the_measured_part():
    """With tips only (a fresh h a pair), true minus nominal is noise: |z| < 4 in ten bins."""
    _, truth = pairs(n_users=1500, n_items=300, confounding=2, idiosyncratic=1.0, seed=7)
    p, nominal = truth.propensity.ravel().astype(float), truth.nominal_propensity.ravel().astype(float)
    groups = np.searchsorted(np.quantile(nominal, np.linspace(0.1, 0.9, 9)), nominal)
    gap = p - nominal
    count = np.bincount(groups, minlength=10)
    z = np.bincount(groups, gap, 10) / np.sqrt(count * np.bincount(groups, gap**2, 10) / count)
    assert np.abs(z).max() < 4


# ------------------------------------------------------------------ what the dial does
@pytest.fixture(scope="module")
def estimates() -> dict[float, dict[str, np.ndarray]]:
    """Error of four estimates of the mean outcome in 40 worlds at three dials."""
    out = {}
    for confounding in (0.0, 1.0, 2.0):
        rows = []
        for seed in WORLDS:
            data, truth = pairs(**SMALL, confounding=confounding, unbiased_share=0, seed=seed)
            at = data.biased.user, data.biased.item
            r, n, mean = data.biased.rating.astype(float), truth.rating.size, truth.outcome.mean(dtype=float)
            weighted = [(r / p[at]).sum() / n - mean for p in (truth.propensity, truth.nominal_propensity)]
            # (o - nominal) r: zero in expectation where exposure is ignorable given what is measured.
            residual = (r.sum() - (truth.nominal_propensity * truth.rating).sum(dtype=float)) / len(r)
            rows.append((r.mean() - mean, *weighted, residual))
        out[confounding] = dict(zip(("naive", "true", "nominal", "adjusted"), np.array(rows).T, strict=True))
    return out


def t_value(errors: np.ndarray) -> float:
    return float(errors.mean() / (errors.std(ddof=1) / np.sqrt(len(errors))))


@pytest.mark.parametrize("confounding", [0.0, 1.0, 2.0])
def test_true_propensities_are_unbiased_at_every_dial(estimates, confounding):
    assert abs(t_value(estimates[confounding]["true"])) < 3


def test_nominal_propensities_are_unbiased_only_without_confounding(estimates):
    assert abs(t_value(estimates[0.0]["nominal"])) < 3
    assert abs(t_value(estimates[0.0]["adjusted"])) < 3
    for confounding in (1.0, 2.0):
        assert t_value(estimates[confounding]["nominal"]) > 10
        assert t_value(estimates[confounding]["adjusted"]) > 10


def test_the_gap_grows_with_the_dial(estimates):
    naive = [estimates[c]["naive"].mean() for c in (0.0, 1.0, 2.0)]
    adjusted = [estimates[c]["adjusted"].mean() for c in (0.0, 1.0, 2.0)]
    # Measured confounding alone biases the log; that is what weighting can mend.
    assert t_value(estimates[0.0]["naive"]) > 10
    assert naive[1] - naive[0] > 0.1
    assert naive[2] - naive[1] > 0.05
    assert adjusted[1] > 0.1
    assert adjusted[2] - adjusted[1] > 0.05


def test_without_overlap_of_features_and_without_confounding_the_log_is_fair():
    gaps = []
    for seed in WORLDS:
        data, truth = pairs(**SMALL, confounding=0, feature_overlap=0, unbiased_share=0, seed=seed)
        gaps.append(data.biased.rating.mean() - truth.outcome.mean(dtype=float))
    assert abs(t_value(np.array(gaps))) < 3


# ------------------------------------------------------------------ seeds and streams
def test_the_same_seed_repeats_every_bit_and_another_does_not():
    (a, truth_a), (b, truth_b) = (pairs(**SMALL, seed=11) for _ in range(2))
    assert a.fingerprint == b.fingerprint
    for name in ("outcome", "rating", "propensity", "nominal_propensity", "confounder"):
        assert getattr(truth_a, name).tobytes() == getattr(truth_b, name).tobytes()
    assert pairs(**SMALL, seed=12)[0].fingerprint != a.fingerprint


def test_the_unbiased_share_moves_nothing_else():
    logs = [pairs(**SMALL, unbiased_share=s, seed=1)[0] for s in (0.0, 0.01, 0.2)]
    assert all(same_log(logs[0].biased, other.biased) for other in logs[1:])
    assert set(logs[1].unbiased.key(200)) < set(logs[2].unbiased.key(200))


def test_the_dial_moves_exposure_only():
    (a, truth_a), (b, truth_b) = (pairs(**SMALL, confounding=c, seed=1) for c in (0.0, 2.0))
    assert same_log(a.unbiased, b.unbiased)
    assert not same_log(a.biased, b.biased)
    for name in ("outcome", "rating", "confounder"):
        np.testing.assert_array_equal(getattr(truth_a, name), getattr(truth_b, name))
    np.testing.assert_array_equal(a.user_features.values, b.user_features.values)
    np.testing.assert_array_equal(a.item_features.values, b.item_features.values)
    # Common random numbers: the same uniforms decide, so the two logs share far more pairs than chance (5 %).
    both = np.isin(a.biased.key(200), b.biased.key(200)).mean()
    assert both > 0.25


def test_outcome_effects_leave_exposure_alone():
    a, b = (pairs(**SMALL, outcome_effect=e, outcome_rate=r, seed=1)[0] for e, r in ((0.0, 0.2), (3.0, 0.5)))
    np.testing.assert_array_equal(a.biased.key(200), b.biased.key(200))


# ------------------------------------------------------------------ the truth stays apart
def test_nothing_in_the_dataset_leads_to_the_truth():
    data, truth = pairs(n_users=40, n_items=30, exposure_rate=0.2, unbiased_share=0.1, seed=0)
    _ = data.fingerprint, data.outcome_scale, data.in_biased  # fill the caches
    secrets = [truth.outcome, truth.rating, truth.propensity, truth.nominal_propensity, truth.confounder]
    secrets += [v for k, v in truth.extra.items() if k != "popularity"]
    seen: list[object] = [data]
    arrays: list[np.ndarray] = []
    while seen:
        thing = seen.pop()
        assert not isinstance(thing, Truth)
        if isinstance(thing, np.ndarray):
            arrays.append(thing)
        elif isinstance(thing, (list, tuple)):
            seen.extend(thing)
        elif dataclasses.is_dataclass(thing):
            seen.extend(vars(thing).values())
    assert len(arrays) >= 10
    for array in arrays:
        assert array.size < 40 * 30
        assert not any(np.shares_memory(array, secret) for secret in secrets)
        assert not any(array.shape == s.shape and np.allclose(array, s) for s in secrets)


def test_functions_are_not_hidden_by_their_modules():
    import deconrec.simulate.deep_deconf_world
    import deconrec.simulate.pairs_world  # noqa: F401

    assert callable(simulate.pairs)
    assert callable(simulate.deep_deconf)
    assert {"causal", "deep_deconf", "ml_causal", "pairs", "randomise", "vg_causal"} <= set(simulate.__all__)


# ------------------------------------------------------------------ range checks
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_users", 1),
        ("n_users", 20.0),
        ("n_items", 0),
        ("n_features", 0),
        ("hidden_dim", 0),
        ("hidden_dim", True),
        ("seed", -1),
        ("seed", "today"),
        ("confounding", -0.1),
        ("confounding", 10.5),
        ("confounding", float("inf")),
        ("confounding", None),
        ("outcome_effect", -1),
        ("quality_effect", float("nan")),
        ("popularity_effect", 11),
        ("feature_outcome_effect", -1),
        ("feature_exposure_effect", -1),
        ("exposure_rate", 0),
        ("exposure_rate", 1),
        ("outcome_rate", 0.0),
        ("outcome_rate", 1.0),
        ("unbiased_share", -0.01),
        ("unbiased_share", 1.01),
        ("idiosyncratic", 1.1),
        ("feature_overlap", -1.1),
    ],
)
def test_a_parameter_out_of_range(name, value):
    with pytest.raises(ParameterError, match=rf"^'{name}' of simulate.pairs must be .*; got {value!r}\.$"):
        pairs(**{name: value})


def test_a_world_without_any_exposure():
    with pytest.raises(ParameterError, match="must expose at least one pair"):
        pairs(n_users=3, n_items=3, exposure_rate=1e-7, seed=0)
