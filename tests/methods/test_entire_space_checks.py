"""The contract of the entire-space and reweighting methods on the backbone with features, and of their variants."""

from __future__ import annotations

import pytest

from deconrec.checks import CHECKS, FAST, check_estimator
from deconrec.methods import make

SLOW = [c.__name__ for c in CHECKS if c.__module__.endswith("learning")]  # one for each backbone is enough
SPECS = [
    *(f"{key}:backbone=fm" for key in ("snips", "eib", "mrdr", "esmm")),
    *(f"{key}:backbone=fm" for key in ("multi-ips", "multi-dr", "escm2-ips", "escm2-dr")),
    "mrdr:sharing=0.1",
    "esmm:shared=false",
    *(f"{key}:shared=false+propensity_grad=true" for key in ("multi-ips", "multi-dr", "escm2-ips")),
    "escm2-dr:shared=false+propensity_grad=true+ctcvr_weight=0+error=squared",
]


@pytest.mark.parametrize("spec", SPECS)
def test_variants(spec):
    model = make(spec).set_params(**FAST[spec.partition(":")[0]])
    check_estimator(model, exclude=SLOW).raise_for_failures()
