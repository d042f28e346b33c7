from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import ndcg_score

from deconrec.errors import DataError, ParameterError, UnknownName
from deconrec.evaluation import ranking

METRICS = ranking.METRICS
GOLDEN = Path(__file__).parents[1] / "golden" / "ranking.json"


# ---- slow, obvious twins -------------------------------------------------------------------------


def metric_of_order(relevant_in_order, k, metric):
    """The textbook definition for one ranking without ties."""
    n_pos = sum(relevant_in_order)
    hits = [rank for rank, rel in enumerate(relevant_in_order, start=1) if rel and rank <= k]
    if metric == "recall":
        return len(hits) / n_pos
    if metric == "recall_capped":
        return len(hits) / min(k, n_pos)
    return sum(1 / np.log2(r + 1) for r in hits) / sum(
        1 / np.log2(r + 1) for r in range(1, min(k, n_pos) + 1)
    )


def mean_over_all_orders(score, relevant, k, metric):
    """The mean of the metric over every order of the candidates that respects the scores."""
    values = []
    for order in itertools.permutations(range(len(score))):
        if all(score[i] >= score[j] for i, j in itertools.pairwise(order)):
            values.append(metric_of_order([relevant[i] for i in order], k, metric))
    return np.mean(values)


def users_one_by_one(user, score, relevant, k, metric):
    """{user: value} by one stable sort per user; right where a user's scores are distinct."""
    out = {}
    for u in sorted(set(user)):
        rows = [j for j in range(len(user)) if user[j] == u]
        rows.sort(key=lambda j: -score[j])
        rel = [bool(relevant[j]) for j in rows]
        if any(rel):
            out[u] = metric_of_order(rel, k, metric)
    return out


def random_block(rng, n_users, n_items, levels, share=0.25):
    """Scores on few levels (many ties), relevance and exclusion of a block, as dense arrays."""
    score = rng.integers(levels, size=(n_users, n_items)).astype(float)
    return score, rng.random((n_users, n_items)) < share, rng.random((n_users, n_items)) < 0.3


def candidate_rows(score, relevant, excluded):
    user, item = np.nonzero(~excluded)
    return user, score[user, item], relevant[user, item]


# ---- definitions ---------------------------------------------------------------------------------


def test_a_case_done_by_hand():
    # User 4: positives at ranks 1 and 3 of 4. User 9: its only positive at rank 2. User 6: no positive.
    user = [4, 4, 4, 4, 9, 9, 6]
    score = [0.9, 0.7, 0.5, 0.3, 2.0, 1.0, 0.1]
    relevant = [1, 0, 1, 0, 0, 1, 0]
    result = ranking.shown(user, score, relevant, 2, "ndcg")
    np.testing.assert_array_equal(result.user, [4, 9])
    np.testing.assert_allclose(result.values, [1 / (1 + 1 / np.log2(3)), 1 / np.log2(3)])
    assert result.skipped == 1
    assert result.mean == pytest.approx(np.mean(result.values))
    np.testing.assert_allclose(ranking.shown(user, score, relevant, 2, "recall").values, [0.5, 1.0])
    np.testing.assert_allclose(ranking.shown(user, score, relevant, 1, "recall").values, [0.5, 0.0])
    np.testing.assert_allclose(ranking.shown(user, score, relevant, 1, "recall_capped").values, [1.0, 0.0])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 3, 10])
def test_shown_equals_the_slow_twin(metric, k):
    rng = np.random.default_rng(k)
    user, relevant = rng.integers(-5, 25, 300), rng.random(300) < 0.2
    score = rng.permutation(300) / 7
    expected = users_one_by_one(user.tolist(), score, relevant, k, metric)
    result = ranking.shown(user, score, relevant, k, metric)
    assert result.user.tolist() == list(expected)
    np.testing.assert_allclose(result.values, list(expected.values()), rtol=1e-12)
    assert result.skipped == len(set(user.tolist())) - len(expected)


