"""Popularity, variety and evenness of lists against twins written from the definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconrec.evaluation import beyond_accuracy

LISTS = np.array([[0, 1, 2], [0, 2, 3], [0, 1, -1], [-1, -1, -1]])
RATINGS = np.array([50, 10, 8, 1, 7, 0, 0, 3, 2, 1])


def gini_twin(x: list[int]) -> float:
    """Mean absolute difference over twice the mean."""
    n = len(x)
    return sum(abs(a - b) for a, b in itertools.product(x, repeat=2)) / (2 * n * sum(x))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(any))
def test_gini_is_the_mean_absolute_difference(times: list[int]) -> None:
    found = beyond_accuracy.gini(np.array(times))
    assert found == pytest.approx(gini_twin(times))
    assert -1e-12 <= found <= 1 - 1 / len(times) + 1e-12


def test_gini_at_its_ends() -> None:
    assert beyond_accuracy.gini(np.full(7, 3)) == pytest.approx(0)
    assert beyond_accuracy.gini(np.array([0, 0, 0, 9])) == pytest.approx(0.75)
    assert np.isnan(beyond_accuracy.gini(np.zeros(4)))


def test_lists_against_twins() -> None:
    times = beyond_accuracy.times_recommended(LISTS, 10)
    counted = [sum(i in row for row in LISTS.tolist()) for i in range(10)]
    assert times.tolist() == counted
    assert beyond_accuracy.coverage(times) == pytest.approx(4 / 10)
    found = beyond_accuracy.list_means(LISTS, RATINGS.astype(float))
    expected = [np.mean([RATINGS[i] for i in row if i >= 0]) for row in LISTS.tolist()[:3]]
    assert found[:3] == pytest.approx(expected)
    assert np.isnan(found[3])


def test_the_tail_are_all_but_a_fifth() -> None:
    assert beyond_accuracy.tail(RATINGS).tolist() == [False, False, *[True] * 8]
    level = beyond_accuracy.tail(np.zeros(10))
    assert level.tolist() == [False, False, *[True] * 8]
