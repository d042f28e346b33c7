"""Propensities of drawn lists against enumeration on tiny catalogues, and against drawing."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import deconrec as dc
from deconrec.errors import ParameterError
from deconrec.evaluation.policy import at_rank, draw, draw_posterior, in_list
from deconrec.pairs import NO_TABLES
from deconrec.propensity import Known
from deconrec.training.samplers import log_pairs

SCORES = np.array([0.3, 0.9, 0.1, 0.9, 0.5])


def lists_epsilon_greedy(score: np.ndarray, k: int, epsilon: float) -> dict[tuple[int, ...], float]:
    """P(list) of every list, from the definition."""
    order = list(np.argsort(-score, kind="stable"))
    out = {}
    for chosen in itertools.permutations(range(len(score)), k):
        p, left = 1.0, list(order)
        for i in chosen:
            p *= epsilon / len(left) + (1 - epsilon) * (i == left[0])
            left.remove(i)
        out[chosen] = p
    return out


def lists_plackett_luce(score: np.ndarray, k: int, temperature: float) -> dict[tuple[int, ...], float]:
    w = np.exp(score / temperature)
    out = {}
    for chosen in itertools.permutations(range(len(score)), k):
        p, left = 1.0, w.sum()
        for i in chosen:
            p *= w[i] / left
            left -= w[i]
        out[chosen] = p
    return out


def included(lists: dict[tuple[int, ...], float], n: int) -> np.ndarray:
    return np.array([sum(p for chosen, p in lists.items() if i in chosen) for i in range(n)])


@pytest.mark.parametrize("k", [1, 2, 4, 5])
@pytest.mark.parametrize("epsilon", [0.1, 0.7, 1.0])
def test_epsilon_greedy_against_enumeration(k: int, epsilon: float) -> None:
    lists = lists_epsilon_greedy(SCORES, k, epsilon)
    assert sum(lists.values()) == pytest.approx(1)
    order = np.argsort(-SCORES, kind="stable")
    exact = at_rank(5, k, epsilon)
    for place, i in enumerate(order):
        for t in range(k):
            assert exact[place, t] == pytest.approx(sum(p for c, p in lists.items() if c[t] == i))
    rngs = [np.random.default_rng(s) for s in range(20)]
    shown = draw("epsilon-greedy", np.tile(SCORES, (20, 1)), k, rngs, epsilon=epsilon)
    for row in range(20):
        assert np.allclose(shown.propensity[row], included(lists, 5)[shown.item[row]])
        assert shown.step[row].prod() == pytest.approx(lists[tuple(shown.item[row])])


@pytest.mark.parametrize("k", [1, 2, 4, 5])
@pytest.mark.parametrize("temperature", [0.05, 0.3, 10.0])
def test_plackett_luce_against_enumeration(k: int, temperature: float) -> None:
    lists = lists_plackett_luce(SCORES, k, temperature)
    rngs = [np.random.default_rng(s) for s in range(20)]
    shown = draw("plackett-luce", np.tile(SCORES, (20, 1)), k, rngs, temperature=temperature)
    for row in range(20):
        assert np.allclose(shown.propensity[row], included(lists, 5)[shown.item[row]], rtol=1e-6)
        assert shown.step[row].prod() == pytest.approx(lists[tuple(shown.item[row])])


@pytest.mark.parametrize("policy", ["epsilon-greedy", "plackett-luce"])
def test_lists_are_drawn_as_often_as_the_propensity_says(policy: str) -> None:
    n, k = 5_000, 3
    score = np.linspace(0, 1, 8)
    rngs = np.random.default_rng(0).spawn(n)
    options = {"epsilon": 0.4, "temperature": 0.3}
    shown = draw(policy, np.tile(score, (n, 1)), k, rngs, **options)
    share = np.bincount(shown.item.ravel(), minlength=8) / n
    expected = np.zeros(8)
    expected[shown.item.ravel()] = shown.propensity.ravel()
    assert expected.sum() == pytest.approx(k)
    assert np.abs(share - expected).max() < 4.5 * 0.5 / np.sqrt(n)


def test_inverse_propensities_are_unbiased() -> None:
    """A total over candidates, estimated from what was shown."""
    value = np.arange(8.0)
    rngs = np.random.default_rng(1).spawn(2_000)
    shown = draw("plackett-luce", np.tile(np.linspace(0, 1, 8), (2_000, 1)), 3, rngs, temperature=0.5)
    each = (value[shown.item] / shown.propensity).sum(1)
    assert abs(each.mean() - value.sum()) < 4 * each.std() / np.sqrt(2_000)


def test_a_large_catalogue_sums_to_the_places() -> None:
    utility = np.random.default_rng(2).standard_normal(300) * 3
    parts = [in_list(utility, np.arange(at, at + 10)).sum() for at in range(0, 300, 10)]
    assert sum(parts) == pytest.approx(10, rel=1e-8)
    assert at_rank(300, 10, 0.2).sum() == pytest.approx(10)


@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0])
def test_a_long_list_sums_to_its_places(scale: float) -> None:
    """The k-th arrival falls into a narrow time: a step of the integral that suits short lists is too wide for it."""
    utility = np.random.default_rng(3).standard_normal(400) * scale
    parts = [in_list(utility, np.arange(at, at + 40)).sum() for at in range(0, 400, 40)]
    assert sum(parts) == pytest.approx(40, rel=1e-8)


def slow_in_list(utility: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The integral by its formula: at each time of a fine grid, the count of the others item by item."""
    w = np.exp(utility - np.logaddexp.reduce(utility))
    grid = np.arange(np.log(1e-14 / w.max()), np.log(60 / w[shown].min()), 0.02)
    p = -np.expm1(-w[:, None] * np.exp(grid))
    out = []
    for i in shown:
        count = np.zeros((len(shown), len(grid)))
        count[0] = 1.0
        for j in np.delete(np.arange(len(w)), i):
            count[1:], count[0] = count[1:] * (1 - p[j]) + count[:-1] * p[j], count[0] * (1 - p[j])
        late = w[i] * np.exp(grid)
        out.append(0.02 * (late * np.exp(-late) * count.sum(0)).sum())
    return np.array(out)


