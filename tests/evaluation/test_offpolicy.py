"""Estimators against twins written from the formulas, against their limits, and against simulated truth."""

from __future__ import annotations

import numpy as np
import pytest

from deconrec.errors import ParameterError
from deconrec.evaluation import offpolicy, rating
from deconrec.evaluation.gains import cumulative, expected_gains
from deconrec.evaluation.offpolicy import Guess, Sample
from manual import offpolicy as manual

N_USERS, N_ITEMS = 12, 7


@pytest.fixture
def bandit() -> dict[str, np.ndarray]:
    """One logged item a user: contexts are users, actions are items, as in Open Bandit Pipeline."""
    rng = np.random.default_rng(3)
    logging = rng.dirichlet(np.full(N_ITEMS, 2.0), N_USERS)
    item = np.array([rng.choice(N_ITEMS, p=row) for row in logging])
    return {
        "item": item,
        "p": logging[np.arange(N_USERS), item],
        "r": rng.integers(0, 2, N_USERS).astype(float),
        "score": rng.normal(size=(N_USERS, N_ITEMS)),
        "guess": rng.random((N_USERS, N_ITEMS)),
    }


def sample_of(b: dict[str, np.ndarray]) -> Sample:
    return Sample(np.arange(N_USERS), 1 / b["p"], np.full(N_USERS, N_ITEMS))


def test_uniform_policy_agrees_with_open_bandit_pipeline(bandit: dict[str, np.ndarray]) -> None:
    """The mean outcome of all pairs is the value of the uniform policy: IPW, self-normalised IPW and DR of its docs."""
    users = np.arange(N_USERS)
    rounds = [(1 / N_ITEMS, p, r) for p, r in zip(bandit["p"], bandit["r"], strict=True)]
    q = bandit["guess"][users, bandit["item"]]
    sample = sample_of(bandit)
    uniform = np.full((N_USERS, N_ITEMS), 1 / N_ITEMS)
    expected = {
        "ips": manual.ips(rounds),
        "snips": manual.snips(rounds),
        "dr": manual.dr(rounds, q.tolist(), uniform.tolist(), bandit["guess"].tolist()),
    }
    for estimator, value in expected.items():
        guess = Guess(q, bandit["guess"].sum(1))
        found = offpolicy.population_mean(sample, bandit["r"], estimator, guess)
        assert found.value == pytest.approx(value)


def test_greedy_policy_agrees_with_open_bandit_pipeline(bandit: dict[str, np.ndarray]) -> None:
    """Precision at 1 is the value of the policy that shows the model's first item."""
    users = np.arange(N_USERS)
    gain = expected_gains(bandit["score"], np.zeros((N_USERS, N_ITEMS), bool), {"g": ("hit", 1)})["g"]
    rounds = list(zip(gain[users, bandit["item"]], bandit["p"], bandit["r"], strict=True))
    q = bandit["guess"][users, bandit["item"]]
    mine, best = gain[users, bandit["item"]], np.ones(N_USERS)
    found = offpolicy.per_place(sample_of(bandit), mine, bandit["r"], best, "ips")
    assert found.value == pytest.approx(manual.ips(rounds))
    found = offpolicy.per_place(sample_of(bandit), mine, bandit["r"], best, "snips")
    assert found.value == pytest.approx(manual.snips(rounds))
    guess = Guess(q * mine, (bandit["guess"] * gain).sum(1))
    found = offpolicy.per_place(sample_of(bandit), mine, bandit["r"], best, "dr", guess)
    assert found.value == pytest.approx(
        manual.dr(rounds, q.tolist(), gain.tolist(), bandit["guess"].tolist())
    )


