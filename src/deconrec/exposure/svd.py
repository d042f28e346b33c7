"""Substitute confounders from a truncated singular value decomposition of exposures.

Idea.   What makes the same items go together in many histories is a cause of exposure. The leading singular vectors of
the exposure matrix, rows and columns scaled by the square roots of their counts, are such causes in closed form: the
scaling keeps busy users and popular items from being the first of them.

    A~ = D_u^-1/2 A D_i^-1/2 ~ U S V'      A: 0/1 exposures      D: counts, plus 1
    z_u = A~_u V                           without the first pair, which is the counts themselves

Needs.      exposures only.
Limits.     full dimension: z has all of A~ but the counts.  No structure beyond counts: singular values near the noise.
Deviations. 1. A linear map has no likelihood: there is no predictive check, and reconstructions are cut to [0, 1].
            2. A new user is the same linear map of their row, which is exact.
Paper.      [Dhillon2001] for the scaling
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import diags
from scipy.sparse.linalg import svds
from torch import Tensor

from deconrec.base import ExposureModel, Spec
from deconrec.data.dataset import Dataset
from deconrec.pairs import Rows
from deconrec.parameters import Search, parameter
from deconrec.random import numpy_generator

TOLERANCE = 1e-5  # relative, of a singular value


@dataclass(kw_only=True, eq=False, repr=False)
class SVDExposure(ExposureModel):
    """Substitute confounders from singular vectors of exposures."""

    dim: int = parameter(12, "number of singular vectors", low=1, search=Search(2, 64, log=True, whole=True))
    seed: int = parameter(0, "draws the solver's starting vector", low=0)

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        vectors_: np.ndarray
        item_scale_: np.ndarray

    def fit(self, data: Dataset, validation: Dataset | None = None) -> SVDExposure:
        """Fit to the exposures of the biased log."""
        self.check_params()
        a = data.biased.pattern(data.shape).astype(np.float64)
        by_user, by_item = (np.asarray(a.sum(axis)).ravel() + 1.0 for axis in (1, 0))
        scaled = diags(by_user**-0.5) @ a @ diags(by_item**-0.5)
        k = min(self.dim + 1, min(data.shape) - 1)
        vectors = np.zeros((data.n_items, 0))
        if k > 1:
            start = numpy_generator(self.seed, "singular vectors").standard_normal(min(data.shape))
            _, value, right = svds(scaled.tocsr(), k=k, v0=start, tol=TOLERANCE)
            order = np.argsort(-value)[1:]
            # The sign of a singular vector is the solver's choice.
            vectors = right[order].T * np.sign(right[order].sum(1) + 1e-12)
        self.vectors_ = np.zeros((data.n_items, self.dim), np.float32)  # small data have fewer vectors
        self.vectors_[:, : vectors.shape[1]] = vectors
        self.item_scale_ = by_item.astype(np.float32)
        return self

    def moved(self, code: np.ndarray) -> SVDExposure:
        """The model over other items; code (n_items,): each one here, or -1 for a new one, which says nothing."""
        out = self.clone()
        known = code >= 0
        out.vectors_ = np.where(known[:, None], self.vectors_[code], np.float32(0))
        out.item_scale_ = np.where(known, self.item_scale_[code], np.float32(1))
        return out

    def confounder(self, rows: Rows) -> Tensor:
        """(B, dim) z_u = A~_u V."""
        n = rows.offset.diff().to(torch.float32)
        vectors = torch.from_numpy(self.vectors_ * self.item_scale_[:, None] ** -0.5).to(rows.item.device)
        z = torch.zeros(len(rows), self.dim, device=rows.item.device)
        z.index_add_(0, rows.row, vectors[rows.item])
        return z / torch.sqrt(n + 1.0)[:, None]

    def decode(self, z: Tensor) -> Tensor:
        """(B, n_items) z V' D_i^1/2: the expected exposure, in units of the square root of the user's count."""
        return z @ torch.from_numpy(self.vectors_ * self.item_scale_[:, None] ** 0.5).to(z.device).T

    def reconstruct(self, rows: Rows) -> Tensor:
        """(B, n_items) reconstructed exposures in [0, 1], the counts' part included."""
        n = rows.offset.diff().to(torch.float32)[:, None]
        counts = torch.from_numpy(self.item_scale_ / self.item_scale_.sum()).to(rows.item.device)
        return (n * counts + torch.sqrt(n + 1.0) * self.decode(self.confounder(rows))).clamp(0.0, 1.0)

    def _state(self) -> dict[str, np.ndarray]:
        return {"vectors": self.vectors_, "item_scale": self.item_scale_}

    def _restore(self, state: Mapping[str, np.ndarray], spec: Spec) -> None:
        self.vectors_, self.item_scale_ = np.array(state["vectors"]), np.array(state["item_scale"])
