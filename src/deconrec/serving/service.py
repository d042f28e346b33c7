"""What the routes do: one list, scores of pairs, a reload. Answers are written as JSON by hand, for speed.

A quick list is made at once, in the thread that answers; what takes longer (a fold-in, an exploring draw, many pairs)
waits in line for a second thread, and a full line is refused rather than grown.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from typing import Any, TypeVar

import numpy as np

from deconrec.errors import Error, ParameterError
from deconrec.serving.card import card_of
from deconrec.serving.counters import Counters
from deconrec.serving.holder import Busy, Holder
from deconrec.serving.ids import RawId
from deconrec.serving.limits import Limits
from deconrec.serving.log import ListLog
from deconrec.serving.problems import Problem
from deconrec.serving.ranker import Asked, Listed, Policy, Ranker

LOG = logging.getLogger("deconrec.serving")
QUICK_PAIRS = 200  # NOTE scored without a second thread
T = TypeVar("T")


@dataclass(eq=False)
class Service:
    """A model that serves.

    Parameters
    ----------
    holder: the model in use.
    log: of served lists; None = no log.
    token: what clients must bear; None = nothing.
    seed: of exploring draws; None = another one each start.
    """

    holder: Holder
    log: ListLog | None = None
    limits: Limits = field(default_factory=Limits)
    token: str | None = None
    seed: int | None = None
    counters: Counters = field(default_factory=Counters)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._run, self._number = secrets.token_hex(4), count(1)
        self._worker = ThreadPoolExecutor(1, "deconrec-answers")
        self._loader = ThreadPoolExecutor(1, "deconrec-reload")
        self._waiting = 0
        self.counters.serves(self.holder.ranker.name)

    # ------------------------------------------------------------------ lists
    async def recommend(self, asked: Asked, policy: Policy) -> bytes:
        """A list as JSON, logged before it is given.

        Raises
        ------
        Problem.
        """
        self._check(asked)
        ranker = self.holder.ranker
        quick = policy.explore is None and asked.newcomer is None

        def work() -> Listed:
            return ranker.recommend(asked, policy, self._rng)

        try:
            listed = await self._answer(ranker, work, quick)
        except ParameterError as error:
            raise Problem(422, "invalid", str(error)) from error
        name = f"{self._run}-{next(self._number)}"
        if self.log is not None:
            self._write(self.log, name, ranker, asked, policy, listed)
        self.counters.list(listed.source, policy.name)
        return _json(name, ranker, policy, listed)

    def _check(self, asked: Asked) -> None:
        limits = self.limits
        history = () if asked.newcomer is None else asked.newcomer.history
        features = None if asked.newcomer is None else asked.newcomer.features
        for what, size, most in (
            ("k", asked.k, limits.k),
            ("allow", len(asked.allow or ()), limits.ids),
            ("deny", len(asked.deny), limits.ids),
            ("history", len(history), limits.history),
            ("features", len(features or ()), limits.features),
        ):
            if size > most:
                raise Problem(422, "limit", f"{what}: at most {most:,} here; got {size:,}.")

    def _write(
        self, log: ListLog, name: str, ranker: Ranker, asked: Asked, policy: Policy, listed: Listed
    ) -> None:
        try:
            log.write(
                {"list_id": name, "model": ranker.name, "user_id": listed.user, "source": listed.source}
                | policy.to_dict()
                | {
                    "k": asked.k,
                    "candidates": listed.candidates,
                    "context": context_of(ranker, asked, policy),
                    "item_id": [ranker.items.values[c] for c in listed.code],
                    "score": listed.score.tolist(),
                    "propensity": listed.propensity.tolist(),
                }
            )
        except OSError as error:
            self.counters.unlogged.inc()
            LOG.error("a list could not be logged: %s", error)
            raise Problem(
                503, "log", "the list could not be logged, and no list is served without: try again later."
            ) from error

    # ------------------------------------------------------------------ pairs
    async def score(self, pairs: list[tuple[RawId, RawId]]) -> bytes:
        """Scores as JSON.

        Raises
        ------
        Problem.
        """
        if len(pairs) > self.limits.pairs:
            raise Problem(422, "limit", f"pairs: at most {self.limits.pairs:,} here; got {len(pairs):,}.")
        ranker = self.holder.ranker
        score, source = await self._answer(ranker, lambda: ranker.score(pairs), len(pairs) <= QUICK_PAIRS)
        rows = [
            f'{{"score":{s!r},"source":"{where}"}}' for s, where in zip(score.tolist(), source, strict=True)
        ]
        return f'{{"model":"{ranker.name}","scores":[{",".join(rows)}]}}'.encode()

    # ------------------------------------------------------------------ the model
    def card(self) -> dict[str, Any]:
        """What /model tells."""
        return card_of(self.holder.ranker, self.holder.policy) | {
            "logged": self.log is not None,
            "limits": self.limits.to_dict(),
        }

    async def reload(self) -> Ranker:
        """Load the model's folder anew and serve it.

        Raises
        ------
        Problem: the folder holds no model that can be served (the old one goes on), or a reload is going on.
        """
        loop = asyncio.get_running_loop()
        try:
            ranker = await asyncio.shield(loop.run_in_executor(self._loader, self.holder.reload))
        except Busy as error:
            raise Problem(409, "busy", str(error)) from error
        except Error as error:
            self.counters.reloads.labels("refused").inc()
            LOG.error("the model goes on as it was: %s", error)
            raise Problem(409, "reload", f"{error} The model '{self.holder.ranker.name}' goes on.") from error
        self.counters.reloads.labels("done").inc()
        self.counters.serves(ranker.name)
        LOG.warning("model %s serves now", ranker.name)
        return ranker

    def close(self) -> None:
        """Let what is being computed end, and close the log."""
        self._worker.shutdown(wait=True)
        self._loader.shutdown(wait=True)
        if self.log is not None:
            self.log.close()

    # ------------------------------------------------------------------ inside
    async def _answer(self, ranker: Ranker, work: Callable[[], T], quick: bool) -> T:
        """What `work` gives, while no other question is put to the model."""
        if quick and ranker.lock.acquire(blocking=False):
            try:
                return work()
            finally:
                ranker.lock.release()
        if self._waiting >= self.limits.waiting:
            raise Problem(
                503, "busy", f"{self._waiting} requests wait for an answer already; try again later."
            )

        def locked() -> T:
            with ranker.lock:
                return work()

        self._waiting += 1
        done = asyncio.get_running_loop().run_in_executor(self._worker, locked)
        done.add_done_callback(self._one_less)
        return await asyncio.shield(done)

    def _one_less(self, done: asyncio.Future[Any]) -> None:
        self._waiting -= 1
        if not done.cancelled():
            done.exception()  # seen, even where the client has gone


def context_of(ranker: Ranker, asked: Asked, policy: Policy) -> str:
    """Twelve hexadecimal digits: lists of one user with the same are draws from the same distribution."""
    said = [
        ranker.name,
        policy.to_dict(),
        asked.k,
        asked.exclude_seen,
        None if asked.allow is None else sorted(set(map(str, asked.allow))),
        sorted(set(map(str, asked.deny))),
        None if asked.newcomer is None else [list(asked.newcomer.history), asked.newcomer.features],
    ]
    return sha256(json.dumps(said, default=list).encode()).hexdigest()[:12]


def _json(name: str, ranker: Ranker, policy: Policy, listed: Listed) -> bytes:
    ids = ranker.items.json
    rows = [
        f'{{"item_id":{ids[c]},"score":{s!r},"propensity":{p!r}}}'
        for c, s, p in zip(
            listed.code.tolist(), listed.score.tolist(), listed.propensity.tolist(), strict=True
        )
    ]
    return (
        f'{{"user_id":{json.dumps(listed.user)},"source":"{listed.source}","list_id":"{name}",'
        f'"model":"{ranker.name}","explore":"{policy.name}","unknown_items":{listed.unknown_items},'
        f'"items":[{",".join(rows)}]}}'
    ).encode()
