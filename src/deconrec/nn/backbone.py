"""The choice of a network over pairs, and of towers over its factors."""

from __future__ import annotations

import math

from torch import nn

from deconrec.errors import DataError
from deconrec.nn.fm import FM
from deconrec.nn.impressions import ImpressionNet, ImpressionTower, LogSizes
from deconrec.nn.mf import MF
from deconrec.nn.sizes import Sizes
from deconrec.nn.towers import Head, Tower

BACKBONES = ("mf", "fm", "mlp")
BACKBONE_DOC = (
    "network: mf = factors of ids; fm = factorisation machine of ids and features; mlp = embeddings and a perceptron, "
    "which an impression log always has"
)


def pair_net(backbone: str, spec: Sizes, dim: int, *, offset: float = 0.0, still: bool = False) -> nn.Module:
    """The network named `backbone`; see `MF` for `offset` and `still`. Over impressions it is "mlp".

    Raises
    ------
    DataError: "mlp" over pairs.
    """
    if spec.n_impressions:
        sizes = LogSizes(spec.n_users, spec.n_items, spec.n_places, spec.n_columns, spec.n_row_features, dim)
        return ImpressionNet(sizes, offset=offset, still=still)
    if backbone == "mlp":
        raise DataError(
            "backbone='mlp' needs a log of impressions ([impressions], Dataset.from_impressions); got pairs of users "
            "and items. Use 'mf', or 'fm' where they have features."
        )
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


def tower(over: nn.Module, spec: Sizes, *, offset: float = 0.0) -> nn.Module:
    """A further task's network over the factors, or embeddings, of another; `offset` starts its global bias."""
    if isinstance(over, ImpressionNet):
        return ImpressionTower(over, offset=offset)
    return Tower(over, spec, offset=offset)


def head(nominal: nn.Module, prediction: nn.Module) -> nn.Module:
    """A linear head on the factors of a nominal network, or on those that it shares with the prediction."""
    return Head(prediction if isinstance(nominal, Tower) else nominal)


def density_logit(spec: Sizes) -> float:
    """The logit of the log's density, kept away from the infinite ends."""
    density = min(max(spec.density, 1e-6), 1 - 1e-6)
    return math.log(density / (1 - density))