@pytest.mark.parametrize("estimator", ["ips", "dr"])
def test_lists_are_sums_over_positions(bandit: dict[str, np.ndarray], estimator: str) -> None:
    """Precision and DCG at 3 are, position by position, the values of "show the item of this rank"."""
    users, k, none = np.arange(N_USERS), 3, np.zeros((N_USERS, N_ITEMS), bool)
    rank = np.argsort(np.argsort(-bandit["score"], axis=1), axis=1) + 1
    q = bandit["guess"][users, bandit["item"]]
    for kind, worth in (("hit", [1.0, 1.0, 1.0]), ("dcg", [1.0, 1 / np.log2(3), 0.5])):
        gain = expected_gains(bandit["score"], none, {"g": (kind, k)})["g"]
        mine, best = gain[users, bandit["item"]], np.full(N_USERS, sum(worth))
        guess = Guess(q * mine, (bandit["guess"] * gain).sum(1))
        found = offpolicy.per_place(sample_of(bandit), mine, bandit["r"], best, estimator, guess)
        expected = 0.0
        for position, value in enumerate(worth, start=1):
            policy = (rank == position).astype(float)
            rounds = list(zip(policy[users, bandit["item"]], bandit["p"], bandit["r"], strict=True))
            of_position = manual.ips(rounds)
            if estimator == "dr":
                of_position = manual.dr(rounds, q.tolist(), policy.tolist(), bandit["guess"].tolist())
            expected += value * of_position
        assert found.value == pytest.approx(expected / sum(worth))


def test_golden_values_of_the_formulas() -> None:
    """Three rounds by hand: pi_b = 1/2, 1/4, 1/4 of two, four and four actions, rewards 1, 0, 1, uniform pi_e of 4."""
    sample = Sample(np.arange(3), np.array([2.0, 4.0, 4.0]), np.full(3, 4))
    r = np.array([1.0, 0.0, 1.0])
    assert offpolicy.population_mean(sample, r, "ips").value == pytest.approx(6 / 12)
    assert offpolicy.population_mean(sample, r, "snips").value == pytest.approx(6 / 10)
    guess = Guess(np.full(3, 0.5), np.full(3, 2.0))
    assert offpolicy.population_mean(sample, r, "dr", guess).value == pytest.approx((6 + 1 - 2 + 2) / 12)


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
def test_a_whole_log_is_the_truth(estimator: str) -> None:
    """p = 1 and every pair logged: each estimator is the metric itself."""
    rng = np.random.default_rng(0)
    n_users, n_items, k = 30, 20, 4
    scores, r = (
        rng.integers(0, 9, (n_users, n_items)) / 8,
        (rng.random((n_users, n_items)) < 0.3).astype(float),
    )
    user = np.repeat(np.arange(n_users), n_items)
    sample = Sample(user, np.ones(len(user)), np.full(n_users, n_items))
    guesses = rng.random((n_users, n_items))
    gain = expected_gains(scores, np.zeros(scores.shape, bool), {"g": ("dcg", k)})["g"]
    flat, g = r.ravel(), gain.ravel()
    one = Guess((guesses * gain).ravel(), (guesses * gain).sum(1))
    two = Guess(guesses.ravel(), guesses.sum(1))
    error = (scores - r).ravel() ** 2
    found = offpolicy.population_mean(sample, error, estimator, Guess(guesses.ravel(), guesses.sum(1)))
    assert found.value == pytest.approx(error.mean())
    assert offpolicy.found_share(sample, g, flat, estimator, (one, two)).value == pytest.approx(
        (gain * r).sum() / r.sum()
    )
    best = cumulative("dcg", k, k)
    full = np.full(n_users, best[k])
    ideal = offpolicy.per_ideal(sample, g, flat, full, best, estimator, (one, two)).value
    listed = offpolicy.per_place(sample, g, flat, full, estimator, one).value
    assert listed == pytest.approx((gain * r).sum() / full.sum())
    assert ideal == pytest.approx(
        (gain * r).sum() / best[np.minimum(r.sum(1), k).astype(int)].sum(), rel=0.02
    )
    assert offpolicy.auc(sample, scores.ravel(), flat).value == pytest.approx(
        rating.auc(scores.ravel(), flat)
    )
    mass = guesses.ravel() + (flat - guesses.ravel())
    found = offpolicy.auc_imputed(user, scores.ravel(), mass, sample, flat)
    assert found.value == pytest.approx(rating.auc(scores.ravel(), flat))


