"""Methods on a GPU: they run where one is present, and say so where none is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import deconrec as dc
from deconrec.checks import cheap
from deconrec.errors import ParameterError
from deconrec.methods import METHODS
from deconrec.torch_estimator import TorchEstimator

NETWORKS = [key for key in METHODS if "device" in METHODS[key]().get_params(deep=False)]
no_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU is present: device='cuda' is not tested"
)


@pytest.fixture(scope="module")
def data():
    return dc.simulate.pairs(n_users=60, n_items=40, exposure_rate=0.2, unbiased_share=0.1, seed=0)[0]


def test_every_method_with_networks_has_a_device():
    assert len(NETWORKS) > 20
    assert all(issubclass(type(METHODS[key]()), TorchEstimator) for key in NETWORKS)


@no_gpu
@pytest.mark.parametrize("key", NETWORKS)
def test_a_fit_on_a_gpu_is_one_on_the_cpu_but_for_rounding_and_draws(key, data, tmp_path):
    """Initial values and batches are drawn on the CPU for both; dropout and codes are drawn where the rows are."""
    model = cheap(METHODS[key]).set_params(device="cuda").fit(data)
    assert all(p.device.type == "cuda" for p in model.nets_.parameters())
    ours = model.score()
    assert np.isfinite(ours).all()
    model.save(tmp_path / "model")
    loaded = dc.load_model(tmp_path / "model")
    np.testing.assert_allclose(loaded.score(), ours, rtol=1e-4, atol=1e-5)
    theirs = cheap(METHODS[key]).set_params(device="cpu").fit(data).score()
    assert abs(ours.mean() - theirs.mean()) < 0.1
    if not any(word in key for word in ("vae", "deconf")):
        np.testing.assert_allclose(ours, theirs, atol=0.02)


@no_gpu
@pytest.mark.parametrize("key", ["mf", "ips", "escm2-dr", "res-dr", "autodebias"])
def test_a_step_does_not_wait_for_the_cpu(key, data):
    """No value travels back within a step: reading one would raise here."""
    from deconrec.pairs import NO_TABLES
    from deconrec.training.program import Adam, Mover
    from deconrec.training.samplers import Source

    model = cheap(METHODS[key]).set_params(device="cuda").fit(data)
    source = Source.of(data, NO_TABLES, "cuda")
    batch = next(iter(model.sampler(data).batches(source, np.random.default_rng(0), 0)))
    movers = [Mover.of(s, model.nets_, Adam()) for phase in model.program() for s in phase.steps]
    for mover in movers:
        mover.move(model.nets_, batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for mover in movers:
            mover.move(model.nets_, batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is present")
def test_a_gpu_that_is_not_there_is_a_reason(data):
    with pytest.raises(ParameterError, match="'device' of MF must be a torch device of this machine"):
        dc.MF(device="cuda").fit(data)
