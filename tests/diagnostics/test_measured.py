"""Columns that the doctor's models read."""

from __future__ import annotations

import numpy as np

from deconrec.data.dataset import Features
from deconrec.diagnostics.measured import CUT, MOST, design


def features(values: np.ndarray, missing: np.ndarray | None = None) -> Features:
    missing = np.zeros(len(values), bool) if missing is None else missing
    return Features(tuple(f"f{k}" for k in range(values.shape[1])), values, missing)


def test_nothing_measured_is_a_constant() -> None:
    for nothing in (None, features(np.zeros((5, 0))), features(np.ones((5, 2)), np.ones(5, bool))):
        columns, plain = design(nothing, 5)
        assert columns.shape == (5, 1)
        assert plain == 0


def test_a_number_bends_and_a_mark_does_not() -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.standard_normal(400), rng.integers(0, 2, 400)])
    columns, plain = design(features(x), 400)
    assert (columns.shape[1], plain) == (1 + 2 + 2, 2)
    assert np.allclose(columns[:, 1:].mean(0), 0, atol=1e-9)
    assert np.allclose(columns[:, 1:].std(0), 1)
    number = columns[:, [1, 3, 4]]
    assert np.allclose(np.corrcoef(number.T), np.eye(3), atol=1e-6), "powers are cleared of lower ones"


def test_a_stray_value_is_cut() -> None:
    x = np.r_[np.random.default_rng(1).standard_normal(200), 1e6][:, None]
    columns, _ = design(features(x), 201)
    assert np.abs(columns[:, 1]).max() < 20 * CUT


def test_missing_features_have_a_column() -> None:
    rng = np.random.default_rng(2)
    missing = rng.random(100) < 0.3
    columns, plain = design(features(rng.integers(0, 2, (100, 1)), missing), 100)
    assert plain == 2
    assert np.all(columns[missing, 1] == 0)
    assert len(np.unique(columns[missing, 2])) == 1


def test_many_columns_are_few() -> None:
    rng = np.random.default_rng(3)
    columns, plain = design(features(rng.integers(0, 2, (300, 60))), 300)
    assert columns.shape[1] == 1 + MOST
    assert plain == MOST


def test_a_constant_column_is_left_out() -> None:
    x = np.column_stack([np.full(50, 7.0), np.arange(50) % 2])
    columns, plain = design(features(x), 50)
    assert columns.shape[1] == 2
    assert plain == 1
