from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from deconrec.errors import DataError, ParameterError
from deconrec.evaluation import statistics as S

NAN = float("nan")


# ---- over seeds ----------------------------------------------------------------------------------


def test_t_interval_agrees_with_scipy():
    x = np.random.default_rng(0).normal(3, 2, 7)
    low, high = stats.t.interval(0.95, 6, loc=x.mean(), scale=stats.sem(x))
    result = S.t_interval(x)
    assert (result.mean, result.low, result.high, result.n) == (
        pytest.approx(x.mean()),
        pytest.approx(low),
        pytest.approx(high),
        7,
    )


def test_correction_widens_the_interval_as_the_formula_says():
    x = np.random.default_rng(1).normal(0, 1, 10)
    plain, corrected = S.t_interval(x), S.t_interval(x, correction=0.25)
    widening = (corrected.high - corrected.low) / (plain.high - plain.low)
    assert widening == pytest.approx(np.sqrt((1 / 10 + 0.25) / (1 / 10)))


def test_t_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    inside = [i.low <= 1.5 <= i.high for i in (S.t_interval(rng.normal(1.5, 1, 5)) for _ in range(3000))]
    assert abs(np.mean(inside) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 3000)


def test_t_interval_of_few_or_missing_values():
    one = S.t_interval([2.0])
    assert (one.mean, one.n) == (2.0, 1)
    assert np.isnan([one.low, one.high]).all()
    for values in ([], [1.0, NAN], [1.0, np.inf]):
        result = S.t_interval(values)
        assert np.isnan([result.mean, result.low, result.high]).all()
        assert result.n == len(values)
    same = S.t_interval([0.5, 0.5, 0.5])
    assert (same.mean, same.low, same.high) == (0.5, 0.5, 0.5)


