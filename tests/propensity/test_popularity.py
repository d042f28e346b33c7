"""Popularity propensities by hand."""

from __future__ import annotations

import numpy as np
import pytest

from deconrec.propensity import Popularity
from manual.batches import batches, dense, tiny


@pytest.mark.parametrize("power", [0.25, 0.5, 1.0])
def test_the_share_of_users_to_a_power(power):
    data = tiny()
    o, *_ = dense(data)
    fitted = Popularity(floor=0.3, power=power).fit(data)
    (batch,) = batches(data)
    wanted = np.maximum((o.sum(0) / len(o)) ** power, 0.3)
    np.testing.assert_allclose(fitted(batch.space).reshape(o.shape), np.tile(wanted, (len(o), 1)), rtol=1e-6)
