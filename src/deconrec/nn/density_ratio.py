"""A classifier whose logit is the log of a density ratio, one for each fold of users."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DensityRatio(nn.Module):
    """log p(x) p(z) / p(x, z) of users' features x and codes z, by classifiers of independent against joint pairs.

    Each is (P x) . (Q z) + a network of one hidden layer. Only what links x and z can tell joint pairs from
    independent ones with the same margins: the product says the simplest such thing, and the network the rest.
    All start at 0: every ratio is 1.

    Parameters
    ----------
    n_features, n_code: sizes of x and z.
    width: of the hidden layer, and of the product.
    folds: classifiers; which one answers for a user is for the caller to say.

    Called with x (B, n_features) and z (B, n_code); gives (folds, B).
    """

    def __init__(self, n_features: int, n_code: int, width: int, folds: int) -> None:
        super().__init__()
        self.folds = nn.ModuleList(_Ratio(n_features, n_code, width) for _ in range(folds))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """(folds, B)."""
        return torch.stack([ratio(x, z) for ratio in self.folds])


class _Ratio(nn.Module):
    def __init__(self, n_features: int, n_code: int, width: int) -> None:
        super().__init__()
        self.of_x = nn.Linear(n_features, width, bias=False)
        self.of_z = nn.Linear(n_code, width, bias=False)
        self.hidden = nn.Linear(n_features + n_code, width)
        self.out = nn.Linear(width, 1)
        for last in (self.of_z.weight, self.out.weight, self.out.bias):
            nn.init.zeros_(last)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        product = (self.of_x(x) * self.of_z(z)).sum(1)
        rest: Tensor = self.out(torch.relu(self.hidden(torch.cat([x, z], 1))))[:, 0]
        return product + rest