def test_paired_t_agrees_with_scipy():
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.5, 1, 9), rng.normal(0, 1, 9)
    expected = stats.ttest_rel(a, b)
    result = S.paired_t(a, b, unit="world")
    interval = expected.confidence_interval(0.95)
    assert result.p == pytest.approx(expected.pvalue)
    assert (result.low, result.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert result.difference == pytest.approx(np.mean(a - b))
    assert (result.test, result.unit, result.n) == ("paired t", "world", 9)
    swapped = S.paired_t(b, a)
    assert (swapped.difference, swapped.p) == (pytest.approx(-result.difference), pytest.approx(result.p))


def test_corrected_resampled_t_by_the_formula():
    a, b, ratio = np.array([0.8, 0.7, 0.9, 0.85]), np.array([0.7, 0.72, 0.8, 0.75]), 0.1 / 0.9
    d = a - b
    t = d.mean() / np.sqrt((1 / 4 + ratio) * d.var(ddof=1))
    result = S.corrected_resampled_t(a, b, ratio)
    assert result.p == pytest.approx(2 * stats.t.sf(t, 3))
    assert (result.test, result.unit) == ("corrected resampled t", "split")
    assert S.corrected_resampled_t(a, b, 0.0).p == pytest.approx(S.paired_t(a, b).p)
    assert result.p > S.paired_t(a, b).p


def test_correction_holds_the_level_where_the_plain_test_does_not():
    # Differences over splits of one data set, correlated by what splits share: the correction's model.
    rng = np.random.default_rng(4)
    rho, n_worlds, splits = 0.5, 2000, 8
    plain = corrected = 0
    for _ in range(n_worlds):
        shared = rng.normal(0, np.sqrt(rho))
        a = shared + rng.normal(0, np.sqrt(1 - rho), splits)
        plain += S.paired_t(a, np.zeros(splits)).p < 0.05
        corrected += S.corrected_resampled_t(a, np.zeros(splits), rho / (1 - rho)).p < 0.05
    assert plain / n_worlds > 0.3
    assert abs(corrected / n_worlds - 0.05) < 4 * np.sqrt(0.05 * 0.95 / n_worlds)


def test_tests_without_spread_take_the_limit():
    equal = S.paired_t([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    assert (equal.difference, equal.low, equal.high, equal.p) == (0, 0, 0, 1.0)
    # 0.3 - 0.2 and 0.2 - 0.1 differ by rounding only.
    constant = S.paired_t([0.3, 0.2, 0.5], [0.2, 0.1, 0.4])
    assert constant.p == 0.0
    assert constant.low == constant.high == constant.difference == pytest.approx(0.1)
    rounding = S.corrected_resampled_t([0.1 + 0.2, 0.5], [0.3, 0.5], 0.1)
    assert rounding.p == 1.0


def test_tests_of_too_little():
    one = S.paired_t([0.5], [0.4])
    assert (one.difference, one.n) == (pytest.approx(0.1), 1)
    assert np.isnan([one.low, one.high, one.p]).all()
    missing = S.corrected_resampled_t([0.5, NAN], [0.4, 0.3], 0.2)
    assert np.isnan([missing.difference, missing.low, missing.high, missing.p]).all()
    assert np.isnan(S.paired_t([np.inf, 1.0], [np.inf, 0.0]).p)


def test_effect_size():
    a, b = np.array([1.0, 2.0, 4.0]), np.array([0.0, 0.0, 1.0])
    assert S.effect_size(a, b) == pytest.approx(2.0 / 1.0)
    assert S.effect_size(b, a) == pytest.approx(-2.0)
    assert S.effect_size(a, a) == 0.0
    assert S.effect_size([2.0, 3.0], [3.0, 4.0]) == -np.inf
    assert np.isnan(S.effect_size([1.0], [0.0]))
    assert np.isnan(S.effect_size([1.0, NAN], [0.0, 0.0]))


def test_errors_over_seeds():
    with pytest.raises(DataError, match="`b` has 1 rows and the first column 2"):
        S.paired_t([1.0, 2.0], [1.0])
    for bad in (-0.1, NAN, np.inf):
        with pytest.raises(ParameterError, match="must be 0 or more"):
            S.corrected_resampled_t([1.0, 2.0], [1.0, 3.0], bad)


# ---- over users ----------------------------------------------------------------------------------


def bootstrap_by_loops(runs, n_boot, seed):
    """The same resamples, drawn user by user and averaged seed by seed."""
    everyone = sorted({u for user, _ in runs for u in user})
    tables = [dict(zip(user, value, strict=True)) for user, value in runs]
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(n_boot):
        drawn = [everyone[j] for j in rng.integers(len(everyone), size=(1, len(everyone)))[0]]
        means = []
        for table in tables:
            values = [table[u] for u in drawn if u in table]
            if values:
                means.append(sum(values) / len(values))
        samples.append(sum(means) / len(means))
    return np.array(samples)


def uneven_runs(rng, n_users=12, n_seeds=3, shift=0.0):
    runs = []
    for _ in range(n_seeds):
        user = rng.permutation(100)[:n_users] if not runs else rng.permutation(runs[0][0])[: n_users - 3]
        runs.append((user, rng.random(len(user)) + shift))
    return runs


def test_bootstrap_equals_the_loops(monkeypatch):
    # One resample at a time, so that both draw the same numbers from the generator.
    monkeypatch.setattr(S, "_CELLS_AT_ONCE", 1)
    runs = uneven_runs(np.random.default_rng(5))
    samples = bootstrap_by_loops(runs, 300, seed=7)
    result = S.bootstrap_users_interval(runs, 300, seed=7)
    assert result.mean == pytest.approx(np.mean([value.mean() for _, value in runs]))
    assert (result.low, result.high) == pytest.approx(tuple(np.quantile(samples, [0.025, 0.975])))
    assert result.n == 12


def test_paired_bootstrap_aligns_users_and_counts_both_tails():
    rng = np.random.default_rng(6)
    a = uneven_runs(rng, shift=0.1)
    b = [(user[::-1], rng.random(len(user))) for user, _ in a]
    b[0] = (np.append(b[0][0], 5000), np.append(b[0][1], 9.0))  # a user that a does not have
    differences = []
    for (ua, va), (ub, vb) in zip(a, b, strict=True):
        of_b = dict(zip(ub, vb, strict=True))
        differences.append((ua, np.array([x - of_b[u] for u, x in zip(ua, va, strict=True)])))
    result = S.paired_bootstrap_users(a, b, 500, seed=1)
    expected = S.bootstrap_users_interval(differences, 500, seed=1)
    assert (result.difference, result.low, result.high, result.n) == pytest.approx(
        (expected.mean, expected.low, expected.high, expected.n)
    )
    assert (result.test, result.unit) == ("paired bootstrap", "user")
    swapped = S.paired_bootstrap_users(b, a, 500, seed=1)
    assert (swapped.difference, swapped.p) == (pytest.approx(-result.difference), result.p)
    assert (swapped.low, swapped.high) == (pytest.approx(-result.high), pytest.approx(-result.low))


def test_p_is_never_0_and_1_for_equal_methods():
    user = np.arange(30)
    far = S.paired_bootstrap_users([(user, np.ones(30))], [(user, np.zeros(30))], 999)
    assert far.p == pytest.approx(2 / 1000)
    assert (far.low, far.high) == (1.0, 1.0)
    value = np.random.default_rng(7).random(30)
    assert S.paired_bootstrap_users([(user, value)], [(user, value)], 999).p == 1.0
    rounded = value + np.where(user % 2, 1e-16, -1e-16)
    assert S.paired_bootstrap_users([(user, value)], [(user, rounded)], 999).p == 1.0


def test_a_seed_that_a_resample_misses_is_left_out_of_it():
    runs = [(np.arange(4), np.full(4, 0.25)), (np.array([0]), np.array([0.75]))]
    result = S.bootstrap_users_interval(runs, 400)
    assert result.mean == 0.5
    assert (result.low, result.high) == (0.25, 0.5)


def test_the_same_seed_gives_the_same_answer_and_row_order_does_not_matter():
    runs = uneven_runs(np.random.default_rng(8))
    shuffled = [(user[::-1], value[::-1]) for user, value in runs]
    assert S.bootstrap_users_interval(runs, 200, seed=3) == S.bootstrap_users_interval(shuffled, 200, seed=3)
    assert S.bootstrap_users_interval(runs, 200, seed=3) != S.bootstrap_users_interval(runs, 200, seed=4)


def test_bootstrap_covers_the_truth_and_keeps_its_level():
    # Users have their own effect, which all their seeds share: resampling rows instead would cover far less.
    rng = np.random.default_rng(9)
    n_users, n_seeds, n_worlds = 60, 4, 400
    covered, rejected, rows_covered = 0, 0, 0
    for world in range(n_worlds):
        effect = rng.normal(0.2, 1.0, n_users)
        zero = [(np.arange(n_users), np.zeros(n_users)) for _ in range(n_seeds)]
        runs = [(np.arange(n_users), effect + rng.normal(0, 0.3, n_users)) for _ in range(n_seeds)]
        result = S.paired_bootstrap_users(runs, zero, 400, seed=world)
        covered += result.low <= 0.2 <= result.high
        level = [(user, value - 0.2) for user, value in runs]
        rejected += S.paired_bootstrap_users(level, zero, 400, seed=world).p <= 0.05
        as_rows = [(np.arange(n_users * n_seeds), np.concatenate([value for _, value in runs]))]
        rows = S.bootstrap_users_interval(as_rows, 100, seed=world)
        rows_covered += rows.low <= 0.2 <= rows.high
    assert 0.91 <= covered / n_worlds <= 0.98
    assert 0.02 <= rejected / n_worlds <= 0.09
    assert rows_covered / n_worlds < 0.8


def test_one_user_says_nothing():
    run = [(np.array([3]), np.array([0.7]))]
    result = S.paired_bootstrap_users(run, [(np.array([3]), np.array([0.2]))], 100)
    assert (result.difference, result.n) == (pytest.approx(0.5), 1)
    assert np.isnan([result.low, result.high, result.p]).all()
    assert np.isnan(S.bootstrap_users_interval(run, 100).low)


def test_errors_over_users():
    run = (np.arange(3), np.ones(3))
    with pytest.raises(DataError, match="run 1 has 3 and 2 users, none of them in both"):
        S.paired_bootstrap_users([run, run], [run, (np.array([7, 8]), np.ones(2))])
    with pytest.raises(DataError, match="same seeds of both methods; got 2 and 1"):
        S.paired_bootstrap_users([run, run], [run])
    with pytest.raises(DataError, match="got 3 rows of 2 users"):
        S.bootstrap_users_interval([(np.array([1, 1, 2]), np.ones(3))])
    with pytest.raises(DataError, match="1 of 3 are NaN"):
        S.bootstrap_users_interval([(np.arange(3), np.array([1.0, NAN, 0.0]))])
    for runs in ([], [(np.array([], int), np.array([]))]):
        with pytest.raises(DataError, match="at least one run, and users in each"):
            S.bootstrap_users_interval(runs)
    with pytest.raises(ParameterError, match="'n_boot' must be a whole number"):
        S.bootstrap_users_interval([run], 0)


# ---- over many comparisons -----------------------------------------------------------------------


def test_holm_by_hand():
    # Sorted: 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 = 0.02, 0.03, 0.06, 0.04, then made monotone.
    np.testing.assert_allclose(S.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_holm_ignores_missing_values_and_stops_at_1():
    result = S.holm([0.01, NAN, 0.04, 0.9])
    np.testing.assert_allclose(result, [0.03, NAN, 0.08, 0.9])
    np.testing.assert_allclose(S.holm([0.6, 0.7]), [1.0, 1.0])
    assert S.holm([]).shape == (0,)
    assert np.isnan(S.holm([NAN])).all()
    with pytest.raises(DataError, match="numbers from 0 to 1"):
        S.holm([1.1])


@settings(deadline=None, max_examples=80)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_the_step_down_procedure_rejects(p):
    adjusted = S.holm(p)
    assert ((adjusted >= np.array(p)) & (adjusted <= 1)).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    alpha, rejected = 0.05, set()
    for step, j in enumerate(order):
        if p[j] * (len(p) - step) > alpha:
            break
        rejected.add(int(j))
    assert rejected == set(np.flatnonzero(adjusted <= alpha).tolist())


def p_matrix(m, different):
    p = np.ones((m, m))
    for i, j in different:
        p[i, j] = p[j, i] = 0.01
    return p


def test_letters_by_hand():
    # In the order of the means (10, 8, 6, 5): only neighbours do not differ.
    p = p_matrix(4, [(0, 2), (0, 3), (1, 3)])
    assert S.significance_letters([10, 8, 6, 5], p) == ["a", "ab", "bc", "c"]
    order = [2, 0, 3, 1]
    shuffled = S.significance_letters(np.array([10, 8, 6, 5])[order], p[np.ix_(order, order)])
    assert shuffled == ["bc", "a", "c", "ab"]


def test_letters_where_lower_is_better_and_where_nothing_or_all_differs():
    p = p_matrix(3, [(0, 2)])
    assert S.significance_letters([1, 2, 3], p, higher_is_better=False) == ["a", "ab", "b"]
    assert S.significance_letters([1, 2, 3], p) == ["b", "ab", "a"]
    assert S.significance_letters([1, 2, 3], np.ones((3, 3))) == ["a", "a", "a"]
    assert S.significance_letters([1, 2, 3], np.zeros((3, 3))) == ["c", "b", "a"]
    assert S.significance_letters([1.0], [[NAN]]) == ["a"]
    assert S.significance_letters([], np.empty((0, 0))) == []


def test_letters_read_one_triangle_and_take_nan_as_no_difference():
    upper = np.full((3, 3), NAN)
    upper[0, 2] = 0.01
    assert S.significance_letters([3, 2, 1], upper) == ["a", "ab", "b"]
    assert S.significance_letters([3, 2, 1], upper.T) == ["a", "ab", "b"]
    assert S.significance_letters([NAN, 2, 1], np.zeros((3, 3))) == ["c", "a", "b"]


def test_letters_go_on_after_z():
    letters = S.significance_letters(-np.arange(30.0), np.zeros((30, 30)))
    assert letters[25:28] == ["z", "a1", "b1"]
    assert len(set(letters)) == 30


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 7), st.data())
def test_methods_share_a_letter_exactly_if_they_do_not_differ(m, data):
    pairs = list(itertools.combinations(range(m), 2))
    different = data.draw(st.sets(st.sampled_from(pairs))) if pairs else set()
    means = data.draw(st.permutations(range(m)))
    letters = S.significance_letters(means, p_matrix(m, different))
    for i, j in pairs:
        assert bool(set(letters[i]) & set(letters[j])) == ((i, j) not in different)
    assert "a" in letters[int(np.argmax(means))]


def test_letters_need_a_square_matrix():
    with pytest.raises(DataError, match=r"shape \(2, 2\), one row per mean; got \(2, 3\)"):
        S.significance_letters([1, 2], np.ones((2, 3)))
