"""The decoder's step against automatic differentiation of the plain likelihoods, and loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from deconrec.errors import ParameterError
from deconrec.exposure import VAEExposure
from deconrec.kernels import decoder
from deconrec.kernels.decoder import decoded_bernoulli, decoded_multinomial, dtype_of
from deconrec.losses.elbo import bernoulli_log_likelihood, multinomial_log_likelihood
from deconrec.methods.concat_vae import ConcatVAE
from deconrec.pairs import Rows
from manual import rows as manual

LIKELIHOODS = {
    "bernoulli": (
        lambda h, d, r, **p: decoded_bernoulli(h, d, r, **p),
        lambda l, r: bernoulli_log_likelihood(l, r),
    ),
    "multinomial": (
        lambda h, d, r, **p: decoded_multinomial(h, d, r, r.rating, **p),
        lambda l, r: multinomial_log_likelihood(l, r, r.rating),
    ),
}


def world(n_users=9, n_items=40, dim=6, dtype=torch.float32, spread=1.0, seed=0):
    """(h, decoder, rows): the third user has no exposure."""
    random = torch.Generator().manual_seed(seed)
    a = torch.rand(n_users, n_items, generator=random) < 0.2
    a[2] = False
    item = a.nonzero()[:, 1]
    offset = torch.cat([torch.zeros(1, dtype=torch.int64), a.sum(1).cumsum(0)])
    rating = torch.randint(1, 6, (len(item),), generator=random).to(dtype)
    rows = Rows(torch.arange(n_users), item, offset, rating / 5, rating, None, n_items)
    layer = nn.Linear(dim, n_items).to(dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(n_items, dim, generator=random) * spread)
        layer.bias.copy_(torch.randn(n_items, generator=random) - 3.0)
    h = torch.randn(n_users, dim, generator=random).to(dtype).requires_grad_()
    return h, layer, rows


def gradients(value, h, layer):
    weight = torch.linspace(0.3, 1.7, len(value), dtype=value.dtype)  # users that do not count alike
    return torch.autograd.grad((weight * value).sum(), [h, layer.weight, layer.bias])


def error(a, b):
    return float((a - b).detach().norm() / b.detach().norm())


@pytest.mark.parametrize("kind", LIKELIHOODS)
@pytest.mark.parametrize("cells", [1, 100, 10**6])  # a user, two users, everybody at once
def test_values_and_gradients_equal_automatic_differentiation(kind, cells, monkeypatch):
    monkeypatch.setattr(decoder, "CELLS", cells)
    ours, plain = LIKELIHOODS[kind]
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 3e-6)):
        h, layer, rows = world(dtype=dtype)
        a, b = ours(h, layer, rows, precision="float32"), plain(layer(h), rows)
        assert a.dtype == dtype
        assert error(a, b) < tolerance
        for mine, theirs in zip(gradients(a, h, layer), gradients(b, h, layer), strict=True):
            assert mine.dtype == dtype
            assert error(mine, theirs) < tolerance


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_values_equal_the_twin(kind):
    h, layer, rows = world(dtype=torch.float64)
    got = LIKELIHOODS[kind][0](h, layer, rows).detach().numpy()
    for u in range(len(rows)):
        logits = manual.linear(h[u].tolist(), layer.weight.detach().numpy().T, layer.bias.detach().numpy())
        if kind == "bernoulli":
            wanted = manual.bernoulli(rows.dense("o")[u].tolist(), logits)
        else:
            wanted = manual.multinomial(rows.dense("rating")[u].tolist(), logits)
        assert got[u] == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_bfloat16_is_near_float32(kind):
    """Products are rounded to 8 bits; values and gradients stay within one part in a hundred."""
    ours, _ = LIKELIHOODS[kind]
    h, layer, rows = world(n_users=64, n_items=500, dim=50, spread=0.2)
    a, b = (ours(h, layer, rows, precision=p) for p in ("bfloat16", "float32"))
    assert a.dtype == torch.float32
    assert 0 < error(a, b) < 2e-3
    for mine, theirs in zip(gradients(a, h, layer), gradients(b, h, layer), strict=True):
        assert mine.dtype == torch.float32
        assert 0 < error(mine, theirs) < 1e-2


def test_the_level_of_rare_items_is_not_rounded():
    """-4.6 and -4.61 are one number in bfloat16; as a decoder's bias they stay two."""
    h, layer, rows = world(n_items=2)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([-4.6, -4.61]))
    a, b = (decoded_bernoulli(h, layer, rows, precision=p) for p in ("bfloat16", "float32"))
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", LIKELIHOODS)
@pytest.mark.parametrize("big", [1e4, -1e4])
def test_extreme_logits_stay_finite(kind, big):
    ours, plain = LIKELIHOODS[kind]
    h, layer, rows = world(dtype=torch.float64)
    with torch.no_grad():
        layer.bias.fill_(big)
    a, b = ours(h, layer, rows), plain(layer(h), rows)
    torch.testing.assert_close(a, b)
    assert all(torch.isfinite(g).all() for g in gradients(a, h, layer))