def test_auc_against_pairs_of_rows() -> None:
    rng = np.random.default_rng(1)
    n = 30
    score, r = rng.integers(0, 6, n) / 5, rng.integers(0, 2, n).astype(float)
    sample = Sample(rng.integers(0, 8, n), 1 + 9 * rng.random(n), np.full(8, 20))
    found = offpolicy.auc(sample, score, r)
    assert found.value == pytest.approx(manual.auc(score, r, sample.weight))
    assert found.z.sum() == pytest.approx(0, abs=1e-12)
    mass = rng.random(n) * 1.4 - 0.2
    found = offpolicy.auc_imputed(sample.user, score, mass, sample, r)
    assert found.value == pytest.approx(manual.auc_of_masses(score, mass))


@pytest.mark.parametrize(("mean", "variance"), [(2.0, 2.0), (2.0, 1.0), (3.0, 9.0), (40.0, 300.0)])
def test_ideal_of_a_distribution(mean: float, variance: float) -> None:
    best = cumulative("dcg", 5, 5)
    value, slope, curve = offpolicy.expected_best(best, mean, variance)
    assert value == pytest.approx(manual.expected_best(best, mean, variance), rel=0.01)
    assert slope >= 0
    assert curve <= 1e-12


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
def test_what_users_add_is_the_derivative(estimator: str) -> None:
    """Weighing one user's rows and pairs a little more moves the estimate by z of that user."""
    rng = np.random.default_rng(2)
    n, n_users = 60, 9
    user, w = rng.integers(0, n_users, n), 1 + 5 * rng.random(n)
    y, guess = rng.random(n), rng.random(n)
    sums, size = rng.random(n_users) * 30, rng.integers(20, 60, n_users).astype(float)

    def value(times: np.ndarray) -> float:
        sample = Sample(user, w * times[user], size * times)
        return offpolicy.population_mean(sample, y, estimator, Guess(guess, sums * times)).value

    z = offpolicy.population_mean(Sample(user, w, size), y, estimator, Guess(guess, sums)).z
    for u in range(n_users):
        up, down = np.ones(n_users), np.ones(n_users)
        up[u], down[u] = 1 + 1e-5, 1 - 1e-5
        assert (value(up) - value(down)) / 2e-5 == pytest.approx(z[u], abs=1e-7)


def test_intervals_widen_where_few_users_hold_the_estimate() -> None:
    even, uneven = np.tile([1.0, -1.0], 50), np.concatenate([[10.0, -10.0], np.zeros(98)])
    assert offpolicy.degrees_of_freedom(even) == pytest.approx(99)
    assert offpolicy.degrees_of_freedom(uneven) == pytest.approx(5)
    assert np.isnan(offpolicy.interval(0.0, np.array([1.0, 0.0]))).all()
    low, high = offpolicy.interval(0.9, even / 10, 0.0, 1.0)
    assert low < 0.9 < high == 1.0


def test_nothing_found_says_so() -> None:
    sample = Sample(np.array([0, 1]), np.array([2.0, 3.0]), np.array([5, 5]))
    none, some = np.zeros(2), np.ones(2)
    assert np.isnan(offpolicy.found_share(sample, some, none, "ips").value)
    assert np.isnan(offpolicy.per_ideal(sample, some, none, some, np.array([0.0, 1.0]), "snips").value)
    assert np.isnan(offpolicy.auc(sample, some, some).value)
    found = offpolicy.per_place(sample, none, some, some, "ips")
    assert (found.value, found.ess, found.rows) == (0.0, 0.0, 0)
    assert np.isnan(offpolicy.per_place(sample, none, some, some, "snips").value)


def test_an_estimator_that_there_is_not() -> None:
    with pytest.raises(ParameterError, match="ips, snips, dr; got 'dm'"):
        offpolicy.check_estimator("dm")


