"""Saved networks: their sizes are compared with what the parameters ask for before anything of that size is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn


def check_sizes(build: Callable[[], nn.Module], arrays: Mapping[str, np.ndarray]) -> None:
    """Compare saved arrays with the networks that `build` makes, which are built without memory of their own.

    Raises
    ------
    ValueError: a parameter such as dim that the arrays do not bear out.
    """
    try:
        with torch.device("meta"):
            state = build().state_dict()
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        return  # networks that start from another model's values: `load_state_dict` compares them
    for name, value in state.items():
        shape = arrays[name].shape if name in arrays else tuple(value.shape)
        if (
            shape != tuple(value.shape) and not arrays[name].size == value.numel() == 1
        ):  # format 1: scalars as (1,)
            raise ValueError(
                f"'{name}' must have the shape {tuple(value.shape)} with these parameters; got {shape}"
            )