@pytest.mark.parametrize("metric", METRICS)
def test_ties_give_the_mean_over_all_orders(metric):
    rng = np.random.default_rng(0)
    for _ in range(25):
        score, relevant = rng.integers(3, size=6), rng.random(6) < 0.5
        relevant[rng.integers(6)] = True
        for k in (1, 2, 4, 9):
            value = ranking.shown(np.zeros(6, int), score, relevant, k, metric).mean
            assert value == pytest.approx(mean_over_all_orders(score, relevant, k, metric), abs=1e-12)


def test_a_constant_score_gets_what_random_ranking_gets():
    rng = np.random.default_rng(1)
    user, relevant = np.repeat(np.arange(20), 12), rng.random(240) < 0.3
    for metric in METRICS:
        constant = ranking.shown(user, np.zeros(240), relevant, 5, metric).mean
        drawn = [ranking.shown(user, rng.random(240), relevant, 5, metric).mean for _ in range(400)]
        assert abs(constant - np.mean(drawn)) < 4 * np.std(drawn) / np.sqrt(len(drawn))


@pytest.mark.parametrize("levels", [3, 1000])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_ndcg_agrees_with_scikit_learn_also_on_ties(levels, k):
    rng = np.random.default_rng(levels)
    for _ in range(20):
        score, relevant = rng.integers(levels, size=30), rng.random(30) < 0.3
        relevant[0] = True
        ours = ranking.shown(np.zeros(30, int), score, relevant, k, "ndcg").mean
        assert ours == pytest.approx(ndcg_score(relevant[None].astype(float), score[None], k=k), abs=1e-12)


def test_golden_values_of_another_implementation():
    golden = json.loads(GOLDEN.read_text())
    recipe = golden["recipe"]
    rng = np.random.default_rng(recipe["seed"])
    score = rng.random((recipe["users"], recipe["items"]))
    relevant = rng.random((recipe["users"], recipe["items"])) < recipe["share"]
    relevant[recipe["empty_user"]] = False
    assert score.sum() == pytest.approx(golden["check"]["score_sum"])
    assert relevant.sum() == golden["check"]["n_relevant"]

    flat_user = np.repeat(np.arange(recipe["users"]), recipe["items"])
    by_rows = ranking.place(flat_user, score.ravel(), relevant.ravel())
    by_block = ranking.place_block(score, sparse.csr_array(relevant), depth=10)
    for name, expected in golden["values"].items():
        metric, k = name.split("@")
        for placement in (by_rows, by_block):
            result = placement.values(metric, int(k))
            assert result.user.tolist() == golden["users"]
            assert result.skipped == 1
            np.testing.assert_allclose(result.values, expected["per_user"], rtol=0, atol=1e-9)
            assert abs(result.mean - expected["mean"]) < 1e-9


# ---- properties ----------------------------------------------------------------------------------


@st.composite
def rows(draw, distinct=False):
    """(user, score, relevant) of up to 30 rows, with ties unless `distinct`."""
    n = draw(st.integers(1, 30))
    user = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    if distinct:
        score = draw(st.permutations(range(n)))
    else:
        score = draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n))
    relevant = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    return np.array(user), np.array(score, float), np.array(relevant)


a_k, a_metric = st.integers(1, 12), st.sampled_from(METRICS)


@settings(deadline=None, max_examples=60)
@given(rows(), a_k, a_metric)
def test_values_lie_between_0_and_1_and_users_add_up(data, k, metric):
    user, score, relevant = data
    result = ranking.shown(user, score, relevant, k, metric)
    assert ((result.values >= 0) & (result.values <= 1)).all()
    assert len(result.user) + result.skipped == len(set(user.tolist()))
    assert result.user.tolist() == sorted(set(user[relevant].tolist()))


@settings(deadline=None, max_examples=60)
@given(rows(), a_k)
def test_the_perfect_ranking_gets_1(data, k):
    user, _, relevant = data
    for metric in ("ndcg", "recall_capped"):
        np.testing.assert_allclose(ranking.shown(user, relevant, relevant, k, metric).values, 1.0, rtol=1e-12)


def test_rounding_does_not_lift_a_value_above_1():
    # Groups of tied positives whose shares of the 22 places sum to a hair more than 22.
    group_sizes = [6, 6, 6, 6, 2, 1]
    score = np.repeat(np.arange(6, 0, -1.0), group_sizes)
    result = ranking.shown(np.zeros(27, int), score, np.ones(27, int), 22, "recall_capped")
    assert result.values.tolist() == [1.0]