def drawn(n_users: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(propensities, outcomes, scores) of users and 30 items; propensity and outcome move together."""
    rng = np.random.default_rng(7)
    taste = rng.normal(size=(n_users, 30))
    p = 1 / (1 + np.exp(1.5 - 1.2 * taste))
    r = (rng.random(taste.shape) < 1 / (1 + np.exp(1 - 1.5 * taste))).astype(float)
    return p, r, taste + rng.normal(size=taste.shape)


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
@pytest.mark.parametrize(
    ("n_users", "logs", "low", "high"),
    [(120, 200, 0.91, 1.0), pytest.param(6000, 1000, 0.93, 0.97, marks=pytest.mark.slow)],
    ids=["of these users", "of users like them"],
)
def test_estimates_centre_on_the_truth_and_intervals_cover_it(
    n_users: int, logs: int, low: float, high: float, estimator: str
) -> None:
    """Logs of 120 users, exposures drawn by the known propensities; bounds set before running.

    The intervals speak of users like these: their coverage is that of users who are drawn from many.
    """
    p, r, scores = drawn(n_users)
    prediction = 1 / (1 + np.exp(1 - scores))
    gains = expected_gains(scores, np.zeros(p.shape, bool), {"dcg": ("dcg", 5), "hit": ("hit", 5)})
    best = cumulative("dcg", 5, 5)
    truth = {
        "mse": float(((r - prediction) ** 2).mean()),
        "recall": float((gains["hit"] * r).sum() / r.sum()),
        "ndcg": float((gains["dcg"] * r).sum() / best[np.minimum(r.sum(1), 5).astype(int)].sum()),
        "auc": rating.auc(scores.ravel(), r.ravel()),
    }
    rng = np.random.default_rng(11)
    guess = np.clip(prediction + 0.1, 0, 1)  # wrong, but independent of the log
    found: dict[str, list[tuple[float, bool, float]]] = {name: [] for name in truth}
    for _ in range(logs):
        who = np.arange(120) if n_users == 120 else rng.choice(n_users, 120, replace=False)
        user, item = np.nonzero(rng.random((120, 30)) < p[who])
        row = who[user]
        sample = Sample(user, 1 / p[row, item], np.full(120, 30))
        y, g = r[row, item], {k: v[row, item] for k, v in gains.items()}

        def imputed(
            values: np.ndarray, w: np.ndarray = who, u: np.ndarray = row, i: np.ndarray = item
        ) -> Guess:
            return Guess(values[u, i], values[w].sum(1))

        hat = guess * (1 - prediction) ** 2 + (1 - guess) * prediction**2
        every = guess[who]
        every[user, item] += sample.weight * (y - guess[row, item])
        estimates = {
            "mse": offpolicy.population_mean(
                sample, (y - prediction[row, item]) ** 2, estimator, imputed(hat)
            ),
            "recall": offpolicy.found_share(
                sample, g["hit"], y, estimator, (imputed(guess * gains["hit"]), imputed(guess))
            ),
            "ndcg": offpolicy.per_ideal(
                sample,
                g["dcg"],
                y,
                np.full(120, best[5]),
                best,
                estimator,
                (imputed(guess * gains["dcg"]), imputed(guess)),
            ),
            "auc": offpolicy.auc_imputed(
                np.repeat(np.arange(120), 30), scores[who].ravel(), every.ravel(), sample, y
            )
            if estimator == "dr"
            else offpolicy.auc(sample, scores[row, item], y),
        }
        for name, e in estimates.items():
            found[name].append((e.value, e.low <= truth[name] <= e.high, e.high - e.low))
    for name, rows in found.items():
        values = np.array([v for v, _, _ in rows])
        assert abs(values.mean() - truth[name]) < 4 * values.std() / np.sqrt(logs) + 0.01 * truth[name], name
        assert low < np.mean([inside for _, inside, _ in rows]) <= high, name


def test_degrees_of_freedom_of_no_spread_are_those_of_the_users() -> None:
    assert offpolicy.degrees_of_freedom(np.zeros(5)) == 4
    assert offpolicy.degrees_of_freedom(np.zeros(1)) == 1


def test_a_sample_without_rows_has_no_ratio_and_no_auc() -> None:
    none = Sample(np.zeros(0, np.int64), np.zeros(0), np.full(3, 4))
    found = offpolicy.total(none, np.zeros(0), "snips")
    assert np.isnan(found.value)
    assert offpolicy.total(none, np.zeros(0), "ips").value == 0
    user, score = np.repeat(np.arange(3), 4), np.arange(12.0)
    for mass in (np.zeros(12), np.ones(12)):
        auc = offpolicy.auc_imputed(user, score, mass, none, np.zeros(0))
        assert np.isnan([auc.value, auc.low, auc.high]).all()
        assert (auc.ess, auc.rows) == (0, 0)