def test_a_user_without_exposures_and_nobody():
    h, layer, rows = world()
    assert float(decoded_multinomial(h, layer, rows, rows.rating)[2].detach()) == 0.0
    h, layer, rows = world(n_users=3)
    none = Rows(rows.user[:0], rows.item[:0], rows.offset[:1] * 0, rows.r[:0], rows.rating[:0], None, 40)
    value = decoded_bernoulli(h[:0], layer, none)
    assert value.shape == (0,)
    assert not any(g.any() for g in torch.autograd.grad(value.sum(), [layer.weight, layer.bias]))


def test_parts_that_need_no_gradient_get_none():
    h, layer, rows = world()
    layer.weight.requires_grad_(False)
    decoded_bernoulli(h.detach(), layer, rows).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad is not None


def test_one_block_is_all_that_is_kept():
    """What the step saves for its gradient: h, W and one (B, n_items) block in the type of the products."""
    sizes = []
    h, layer, rows = world(n_users=8, n_items=512, dim=4)
    for precision in ("float32", "bfloat16"):
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, kept=kept: kept.append(t.numel() * t.element_size()) or t, lambda t: t
        ):
            decoded_multinomial(h, layer, rows, rows.rating, precision=precision)
        sizes.append(sum(kept))
    assert sizes == [4 * (8 * 512 + 8 * 4 + 512 * 4), 2 * (8 * 512 + 8 * 4 + 512 * 4)]


@pytest.mark.parametrize(
    ("found", "has"),
    [
        ({}, False),
        ({"amx_bf16": True, "avx512_bf16": True, "avx512_fp16": True}, True),
        ({"avx512_bf16": True}, True),
        ({"avx512_bf16": True, "avx512_fp16": True}, False),  # at half the rate of float32
        ({"bf16": True}, True),
    ],
)
def test_auto_reduces_large_decoders_where_the_processor_can(found, has, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    decoder.native.cache_clear()
    try:
        large, small = torch.empty(2000, 100), torch.empty(25, 4)
        assert dtype_of("auto", large) == (torch.bfloat16 if has else torch.float32)
        assert dtype_of("auto", small) == torch.float32
        assert dtype_of("float32", large) == torch.float32
        assert dtype_of("bfloat16", small) == torch.bfloat16
        assert dtype_of("bfloat16", large.double()) == torch.float64
    finally:
        decoder.native.cache_clear()


@pytest.mark.parametrize("cls", [ConcatVAE, VAEExposure])
def test_precision_is_named(cls):
    with pytest.raises(
        ParameterError, match=f"'precision' of {cls.__name__} must be one of 'auto', 'float32'"
    ):
        cls(precision="half").check_params()


def test_a_fit_in_bfloat16_learns_what_one_in_float32_does():
    from deconrec.checks.fixtures import rows_world

    data = rows_world()
    settings = {"hidden": (8,), "epochs": 30, "lr": 0.01, "batch": 20, "patience": 0}
    low, single = (
        ConcatVAE(precision=p, **settings).fit(data, validation=data) for p in ("bfloat16", "float32")
    )
    a, b = low.history_.curve("outcome"), single.history_.curve("outcome")
    assert a != b
    np.testing.assert_allclose(a, b, rtol=2e-3)
    assert np.corrcoef(low.score().ravel(), single.score().ravel())[0, 1] > 0.99
