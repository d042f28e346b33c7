"""What a simulated world looks like: its size, who is shown how much, which ratings are seen, which items are popular.

Paper 1 describes its data sets by such quantities [Zhu2024]: Table 1 (sizes and exposures), Fig. 6 (ratings before and
after exposure), Fig. 8 (popularity) and Fig. 9 (how far each user's ratings move). A pair is exposed when it has a row
in the biased log; the population is all pairs, whose ratings only a simulator knows (`Truth`).

Ratings are whole stars from 1 to 5: where a data set has others, all quantities of ratings are NaN, as those of the
population are without a truth. NaN stands for "cannot be said".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from deconrec.data.dataset import Dataset, Truth
from deconrec.random import numpy_generator

STARS = 5
POINTS = 101  # of a curve
TENTH = 10  # one item in so many counts as one of the most shown

_EACH = range(1, STARS + 1)

QUANTITIES: dict[str, str] = {
    "users": "Number of users.",
    "items": "Number of items.",
    "density": "Pairs that are exposed, in per cent of all pairs.",
    "exposures/mean": "Items that a user is shown: mean over all users.",
    "exposures/std": "Items that a user is shown: standard deviation over all users.",
    **{f"observed/{r}": f"Share of the exposed pairs that are rated {r}." for r in _EACH},
    **{f"population/{r}": f"Share of all pairs, exposed or not, that are rated {r}." for r in _EACH},
    "shift": "Total variation distance between the ratings of the exposed pairs and those of all pairs: half the sum "
    "of the five differences of their shares. 0 = the same, 1 = no rating in common.",
    "kl": "KL divergence between a user's ratings of the items that the user was shown and of all items, "
    "KL(observed || population), in nats: mean over the users who were shown something.",
    "kl/random": "The same quantity if each user were shown as many items, drawn at random: what `kl` is by chance "
    "alone, because a few ratings never mirror all. It falls with the number of exposures.",
    "popularity/gini": "Gini coefficient of the items' exposures: 0 = all items are shown equally often, 1 = one item "
    "takes all.",
    "popularity/never": "Share of the items that no user is shown.",
    "popularity/top10": "Share of the exposures that falls on the tenth of the items shown most.",
    "popularity/top10/random": "The same share if each exposure fell on an item drawn at random: what chance gives.",
    "popularity/skewness": "Skewness of the items' exposures (third standardised moment): above 0 the long tail is on "
    "the right, as where few items are popular.",
    "popularity/skewness/random": "The same skewness if each exposure fell on an item drawn at random.",
}
"""Every quantity of a world, and what it is in words; the order of reports."""

CURVES: dict[str, str] = {
    "popularity": "Share of the users that an item is shown to, items sorted from the most shown to the least; "
    f"{POINTS} quantiles, so that catalogues of any size can be laid over each other.",
}
"""What is kept of a world as a curve over [0, 1]."""


def definitions(metrics: Sequence[str], curves: Sequence[str] = ()) -> dict[str, str]:
    """What each quantity and curve is, in words; the shares of the five ratings in one."""
    out = {}
    for metric in metrics:
        head, _, rating = metric.partition("/")
        if rating.isdigit():
            which = "the exposed pairs" if head == "observed" else "all pairs, exposed or not,"
            out[f"{head}/1, ..., {head}/{STARS}"] = f"Share of {which} that are rated 1, ..., {STARS}."
        else:
            out[metric] = QUANTITIES[metric]
    return out | {f"{name} (curve)": CURVES[name] for name in curves}


def quantities(data: Dataset, truth: Truth | None, seed: int) -> dict[str, float]:
    """Every quantity of `QUANTITIES` of one world, by name; NaN where it cannot be said.

    Parameters
    ----------
    data, truth: as a simulator gives them; real data have no truth.
    seed: draws what chance shows, for the quantities named .../random.
    """
    exposures = np.bincount(data.biased.user, minlength=data.n_users)
    out = dict.fromkeys(QUANTITIES, math.nan)
    out |= {
        "users": float(data.n_users),
        "items": float(data.n_items),
        "density": 100 * data.density,
        "exposures/mean": float(exposures.mean()),
        "exposures/std": float(exposures.std()),
    }
    shown = np.bincount(data.biased.item, minlength=data.n_items)
    chance = popularity(random_popularity(shown, seed))
    out |= popularity(shown)
    out |= {f"{n}/random": chance[n] for n in chance if f"{n}/random" in QUANTITIES}
    if not in_stars(data):
        return out
    observed = observed_counts(data)
    out |= _shares("observed", observed)
    if truth is None:
        return out
    population = population_counts(truth.rating)
    out |= _shares("population", population)
    if observed.any():
        gap = np.subtract(*(c.sum(axis=0) / c.sum() for c in (observed, population)))
        some = exposures > 0
        random = random_counts(population, exposures, seed)
        out |= {
            "shift": float(np.abs(gap).sum() / 2),
            "kl": float(divergence(observed[some], population[some]).mean()),
            "kl/random": float(divergence(random[some], population[some]).mean()),
        }
    return out


def in_stars(data: Dataset) -> bool:
    """Whether a data set says that its ratings are whole stars from 1 to 5."""
    rating = data.biased.rating
    return data.task.rating_range == (1, STARS) and bool((rating == np.round(rating)).all())


def observed_counts(data: Dataset) -> np.ndarray:
    """(n_users, 5): how many of a user's exposed items are rated 1, ..., 5."""
    cell = data.biased.user.astype(np.int64) * STARS + data.biased.rating.astype(np.int64) - 1
    return np.bincount(cell, minlength=data.n_users * STARS).reshape(-1, STARS)