@settings(deadline=None, max_examples=60)
@given(rows(), a_k, a_metric, st.randoms(use_true_random=False))
def test_row_order_and_monotone_transforms_change_nothing(data, k, metric, random):
    user, score, relevant = data
    order = np.array(random.sample(range(len(user)), len(user)))
    base = ranking.shown(user, score, relevant, k, metric)
    other = ranking.shown(user[order], np.exp(score[order]) - 7, relevant[order], k, metric)
    np.testing.assert_array_equal(base.user, other.user)
    np.testing.assert_allclose(base.values, other.values, rtol=1e-12)


@settings(deadline=None, max_examples=60)
@given(rows(distinct=True), a_k, a_metric, st.data())
def test_moving_a_positive_above_a_negative_never_hurts(data, k, metric, choose):
    user, score, relevant = data
    pairs = [
        (p, n)
        for p in np.flatnonzero(relevant)
        for n in np.flatnonzero(~relevant)
        if user[p] == user[n] and score[p] < score[n]
    ]
    if not pairs:
        return
    positive, negative = choose.draw(st.sampled_from(pairs))
    swapped = score.copy()
    swapped[[positive, negative]] = score[[negative, positive]]
    before, after = (ranking.shown(user, s, relevant, k, metric).values for s in (score, swapped))
    assert (after >= before - 1e-12).all()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 4), a_metric)
def test_full_equals_shown_on_the_same_candidates(seed, k, levels, metric):
    score, relevant, excluded = random_block(np.random.default_rng(seed), 6, 9, levels)
    expected = ranking.shown(*candidate_rows(score, relevant, excluded), k, metric)
    result = ranking.full(score, sparse.csr_array(relevant), sparse.csr_array(excluded), k=k, metric=metric)
    np.testing.assert_array_equal(result.user, expected.user)
    np.testing.assert_allclose(result.values, expected.values, rtol=1e-12)
    # A user all of whose items are excluded has no candidate row, so `shown` does not know of it.
    assert result.skipped == expected.skipped + int(excluded.all(axis=1).sum())


# ---- the full catalogue --------------------------------------------------------------------------


def test_one_pass_serves_every_metric_and_k():
    score, relevant, excluded = random_block(np.random.default_rng(2), 30, 200, 40, share=0.1)
    placement = ranking.place_block(score, relevant, excluded, depth=50)
    for metric in METRICS:
        for k in (1, 7, 20, 50):
            expected = ranking.shown(*candidate_rows(score, relevant, excluded), k, metric)
            np.testing.assert_allclose(placement.values(metric, k).values, expected.values, rtol=1e-12)
    with pytest.raises(ParameterError, match=r"must not exceed the depth that was ranked \(50\); got 51"):
        placement.values("ndcg", 51)


def test_blocks_join_to_the_whole():
    rng = np.random.default_rng(3)
    score, relevant, excluded = random_block(rng, 40, 60, 10, share=0.03)
    users = rng.permutation(1000)[:40]
    whole = ranking.place_block(score, relevant, excluded, users, depth=10).values("ndcg", 10)
    cuts = (slice(0, 7), slice(7, 8), slice(8, 40))
    parts = [ranking.place_block(score[c], relevant[c], excluded[c], users[c], depth=10) for c in cuts]
    joined = ranking.join(parts).values("ndcg", 10)
    row, scores, relevants = candidate_rows(score, relevant, excluded)
    expected = ranking.shown(users[row], scores, relevants, 10, "ndcg")
    np.testing.assert_array_equal(joined.user, expected.user)
    np.testing.assert_allclose(joined.values, expected.values, rtol=1e-12)
    np.testing.assert_array_equal(joined.user, whole.user)
    np.testing.assert_array_equal(joined.values, whole.values)
    assert joined.skipped == whole.skipped > 0
    with pytest.raises(DataError, match="blocks of different users"):
        ranking.join([parts[0], parts[0]])
    with pytest.raises(DataError, match="at least one block"):
        ranking.join([])


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array, sparse.csc_matrix, sparse.coo_array])
def test_masks_may_be_dense_or_sparse(kind):
    score, relevant, excluded = random_block(np.random.default_rng(4), 8, 12, 5)
    expected = ranking.shown(*candidate_rows(score, relevant, excluded), 4, "recall")
    result = ranking.full(score, kind(relevant), kind(excluded), k=4, metric="recall")
    np.testing.assert_allclose(result.values, expected.values, rtol=1e-12)


