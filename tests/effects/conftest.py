"""A small world of linear effects, its exposures and its true own effects."""

from __future__ import annotations

import numpy as np
import pytest

import deconrec as dc
from deconrec.data.dataset import Dataset, Truth


@pytest.fixture(scope="session")
def world() -> tuple[Dataset, Truth]:
    return dc.simulate.effects(n_users=1200, n_items=40, n_confounders=2, seed=1)


@pytest.fixture(scope="session")
def exposures(world: tuple[Dataset, Truth]) -> np.ndarray:
    data = world[0]
    return data.biased.pattern(data.shape).toarray().astype(np.float64)


@pytest.fixture(scope="session")
def fitted(world: tuple[Dataset, Truth]) -> dc.DeepDeconf:
    exposure = dc.VAEExposure(dim=3, epochs=3, check_draws=20)
    return dc.DeepDeconf(epochs=3, hidden=(8,), exposure=exposure).fit(world[0])
