"""Confounders that were measured: taken as they are, and handed to the oracle alone."""

from __future__ import annotations

import numpy as np
import pytest

import deconrec as dc
from deconrec.checks.fixtures import rows_world
from deconrec.errors import DataError
from deconrec.experiments.runs import Plan, handed, prepared, run_one
from deconrec.exposure import KnownConfounder
from deconrec.exposure.known import with_confounder
from deconrec.methods.deep_deconf import DeepDeconf

WORLD = "sim-deconf:n_users=150+n_items=40+n_factors=4+n_features=2+exposure_rate=0.1"


def test_z_is_the_columns_standardised():
    data = rows_world()
    c = np.random.default_rng(0).normal(2, 3, (data.n_users, 2)).astype(np.float32)
    model = DeepDeconf(exposure=KnownConfounder(), hidden=(4,), epochs=1).fit(with_confounder(data, c))
    assert model.exposure_.dim == 2
    np.testing.assert_allclose(model.substitute_confounder(), (c - c.mean(0)) / c.std(0), atol=1e-5)


def test_a_saved_oracle_answers_as_before(tmp_path):
    data = with_confounder(rows_world(), np.random.default_rng(0).normal(size=(rows_world().n_users, 2)))
    model = DeepDeconf(exposure=KnownConfounder(), hidden=(4,), epochs=1).fit(data)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(
        dc.load_model(tmp_path / "m").score(data.users.values), model.score(data.users.values)
    )


def test_other_columns_by_name():
    data = rows_world()
    model = KnownConfounder(columns=data.user_features.names[1]).fit(data)
    assert model.columns_.tolist() == [1]


def test_refusals():
    with pytest.raises(DataError, match="begin with 'confounder'"):
        DeepDeconf(exposure=KnownConfounder(), epochs=1).fit(rows_world())
    with pytest.raises(DataError, match="no probability of exposures"):
        KnownConfounder().decode(None)
    with pytest.raises(DataError, match="begin with 'confounder'"):
        dc.compare(rows_world(), ["deep-deconf:exposure=known"], seeds=1, protocol="users")


def test_a_comparison_hands_the_truth_to_the_oracle_alone():
    data, truth = dc.catalogue.open_data(WORLD).draw(0)
    assert handed(prepared("deep-deconf"), data, truth) is data
    told = handed(prepared("deep-deconf:exposure=known"), data, truth)
    assert told.user_features.names[:2] == data.user_features.names
    np.testing.assert_array_equal(told.user_features.values[:, 2:], truth.confounder)
    assert handed(prepared("deep-deconf:exposure=known"), data, None) is data


def test_the_oracle_explains_the_confounder_whole():
    plan = Plan(WORLD, None, "users", "biased", ("r2/confounder",))
    found = run_one(plan, "deep-deconf:exposure=known+epochs=1", 0).run.metrics["r2/confounder"]
    assert found == pytest.approx(1, abs=1e-6)
