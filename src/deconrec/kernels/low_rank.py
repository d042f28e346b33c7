"""Low-rank features of a Gaussian kernel on feature vectors, by Nystrom's method [Williams2001].

    K(x, y) = exp(-|x - y|^2 / (4 F))      F columns of deviation 1: between typical vectors K is exp(-1/2)
    phi(x)  = K(x, L) V lambda^-1/2         L landmarks, V and lambda the leading eigenvectors and -values of K(L, L)

Columns of two values, categories as a rule, share one scale: members of a rare one are not far from everybody.
phi(x) . phi(y) is then the kernel's best approximation of that rank on the landmarks. Features are centred, and scaled
so that the mean square of their length is 1: a coefficient's variance means the same whatever they were made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

LANDMARKS = 1000  # NOTE their kernel matrix is decomposed once, in about a second
SMALLEST = 1e-6  # of the largest eigenvalue: below, directions are rounding


@dataclass(frozen=True, eq=False)
class LowRank:
    """A fitted map from features to low-rank kernel features.

    Attributes
    ----------
    mean, scale: (F,) of the columns that vary.  columns: (F,) their positions.
    landmarks: (L, F) standardised.  projection: (L, r).  centre: (r,) subtracted from the features.
    """

    mean: np.ndarray
    scale: np.ndarray
    columns: np.ndarray
    landmarks: np.ndarray
    projection: np.ndarray
    centre: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, rank: int, rng: np.random.Generator) -> LowRank:
        """The map fitted to feature vectors x (n, F); at most `rank` features, none where no column varies."""
        x = np.asarray(x, np.float64)
        scale = x.std(0) if len(x) else np.zeros(x.shape[1])
        columns = np.flatnonzero(scale > 1e-6)
        mean, scale = x[:, columns].mean(0) if len(x) else scale[columns], scale[columns].copy()
        two = [len(np.unique(x[:, column])) == 2 for column in columns]
        if any(two):
            width = np.ptp(x[:, columns[two]], axis=0)  # 0 and 1, whatever their unit
            scale[two] = width * np.sqrt(((scale[two] / width) ** 2).mean())
        x = (x[:, columns] - mean) / scale
        chosen = np.sort(rng.choice(len(x), min(LANDMARKS, len(x)), replace=False))
        landmarks = x[chosen]
        if not len(columns):
            return cls(mean, scale, columns, landmarks, np.zeros((len(landmarks), 0)), np.zeros(0))
        value, vector = np.linalg.eigh(kernel(landmarks, landmarks))
        value, vector = value[::-1][:rank], vector[:, ::-1][:, :rank]
        keep = value > SMALLEST * value[0]
        # In the order that a saved array has, so that a loaded map rounds alike.
        projection = np.ascontiguousarray(vector[:, keep] / np.sqrt(value[keep]))
        features = kernel(x, landmarks) @ projection
        centre = features.mean(0)
        length = np.sqrt(((features - centre) ** 2).sum(1).mean())
        length = length if length > 0 else 1.0
        return cls(mean, scale, columns, landmarks, projection / length, centre / length)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(n, r) float32 features of x (n, F), with the columns that the map was fitted to."""
        x = (np.asarray(x, np.float64)[:, self.columns] - self.mean) / self.scale
        return np.asarray(kernel(x, self.landmarks) @ self.projection - self.centre, np.float32)

    def state(self) -> dict[str, np.ndarray]:
        """Arrays by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def restored(cls, state: Mapping[str, np.ndarray]) -> LowRank:
        """The inverse of `state`."""
        return cls(**{name: np.array(state[name]) for name in cls.__dataclass_fields__})


def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n, m) Gaussian kernel of standardised rows x (n, F) and y (m, F)."""
    square = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2.0 * (x @ y.T)
    out: np.ndarray = np.exp(np.maximum(square, 0.0) / (-4.0 * max(x.shape[1], 1)))
    return out
