"""The choice of a network over pairs."""

from __future__ import annotations

import math
from typing import Protocol

from torch import nn

from deconrec.nn.fm import FM
from deconrec.nn.mf import MF


class Sizes(Protocol):
    """The sizes and rates that networks are built for."""

    @property
    def n_users(self) -> int: ...
    @property
    def n_items(self) -> int: ...
    @property
    def n_user_features(self) -> int: ...
    @property
    def n_item_features(self) -> int: ...
    @property
    def n_row_features(self) -> int: ...
    @property
    def density(self) -> float: ...


def pair_net(backbone: str, spec: Sizes, dim: int, *, offset: float = 0.0, still: bool = False) -> nn.Module:
    """The network named `backbone` ("mf" or "fm"); see `MF` for `offset` and `still`."""
    if backbone == "mf":
        return MF(spec.n_users, spec.n_items, dim, offset=offset, still=still)
    return FM(
        spec.n_users,
        spec.n_items,
        dim,
        n_user_features=spec.n_user_features,
        n_item_features=spec.n_item_features,
        n_row_features=spec.n_row_features,
        offset=offset,
        still=still,
    )


def density_logit(spec: Sizes) -> float:
    """The logit of the log's density, kept away from the infinite ends."""
    density = min(max(spec.density, 1e-6), 1 - 1e-6)
    return math.log(density / (1 - density))
