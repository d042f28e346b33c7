"""Known propensities: logged by the system, or a simulator's.

Needs.   a (n_users, n_items) array in the order of the vocabularies, or a table of logged pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from deconrec.base import Propensity, Spec
from deconrec.data.dataset import Dataset
from deconrec.data.tables import read_table
from deconrec.errors import DataError, ParameterError
from deconrec.pairs import Pairs
from deconrec.parameters import parameter
from deconrec.propensity.floor import Overlap, floored


@dataclass(kw_only=True, eq=False, repr=False)
class Known(Propensity):
    """Propensities that need no model.

    `values`: (n_users, n_items) in (0, 1], or a table user_id, item_id, propensity that holds every biased row; None
    reads the propensities that stand in the log itself.
    """

    values: Any = field(
        default=None, metadata={"doc": "the propensities: an array or a table; None = the log's"}
    )
    floor: float = parameter(1e-6, "smallest propensity", above=0, high=1)

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        p_: np.ndarray
        key_: np.ndarray | None
        n_items_: int
        overlap_: Overlap

    def fit(self, data: Dataset, excluded: csr_matrix | None = None) -> Known:
        """Check and index the values; `excluded` pairs make no difference.

        Raises
        ------
        ParameterError: none given, and none in the log.  DataError: another shape, a value outside (0, 1], a biased row
            without one, a log of impressions.
        """
        self.check_params()
        if data.impressions is not None:
            raise DataError(
                "known propensities are of (user, item) pairs; a log of impressions has one for each row. Use "
                "propensity='logistic-mf'."
            )
        self.n_items_ = data.n_items
        if self.values is None:
            if data.biased.propensity is None:
                raise ParameterError(
                    "'values' of Known must be an array or a table of propensities where the biased log has no column "
                    "of them; got None."
                )
            key = data.biased.key(data.n_items)
            order = np.argsort(key)
            self.key_, self.p_ = key[order], data.biased.propensity.astype(np.float32)[order]
        elif isinstance(self.values, np.ndarray):
            if self.values.shape != data.shape:
                raise DataError(
                    f"known propensities must be {data.shape} (users, items); got {self.values.shape}."
                )
            self.p_, self.key_ = self.values.astype(np.float32).reshape(-1), None
        else:
            table = read_table(self.values, "the propensity table")
            lacking = {"user_id", "item_id", "propensity"} - set(table.columns)
            if lacking:
                raise DataError(
                    f"the propensity table needs the columns {sorted(lacking)}; got {table.columns}."
                )
            user, item = data.users.encode(table["user_id"]), data.items.encode(table["item_id"])
            inside = (user >= 0) & (item >= 0)
            key = user[inside].astype(np.int64) * data.n_items + item[inside]
            order = np.argsort(key)
            self.key_, self.p_ = key[order], table["propensity"].to_numpy().astype(np.float32)[inside][order]
            missing = ~np.isin(data.biased.key(data.n_items), self.key_)
            if missing.any():
                raise DataError(
                    f"the propensity table must hold every biased row; {int(missing.sum())} of {len(missing)} are "
                    "missing."
                )
        bad = ~((self.p_ > 0) & (self.p_ <= 1))  # NaN is neither
        if bad.any():
            raise DataError(
                f"known propensities must lie in (0, 1]; {int(bad.sum()):,} of {len(bad):,} do not (first: "
                f"{self.p_[bad][0]:g}). A pair that cannot be shown cannot be weighted: give a table of the logged "
                "pairs alone, or correct the values."
            )
        observed = self._look_up(data.biased.key(data.n_items))
        self.overlap_ = Overlap.of(observed, self.floor)
        self.overlap_.warn("known")
        return self

    def _look_up(self, key: np.ndarray) -> np.ndarray:
        if self.key_ is None:
            return self.p_[key]
        place = np.minimum(np.searchsorted(self.key_, key), len(self.key_) - 1)
        if not (self.key_[place] == key).all():
            raise DataError(
                "the propensity table holds logged pairs only, but a pair outside it was asked for."
            )
        return self.p_[place]

    @torch.no_grad()
    def __call__(self, pairs: Pairs) -> Tensor:
        """(n,) in [floor, 1]."""
        key = (pairs.user * self.n_items_ + pairs.item).cpu().numpy()
        return floored(torch.from_numpy(self._look_up(key)).to(pairs.o.device), self.floor)

    def describe(self) -> dict[str, Any]:
        """Parameters as JSON values; the propensities themselves are state."""
        return {"values": None, "floor": self.floor}

    def _state(self) -> dict[str, np.ndarray]:
        out = {"p": self.p_, "n_items": np.array([self.n_items_])}
        return out if self.key_ is None else out | {"key": self.key_}

    def _restore(self, state: Mapping[str, np.ndarray], spec: Spec) -> None:
        self.p_, self.n_items_ = np.array(state["p"]), int(state["n_items"][0])
        self.key_ = np.array(state["key"]) if "key" in state else None