@pytest.mark.parametrize(("n", "k", "scale"), [(60, 1, 3.0), (60, 12, 0.0), (150, 20, 2.0), (40, 6, 60.0)])
def test_inclusion_against_the_slow_integral(n: int, k: int, scale: float) -> None:
    utility = np.random.default_rng(4).standard_normal(n) * scale
    shown = np.argsort(-utility)[np.linspace(0, min(n - 1, 3 * k), k).astype(int)]
    assert np.allclose(in_list(utility, shown), slow_in_list(utility, shown), rtol=1e-7, atol=0)


def test_candidates_only_and_fewer_than_places() -> None:
    scores = np.array([[1.0, -np.inf, 0.5, -np.inf], [-np.inf] * 4])
    for policy in ("epsilon-greedy", "plackett-luce"):
        shown = draw(policy, scores, 3, np.random.default_rng(0).spawn(2))
        assert sorted(shown.item[0, :2]) == [0, 2]
        assert np.allclose(shown.propensity[0, :2], 1)
        assert (shown.item[0, 2], *shown.item[1]) == (-1,) * 4
        assert np.isnan(shown.propensity[1]).all()


@pytest.mark.parametrize(
    ("policy", "options"), [("epsilon-greedy", {"epsilon": 0.5}), ("plackett-luce", {"temperature": 0.1})]
)
def test_shown_lists_are_read_back_with_their_propensities(
    policy: str, options: dict[str, float], tmp_path: Path
) -> None:
    """`recommend` to a file, outcomes beside it: known propensities, an unbiased estimate, a weighted fit."""
    data, truth = dc.simulate.pairs(n_users=500, n_items=40, exposure_rate=0.1, confounding=1.0, seed=0)
    model = dc.MF(dim=2, epochs=5).fit(data)
    shown = model.recommend(k=6, exclude_seen=False, explore=policy, seed=3, **options)
    shown.write_parquet(tmp_path / "shown.parquet")
    user, item = (data.users.encode(shown["user_id"]), data.items.encode(shown["item_id"]))
    rating = truth.rating[user, item].astype(np.float64)
    log = dc.Dataset.from_frames(
        shown.select("user_id", "item_id").with_columns(rating=pl.Series(rating)),
        users=pl.DataFrame({"user_id": data.users.values}),
        items=pl.DataFrame({"item_id": data.items.values}),
    )
    known = Known(values=str(tmp_path / "shown.parquet"))
    p = known.fit(log)(log_pairs(log, log.biased, NO_TABLES)).numpy()
    wanted = shown.select("user_id", "item_id", "propensity").join(
        log.frame(log.biased), on=["user_id", "item_id"]
    )
    assert len(wanted) == len(p) == 6 * data.n_users
    keyed = dict(zip(wanted.select("user_id", "item_id").rows(), wanted["propensity"], strict=True))
    ids = log.frame(log.biased).select("user_id", "item_id").rows()
    assert np.allclose(p, [keyed[pair] for pair in ids], rtol=1e-6)

    each = np.bincount(log.biased.user, log.biased.rating / p, log.n_users) / log.n_items
    mean, error = truth.rating.mean(), each.std() / np.sqrt(log.n_users)
    assert abs(each.mean() - mean) < 4 * error  # what was shown is better than that, far beyond chance
    assert log.biased.rating.mean() - mean > 4 * rating.std() / np.sqrt(len(rating))
    assert np.isfinite(dc.IPS(propensity=known, epochs=2, dim=2).fit(log).score()).all()


