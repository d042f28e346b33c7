"""How an outcome follows from a score f: an ordered probit for levels, least squares for a continuous rating.

Ordered probit [Albert1993], with cuts c_1 < ... < c_L between L + 1 levels; a binary outcome has one:

    y = f + e,  e ~ N(0, 1)        the level is l where c_l < y < c_l+1        P(level >= l) = Phi(f - c_l)
    E[outcome] = low + sum_l gain_l Phi((f - c_l) / sqrt(1 + v))               v  variance of f, averaged over

Given f and the level, y is a truncated normal: once drawn, every update of f is a regression with noise of variance 1.
One cut is 0, as f has a level of its own; the others are the most probable ones given f. A row with w copies counts as
w independent ratings of the same level: its y is their mean, with precision w.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from scipy.special import ndtr, ndtri

CHUNK = 100_000  # rows whose temporaries are held at once
RARE = 1e-12  # probabilities nearer to 0 and 1 are cut: the normal's 7 standard deviations
CUT_ROWS = (
    200_000  # NOTE rows, drawn anew in each sweep, that cuts are fitted to: their noise is then below 0.005
)
MOST = 0.3  # largest step of a cut
TIGHT = 1.0  # weight of a cut's starting value, in rows
EDGE = 0.05  # NOTE predicted outcomes within this of 0 and 1 are bent, not cut: ranks stay


class Response(Protocol):
    """What a sampler of f, and the answers made from f, ask of a response."""

    @property
    def unit(self) -> float:
        """Size of the noise that f is measured against, for the scale of priors."""
        ...

    def target(
        self, f: np.ndarray, copies: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """(y (N,), precision (N,)) float32 of a regression on f, drawn given f (N,)."""
        ...

    def likely_target(self, f: np.ndarray) -> np.ndarray:
        """(N,) E[y] given f, whatever the copies."""
        ...

    def adjusted(self, f: np.ndarray, copies: np.ndarray, rng: np.random.Generator) -> Self:
        """The response with its own parameters brought up to date with f."""
        ...

    def expected(self, f: np.ndarray, variance: np.ndarray | float = 0.0) -> np.ndarray:
        """Expected outcome in [0, 1], of the shape of f; increasing in f."""
        ...

    def quantiles(self, f: np.ndarray, parameters: Sequence[np.ndarray], at: Sequence[float]) -> np.ndarray:
        """(len(at), N) quantiles of a single outcome in [0, 1], noise included, over S draws of f (S, N)."""
        ...

    @property
    def parameters(self) -> np.ndarray:
        """Its parameters as one vector."""
        ...

    def with_parameters(self, values: np.ndarray) -> Self:
        """The response with other parameters."""
        ...


@dataclass(frozen=True, eq=False)
class Ordinal:
    """Levels, in order; ratings of a few distinct values.

    Attributes
    ----------
    level: (N,) int, the level of each row; empty where only answers are asked for.
    cuts: (L,) increasing; cuts[anchor] = 0.
    gain: (L,) >= 0: what the outcome gains from level l to l + 1; low: the outcome of the lowest level.
    start: (L,) cuts that the rows pull away from.
    centre: the score of a typical row, by the shares that the cuts start from.
    """

    level: np.ndarray
    cuts: np.ndarray
    gain: np.ndarray
    low: float
    anchor: int
    start: np.ndarray
    centre: float = 0.0

    @classmethod
    def of(cls, level: np.ndarray, outcome: np.ndarray, share: np.ndarray, anchor: int) -> Ordinal:
        """The response of rows of these levels.

        outcome: (L + 1,) of each level, in [0, 1], not falling. share: (L + 1,) > 0, of each level, for the first
        cuts. anchor: the cut that is 0.
        """
        below = np.cumsum(share / share.sum())[:-1]
        cuts = ndtri(np.clip(below, 1e-4, 1 - 1e-4))
        centre, cuts = -float(cuts[anchor]), cuts - cuts[anchor]
        return cls(level, cuts, np.diff(outcome), float(outcome[0]), anchor, cuts, centre)

    @property
    def unit(self) -> float:
        """The noise has variance 1."""
        return 1.0

    def _between(self, f: np.ndarray, at: slice) -> tuple[np.ndarray, np.ndarray]:
        """(lower, upper) ends of each row's interval of noise, y - f; (n,) float64."""
        ends = np.concatenate([[-np.inf], self.cuts, [np.inf]])
        return ends[self.level[at]] - f[at], ends[self.level[at] + 1] - f[at]

    def target(
        self, f: np.ndarray, copies: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The mean of the copies' truncated normals, with their number as its precision."""
        y = np.empty(len(f), np.float32)
        most = int(copies.max(initial=1))
        for start in range(0, len(f), CHUNK):
            at = slice(start, start + CHUNK)
            below, above = (ndtr(z) for z in self._between(f, at))
            total = np.zeros(len(below))
            for copy in range(most):
                drawn = below + (above - below) * rng.random(len(below))
                noise = ndtri(np.clip(drawn, RARE, 1 - RARE))
                total += noise if most == 1 else np.where(copy < copies[at], noise, 0.0)
            y[at] = f[at] + total / copies[at]
        return y, copies.astype(np.float32)

    def likely_target(self, f: np.ndarray) -> np.ndarray:
        """F and the mean of the truncated normal."""
        lower, upper = self._between(f.astype(np.float64, copy=False), slice(None))
        density = np.exp(-0.5 * lower**2) - np.exp(-0.5 * upper**2)
        noise = density / np.sqrt(2 * np.pi) / np.maximum(ndtr(upper) - ndtr(lower), RARE)
        # Far out, the mean of the noise is the end of its interval.
        return np.asarray(f + np.clip(noise, lower, upper), np.float32)

    def adjusted(self, f: np.ndarray, copies: np.ndarray, rng: np.random.Generator) -> Ordinal:
        """One Newton step of the cuts, but for the one that is 0, on the log-likelihood given f."""
        free = np.arange(len(self.cuts)) != self.anchor
        if not free.any():
            return self
        n, at = len(self.cuts), slice(None)
        rows = self
        if len(f) > CUT_ROWS:
            some = rng.integers(0, len(f), CUT_ROWS)
            rows, f, copies = replace(self, level=self.level[some]), f[some], copies[some]
        lower, upper = rows._between(f.astype(np.float64, copy=False), at)
        p = np.maximum(ndtr(upper) - ndtr(lower), RARE)
        low, high = (np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi) / p for z in (lower, upper))
        with np.errstate(invalid="ignore"):  # an infinite end has density 0
            steep_low = np.where(np.isfinite(lower), low * (lower - low), 0.0)
            steep_high = np.where(np.isfinite(upper), -high * (upper + high), 0.0)

        def by_level(values: np.ndarray) -> np.ndarray:
            return np.bincount(rows.level, copies * values, n + 1)

        # Cut j is the upper end of level j and the lower end of level j + 1.
        gradient = TIGHT * (self.start - self.cuts) + by_level(high)[:-1] - by_level(low)[1:]
        curvature = np.diag(by_level(steep_high)[:-1] + by_level(steep_low)[1:]) - TIGHT * np.eye(n)
        across = by_level(low * high)[1:-1]
        curvature += np.diag(across, 1) + np.diag(across, -1)
        step = np.zeros(n)
        step[free] = np.linalg.solve(curvature[np.ix_(free, free)], gradient[free])
        cuts = np.sort(self.cuts - np.clip(step, -MOST, MOST))
        return replace(self, cuts=cuts - cuts[self.anchor])

    def expected(self, f: np.ndarray, variance: np.ndarray | float = 0.0) -> np.ndarray:
        """E[outcome], f normal around `f` with that variance; in f's precision."""
        wide = np.sqrt(f.dtype.type(1.0) + variance)
        out = np.full(np.broadcast(f, wide).shape, self.low, f.dtype)
        for cut, gain in zip(self.cuts.astype(f.dtype), self.gain.astype(f.dtype), strict=True):
            if gain:
                out += gain * normal_cdf((f - cut) / wide)
        return out

    def quantiles(self, f: np.ndarray, parameters: Sequence[np.ndarray], at: Sequence[float]) -> np.ndarray:
        """The outcome of the least level whose probability, with all below it, reaches each of `at`."""
        reached = np.zeros((len(self.cuts), f.shape[1]))  # P(level >= l)
        for drawn, cuts in zip(f, parameters, strict=True):
            reached += normal_cdf((drawn - cuts[:, None]).astype(np.float64)) / len(f)
        value = self.low + np.concatenate([[0.0], np.cumsum(self.gain)])
        return np.stack([value[(1.0 - reached < p).sum(0)] for p in at])

    @property
    def parameters(self) -> np.ndarray:
        """The cuts."""
        return self.cuts

    def with_parameters(self, values: np.ndarray) -> Ordinal:
        """Other cuts."""
        return replace(self, cuts=np.asarray(values, np.float64))

    def state(self) -> dict[str, np.ndarray]:
        """Arrays by name, without the rows."""
        return {
            "cuts": self.cuts,
            "gain": self.gain,
            "low": np.array([self.low]),
            "anchor": np.array([self.anchor]),
        }


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Continuous ratings in [0, 1].

    Attributes
    ----------
    outcome: (N,) of each row; empty where only answers are asked for.
    variance: of the noise.
    """

    outcome: np.ndarray
    variance: float

    @classmethod
    def of(cls, outcome: np.ndarray) -> Gaussian:
        """The response of these outcomes."""
        return cls(outcome.astype(np.float32), max(float(outcome.var()) if len(outcome) else 0.0, 1e-3))

    @property
    def centre(self) -> float:
        """The score of a typical row."""
        return float(self.outcome.mean()) if len(self.outcome) else 0.5

    @property
    def unit(self) -> float:
        """The noise's standard deviation."""
        return float(np.sqrt(self.variance))

    def target(
        self, f: np.ndarray, copies: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The outcome itself."""
        return self.outcome, (copies / self.variance).astype(np.float32)

    def likely_target(self, f: np.ndarray) -> np.ndarray:
        """The outcome itself."""
        return self.outcome

    def adjusted(self, f: np.ndarray, copies: np.ndarray, rng: np.random.Generator) -> Gaussian:
        """The variance drawn given f, under a prior worth two rows of 0.05."""
        rest = float(copies @ (self.outcome - f) ** 2)
        return replace(self, variance=(rest / 2 + 0.05) / rng.gamma(1.0 + len(f) / 2))

    def expected(self, f: np.ndarray, variance: np.ndarray | float = 0.0) -> np.ndarray:
        """f, bent at 0 and 1."""
        return bent(f)

    def quantiles(self, f: np.ndarray, parameters: Sequence[np.ndarray], at: Sequence[float]) -> np.ndarray:
        """Those of a normal with the draws' mean and variance and the noise's, cut at 0 and 1."""
        spread = np.sqrt(f.var(0) + np.mean([v[0] for v in parameters]))
        return np.clip(f.mean(0) + ndtri(np.asarray(at))[:, None] * spread, 0.0, 1.0)

    @property
    def parameters(self) -> np.ndarray:
        """The variance."""
        return np.array([self.variance])

    def with_parameters(self, values: np.ndarray) -> Gaussian:
        """Another variance."""
        return replace(self, variance=float(values[0]))

    def state(self) -> dict[str, np.ndarray]:
        """Arrays by name, without the rows."""
        return {"variance": np.array([self.variance])}


def restored(state: Mapping[str, np.ndarray]) -> Ordinal | Gaussian:
    """The inverse of `state`."""
    if "variance" in state:
        return Gaussian(np.zeros(0, np.float32), float(state["variance"][0]))
    cuts = np.array(state["cuts"])
    low, anchor = float(state["low"][0]), int(state["anchor"][0])
    return Ordinal(np.zeros(0, np.int64), cuts, np.array(state["gain"]), low, anchor, cuts)


def normal_cdf(z: np.ndarray) -> np.ndarray:
    """P(N(0, 1) < z), of the shape and precision of z, exact to its last digits in the lower tail too."""
    if z.dtype == np.float64:
        return np.asarray(ndtr(z))
    import torch  # here: methods that share this room without networks do without it

    # A sixth of the time of scipy's.
    tail = torch.erfc(torch.from_numpy(np.asarray(z * np.float32(-np.sqrt(0.5)), np.float32)))
    return tail.numpy() * np.float32(0.5)


def bent(score: np.ndarray) -> np.ndarray:
    """An increasing map into (0, 1) that is the identity on [EDGE, 1 - EDGE] and bends exponentially beyond."""
    score = np.asarray(score, np.float64)
    below = EDGE * np.exp(np.minimum(score - EDGE, 0.0) / EDGE)
    above = 1.0 - EDGE * np.exp(np.minimum(1.0 - EDGE - score, 0.0) / EDGE)
    return np.where(score < EDGE, below, np.where(score > 1.0 - EDGE, above, score))
