"""Debiased training as public research code writes it: the reference that the library's speed is measured against.

Written here from descriptions of such code, not taken from any: tables are `nn.Embedding`, each of 64 x 64 blocks of
users and items is a step, its pairs are listed and looked up one by one, every network has an optimiser of its own, and
each term asks its networks again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

FLOOR = 0.05  # smallest propensity


class Factors(nn.Module):
    """Matrix factorisation over a list of pairs (n, 2); gives logits."""

    def __init__(self, n_users: int, n_items: int, dim: int) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(n_users, dim), nn.Embedding(n_items, dim)
        self.user_bias, self.item_bias = nn.Embedding(n_users, 1), nn.Embedding(n_items, 1)
        for table in (self.user, self.item, self.user_bias, self.item_bias):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """(n,) logits."""
        u, i = x[:, 0], x[:, 1]
        dot = (self.user(u) * self.item(i)).sum(1)
        return dot + self.user_bias(u).squeeze(1) + self.item_bias(i).squeeze(1)


@dataclass(frozen=True)
class Block:
    """Pairs of a block (n, 2), whether each was seen, its label, and where the seen ones are."""

    x: Tensor
    o: Tensor
    r: Tensor

    @property
    def seen(self) -> tuple[Tensor, Tensor]:
        """(pairs, labels) of what was seen in the block."""
        at = self.o > 0
        return self.x[at], self.r[at]


def blocks(o: np.ndarray, r: np.ndarray, rng: np.random.Generator, side: int = 64) -> Iterator[Block]:
    """Shuffled users by shuffled items, `side` of each at a time; o and r are dense (n_users, n_items)."""
    users, items = rng.permutation(o.shape[0]), rng.permutation(o.shape[1])
    for a in range(0, len(users), side):
        for b in range(0, len(items), side):
            u, i = users[a : a + side], items[b : b + side]
            x = np.stack(np.meshgrid(u, i, indexing="ij"), -1).reshape(-1, 2)
            cells = np.ix_(u, i)
            yield Block(
                torch.LongTensor(x), torch.Tensor(o[cells].reshape(-1)), torch.Tensor(r[cells].reshape(-1))
            )


def clipped(logit: Tensor) -> Tensor:
    """A propensity from its logit."""
    return torch.sigmoid(logit).clamp(FLOOR, 1.0)


class ResearchResDR:
    """Res-DR: five networks, four updates a block (paper 2, section 4)."""

    names = ("prediction", "propensity", "imputation", "propensity_residual", "imputation_residual")

    def __init__(self, n_users: int, n_items: int, dim: int, u: tuple[np.ndarray, np.ndarray]) -> None:
        """u: pairs (n, 2) and labels (n,) of the randomised log."""
        self.nets = {name: Factors(n_users, n_items, dim) for name in self.names}
        self.optimizers = {
            name: torch.optim.Adam(net.parameters(), lr=0.01, weight_decay=1e-4)
            for name, net in self.nets.items()
        }
        self.u = torch.LongTensor(u[0]), torch.Tensor(u[1])

    def give(self, nets: Any) -> None:
        """Write these weights into the library's nets of the same names."""
        with torch.no_grad():
            for name, net in self.nets.items():
                mine = nets[name]
                mine.offset.zero_()
                for table in ("user", "item", "user_bias", "item_bias"):
                    value = getattr(net, table).weight
                    getattr(mine, table).copy_(value.reshape(getattr(mine, table).shape))

    def move(self, loss: Tensor, *names: str) -> None:
        """A step of these networks' optimisers."""
        for net in self.nets.values():
            net.zero_grad()
        loss.backward()
        for name in names:
            self.optimizers[name].step()

    def propensity(self, x: Tensor) -> Tensor:
        """Calibrated."""
        return clipped(self.nets["propensity"](x) + self.nets["propensity_residual"](x))

    def doubly_robust(self, block: Block) -> Tensor:
        """The risk of a block."""
        n, (x, r) = self.nets, block.seen
        label = torch.sigmoid(n["imputation"](block.x) + n["imputation_residual"](block.x))
        direct = binary_cross_entropy_with_logits(n["prediction"](block.x), label, reduction="mean")
        logit = n["prediction"](x)
        seen_label = torch.sigmoid(n["imputation"](x) + n["imputation_residual"](x))
        e = binary_cross_entropy_with_logits(logit, r, reduction="none")
        e_hat = binary_cross_entropy_with_logits(logit, seen_label, reduction="none")
        return direct + ((e - e_hat) / self.propensity(x)).sum() / len(block.x)

    def unbiased(self) -> Tensor:
        """The error on the randomised log."""
        return binary_cross_entropy_with_logits(self.nets["prediction"](self.u[0]), self.u[1])

    def epoch(self, o: np.ndarray, r: np.ndarray, rng: np.random.Generator) -> float:
        """One pass; the mean of the doubly robust risk."""
        n, risks = self.nets, []
        for block in blocks(o, r, rng):
            x, label = block.seen
            self.move(binary_cross_entropy_with_logits(n["propensity"](block.x), block.o), "propensity")
            with torch.no_grad():
                prediction, weight = n["prediction"](x), 1 / clipped(n["propensity"](x))
                e = binary_cross_entropy_with_logits(prediction, label, reduction="none")
            e_hat = binary_cross_entropy_with_logits(
                prediction, torch.sigmoid(n["imputation"](x)), reduction="none"
            )
            self.move((weight * (e - e_hat) ** 2).mean(), "imputation")
            joint = torch.sigmoid(n["prediction"](block.x)) * self.propensity(block.x)
            ctcvr = binary_cross_entropy(joint, block.o * block.r)
            risk = self.doubly_robust(block)
            self.move(risk + ctcvr + self.unbiased(), "prediction")
            gap = self.doubly_robust(block) - self.unbiased()
            self.move(0.01 * gap**2, "propensity_residual", "imputation_residual")
            risks.append(float(risk.detach()))
        return float(np.mean(risks))


def dense(data: Any) -> tuple[np.ndarray, np.ndarray]:
    """(o, r) of a data set as dense matrices."""
    o, r = np.zeros(data.shape, np.float32), np.zeros(data.shape, np.float32)
    o[data.biased.user, data.biased.item] = 1.0
    r[data.biased.user, data.biased.item] = data.outcome(data.biased)
    return o, r
