"""The classifier of density ratios."""

from __future__ import annotations

import torch

from deconrec.nn.density_ratio import DensityRatio
from manual import rows as manual


def test_every_ratio_starts_at_one_and_every_part_can_move():
    torch.manual_seed(0)
    net = DensityRatio(3, 2, 5, 2)
    x, z = torch.randn(7, 3), torch.randn(7, 2)
    assert not net(x, z).any()
    torch.nn.functional.softplus(net(x, z)).sum().backward()
    for fold in net.folds:
        assert fold.of_z.weight.grad.any()
        assert fold.out.weight.grad.any()


def test_it_equals_the_twin_and_folds_are_apart():
    torch.manual_seed(1)
    net = DensityRatio(3, 2, 4, 2).double()
    for p in net.parameters():
        torch.nn.init.normal_(p)
    x, z = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    got = net(x, z)
    assert got.shape == (2, 5)
    for k, fold in enumerate(net.folds):
        values = {name: p.detach().numpy() for name, p in fold.named_parameters()}
        for u in range(5):
            wanted = manual.density_ratio(values, x[u].tolist(), z[u].tolist())
            assert abs(float(got[k, u].detach()) - wanted) < 1e-12


def test_it_learns_the_ratio_of_two_correlated_normals():
    """log p(x) p(z) / p(x, z) of a standard normal pair with correlation c is known."""
    torch.manual_seed(0)
    c, n = 0.6, 4000
    net = DensityRatio(1, 1, 16, 1)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(250):
        x, noise, z_other = torch.randn(3, n, 1)
        z = c * x + (1 - c**2) ** 0.5 * noise
        softplus = torch.nn.functional.softplus
        loss = softplus(net(x, z)).mean() + softplus(-net(x, z_other)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x, z = torch.meshgrid(torch.linspace(-1.5, 1.5, 7), torch.linspace(-1.5, 1.5, 7), indexing="ij")
    x, z = x.reshape(-1, 1), z.reshape(-1, 1)
    joint = -(x**2 - 2 * c * x * z + z**2) / (2 * (1 - c**2)) - 0.5 * torch.log(torch.tensor(1 - c**2))
    truth = -(x**2) / 2 - z**2 / 2 - joint
    with torch.no_grad():
        assert float((net(x, z)[0] - truth[:, 0]).abs().mean()) < 0.15
    assert float(truth.abs().mean()) > 0.3
