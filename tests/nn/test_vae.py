"""Networks over user rows: sparse input, dense meaning."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconrec.nn.vae import ExposureVAE, OutcomeNet, SparseLinear, decoder, kl_to_standard, sample
from deconrec.pairs import Rows
from manual import rows as manual

A = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0]])


def rows(a=A):
    item = np.nonzero(a)[1]
    offset = np.concatenate([[0], np.cumsum(a.sum(1))])
    return Rows(
        torch.arange(len(a)),
        torch.as_tensor(item),
        torch.as_tensor(offset),
        torch.ones(len(item)),
        torch.ones(len(item)),
        None,
        a.shape[1],
    )


def test_a_sparse_layer_is_a_dense_one_on_scaled_exposures():
    torch.manual_seed(0)
    layer = SparseLinear(5, 2, 3, dropout=0.5).double().eval()
    torch.nn.init.normal_(layer.bias)
    extra = torch.randn(3, 2, dtype=torch.float64)
    weight = np.vstack([layer.items.detach().numpy(), layer.dense.detach().numpy()])
    got = layer(rows(), extra).detach().numpy()
    for b in range(3):
        wanted = manual.linear([*manual.scaled(A[b]), *extra[b].numpy()], weight, layer.bias.detach().numpy())
        np.testing.assert_allclose(got[b], wanted, rtol=1e-9)


def test_a_user_without_exposures_is_zero_and_not_nan():
    layer = SparseLinear(5, 0, 3, dropout=0.0)
    torch.testing.assert_close(layer(rows())[1], layer.bias)
    layer(rows()).sum().backward()
    assert torch.isfinite(layer.items.grad).all()


def test_dropout_keeps_the_mean_and_is_off_in_evaluation():
    torch.manual_seed(0)
    layer = SparseLinear(5, 0, 2, dropout=0.4)
    full = layer.eval()(rows())[0]
    assert torch.equal(full, layer(rows())[0])
    layer.train()
    draws = torch.stack([layer(rows())[0] for _ in range(4000)]).detach()
    standard_error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - full.detach()).abs() < 4 * standard_error).all()
    assert draws.std() > 0


def test_draws_of_the_code():
    torch.manual_seed(0)
    mean, log_std = torch.tensor([1.0, -2.0]).expand(20_000, 2), torch.tensor([0.5, -1.0]).expand(20_000, 2)
    assert torch.equal(sample(mean, log_std, False, rows()), mean)
    draws = sample(mean, log_std, True, rows())
    torch.testing.assert_close(draws.mean(0), mean[0], atol=0.05, rtol=0)
    torch.testing.assert_close(draws.std(0), log_std[0].exp(), atol=0.05, rtol=0)


def test_kl_equals_the_twin_and_is_0_at_the_prior():
    mean = torch.tensor([[0.3, -1.0], [0.0, 0.0]], dtype=torch.float64)
    log_std = torch.tensor([[0.2, -0.7], [0.0, 0.0]], dtype=torch.float64)
    got = kl_to_standard(mean, log_std)
    for b in range(2):
        assert float(got[b]) == pytest.approx(
            manual.kl(mean[b].tolist(), log_std[b].exp().tolist()), abs=1e-12
        )
    assert float(got[1]) == 0.0


def test_a_decoder_starts_at_the_bias_it_is_given():
    bias = torch.arange(5.0)
    layer = decoder(3, 5, bias)
    torch.testing.assert_close(layer.bias.detach(), bias)
    assert layer.bias is not bias
    assert not decoder(3, 5, None).bias.any()


def test_the_exposure_model_clips_its_deviation():
    model = ExposureVAE(5, 2, 0.0, None).eval()
    with torch.no_grad():
        model.encoder.bias[2:] = 50.0
    logits, mean, log_std = model(rows())
    assert (log_std == 2.0).all()
    assert logits.shape == (3, 5)
    torch.testing.assert_close(logits, model.decode(mean))


FORMS = [  # (hidden, variational, late): a code needs a layer to be, a late confounder one to join
    (hidden, variational, late)
    for hidden in ((), (4,), (4, 3))
    for variational in (False, True)
    for late in (False, True)
    if hidden or not (variational or late)
]


@pytest.mark.parametrize(("hidden", "variational", "late"), FORMS)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_every_form_of_the_outcome_network_uses_all_its_parts(hidden, variational, late, activation):
    torch.manual_seed(0)
    form = {"activation": activation, "variational": variational, "late": late}
    net = OutcomeNet(5, 2, 3, hidden, dropout=0.0, **form)
    x, z = torch.randn(3, 2, requires_grad=True), torch.randn(3, 3, requires_grad=True)
    logits, kl = net(rows(), x, z)
    assert logits.shape == (3, 5)
    assert torch.isfinite(logits).all()
    assert (kl is None) != variational
    value = logits.square().sum()
    if kl is not None:
        assert kl.shape == (3,)
        assert (kl >= 0).all()
        value = value + kl.sum()
    value.backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())
    assert x.grad.any()
    assert z.grad.any()


def test_without_a_hidden_layer_the_network_is_one_linear_map():
    net = OutcomeNet(5, 0, 0, (), bias=torch.arange(5.0)).eval()
    logits, _ = net(rows(), None, None)
    torch.testing.assert_close(logits[1], torch.arange(5.0))  # nothing exposed: the bias
    torch.testing.assert_close(logits[2], torch.arange(5.0) + net.first.items[1])
