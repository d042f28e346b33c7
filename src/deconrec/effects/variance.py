"""The variance theorem (paper 1, section 4.3 and A.2): what a pre-treatment variable does for the precision of effects.

    Var(w_ols) -> sigma^2 / (U p (1 - p)),   sigma^2 = Var(r | a) without x, Var(r | x, a) with it

A user's features that move outcomes and no exposure leave the estimate where it is and make it more precise. (The
residual of Eq. 16 is r - w a - alpha; its signs are misprinted.)
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np

from deconrec.effects.regression import one_at_a_time
from deconrec.random import numpy_generator
from deconrec.simulate.ranges import check_count, check_number


@dataclass(frozen=True)
class VariancePoint:
    """Variance of the least-squares effect over fresh samples of users.

    Attributes
    ----------
    feature_effect: weight of x in the outcome.
    without_x, with_x: variance over the samples.
    theory_without, theory_with: sigma^2 / (U p (1 - p)).
    error: relative standard error of a variance from so many samples, sqrt(2 / (samples - 1)).
    """

    feature_effect: float
    without_x: float
    with_x: float
    theory_without: float
    theory_with: float
    error: float


@dataclass(frozen=True)
class VarianceTheorem:
    """The theorem checked at several weights of x."""

    n_users: int
    exposure_rate: float
    noise: float
    samples: int
    points: tuple[VariancePoint, ...]

    @property
    def worst(self) -> float:
        """Largest relative departure of a variance from the theorem, in its standard errors."""
        return max(
            abs(got / want - 1) / p.error
            for p in self.points
            for got, want in ((p.without_x, p.theory_without), (p.with_x, p.theory_with))
        )

    def to_json(self) -> str:
        """JSON."""
        return json.dumps({"kind": "variance-theorem", **asdict(self)}, indent=1, allow_nan=False)

    def __str__(self) -> str:
        lines = [
            f"OLS variance of an effect, {self.n_users:,} users, p = {self.exposure_rate:g}, {self.samples:,} samples; "
            f"largest departure {self.worst:.1f} standard errors"
        ]
        for p in self.points:
            lines.append(
                f"  weight of x {p.feature_effect:g}: without x {p.without_x:.3g} (theory {p.theory_without:.3g}), "
                f"with x {p.with_x:.3g} (theory {p.theory_with:.3g})"
            )
        return "\n".join(lines)


def variance_theorem(
    *,
    n_users: int = 500,
    exposure_rate: float = 0.3,
    feature_effects: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0),
    noise: float = 1.0,
    samples: int = 2000,
    seed: int = 0,
) -> VarianceTheorem:
    """Least-squares effects on fresh samples r = 0.5 a + f x + e, x and e standard normal times f and `noise`.

    a, x and e are drawn afresh for every sample. At n_users >= 100 the theorem's limit is within some per cent of the
    variance of finite samples.

    Raises
    ------
    ParameterError: an argument out of range.
    """
    who = "variance_theorem"
    check_count(who, "n_users", n_users, 100)
    check_count(who, "samples", samples, 10)
    check_count(who, "seed", seed, 0)
    check_number(who, "exposure_rate", exposure_rate, 0.05, 0.95)
    check_number(who, "noise", noise, 0, open_low=True)
    points = []
    for f in feature_effects:
        rng = numpy_generator(seed, f"variance theorem/{f:g}")
        effects = np.empty((2, samples))
        for k in range(samples):
            a = (rng.random((n_users, 1)) < exposure_rate).astype(np.float64)
            x = rng.standard_normal((n_users, 1))
            r = 0.5 * a + f * x + noise * rng.standard_normal((n_users, 1))
            for which, given in enumerate((x[:, :0], x)):
                effects[which, k] = one_at_a_time(a, r, given).effect[0, 0]
        scale = n_users * exposure_rate * (1 - exposure_rate)
        without_x, with_x = effects.var(axis=1, ddof=1)
        points.append(
            VariancePoint(
                float(f),
                float(without_x),
                float(with_x),
                (f**2 + noise**2) / scale,
                noise**2 / scale,
                float(np.sqrt(2 / (samples - 1))),
            )
        )
    return VarianceTheorem(n_users, exposure_rate, noise, samples, tuple(points))
