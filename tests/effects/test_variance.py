"""The variance theorem (paper 1, 4.3 and A.2)."""

from __future__ import annotations

import json

import pytest

import deconrec as dc
from deconrec.errors import ParameterError


def test_the_variance_is_that_of_the_theorem() -> None:
    found = dc.effects.variance_theorem(samples=600, feature_effects=(0.0, 1.0, 2.0))
    assert found.worst < 3.5  # six variances, in their standard errors
    last = found.points[-1]
    assert last.theory_without == pytest.approx(5 / (500 * 0.3 * 0.7))
    assert last.with_x < last.without_x / 4
    assert json.loads(found.to_json())["kind"] == "variance-theorem"
    assert "theory" in str(found)


def test_ranges() -> None:
    with pytest.raises(ParameterError, match="n_users"):
        dc.effects.variance_theorem(n_users=50)
