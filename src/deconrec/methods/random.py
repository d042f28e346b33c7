"""Random: every user's items in an order of their own that means nothing.

Idea. What chance gets: the zero of every ranking metric on this data.

Risk.
    r_hat_ui = r_bar + d u_ui
    u_ui     uniform on (-1, 1), drawn from the seed and the user (their code; a new user's, the items of their history)
    r_bar    mean outcome of the biased log                  d        half its distance to the nearer of 0 and 1

Needs.      a biased log. No torch.
Assumes.    no assumption is made: it is a yardstick.
Limits.     outcomes that are all the same: a constant.
Deviations. 1. The paper's rankers that know nobody are those of popularity and mean rating; chance stands below both.
Paper.      [Cremonesi2010]
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from deconrec.base import Estimator, Tags
from deconrec.data.dataset import Dataset
from deconrec.data.split import ValidationPart
from deconrec.parameters import parameter


@dataclass(kw_only=True, eq=False, repr=False)
class RandomRanker(Estimator):
    """A random order."""

    paper = "Cremonesi2010"
    title = "Random order"

    seed: int = parameter(0, "draws the orders", low=0)

    @property
    def tags(self) -> Tags:
        """The biased log alone, in either protocol."""
        return Tags(shape="both", yardstick=True)

    def _fit(self, data: Dataset, validation: ValidationPart, progress: bool) -> None:
        """Nothing is learned beyond the mean outcome, which every method keeps."""

    def _orders(self, keys: Iterable[tuple[int, ...]]) -> np.ndarray:
        """(n, n_items) scores of users, each from a key of their own: nobody's depend on who else is asked for."""
        width = 0.5 * min(self.mean_, 1 - self.mean_)
        draws = [np.random.default_rng([self.seed, *key]).uniform(-1, 1, self.spec_.n_items) for key in keys]
        return self.mean_ + width * np.array(draws).reshape(-1, self.spec_.n_items)

    def _block(self, users: np.ndarray) -> np.ndarray:
        return self._orders((0, int(code)) for code in users)

    def _pairs(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        users, back = np.unique(user, return_inverse=True)
        return self._block(users)[back, item]

    def _fold_in(self, history: Dataset) -> np.ndarray:
        rows = history.biased.pattern(history.shape)
        given = np.split(rows.indices.astype(np.int64), rows.indptr[1:-1])
        return self._orders((1, zlib.crc32(np.sort(items).tobytes())) for items in given)

    def _state(self) -> dict[str, np.ndarray]:
        return {}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Nothing was learned."""
