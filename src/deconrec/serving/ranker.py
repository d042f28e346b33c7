"""A fitted model made ready to answer one user at a time: what `recommend` and `predict` say, without their tables."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import polars as pl

from deconrec.base import SOURCES, Estimator
from deconrec.data.dataset import Dataset, Log
from deconrec.data.ids import Vocabulary
from deconrec.errors import DataError, ParameterError
from deconrec.evaluation.policy import check_policy, draw, draw_posterior
from deconrec.folding import new_users
from deconrec.serving.ids import Ids, RawId
from deconrec.serving.problems import Problem
from deconrec.serving.scores import Blocks, Rows, best, folded_row, rows_of

NAN = "the model gives scores that are not numbers; fit it again and reload."


@dataclass(frozen=True)
class Policy:
    """How lists are drawn: by `explore` None the best items, else as `evaluation.policy` says."""

    explore: str | None = None
    epsilon: float = 0.1
    temperature: float = 0.1

    def __post_init__(self) -> None:
        if self.explore is not None:
            check_policy(self.explore, self.epsilon, self.temperature)

    @property
    def name(self) -> str:
        """The policy's name, "none" for the best items."""
        return self.explore or "none"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: the parameters that the policy reads."""
        read = {"epsilon-greedy": ("epsilon",), "plackett-luce": ("temperature",)}.get(self.name, ())
        return {"explore": self.name} | {name: getattr(self, name) for name in read}


@dataclass(frozen=True)
class Newcomer:
    """What is told of a user at request time: rows (item, rating), and features by the names of training's table."""

    history: Sequence[tuple[RawId, float]] = ()
    features: Mapping[str, float | str | bool | None] | None = None


@dataclass(frozen=True)
class Asked:
    """A list that is asked for; `allow` None allows every item."""

    user: RawId
    k: int = 20
    exclude_seen: bool = True
    allow: Sequence[RawId] | None = None
    deny: Sequence[RawId] = ()
    newcomer: Newcomer | None = None


@dataclass(frozen=True, eq=False)
class Listed:
    """A list that was made.

    Attributes
    ----------
    user: the user's id as the model has it, or as it was asked for.
    source: "model", "fold-in" or "fallback".
    code: (n,) codes of the items, best place first.
    score: (n,) expected outcomes on the outcome's own scale.
    propensity: (n,) P(the item is in the list) under the policy; 1 where it explores nothing.
    candidates: number of items that the list was chosen from.
    unknown_items: ids of `allow`, `deny` and `history` that the model does not know.
    """

    user: RawId
    source: str
    code: np.ndarray
    score: np.ndarray
    propensity: np.ndarray
    candidates: int
    unknown_items: int