def test_stored_zeros_of_a_sparse_mask_are_zeros():
    score = np.array([[3.0, 2.0, 1.0]])
    cells = ([0, 0], ([0, 0], [0, 2]))
    relevant, excluded = sparse.csr_array(cells, shape=(1, 3)), sparse.csr_array(cells, shape=(1, 3))
    relevant.data[:], excluded.data[:] = [0, 1], [1, 0]
    result = ranking.full(score, relevant, excluded, k=1, metric="recall")
    assert result.values.tolist() == [0.0]  # item 0 is out, item 1 leads, item 2 is the positive
    assert ranking.full(score, relevant, excluded, k=2, metric="recall").values.tolist() == [1.0]


def test_an_excluded_positive_is_no_positive():
    score, relevant = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), np.array([[1, 1, 0], [1, 0, 0]])
    excluded = np.array([[1, 0, 0], [1, 0, 0]])
    result = ranking.full(score, relevant, excluded, np.array([8, 3]), k=1, metric="recall")
    assert (result.user.tolist(), result.values.tolist(), result.skipped) == ([8], [1.0], 1)


def test_fewer_candidates_than_k_and_all_items_excluded():
    score, relevant = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]), np.ones((2, 3), bool)
    excluded = np.array([[True, False, False], [True, True, True]])
    result = ranking.full(score, relevant, excluded, k=20, metric="ndcg")
    assert (result.user.tolist(), result.values.tolist(), result.skipped) == ([0], [1.0], 1)
    small = ranking.full(score, np.array([[0, 1, 0], [0, 1, 0]]), excluded, k=2, metric="ndcg")
    np.testing.assert_allclose(small.values, [1 / np.log2(3)])


def test_scores_of_excluded_items_are_not_read_but_others_must_be_finite():
    score = np.array([[np.nan, 2.0, 1.0], [-np.inf, 2.0, 1.0]])
    excluded, relevant = np.array([[1, 0, 0], [1, 0, 0]]), np.array([[0, 1, 0], [0, 0, 1]])
    assert ranking.full(score, relevant, excluded, k=1, metric="recall").values.tolist() == [1.0, 0.0]
    for mask in (None, np.zeros((2, 3))):
        with pytest.raises(DataError, match="2 of 6 are NaN or infinite and not excluded"):
            ranking.full(score, relevant, mask, k=1, metric="recall")


def test_inputs_are_left_as_they_were():
    score, relevant, excluded = random_block(np.random.default_rng(5), 5, 9, 4)
    relevant, excluded = sparse.csr_array(relevant), sparse.csr_array(excluded)
    copies = score.copy(), relevant.copy(), excluded.copy()
    ranking.place_block(score, relevant, excluded, depth=3)
    np.testing.assert_array_equal(score, copies[0])
    assert (relevant != copies[1]).nnz == 0
    assert (excluded != copies[2]).nnz == 0


def test_single_precision_scores_are_ranked_as_they_are():
    score = np.random.default_rng(6).random((4, 50), dtype=np.float32)
    relevant = np.random.default_rng(7).random((4, 50)) < 0.2
    single, double = (ranking.full(s, relevant, k=9, metric="ndcg") for s in (score, score.astype(float)))
    np.testing.assert_array_equal(single.values, double.values)


# ---- edges and errors ----------------------------------------------------------------------------


def test_no_rows_give_no_users_and_a_nan_mean():
    for result in (
        ranking.shown([], [], [], 5, "ndcg"),
        ranking.full(np.empty((0, 4)), np.empty((0, 4)), k=5, metric="ndcg"),
    ):
        assert (len(result.user), len(result.values), result.skipped) == (0, 0, 0)
        assert np.isnan(result.mean)


