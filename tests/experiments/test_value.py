"""The value of randomised ratings: the same test rows for every size, nested parts, gains and what they come to."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from deconrec.checks.fixtures import confounded
from deconrec.data.dataset import Dataset, Truth
from deconrec.data.split import Parts
from deconrec.errors import DataError, ParameterError
from deconrec.experiments import runs
from deconrec.experiments.results import Gain, Point, Value
from deconrec.experiments.value import answer, value
from deconrec.report.value import render_value, write_value
from deconrec.simulate import pairs

METHODS = ("mf-combined:dim=2+epochs=2", "res-dr:dim=2+epochs=2", "ease:ridge=10")


@pytest.fixture(scope="module")
def world() -> Dataset:
    return pairs(n_users=60, n_items=40, exposure_rate=0.3, unbiased_share=0.2, seed=0)[0]


@pytest.fixture(scope="module")
def found(world: Dataset) -> Value:
    return value(world, METHODS, shares=(0.0, 0.1, 0.4), seeds=3)


def test_sizes_are_nested_and_leave_the_test_alone(world: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[tuple[int, int], tuple[set[int], np.ndarray]] = {}
    split = runs.Plan.split

    def spy(self: runs.Plan, data: Dataset, truth: Truth | None, seed: int) -> Parts[Any]:
        parts = split(self, data, truth, seed)
        u = parts.train.unbiased
        rows = set() if u is None else set(u.key(data.n_items).tolist())
        content = parts.test._content
        seen[seed, len(rows)] = rows, np.sort(content.log.key(data.n_items))
        return parts

    monkeypatch.setattr(runs.Plan, "split", spy)
    value(world, ["ease:ridge=10"], shares=(0.0, 0.1, 0.4), seeds=2)
    for seed in (0, 1):
        sizes = sorted(n for s, n in seen if s == seed)
        assert sizes[0] == 0
        assert len(sizes) == 3
        for small, large in pairwise(sizes):
            assert seen[seed, small][0] < seen[seed, large][0]
        tests = [seen[seed, n][1] for n in sizes]
        assert all(np.array_equal(tests[0], t) for t in tests)
        assert not seen[seed, sizes[-1]][0] & set(tests[0].tolist())


def test_the_record_has_every_method_and_size_that_can_be_run(found: Value) -> None:
    assert found.sizes[0] == 0
    assert len(found.sizes) == 3
    assert found.methods == list(METHODS)
    assert found.point(METHODS[1], 0) is None
    assert found.missing == [f"{METHODS[1]} with no randomised rows: it needs some."]
    assert {(g.method, g.over, g.rows) for g in found.gains if g.method == METHODS[2]} == {
        (METHODS[2], found.sizes[0], found.sizes[1]),
        (METHODS[2], found.sizes[1], found.sizes[2]),
        (METHODS[2], found.sizes[0], found.sizes[2]),
    }
    for g in found.gains:
        a, b = found.point(g.method, g.rows), found.point(g.method, g.over)
        assert a is not None
        assert b is not None
        assert g.difference == pytest.approx((a.mean or 0) - (b.mean or 0), abs=1e-12)
        assert g.p_holm is not None
        assert g.p is not None
        assert g.p_holm >= g.p
    again = Value(**json.loads(found.to_json()))
    assert again == found


def test_mf_combined_without_randomised_rows_is_mf(world: Dataset) -> None:
    got = value(world, ["mf-combined"], shares=(0.0, 0.1), seeds=1)
    assert [p.ran for p in got.points] == ["mf", "mf-combined"]


def test_a_fixed_test_log_leaves_the_whole_randomised_log_to_training(world: Dataset) -> None:
    assert world.unbiased is not None
    n = len(world.unbiased)
    order = np.random.default_rng(0).permutation(n)
    data = world.with_logs(
        world.biased, world.unbiased.take(order[: n // 2]), world.unbiased.take(order[n // 2 :])
    )
    got = value(data, ["ease:ridge=10"], shares=(0.0, 0.5, 0.9), seeds=2)
    clean = (~data.in_biased).mean()
    assert got.sizes[-1] == pytest.approx(0.9 * (n // 2) * clean, rel=0.1)


def point(method: str, rows: int, mean: float) -> Point:
    return Point(method=method, share=rows / 1000, rows=rows, ran=method, mean=mean, low=None, high=None, n=3)


def gain(method: str, over: int, rows: int, difference: float, p: float) -> Gain:
    ends = {"low": difference - 0.01, "high": difference + 0.01}
    return Gain(
        method=method, over=over, rows=rows, difference=difference, p=p, p_holm=p, test="t", n=3, **ends
    )


def test_the_answer_names_the_worth_of_all_and_of_the_last() -> None:
    points = [point("a", n, v) for n, v in ((0, 0.70), (100, 0.74), (300, 0.75))]
    points += [point("b", n, v) for n, v in ((100, 0.60), (300, 0.72))]
    gains = [gain("a", 0, 100, 0.04, 0.01), gain("a", 100, 300, 0.01, 0.4), gain("a", 0, 300, 0.05, 0.001)]
    said = answer(points, gains, "auc")
    assert said[0].startswith("300 randomised ratings instead of 0 are worth +0.050 (shown,")
    assert said[1].startswith("The last 200 of them brought +0.010 (not shown,")
    assert said[2] == "a with 100 (0.740) is at or above b with 300 (0.720)."
    # Of an error, less is better.
    low = answer(
        [*points[:3], point("b", 100, 0.7), point("b", 300, 0.6)], [gain("b", 100, 300, -0.1, 0.01)], "mse"
    )
    assert "-0.100 (shown" in low[0]
    assert "of mse to b, the best method" in low[0]


def test_what_cannot_be_asked(world: Dataset) -> None:
    for shares in ((0.1,), (0.2, 0.1), (0.0, 0.95), (-0.1, 0.2)):
        with pytest.raises(ParameterError, match="'shares' of value"):
            value(world, shares=shares)
    with pytest.raises(ParameterError, match="'methods' of value"):
        value(world, [])
    with pytest.raises(DataError, match="no randomised log"):
        value(world.with_logs(world.biased))
    with pytest.raises(DataError, match="none of the methods"):
        value(confounded()[0], ["res-dr"], shares=(0.0, 0.001), seeds=1)


def test_page_and_picture(found: Value, tmp_path) -> None:
    page = render_value(found)
    assert found.answer[0] in page
    assert "it needs some" in page
    assert not re.search(r"https?://(?!www\.w3\.org)", page)
    write_value(found, tmp_path / "value.html", tmp_path)
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        (path,) = tmp_path.glob(f"value-*{suffix}")
        assert path.read_bytes().startswith(start)
