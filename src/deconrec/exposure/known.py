"""Confounders that were measured: columns of the user features, taken as z as they are.

Idea.   Where the confounder itself is known, nothing has to stand in for it: what a substitute adds is measured against
this one. A simulator's true confounder makes it the oracle of a comparison; in a log it is whatever somebody recorded
(a segment that promotions were aimed at) and declares to be the confounder.

Needs.      user features whose names begin with `columns`. A comparison on a simulator adds them for this model alone.
Limits.     no model of exposures: nothing is checked, and what reads reconstructed exposures cannot use it.
Deviations. 1. The columns stay among the user features, too. 2. Standardised on training users, as all features are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import torch
from torch import Tensor

from deconrec.base import ExposureModel, Spec
from deconrec.data.dataset import Dataset, Features
from deconrec.errors import DataError
from deconrec.pairs import Rows
from deconrec.parameters import parameter


@dataclass(kw_only=True, eq=False, repr=False)
class KnownConfounder(ExposureModel):
    """Confounders that stand among the user features."""

    columns: str = parameter("confounder", "what the names of the confounder's columns begin with")

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        columns_: np.ndarray

    @property
    def dim(self) -> int:
        """Number of columns; 0 before `fit`."""
        return len(getattr(self, "columns_", ()))

    def fit(self, data: Dataset, validation: Dataset | None = None) -> KnownConfounder:
        """Find the columns.

        Raises
        ------
        DataError: no user feature has such a name.
        """
        self.check_params()
        names = () if data.user_features is None else data.user_features.names
        self.columns_ = np.flatnonzero([n.startswith(self.columns) for n in names])
        if not self.dim:
            few = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
            raise DataError(
                f"the exposure model 'known' needs user features whose names begin with '{self.columns}'; got "
                f"{few or 'no features'}. Set `columns`, or use a model of exposures ('vae')."
            )
        return self

    def confounder(self, rows: Rows) -> Tensor:
        """(B, dim) the columns, standardised.

        Raises
        ------
        DataError: rows without features.
        """
        if rows.x is None:
            raise DataError("the exposure model 'known' reads user features, but these users have none.")
        return rows.x[:, torch.from_numpy(self.columns_).to(rows.x.device)]

    def decode(self, z: Tensor) -> NoReturn:
        """Refused: there is no model of exposures.

        Raises
        ------
        DataError.
        """
        raise DataError(
            "the exposure model 'known' takes confounders as they are and gives no probability of exposures; use "
            "'vae' or 'poisson'."
        )

    def reconstruct(self, rows: Rows) -> NoReturn:
        """Refused, as `decode`."""
        self.decode(rows.r)

    def moved(self, code: np.ndarray) -> KnownConfounder:
        """The same model: items have no part in it."""
        out = self.clone()
        out.columns_ = self.columns_
        return out

    def _state(self) -> dict[str, np.ndarray]:
        return {"columns": self.columns_}

    def _restore(self, state: Mapping[str, np.ndarray], spec: Spec) -> None:
        self.columns_ = np.array(state["columns"], np.int64)


def with_confounder(data: Dataset, confounder: np.ndarray) -> Dataset:
    """The data with confounders (n_users, K) among the user features, named confounder1, confounder2, ..."""
    names = tuple(f"confounder{k + 1}" for k in range(confounder.shape[1]))
    old = data.user_features
    if old is None:
        features = Features(names, confounder.astype(np.float32), np.zeros(data.n_users, bool))
    else:
        values = np.concatenate([old.values, confounder.astype(np.float32)], axis=1)
        features = Features(old.names + names, values, old.missing)
    return data._replace(user_features=features)
