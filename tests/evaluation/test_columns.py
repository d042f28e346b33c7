from __future__ import annotations

import numpy as np
import pytest

from deconrec.errors import DataError
from deconrec.evaluation import columns


def test_a_matrix_is_no_column():
    with pytest.raises(DataError, match=r"MSE expects `score` as one column; got an array of shape \(2, 1\)"):
        columns.column("MSE", "score", [[1], [2]])


def test_lengths_must_agree():
    with pytest.raises(DataError, match="`label` has 2 rows and the first column 3"):
        columns.column("AUC", "label", [0, 1], 3)


def test_values_that_are_not_finite_are_counted():
    with pytest.raises(DataError, match="2 of 3 are NaN or infinite"):
        columns.finite("AUC", "score", [1.0, np.nan, np.inf])


def test_single_precision_stays_single_and_integers_become_double():
    assert columns.finite("AUC", "score", np.ones(2, np.float32)).dtype == np.float32
    assert columns.finite("AUC", "score", [1, 2]).dtype == np.float64


@pytest.mark.parametrize("labels", [[-1, 1], [1, 5], [0.5, 1.0], [np.nan, 0.0]])
def test_labels_must_be_binary(labels):
    with pytest.raises(DataError, match="expects 0 or 1 in `label`"):
        columns.binary("AUC", "label", labels)


def test_binary_reads_booleans_integers_and_floats_alike():
    for dtype in (bool, np.int8, np.float32):
        np.testing.assert_array_equal(
            columns.binary("", "y", np.array([0, 1, 1], dtype)), [False, True, True]
        )


def test_shares_lie_between_0_and_1():
    with pytest.raises(DataError, match="2 of 3 lie outside: pass probabilities, not logits"):
        columns.share("log loss", "probability", [-0.1, 0.5, 1.1])
    assert columns.share("", "p", np.array([0, 1], np.float32)).dtype == np.float64


def test_user_codes_must_be_integers():
    with pytest.raises(DataError, match="expects integer codes in `user`; got float64"):
        columns.integer("ranking", "user", [0.0, 1.0])
    assert columns.integer("ranking", "user", []).dtype == np.int64