@dataclass(eq=False)
class Ranker:
    """A model and what is computed of it once.

    Parameters
    ----------
    model: fitted, of pairs.
    name: what lists of this model are logged under.

    Raises
    ------
    DataError: a model of impressions.  NotFitted.
    """

    model: Estimator
    name: str = "model"
    lock: threading.Lock = field(default_factory=threading.Lock)  # a model answers one question at a time

    def __post_init__(self) -> None:
        self.model._check_fitted()
        if self.model.context_ is not None:
            raise DataError(
                f"{type(self.model).__name__} was trained on impressions, whose context a request does not have: it "
                "cannot be served. Use `deconrec predict` on the impressions in question."
            )
        self.users, self.items = Ids(self.model.users_), Ids(self.model.items_)
        self._rows, self._blocks = rows_of(self.model), Blocks(self.model)
        # An id that no training user has, for the one user of a history.
        self._nobody: RawId = (
            "?" if self.users.is_text else next(n for n in count() if self.users.code(n) < 0)
        )
        while self.users.code(self._nobody) >= 0:
            self._nobody = f"{self._nobody}?"
        self._fallback = self._blocks.outward(np.array(self.model.item_mean_))

    # ------------------------------------------------------------------ lists
    def recommend(self, asked: Asked, policy: Policy, rng: np.random.Generator) -> Listed:
        """The list that `model.recommend(..., unknown="fallback")` gives, or one that `rng` draws from the policy.

        Raises
        ------
        ParameterError: a model without a posterior is asked to explore by it.  Problem: features of another number,
        or a model whose scores are not numbers.
        """
        code = self.users.code(asked.user)
        history, unknown = self._history(asked.newcomer)
        rows: Rows = self._blocks
        if history is not None:
            source, scores = 1, self._blocks.outward(folded_row(self.model, history))
        elif code >= 0 and self.model.covered_users_[code]:
            rows = self._rows if policy.explore is None else self._blocks
            source, scores = 0, rows.row(code)
        else:
            source, scores = 2, self._fallback.copy()
        unknown += self._hide(scores, code, history, asked)
        try:
            if policy.explore is None:
                top = best(scores, asked.k)
                propensity = np.ones(len(top))
            else:
                best(scores, 1)
                shown = self._explore(scores, asked.k, policy, rng, code, source, history)
                there = shown.item[0] >= 0
                top, propensity = shown.item[0][there], shown.propensity[0][there]
        except ValueError as error:
            if isinstance(error, ParameterError):
                raise
            raise Problem(500, "model", NAN) from error
        user = self.users.values[code] if code >= 0 else asked.user
        candidates = int(np.count_nonzero(scores > -np.inf))
        score = rows.outcome(scores[top]).astype(float)
        return Listed(user, SOURCES[source], top, score, propensity, candidates, unknown)

    def _hide(self, scores: np.ndarray, code: int, history: Dataset | None, asked: Asked) -> int:
        """Put -inf where an item is no candidate; gives the number of ids that the model does not know."""
        unknown = 0
        if asked.allow is not None:
            allowed = self.items.codes(asked.allow)
            unknown += int((allowed < 0).sum())
            allowed = allowed[allowed >= 0]
            kept = scores[allowed]
            scores[:] = -np.inf
            scores[allowed] = kept
        if asked.deny:
            denied = self.items.codes(asked.deny)
            unknown += int((denied < 0).sum())
            scores[denied[denied >= 0]] = -np.inf
        if asked.exclude_seen:
            if code >= 0:
                seen = self.model.seen_
                scores[seen.indices[seen.indptr[code] : seen.indptr[code + 1]]] = -np.inf
            if history is not None:
                scores[history.biased.item] = -np.inf
        return unknown

    def _explore(
        self,
        scores: np.ndarray,
        k: int,
        policy: Policy,
        rng: np.random.Generator,
        code: int,
        source: int,
        history: Dataset | None,
    ) -> Any:
        assert policy.explore is not None
        if policy.explore != "posterior":
            return draw(
                policy.explore,
                scores[None],
                k,
                [rng],
                epsilon=policy.epsilon,
                temperature=policy.temperature,
            )
        if source == 2:  # nothing is known of this user, and so there is nothing to draw
            drawn = scores[None, None]
        else:
            of = np.array([0 if source == 1 else code])
            drawn = np.array(self.model.scale_.outward(self.model._posterior(of, history)))
            drawn[:, :, scores == -np.inf] = -np.inf
        return draw_posterior(drawn, k, [rng])

    def _history(self, newcomer: Newcomer | None) -> tuple[Dataset | None, int]:
        """(the one user's rows and features as a data set, or None where they say nothing; unknown items)."""
        if newcomer is None:
            return None, 0
        item = self.items.codes([i for i, _ in newcomer.history])
        given_ratings = np.array([r for _, r in newcomer.history], np.float64)
        if (beyond := np.abs(given_ratings) > np.finfo(np.float32).max).any():
            raise Problem(
                422,
                "invalid",
                f"history.{beyond.argmax()}.rating: a number of 32 bits was expected; got more.",
            )
        rating = given_ratings.astype(np.float32)
        known = np.flatnonzero(item >= 0)
        # Of rows of one item the last one counts, as in a history that `recommend` reads.
        last = {int(item[row]): int(row) for row in known}
        rows = np.array(sorted(last.values()), np.int64)
        model = self.model
        reads = newcomer.features is not None and model.tags.uses_features and model.spec_.n_user_features > 0
        if not model.tags.fold_in or not (len(rows) or reads):
            return None, len(item) - len(known)
        given = Dataset(
            users=Vocabulary(pl.Series([self._nobody]), "user"),
            items=model.items_,
            biased=Log(np.zeros(len(rows)), item[rows], rating[rows]),
            task=model.task_,
        )
        table = None
        if reads and newcomer.features is not None:
            table = pl.DataFrame([{"user_id": self._nobody} | dict(newcomer.features)])
        try:
            return new_users(model, given, table), len(item) - len(known)
        except DataError as error:
            raise Problem(422, "invalid", f"features: {error}") from error

    # ------------------------------------------------------------------ pairs
    def score(self, pairs: Sequence[tuple[RawId, RawId]]) -> tuple[np.ndarray, list[str]]:
        """((n,) expected outcomes on the outcome's own scale, where each is from): `model.predict(details=True)`."""
        model = self.model
        user = self.users.codes([u for u, _ in pairs])
        item = self.items.codes([i for _, i in pairs])
        score = np.full(len(pairs), model.mean_)
        source = np.full(len(pairs), 2, np.int8)
        known = item >= 0
        score[known] = model.item_mean_[item[known]]
        told = known & model.covered_items_[item] & (user >= 0) & model.covered_users_[user]
        if told.any():
            score[told], source[told] = model._pairs(user[told], item[told]), 0
        score = np.asarray(model.scale_.outward(score), np.float64)
        if not np.isfinite(score).all():
            raise Problem(500, "model", NAN)
        return score, [SOURCES[s] for s in source]

    # ------------------------------------------------------------------ facts
    def check(self, policy: Policy) -> None:
        """Make one list, so that what cannot answer is refused before it serves.

        Raises
        ------
        ParameterError, DataError.
        """
        first = self.users.values[0] if len(self.users) else 0
        try:
            self.recommend(Asked(first, 1), policy, np.random.default_rng(0))
        except Problem as error:
            raise DataError(str(error)) from error
        except (ParameterError, DataError):
            raise
        except Exception as error:  # whatever a damaged model does when it is asked
            raise DataError(f"the model cannot answer: {type(error).__name__}: {error}") from error
