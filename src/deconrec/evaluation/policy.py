"""Exploring policies: lists drawn at random from a stated distribution, and the propensity of every item shown.

A log drawn so needs no model of its exposure: it can train with known propensities and be evaluated off policy
(paper 1, B.5 [Zhu2024]).

epsilon-greedy   the list is filled from the top: with probability epsilon a place goes to a candidate drawn uniformly
                 from those not shown yet, otherwise to the best of them (ties: the smaller index)
plackett-luce    candidates are drawn one by one without replacement, with probability proportional to
                 exp(score / temperature) among those not shown yet
posterior        one of the draws that a model keeps of its posterior is taken, uniformly, and the list is its best
                 items (Thompson sampling over these draws): explores where the model is unsure, and nowhere else

The propensity is P(the item is in the list), for any place of it: what inverse-propensity weighting of shown items
needs. `at_rank` gives P(the item is at that place) for epsilon-greedy, and `step` the probability of each draw given
the places above, whose product is the probability of the whole list. For Plackett-Luce see `inclusion`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from deconrec.errors import ParameterError
from deconrec.evaluation.inclusion import in_list

POLICIES = ("epsilon-greedy", "plackett-luce", "posterior")


@dataclass(frozen=True, eq=False)
class Shown:
    """Lists that were drawn, best place first.

    Attributes
    ----------
    item: (n, k) int64 candidates' indices; -1 where a user has fewer than k candidates.
    propensity: (n, k) P(the item is in the list), in (0, 1]; NaN where item is -1.
    step: (n, k) probability of the draw given the places above, in (0, 1]; NaN where item is -1.
    """

    item: np.ndarray
    propensity: np.ndarray
    step: np.ndarray


def draw(
    policy: str,
    scores: np.ndarray,
    k: int,
    rngs: Sequence[np.random.Generator],
    *,
    epsilon: float = 0.1,
    temperature: float = 0.1,
) -> Shown:
    """Draw a list of k items for each row of scores (n, n_items), -inf for what is no candidate.

    Parameters
    ----------
    rngs: n generators, one a row, so that a list does not depend on who else is asked for.
    epsilon: of epsilon-greedy, in (0, 1].
    temperature: of plackett-luce, in the score's unit, > 0.

    Raises
    ------
    ParameterError: no such policy, or an argument out of range.
    """
    check_policy(policy, epsilon, temperature)
    if policy == "posterior":
        raise ParameterError("'posterior' draws from a model's posterior: use draw_posterior.")
    scores = np.asarray(scores, np.float64)
    out = Shown(
        np.full((len(scores), k), -1, np.int64),
        np.full((len(scores), k), np.nan),
        np.full((len(scores), k), np.nan),
    )
    for row, (values, rng) in enumerate(zip(scores, rngs, strict=True)):
        candidates = np.flatnonzero(values > -np.inf)
        size = min(k, len(candidates))
        if not size:
            continue
        if policy == "epsilon-greedy":
            shown, p, step = _epsilon_greedy(values[candidates], size, epsilon, rng)
        else:
            shown, p, step = _plackett_luce(values[candidates], size, temperature, rng)
        out.item[row, :size] = candidates[shown]
        out.propensity[row, :size], out.step[row, :size] = p, step
    return out


def draw_posterior(scores: np.ndarray, k: int, rngs: Sequence[np.random.Generator]) -> Shown:
    """The k best items of one draw for each user; scores (K, n, n_items) of K draws, -inf for what is no candidate.

    A propensity is the share of the draws whose list holds the item, ties going to the smaller index.
    """
    n_draws, n, n_items = scores.shape
    out = Shown(np.full((n, k), -1, np.int64), np.full((n, k), np.nan), np.full((n, k), np.nan))
    for row, rng in enumerate(rngs):
        size = min(k, int((scores[0, row] > -np.inf).sum()))
        if not size:
            continue
        lists = np.argsort(-scores[:, row], axis=1, kind="stable")[:, :size]
        shown = lists[rng.integers(n_draws)]
        out.item[row, :size] = shown
        out.propensity[row, :size] = np.bincount(lists.reshape(-1), minlength=n_items)[shown] / n_draws
        alike = np.ones(n_draws, bool)
        for place in range(size):
            above, alike = alike.sum(), alike & (lists[:, place] == shown[place])
            out.step[row, place] = alike.sum() / above
    return out


def check_policy(policy: str, epsilon: float, temperature: float) -> None:
    """Refuse a policy that there is not, or parameters out of range.

    Raises
    ------
    ParameterError.
    """
    if policy not in POLICIES:
        raise ParameterError(
            f"'explore' must be {', '.join(map(repr, POLICIES[:-1]))} or {POLICIES[-1]!r}; got {policy!r}."
        )
    if not _number(epsilon) or not 0 < epsilon <= 1:
        raise ParameterError(
            f"'epsilon' must be a number in (0, 1] (0 never explores: items have no propensity); got {epsilon!r}."
        )
    if not _number(temperature) or temperature <= 0:
        raise ParameterError(f"'temperature' must be a finite number > 0; got {temperature!r}.")


def _number(value: object) -> bool:
    return (
        isinstance(value, int | float | np.number)
        and not isinstance(value, bool)
        and bool(np.isfinite(value))
    )


# ---------------------------------------------------------------------- epsilon-greedy
def _epsilon_greedy(
    score: np.ndarray, k: int, epsilon: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order = np.argsort(-score, kind="stable")
    n = len(order)
    free = np.ones(n, bool)  # by place in the greedy order
    places, steps = np.empty(k, np.int64), np.empty(k)
    best = 0
    for t in range(k):
        while not free[best]:
            best += 1
        if rng.random() < epsilon:
            place = int(np.flatnonzero(free)[rng.integers(n - t)])
        else:
            place = best
        steps[t] = epsilon / (n - t) + (1 - epsilon) * (place == best)
        places[t], free[place] = place, False
    return order[places], _by_rank(n, k, epsilon)[np.minimum(places, k)].sum(1), steps


def at_rank(n: int, k: int, epsilon: float) -> np.ndarray:
    """(n, k) P(the candidate of greedy rank m is at place t) under epsilon-greedy, exactly; summed: in the list."""
    return _by_rank(n, k, epsilon)[np.minimum(np.arange(n), k)]


@lru_cache(maxsize=4096)
def _by_rank(n: int, k: int, epsilon: float) -> np.ndarray:
    """(min(n, k + 1), k) rows of `at_rank`: that of rank k is the row of every later one, which is never the best left.

    By recursion over places: what matters for a candidate is how many of the m better ones were shown before.
    """
    m = np.arange(min(n, k + 1))
    # alive[m, h]: P(candidate m not shown yet, h better ones shown).
    alive = np.zeros((len(m), k + 1))
    alive[:, 0] = 1.0
    out = np.empty((len(m), k))
    for t in range(k):
        better = np.maximum(m[:, None] - np.arange(k + 1), 0)  # better candidates that are left
        left = n - t
        top = better == 0
        hit = epsilon / left + (1 - epsilon) * top
        up = epsilon * better / left + (1 - epsilon) * ~top
        out[:, t] = (alive * hit).sum(1)
        moved = alive * up
        alive = alive * np.maximum(1 - hit - up, 0.0)
        alive[:, 1:] += moved[:, :-1]
    out.flags.writeable = False
    return out


# ---------------------------------------------------------------------- Plackett-Luce
def _plackett_luce(
    score: np.ndarray, k: int, temperature: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    utility = score / temperature
    utility = utility - utility.max()
    shown = np.argsort(-(utility + rng.gumbel(size=len(utility))), kind="stable")[:k]
    steps, free = np.empty(k), np.ones(len(utility), bool)
    for t, i in enumerate(shown):
        top = utility[free].max()
        steps[t] = np.exp(utility[i] - top) / np.exp(utility[free] - top).sum()
        free[i] = False
    return shown, in_list(utility, shown), steps