def test_nobody_with_a_positive():
    result = ranking.shown([0, 1], [0.5, 0.5], [0, 0], 5, "recall")
    assert result.skipped == 2
    assert np.isnan(result.mean)


def test_errors_say_what_was_wrong():
    with pytest.raises(DataError, match="1 of 2 are NaN or infinite"):
        ranking.shown([0, 0], [np.nan, 1], [0, 1], 1, "ndcg")
    with pytest.raises(DataError, match="2 of 2 are neither: binarise"):
        ranking.shown([0, 0], [2.0, 1.0], [5, 3], 1, "ndcg")
    with pytest.raises(DataError, match="`relevant` has 1 rows and the first column 2"):
        ranking.shown([0, 0], [2.0, 1.0], [1], 1, "ndcg")
    with pytest.raises(UnknownName, match="did you mean 'ndcg'"):
        ranking.shown([0], [1.0], [1], 1, "ndgc")
    for k in (0, 2.0, True):
        with pytest.raises(ParameterError, match="K must be a whole number of at least 1"):
            ranking.shown([0], [1.0], [1], k, "ndcg")
    with pytest.raises(DataError, match=r"`excluded` of the scores' shape \(2, 3\); got \(3, 3\)"):
        ranking.full(np.ones((2, 3)), np.ones((2, 3)), np.ones((3, 3)), k=1, metric="ndcg")
    with pytest.raises(DataError, match="expects 0 or 1 in `relevant`"):
        ranking.full(np.ones((1, 2)), sparse.csr_array([[0, 5]]), k=1, metric="ndcg")
    with pytest.raises(DataError, match="each user once in a block"):
        ranking.full(np.ones((2, 3)), np.ones((2, 3)), users=[1, 1], k=1, metric="ndcg")
    with pytest.raises(DataError, match=r"scores of shape \(users, n_items\); got \(3,\)"):
        ranking.full(np.ones(3), np.ones(3), k=1, metric="ndcg")


def test_repeated_cells_of_a_sparse_relevance_are_refused():
    twice = sparse.csr_array((np.ones(2), np.array([1, 1]), np.array([0, 2])), shape=(1, 3))
    with pytest.raises(DataError, match="expects 0 or 1 in `relevant`"):
        ranking.full(np.ones((1, 3)), twice, k=1, metric="recall")
    assert twice.nnz == 2


def test_blocks_of_users_give_what_one_block_gives() -> None:
    rng = np.random.default_rng(5)
    score = rng.integers(0, 6, (23, 40)).astype(np.float32)
    relevant, kept = (sparse.csr_matrix(rng.random(score.shape) < share) for share in (0.05, 0.2))
    asked: list[int] = []

    def block(users: np.ndarray) -> np.ndarray:
        asked.append(len(users))
        return score[users]

    parts = ranking.place_blocks(block, relevant, kept, depth=5, size=7)
    whole = ranking.place_block(score, relevant, kept, depth=5)
    assert asked == [7, 7, 7, 2]
    for metric in ("ndcg", "recall", "recall_capped"):
        got, want = parts.values(metric, 5), whole.values(metric, 5)
        assert (got.user.tolist(), got.skipped) == (want.user.tolist(), want.skipped)
        np.testing.assert_array_equal(got.values, want.values)


@pytest.mark.parametrize("levels", [1, 3, 1000])
@pytest.mark.parametrize("lengths", [[5] * 8, [1, 2, 9, 4], [300, 1, 1, 2, 1, 1, 1, 1]])
def test_rows_sorted_together_are_placed_as_by_one_sort(
    lengths: list[int], levels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(sum(lengths))
    user = rng.permutation(np.repeat(np.arange(len(lengths)), lengths))
    score, relevant = rng.integers(0, levels, len(user)) / 7, rng.random(len(user)) < 0.4
    found = []
    for widest in (0, 10**9):  # one sort of all; rows padded to one length
        monkeypatch.setattr(ranking, "WIDEST", widest)
        placed = ranking.place(user, score, relevant)
        order = np.lexsort((placed.tied, placed.above, placed.row))
        found.append(
            [placed.user, placed.n_positive, *(x[order] for x in (placed.row, placed.above, placed.tied))]
        )
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