@pytest.mark.parametrize(
    ("policy", "options", "says"),
    [
        ("greedy", {}, "'epsilon-greedy', 'plackett-luce' or 'posterior'"),
        ("epsilon-greedy", {"epsilon": 0.0}, "0 never explores"),
        ("epsilon-greedy", {"epsilon": 1.5}, "in \\(0, 1\\]"),
        ("plackett-luce", {"temperature": 0.0}, "> 0"),
        ("plackett-luce", {"temperature": float("nan")}, "finite"),
    ],
)
def test_bad_policies(policy: str, options: dict[str, float], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        draw(policy, SCORES[None], 1, [np.random.default_rng(0)], **options)


def test_lists_of_a_posterior_against_all_draws() -> None:
    """P(list) is the share of draws that have it; steps multiply to it, and -inf is no candidate."""
    rng = np.random.default_rng(4)
    scores = rng.normal(size=(40, 2, 5)).round(1)
    scores[:, 1, 2:] = -np.inf
    shown = draw_posterior(scores, 3, [np.random.default_rng(s) for s in (0, 1)])
    for row, size in ((0, 3), (1, 2)):
        lists = [tuple(np.argsort(-s, kind="stable")[:size]) for s in scores[:, row]]
        chosen = tuple(shown.item[row, :size])
        assert chosen in lists
        assert np.prod(shown.step[row, :size]) == pytest.approx(lists.count(chosen) / 40)
        shares = [np.mean([item in one for one in lists]) for item in chosen]
        assert shown.propensity[row, :size] == pytest.approx(shares)
    assert shown.item[1, 2] == -1
    assert np.isnan([shown.propensity[1, 2], shown.step[1, 2]]).all()
    nothing = draw_posterior(np.full((3, 1, 4), -np.inf), 2, [np.random.default_rng(0)])
    assert (nothing.item == -1).all()


def test_a_posterior_is_not_drawn_from_scores() -> None:
    with pytest.raises(ParameterError, match="use draw_posterior"):
        draw("posterior", SCORES[None], 2, [np.random.default_rng(0)])
