"""The bootstrap drawn once for all methods is the bootstrap of each pair."""

from __future__ import annotations

import numpy as np
import pytest

from deconrec.evaluation import statistics
from deconrec.experiments.judge import Outcome, Resamples, Unit, judge, lifts
from deconrec.experiments.results import Run

METRIC = "ndcg@5/shown"


def outcome(method: str, seed: int, users: np.ndarray, values: np.ndarray) -> Outcome:
    run = Run(
        method=method,
        seed=seed,
        metrics={METRIC: float(values.mean())},
        seconds=1,
        unbiased_rows=0,
        params={},
    )
    return Outcome(run, {METRIC: (users, values)})


def made(n_methods: int, n_seeds: int = 3) -> dict[tuple[str, int], Outcome]:
    rng = np.random.default_rng(0)
    found = {}
    for seed in range(n_seeds):
        users = np.sort(rng.choice(90, 60, replace=False))
        level = rng.random(60)
        for m in range(n_methods):
            order = rng.permutation(60)  # users may come in any order
            values = np.clip(level + rng.normal(0.02 * m, 0.1, 60), 0, 1)
            found[f"m{m}", seed] = outcome(f"m{m}", seed, users[order], values[order])
    for seed in range(n_seeds):
        found["twin", seed] = found["m0", seed]
    return found


def test_it_is_the_bootstrap_of_each_pair() -> None:
    outcomes = made(3)
    names = ["m0", "m1", "m2", "twin"]
    summary, tests = judge(outcomes, names, range(3), [METRIC], Unit("split", 0.5))
    runs = {n: [outcomes[n, s].per_user[METRIC] for s in range(3)] for n in names}
    for row in summary:
        expected = statistics.bootstrap_users_interval(runs[row.method])
        assert (row.mean, row.low, row.high) == pytest.approx((expected.mean, expected.low, expected.high))
    assert len(tests) == 6
    for test in tests:
        expected = statistics.paired_bootstrap_users(runs[test.a], runs[test.b])
        assert (test.difference, test.low, test.high) == pytest.approx(
            (expected.difference, expected.low, expected.high), abs=1e-12
        )
        assert test.p == pytest.approx(expected.p)
        assert (test.test, test.unit, test.n) == (expected.test, expected.unit, expected.n)
    same = next(t for t in tests if (t.a, t.b) == ("m0", "twin"))
    assert (same.difference, same.p) == (0, 1)


def test_other_users_are_resampled_pair_by_pair() -> None:
    outcomes = made(2)
    users, values = outcomes["m1", 0].per_user[METRIC]
    outcomes["m1", 0] = outcome("m1", 0, users[1:], values[1:])
    assert Resamples.of({n: [outcomes[n, s] for s in range(3)] for n in ("m0", "m1")}, METRIC) is None
    _, (test,) = judge(outcomes, ["m0", "m1"], range(3), [METRIC], Unit("split", 0.5))
    runs = [[outcomes[n, s].per_user[METRIC] for s in range(3)] for n in ("m0", "m1")]
    assert test.difference == pytest.approx(statistics.paired_bootstrap_users(*runs).difference)


def test_fresh_worlds_have_other_users() -> None:
    summary, tests = judge(made(2), ["m0", "m1"], range(3), [METRIC], Unit("world", 0.5))
    assert tests[0].test == "paired t"
    assert tests[0].unit == "world"
    assert summary[0].n == 3


def test_lifts_are_geometric_means_of_ratios_on_the_same_seed() -> None:
    outcomes = made(2, n_seeds=4)
    unit = Unit("world", 0.0)
    (one, two) = lifts(outcomes, ["m0", "m1", "twin"], ["twin"], range(4), [METRIC, "auc"], unit)
    assert (one.method, one.over, one.metric, one.lift, one.low, one.high) == ("m0", "twin", METRIC, 1, 1, 1)
    ratio = [outcomes["m1", s].run.metrics[METRIC] / outcomes["m0", s].run.metrics[METRIC] for s in range(4)]
    assert two.lift == pytest.approx(np.prod(ratio) ** (1 / 4))
    assert two.low < two.lift < two.high
    expected = statistics.t_interval(np.log(ratio))
    assert np.log([two.low, two.high]) == pytest.approx([expected.low, expected.high])


def test_a_yardstick_at_zero_lifts_nothing() -> None:
    outcomes = made(1)
    for seed in range(3):
        outcomes["twin", seed].run.metrics[METRIC] = 0.0
        outcomes["m0", seed] = outcome("m0", seed, np.arange(3), np.ones(3))
    (lift,) = lifts(outcomes, ["m0", "twin"], ["twin"], range(3), [METRIC], Unit("world", 0.0))
    assert (lift.lift, lift.low, lift.high) == (None, None, None)
