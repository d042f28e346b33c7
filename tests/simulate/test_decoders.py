"""The decoders fitted to real data: their objective, what they learn, and that a seed repeats every bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from deconrec.data.dataset import Dataset
from deconrec.simulate import decoders
from deconrec.simulate.decoders import RowVAE, bound, fit_decoders
from deconrec.training.program import Nets
from deconrec.training.samplers import Blocks
from manual import rows as manual
from manual.batches import batches, scramble, value


def two_tastes(n_users: int = 128, n_items: int = 24) -> Dataset:
    """Every user rates items of one half only, five of twelve, with 3 to 5 stars."""
    rng = np.random.default_rng(0)
    half = n_items // 2
    rows = [
        (u, half * (u % 2) + i, rng.integers(3, 6)) for u in range(n_users) for i in rng.permutation(half)[:5]
    ]
    user, item, rating = np.array(rows).T
    import polars as pl

    return Dataset.from_frames(
        pl.DataFrame({"user_id": user, "item_id": item, "rating": rating}), rating_range=(1, 5)
    )


@pytest.fixture(scope="module")
def raw():
    return two_tastes()


@pytest.fixture(scope="module")
def fitted(raw):
    return fit_decoders(raw, 4, 25, 0)


@pytest.mark.parametrize("rated", [False, True])
def test_the_bound_equals_the_twin(raw, rated):
    torch.manual_seed(0)
    nets = Nets(vae=RowVAE(raw.n_items, 3, rated, torch.linspace(-1, 1, raw.n_items)))
    nets = scramble(nets, std=0.4).eval()
    (batch,) = batches(raw, Blocks(raw.n_users), 3)
    weights = {k: v.detach().double().numpy() for k, v in nets.vae.named_parameters()}
    table = np.zeros(raw.shape)
    table[raw.biased.user, raw.biased.item] = raw.biased.rating
    likelihood = divergence = 0.0
    for r in table:
        a = (r > 0).astype(float)
        row = r if rated else a
        code = row / math.sqrt((row**2).sum()) @ weights["code.items"] + weights["code.bias"]
        logits = manual.linear(code[:3], weights["decode.weight"].T, weights["decode.bias"])
        likelihood += manual.multinomial(r, logits) if rated else manual.bernoulli(a, logits)
        divergence += manual.kl(code[:3], np.exp(code[3:]))
    terms = bound(nets.vae, batch, 10.0)
    assert value({"l": terms["likelihood"]}) == pytest.approx(-likelihood / raw.n_users, rel=1e-6)
    assert value({"k": terms["kl"]}) == pytest.approx(0.3 * divergence / raw.n_users, rel=1e-6)


def test_draws_from_the_prior_resemble_the_users(raw, fitted):
    """New users meet the items of one half, as real ones do (independent items would give a share of .5 to .6)."""
    code = np.random.default_rng(1).normal(size=(2000, 4)).astype(np.float32)
    for weights, bias in (
        (fitted.exposure_weights, fitted.exposure_bias),
        (fitted.rating_weights, fitted.rating_bias),
    ):
        odds = np.exp(code @ weights + bias)
        first = odds[:, :12].sum(axis=1) / odds.sum(axis=1)
        assert np.maximum(first, 1 - first).mean() > 0.65
        assert 0.35 < first.mean() < 0.65


def test_the_rotation_gives_a_code_one_meaning(fitted):
    """After it, the half that a code is shown is the half that it rates highly."""
    assert np.allclose(fitted.rotation @ fitted.rotation.T, np.eye(4), atol=1e-5)
    code = np.random.default_rng(2).normal(size=(2000, 4)).astype(np.float32)
    shown = code @ fitted.exposure_weights
    liked = code @ fitted.rotation @ fitted.rating_weights
    gaps = [x[:, :12].mean(axis=1) - x[:, 12:].mean(axis=1) for x in (shown, liked)]
    assert np.corrcoef(*gaps)[0, 1] > 0.95


def test_a_seed_repeats_every_bit_and_the_caller_is_left_alone(raw, monkeypatch):
    first = fit_decoders(raw, 3, 2, 0)
    assert fit_decoders(raw, 3, 2, 0) is first
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    monkeypatch.setattr(decoders, "_FITTED", {})
    again, other = fit_decoders(raw, 3, 2, 0), fit_decoders(raw, 3, 2, 1)
    for name in vars(first):
        assert getattr(again, name).tobytes() == getattr(first, name).tobytes()
        assert getattr(first, name).dtype == np.float64
    assert other.exposure_weights.tobytes() != first.exposure_weights.tobytes()
    assert other.rating_weights.tobytes() != first.rating_weights.tobytes()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    for seed in range(2, 2 + decoders.KEPT):
        fit_decoders(raw, 1, 1, seed)
    assert len(decoders._FITTED) == decoders.KEPT
