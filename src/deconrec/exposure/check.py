"""The held-out predictive check of exposure models [Wang2019b], section 3.3; [Rubin1984].

A share of a user's cells is held out, exposures and non-exposures alike; z is inferred from the rest, and held-out
exposures a_rep are drawn from the model. With t(a) = E[log p(a | z) | kept],

    p_u = P( t(a_rep) < t(a_held) ),   overall: the mean over users.

Near 0, the model finds what it did not see far less likely than what it would have drawn: it misses how exposures
hang together, and its z is no substitute confounder. Wang and Blei take more than 0.1 as satisfactory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import expit

from deconrec.data.dataset import Dataset
from deconrec.data.split import take_users
from deconrec.pairs import NO_TABLES, Rows, Tables
from deconrec.random import numpy_generator
from deconrec.training.samplers import Source, user_rows

SATISFACTORY = 0.1  # [Wang2019b]
SHARE = 0.2  # of the items, held out; paper 1, section 5.2
USERS = 500  # NOTE most users checked: the standard error of the overall p is then about 0.013
CELLS = 4_000_000  # draws held at once


class Drawable(Protocol):
    """An exposure model that can be checked."""

    def posterior_logits(
        self, rows: Rows, held: np.ndarray, draws: int, rng: np.random.Generator
    ) -> np.ndarray:
        """(draws, B, J) logits of P(a_ui = 1 | z_u) of the items `held` (J,), z drawn from its posterior given rows.

        The rows hold no exposure to a held item; that these are missing, not zero, is for the model to use.
        """
        ...


@dataclass(frozen=True, eq=False)
class PredictiveCheck:
    """What the check said.

    Attributes
    ----------
    p: (n,) p_u of each user that was checked, in [0, 1].
    log_likelihood: (n,) log p(held cells | kept cells), nats.
    cells: (n,) held cells.
    new_users: whether these users were not trained on. If they were, their rows had their say in the item side, and
        the check is kinder than it should be.
    """

    p: np.ndarray
    log_likelihood: np.ndarray
    cells: np.ndarray
    new_users: bool

    @property
    def overall(self) -> float:
        """Mean p_u; NaN without users."""
        return float(self.p.mean()) if len(self.p) else float("nan")

    @property
    def standard_error(self) -> float:
        """Standard error of the overall p; NaN for fewer than two users."""
        return float(self.p.std(ddof=1) / np.sqrt(len(self.p))) if len(self.p) > 1 else float("nan")

    @property
    def mean_log_likelihood(self) -> float:
        """Held-out log-likelihood a cell, nats; NaN without users."""
        return float(self.log_likelihood.sum() / self.cells.sum()) if self.cells.sum() else float("nan")

    @property
    def satisfactory(self) -> bool:
        """Whether the overall p exceeds 0.1."""
        return self.overall > SATISFACTORY

    def _state(self) -> dict[str, np.ndarray]:
        return {
            "check.p": self.p,
            "check.log_likelihood": self.log_likelihood,
            "check.cells": self.cells,
            "check.new_users": np.array([self.new_users], np.uint8),
        }

    @classmethod
    def _restored(cls, state: Mapping[str, np.ndarray]) -> PredictiveCheck | None:
        if "check.p" not in state:
            return None
        p, likelihood, cells = (np.array(state[f"check.{n}"]) for n in ("p", "log_likelihood", "cells"))
        return cls(p, likelihood, cells, bool(state["check.new_users"][0]))

    def __str__(self) -> str:
        whom = "new users" if self.new_users else "training users"
        return (
            f"predictive check p = {self.overall:.3f} ({len(self.p)} {whom}; above {SATISFACTORY:g} is satisfactory), "
            f"held-out log-likelihood {self.mean_log_likelihood:.5f} nats a cell"
        )


def predictive_check(
    model: Drawable,
    data: Dataset,
    *,
    new_users: bool,
    draws: int = 100,
    seed: int = 0,
    tables: Callable[[Dataset], Tables] | None = None,
) -> PredictiveCheck:
    """The check of a fitted exposure model on the biased log of a data set's users (at most 500, drawn by `seed`).

    Parameters
    ----------
    data: users that were not trained on (with the rows that a model is given for them), or the training users.
    new_users: which of the two they are.
    draws: replications of a user's held-out exposures.
    tables: gives the features of a data set's users, for a model that reads them.
    """
    rng = numpy_generator(seed, "predictive check")
    active = np.flatnonzero(np.bincount(data.biased.user, minlength=data.n_users))
    chosen = np.sort(rng.permutation(active)[:USERS])
    n_held = round(SHARE * data.n_items)
    if not len(chosen) or not 0 < n_held < data.n_items:
        nothing = np.zeros(0)
        return PredictiveCheck(nothing, nothing, nothing.astype(np.int64), new_users)
    size = max(1, min(64, CELLS // (draws * n_held)))  # users of a block share their held items
    p, likelihood = [], []
    for start in range(0, len(chosen), size):
        part = take_users(data, chosen[start : start + size])
        held = np.sort(rng.permutation(data.n_items)[:n_held])
        out = np.isin(part.biased.item, held)
        given = part.with_logs(part.biased.take(~out))
        features = NO_TABLES if tables is None else tables(given)
        rows, _ = user_rows(Source.of(given, features), np.arange(part.n_users))
        logits = np.asarray(model.posterior_logits(rows, held, draws, rng), np.float64)
        a = np.zeros((part.n_users, n_held))
        hidden = part.biased.take(out)
        a[hidden.user, np.searchsorted(held, hidden.item)] = 1
        one = user_check(logits, a, rng.random(logits.shape))
        p.append(one[0])
        likelihood.append(one[1])
    return PredictiveCheck(
        np.concatenate(p), np.concatenate(likelihood), np.full(len(chosen), n_held, np.int64), new_users
    )


def user_check(logits: np.ndarray, a: np.ndarray, uniform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(p_u (B,), log p(a_held | kept) (B,)) from logits (S, B, J) of S draws of z, held exposures a (B, J), and
    uniforms (S, B, J) that decide the replications. Ties count half.
    """
    replicated = uniform < expit(logits)
    # log p(a | z) is linear in a: only the mean logits matter for t, and what does not depend on a cancels.
    gap = ((replicated - a) * logits.mean(0)).sum(2)
    p = ((gap < 0) + 0.5 * (gap == 0)).mean(0)
    each = (a * logits - np.logaddexp(0.0, logits)).sum(2)
    top = each.max(0)
    return p, top + np.log(np.exp(each - top).mean(0))
