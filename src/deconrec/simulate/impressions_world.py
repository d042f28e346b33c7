"""`simulate.impressions`: an impression log with clicks that a hidden confounder moves, and a known pCVR.

For an impression of item i to user u in a context x, with sigma the logistic function:

    measured     device (3), hour (24), price and depth (numbers; some prices are missing), the ids
    hidden       h = sqrt(1 - s) c_u + sqrt(s) e                       s = `idiosyncratic`; c_u, e ~ N(0, 1)
    conversion   r ~ Bernoulli(sigma(b + quality_i + f_r(x) + outcome_effect * h))
    click        o ~ Bernoulli(sigma(a + popularity_i + f_o(x) + confounding * h))

Everybody has a potential conversion; the log shows it where the impression was clicked. f_r and f_o are sums of effects
of device, hour, price and depth, and of price by device. c_u is a mood of the user that the id reveals in the long run;
e belongs to the impression and nothing reveals it. `a` and `b` are solved so that the mean chances are `click_rate` and
`conversion_rate`. The randomised log holds further impressions of the same kind whose click was forced.

The truth's outcome is pCVR = P(r = 1 | a forced click, u, i, x), that is, with e averaged over: what a model could at
best know. Among clicked impressions conversions are more frequent by the selection on e, and the more so the larger
`confounding` is; at 0 the clicked rows are right everywhere, and only fewer where clicks are rare.

Source. The world is the library's own; the setting is that of the paper on Res-IPS and Res-DR.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.special import expit

from deconrec.data.dataset import Dataset, Truth
from deconrec.random import numpy_generator
from deconrec.simulate.pairs_world import level_of, nominal_propensity
from deconrec.simulate.ranges import check_count, check_number

CONTEXT = ("device", "hour", "price", "depth")
DEVICES = ("desktop", "phone", "tablet")


def impressions(
    *,
    n_impressions: int = 60_000,
    n_users: int = 2000,
    n_items: int = 300,
    confounding: float = 1.0,
    unbiased_share: float = 0.02,
    click_rate: float = 0.15,
    conversion_rate: float = 0.2,
    idiosyncratic: float = 0.5,
    outcome_effect: float = 1.5,
    quality_effect: float = 0.7,
    popularity_effect: float = 0.7,
    context_effect: float = 1.0,
    context_overlap: float = 0.3,
    missing: float = 0.05,
    seed: int = 0,
) -> tuple[Dataset, Truth]:
    """A world of impressions where hidden confounding is one dial.

    Effects are changes of a logit for one standard deviation of their cause. Users are text ("u00042"), items numbers.

    Parameters
    ----------
    n_impressions, n_users, n_items: sizes, >= 100, >= 2, >= 2.
    confounding: effect of the hidden confounder on clicks, in [0, 10]; 0 = none.
    unbiased_share: impressions with a forced click, as a share of `n_impressions`, in [0, 1]; 0 = no such log.
    click_rate, conversion_rate: mean chances over all impressions, in (0, 1).
    idiosyncratic: share of the confounder's variance that belongs to a single impression, in [0, 1].
    outcome_effect: effect of the hidden confounder on conversions, in [0, 10].
    quality_effect, popularity_effect: effects of an item's quality on conversions, of its popularity on clicks.
    context_effect: effect of the context on either, in [0, 10].
    context_overlap: correlation of what the context does to clicks and to conversions, in [-1, 1].
    missing: share of impressions without a price, in [0, 1).

    Returns the data set and its truth: `outcome` (n,) pCVR, `rating` (n,) potential conversions, `propensity` (n,)
    P(click | everything), `nominal_propensity` (n,) P(click | u, i, x), `confounder` (n, 1) h; all in the order of the
    table of impressions.

    Raises
    ------
    ParameterError: a parameter out of range.
    """
    who = "simulate.impressions"
    check_count(who, "n_impressions", n_impressions, 100)
    for name, size in (("n_users", n_users), ("n_items", n_items)):
        check_count(who, name, size, 2)
    check_count(who, "seed", seed, 0)
    effects = {
        "confounding": confounding,
        "outcome_effect": outcome_effect,
        "quality_effect": quality_effect,
        "popularity_effect": popularity_effect,
        "context_effect": context_effect,
    }
    for name, effect in effects.items():
        check_number(who, name, effect, 0, 10)
    for name, rate in (("click_rate", click_rate), ("conversion_rate", conversion_rate)):
        check_number(who, name, rate, 0, 1, open_low=True, open_high=True)
    check_number(who, "unbiased_share", unbiased_share, 0, 1, meaning="0 = no randomised log")
    check_number(who, "idiosyncratic", idiosyncratic, 0, 1)
    check_number(who, "context_overlap", context_overlap, -1, 1)
    check_number(who, "missing", missing, 0, 1, open_high=True)

    def stream(name: str) -> np.random.Generator:
        return numpy_generator(seed, f"simulate.impressions/{name}")

    quality, popularity = (stream(name).standard_normal(n_items) for name in ("quality", "popularity"))
    mood = stream("mood").standard_normal(n_users)
    activity = stream("activity").dirichlet(np.full(n_users, 1.0))
    supply = stream("supply").dirichlet(np.full(n_items, 2.0))
    liked, drawn_to = _weights(stream("context weights"), context_overlap)

    def drawn(name: str, n: int) -> dict[str, np.ndarray]:
        """Impressions: ids, context, hidden confounder, and both logits without their levels and e's part."""
        rng = stream(f"{name} context")
        user = stream(f"{name} users").choice(n_users, n, p=activity)
        item = stream(f"{name} items").choice(n_items, n, p=supply)
        device, hour = rng.integers(0, len(DEVICES), n), rng.integers(0, 24, n)
        price, depth = rng.standard_normal(n), rng.exponential(1.0, n)
        x = _causes(device, hour, price, depth)
        lasting = np.sqrt(1 - idiosyncratic) * mood[user]
        e = np.sqrt(idiosyncratic) * stream(f"{name} confounder").standard_normal(n)
        return {
            "user": user,
            "item": item,
            "device": device,
            "hour": hour,
            "price": np.exp(3 + 0.5 * price),
            "depth": depth,
            "unpriced": rng.random(n) < missing,
            "e": e,
            "h": lasting + e,
            "conversion": quality_effect * quality[item]
            + context_effect * (x @ liked)
            + outcome_effect * lasting,
            "click": popularity_effect * popularity[item]
            + context_effect * (x @ drawn_to)
            + confounding * lasting,
            "chance": stream(f"{name} conversions").random(n),
        }

    shown = drawn("shown", n_impressions)
    b = level_of((shown["conversion"] + outcome_effect * shown["e"]).astype(np.float32), conversion_rate)
    a = level_of((shown["click"] + confounding * shown["e"]).astype(np.float32), click_rate)
    converts = shown["chance"] < expit(b + shown["conversion"] + outcome_effect * shown["e"])
    propensity = expit(a + shown["click"] + confounding * shown["e"])
    click = stream("clicks").random(n_impressions) < propensity
    table = _frame(shown, click, click & converts)
    unbiased = None
    if unbiased_share:
        forced = drawn("forced", max(1, round(unbiased_share * n_impressions)))
        known = forced["chance"] < expit(b + forced["conversion"] + outcome_effect * forced["e"])
        unbiased = _frame(forced, np.ones(len(known), bool), known)
    data = Dataset.from_impressions(
        table, context=CONTEXT, unbiased=unbiased, categorical=("hour",), name="sim-impressions"
    )
    spread = np.sqrt(idiosyncratic)
    truth = Truth(
        outcome=nominal_propensity(b + shown["conversion"], outcome_effect * spread),
        rating=converts.astype(np.int8),
        propensity=propensity,
        nominal_propensity=nominal_propensity(a + shown["click"], confounding * spread),
        confounder=shown["h"][:, None],
    )
    return data, truth


