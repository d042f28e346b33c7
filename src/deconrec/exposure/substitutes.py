"""Substitute confounders of the users of a data set, from an exposure model that was fitted to these or others."""

from __future__ import annotations

import numpy as np
import torch

from deconrec.base import ExposureModel
from deconrec.data.dataset import Dataset
from deconrec.pairs import NO_TABLES, Tables
from deconrec.training.samplers import Source, user_rows

BLOCK = 1024  # users whose rows are read at a time


@torch.no_grad()
def substitutes(model: ExposureModel, data: Dataset, tables: Tables = NO_TABLES) -> np.ndarray:
    """(n_users, dim) float32 z_u from the exposures of the biased log; items have the model's codes.

    tables: features as the method sees them, for a model that reads some.
    """
    source = Source.of(data, tables, getattr(model, "device", "cpu"))
    blocks = [
        model.confounder(user_rows(source, np.arange(start, min(start + BLOCK, data.n_users)))[0])
        for start in range(0, data.n_users, BLOCK)
    ]
    return torch.cat(blocks).float().cpu().numpy() if blocks else np.zeros((0, model.dim), np.float32)