def population_counts(rating: np.ndarray) -> np.ndarray:
    """(n_users, 5): how many of all items a user rates 1, ..., 5, from ratings (n_users, n_items)."""
    return np.stack([np.count_nonzero(rating == r, axis=1) for r in _EACH], axis=1)


def random_counts(population: np.ndarray, exposures: np.ndarray, seed: int) -> np.ndarray:
    """(n_users, 5): ratings of `exposures` (n_users,) items drawn from each user's `population` (n_users, 5).

    Drawn without replacement, a rating at a time: hypergeometric given those before, which is the multivariate
    hypergeometric distribution.
    """
    generator = numpy_generator(seed, "experiments.quantities/random exposure")
    out = np.empty_like(population)
    left, wanted = population.sum(axis=1), exposures.astype(np.int64)
    for r in range(STARS):
        left = left - population[:, r]
        out[:, r] = generator.hypergeometric(population[:, r], left, wanted)
        wanted = wanted - out[:, r]
    return out


def divergence(observed: np.ndarray, population: np.ndarray) -> np.ndarray:
    """(n,) KL(observed || population) of each row's distribution, in nats, from counts (n, k) with no empty row.

    Finite where what is observed is part of the population; infinite where something is observed that it lacks.
    """
    p = observed / observed.sum(axis=1, keepdims=True)
    q = population / population.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p / q), 0.0)
    # Sums of rounded terms may lie below 0, where no divergence does.
    total: np.ndarray = np.maximum(terms.sum(axis=1), 0.0)
    return total


def popularity(shown: np.ndarray) -> dict[str, float]:
    """The quantities named popularity/... from the items' exposures (n_items,); NaN without any exposure."""
    n, total = len(shown), int(shown.sum())
    if not total:
        return {"popularity/never": 1.0}
    rising = np.sort(shown).astype(np.float64)
    centred = rising - rising.mean()
    spread = math.sqrt(float((centred**2).mean()))
    return {
        "popularity/gini": float((2 * np.arange(1, n + 1) - n - 1) @ rising / (n * total)),
        "popularity/never": float(np.count_nonzero(shown == 0) / n),
        "popularity/top10": float(rising[n - math.ceil(n / TENTH) :].sum() / total),
        "popularity/skewness": float((centred**3).mean()) / spread**3 if spread else math.nan,
    }


def random_popularity(shown: np.ndarray, seed: int) -> np.ndarray:
    """(n_items,) as many exposures as `shown` (n_items,) has, each of an item drawn at random."""
    generator = numpy_generator(seed, "experiments.quantities/random popularity")
    drawn: np.ndarray = generator.multinomial(int(shown.sum()), np.full(len(shown), 1 / len(shown)))
    return drawn


def popularity_curve(data: Dataset) -> np.ndarray:
    """(101,) falling: share of the users that an item is shown to, at the quantiles 0, 0.01, ..., 1 from the top."""
    share = np.sort(np.bincount(data.biased.item, minlength=data.n_items))[::-1] / data.n_users
    curve: np.ndarray = share[np.rint(np.linspace(0, data.n_items - 1, POINTS)).astype(int)]
    return curve


def curves(data: Dataset) -> dict[str, list[float]]:
    """Every curve of `CURVES`, to five significant digits."""
    return {"popularity": [float(f"{v:.5g}") for v in popularity_curve(data)]}


def _shares(name: str, counts: np.ndarray) -> dict[str, float]:
    total = counts.sum()
    return {f"{name}/{r}": float(counts[:, r - 1].sum() / total) if total else math.nan for r in _EACH}