def _causes(device: np.ndarray, hour: np.ndarray, price: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """(n, 6) causes in the context, each of mean 0 and variance 1."""
    time = 2 * np.pi * hour / 24
    phone = (device == 1) * 1.0
    wide = np.sqrt(1.5) * (device - 1)  # desktop, phone and tablet at -, 0, +
    return np.column_stack(
        [
            wide,
            (phone - 1 / 3) / np.sqrt(2 / 9),
            np.sqrt(2) * np.sin(time),
            price,
            depth - 1.0,
            price * wide,
        ]
    )


def _weights(rng: np.random.Generator, overlap: float) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors of weights of the causes, with cosine `overlap`."""
    liked, other = rng.standard_normal((2, 6))
    liked /= np.linalg.norm(liked)
    other -= (other @ liked) * liked
    other /= np.linalg.norm(other)
    return liked, overlap * liked + np.sqrt(1 - overlap**2) * other


def _frame(rows: dict[str, np.ndarray], click: np.ndarray, conversion: np.ndarray) -> pl.DataFrame:
    """Impressions as a log has them."""
    price = pl.Series("price", rows["price"])
    return pl.DataFrame(
        {
            "user_id": pl.Series([f"u{u:05d}" for u in rows["user"].tolist()]),
            "item_id": rows["item"],
            "click": click.astype(np.int8),
            "conversion": pl.Series(conversion.astype(np.int8)).zip_with(
                pl.Series(click), pl.Series([None] * len(click), dtype=pl.Int8)
            ),
            "device": pl.Series(np.array(DEVICES)[rows["device"]]),
            "hour": rows["hour"],
            "price": price.zip_with(
                pl.Series(~rows["unpriced"]), pl.Series([None] * len(price), dtype=pl.Float64)
            ),
            "depth": rows["depth"],
        }
    )
