"""Bad input to every method: refused with what to do, or answered as docs/guides/bad-input.md says.

The world has 12 users, 8 items, about half of the cells in the biased log and a quarter in the randomised one.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
import polars as pl
import pytest

from deconrec.base import Estimator
from deconrec.checks import cheap
from deconrec.checks.bench import quiet
from deconrec.data.dataset import Dataset, Log
from deconrec.errors import DataError, DeconrecWarning, MissingUnbiasedLog, ParameterError
from deconrec.methods import METHODS, make
from deconrec.propensity import Known, NaiveBayes, Popularity

SHAPE = (12, 8)
RNG = np.random.default_rng(0)
BOARD = (RNG.random(SHAPE) < 0.45).astype(np.float32)
STARS = RNG.integers(1, 6, SHAPE).astype(np.float32)
SEEN = RNG.random(SHAPE) < 0.5
RANDOM = RNG.random(SHAPE) < 0.25
BINARY = {"rating_range": (0.0, 1.0), "binarize": 0.5}
RATINGS = {"rating_range": (1.0, 5.0)}
USERS = pl.DataFrame({"user_id": [f"u{u:02d}" for u in range(SHAPE[0] + 1)]})  # u12 has no row
ITEMS = pl.DataFrame({"item_id": [f"i{i:02d}" for i in range(SHAPE[1] + 1)]})  # i08 has no row

EVERY = {key: cheap(METHODS[key]) for key in METHODS}
EVERY |= {key: model.set_params(epochs=2) for key, model in EVERY.items() if "epochs" in model.get_params()}
# Methods that read which items a user was exposed to: likes alone are enough for them.
LIKES_ARE_ENOUGH = [key for key, model in EVERY.items() if model.tags.shape != "pairs"]


def frame(rating: np.ndarray, where: np.ndarray) -> pl.DataFrame:
    user, item = np.nonzero(where)
    return pl.DataFrame(
        {
            "user_id": pl.Series([f"u{u:02d}" for u in user], dtype=pl.String),
            "item_id": pl.Series([f"i{i:02d}" for i in item], dtype=pl.String),
            "rating": pl.Series(rating[user, item], dtype=pl.Float32),
        }
    )


def only(*cells: tuple[int, int]) -> np.ndarray:
    where = np.zeros(SHAPE, bool)
    where[tuple(zip(*cells, strict=True))] = True
    return where


def rows(first: int, last: int, where: np.ndarray) -> np.ndarray:
    """The cells of `where` whose user is in [first, last)."""
    return where & (np.arange(SHAPE[0])[:, None] >= first) & (np.arange(SHAPE[0])[:, None] < last)


def world(
    biased: np.ndarray = BOARD,
    unbiased: np.ndarray | None = BOARD,
    *,
    seen: np.ndarray = SEEN,
    random: np.ndarray = RANDOM,
    **options: object,
) -> Dataset:
    randomised = None if unbiased is None else frame(unbiased, random)
    return Dataset.from_frames(frame(biased, seen), unbiased=randomised, **(options or BINARY))


@cache
def answered(case: str) -> Dataset:
    """The data of a case, made once: nothing changes a data set."""
    return ANSWERED[case]()


def fit(model: Estimator, data: Dataset) -> tuple[Estimator, set[str]]:
    """(the fitted model, the codes of its warnings)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = model.clone().fit(data)
    others = [w for w in caught if not issubclass(w.category, DeconrecWarning)]
    assert not others, [str(w.message) for w in others]
    return fitted, {code_of(str(w.message)) for w in caught}


def code_of(message: str) -> str:
    """A warning's code, and the log that it is about."""
    code, about = re.match(r"\[([A-Z_]+)\] .*? (biased|randomised) log", message).groups()
    return f"{code} {about}"


def check_answers(model: Estimator, data: Dataset) -> None:
    """Finite numbers on the outcome's scale from every question."""
    low, high = model.scale_.low, model.scale_.high
    pairs = (data.users.values, [data.items.values[0]] * data.n_users)
    for values in (model.score(), model.predict(pairs)):
        assert np.isfinite(values).all()
        assert values.min() >= low - 1e-5
        assert values.max() <= high + 1e-5
    assert len(model.recommend(k=data.n_items, exclude_seen=False)) == data.n_users * data.n_items


# ---------------------------------------------------------------------- answered: {case: data}
ANSWERED: dict[str, Callable[[], Dataset]] = {
    "U without a positive": lambda: world(unbiased=BOARD * 0),
    "U of positives alone": lambda: world(unbiased=BOARD * 0 + 1),
    "U of one row": lambda: world(random=only((3, 2))),
    "U of other users": lambda: world(seen=rows(0, 6, SEEN), random=rows(6, 12, RANDOM)),
    "U of the log's own pairs": lambda: world(random=SEEN),
    "ratings all 1": lambda: world(BOARD * 0 + 1, BOARD * 0 + 1),
    "the same stars": lambda: world(STARS * 0 + 3, STARS * 0 + 3, name="no range"),
    "stars": lambda: world(STARS, STARS, **RATINGS),
    "one user": lambda: world(seen=rows(0, 1, SEEN), random=rows(0, 1, ~SEEN)),
    "one item": lambda: world(
        seen=only(*((u, 0) for u in range(8))), random=only(*((u, 0) for u in range(4, 12)))
    ),
    "one row in each log": lambda: world(seen=only((3, 2)), random=only((3, 2))),
    "a log of every pair": lambda: world(seen=SEEN | True),
}
BIASED_ALIKE = (
    "ratings all 1",
    "the same stars",
    "one row in each log",
)
RANDOM_ALIKE = (*BIASED_ALIKE, "U without a positive", "U of positives alone", "U of one row")


@pytest.mark.parametrize("key", METHODS)
@pytest.mark.parametrize("case", ANSWERED)
def test_what_is_answered(case, key):
    data = answered(case)
    model, codes = fit(EVERY[key], data)
    check_answers(model, data)
    expected = set()
    if case in BIASED_ALIKE and key not in LIKES_ARE_ENOUGH:
        expected.add("ONE_OUTCOME biased")
    if case in RANDOM_ALIKE and EVERY[key].tags.uses_unbiased:
        expected.add("ONE_OUTCOME randomised")
    assert codes == expected


@pytest.mark.parametrize("spec", ["mf-uniform", "mf-combined", "res-dr"])
def test_a_randomised_log_without_a_positive_lowers_predictions(spec):
    """What the warning says, on the pairs of the biased log as well."""
    mean = {}
    for value in (0, 1):
        with quiet():
            model = make(spec).set_params(dim=2, epochs=30).fit(world(unbiased=BOARD * 0 + value))
        mean[value] = model.score()[SEEN].mean()
    assert mean[0] < mean[1] - 0.05


# ---------------------------------------------------------------------- never observed
@pytest.mark.parametrize("key", METHODS)
def test_users_and_items_without_a_row(key):
    """Over pairs: the item's mean outcome, shrunk to the overall one, and said so. Over user rows: the model's own."""
    data = Dataset.from_frames(
        frame(BOARD, SEEN), unbiased=frame(BOARD, RANDOM), users=USERS, items=ITEMS, **BINARY
    )
    model, codes = fit(EVERY[key], data)
    assert not codes
    check_answers(model, data)
    asked = (["u12", "u12", "u00"], ["i00", "i08", "i08"])
    table = model.predict(asked, details=True)
    # A prior is an answer too: the model's mean given what features and the others' rows say.
    if EVERY[key].tags.shape == "rows" or key == "grounded-gp":
        assert table["source"].to_list() == ["model"] * 3
        return
    assert table["source"].to_list() == ["fallback"] * 3
    np.testing.assert_allclose(table["score"], [model.item_mean_[0], model.mean_, model.mean_], rtol=1e-6)
    assert model.recommend(["u12"], k=3)["score"].to_list() == pytest.approx(
        sorted([*model.item_mean_[:-1], model.mean_], reverse=True)[:3]
    )


@pytest.mark.parametrize("key", METHODS)
def test_users_of_the_randomised_log_alone(key):
    """A method that reads the randomised log knows them; others answer by fallback."""
    model, _ = fit(EVERY[key], answered("U of other users"))
    user = f"u{np.argwhere(rows(6, 12, RANDOM))[0][0]:02d}"
    source = model.predict(([user], ["i00"]), details=True)["source"].item()
    tags = EVERY[key].tags
    # EASE scores a user by its biased rows, and reads the randomised ones for the level alone.
    knows = tags.shape == "rows" or (tags.uses_unbiased and key != "ease")
    assert source == ("model" if knows else "fallback")


# ---------------------------------------------------------------------- refused by a method
NEEDS = {key: model for key, model in EVERY.items() if model.tags.needs_unbiased}
NEEDS |= {spec: make(spec) for spec in ("mf-uniform", "mf-combined", "ips:propensity=naive-bayes")}


@pytest.mark.parametrize("unbiased", [None, BOARD], ids=["none", "empty"])
@pytest.mark.parametrize("key", NEEDS)
def test_no_randomised_log(key, unbiased):
    data = world(unbiased=unbiased, random=RANDOM & False)
    who = type(NEEDS[key]).__name__
    with pytest.raises(
        MissingUnbiasedLog, match=rf"^{who} needs a randomised log, .* is None or empty\. Pass Dataset"
    ):
        NEEDS[key].clone().fit(data)


@pytest.mark.parametrize("key", [key for key in METHODS if key not in NEEDS])
def test_no_randomised_log_and_none_needed(key):
    model, codes = fit(EVERY[key], world(unbiased=None))
    check_answers(model, world(unbiased=None))
    assert not codes


PAIRS = [key for key in METHODS if "error" in EVERY[key].get_params(deep=False)]
NOT_BINARY = {  # the ratings of the biased log, of the randomised one
    "log": (STARS, STARS, RATINGS),
    "U": (BOARD, BOARD * 0.5, {"rating_range": (0.0, 1.0)}),
}


@pytest.mark.parametrize(
    ("which", "key"),
    [
        (which, key)
        for which in NOT_BINARY
        for key in PAIRS
        if which == "log" or EVERY[key].tags.uses_unbiased
    ],
)
def test_cross_entropy_of_ratings(which, key):
    """Refused before anything is trained; with error="auto" (the default) the error is squared."""
    biased, unbiased, options = NOT_BINARY[which]
    who = type(EVERY[key]).__name__
    model = EVERY[key].clone().set_params(error="cross-entropy", epochs=0)
    says = rf"^the cross-entropy of {who} needs outcomes 0 and 1; .*Use error='squared', or set `binarize`"
    with pytest.raises(DataError, match=says):
        model.fit(world(biased, unbiased, **options))
    fitted, _ = fit(EVERY[key], world(biased, unbiased, **options))
    assert fitted.error_kind == "squared"


WEIGHTED = {
    key: "benchmark__propensity" if "benchmark" in params else "propensity"
    for key, params in ((key, model.get_params(deep=False)) for key, model in EVERY.items())
    if "propensity" in params or "benchmark" in params
}


@pytest.mark.parametrize("bad", [0.0, np.nan])
@pytest.mark.parametrize("key", WEIGHTED)
def test_a_known_propensity_outside_0_1(key, bad):
    values = np.full(SHAPE, 0.5)
    values[3, 2] = bad
    model = EVERY[key].clone().set_params(**{WEIGHTED[key]: Known(values=values)})
    says = rf"known propensities must lie in \(0, 1\]; 1 of 96 do not \(first: {bad:g}\)\. .* give a table"
    with pytest.raises(DataError, match=says):
        model.fit(world())


FLOORS = {
    key: [p for p in model.get_params() if p.split("__")[-1] == "floor"] for key, model in EVERY.items()
}


@pytest.mark.parametrize("key", [key for key, floors in FLOORS.items() if floors])
def test_a_floor_of_0(key):
    for name in FLOORS[key]:
        with pytest.raises(ParameterError, match=r"'floor' of \w+ must be a number > 0 and <= 1; got 0"):
            EVERY[key].clone().set_params(**{name: 0.0}).fit(world())


@pytest.mark.parametrize("key", WEIGHTED)
def test_a_learned_propensity_of_0_is_floored(key):
    """Popularity says 0 of an item that nobody was exposed to."""
    data = Dataset.from_frames(frame(BOARD, SEEN), items=ITEMS, **BINARY)
    model, _ = fit(EVERY[key].clone().set_params(**{WEIGHTED[key]: Popularity()}), data)
    fitted = model.benchmark_.propensity_ if "benchmark" in WEIGHTED[key] else model.propensity_
    assert fitted.p_[-1] == 0
    assert fitted.floor_ > 0
    check_answers(model, data)


ALIKE = {  # a propensity, and a case in which it is the same for every row
    "naive-bayes": (NaiveBayes(), "ratings all 1"),
    "popularity": (Popularity(), "one item"),
}


@pytest.mark.parametrize("key", WEIGHTED)
@pytest.mark.parametrize("name", ALIKE)
def test_a_propensity_that_says_nothing(name, key):
    """One weight for every row is no weighting."""
    propensity, case = ALIKE[name]
    model = EVERY[key].clone().set_params(**{WEIGHTED[key]: propensity})
    says = rf"^the propensities of {name} must differ between observed rows; .* or use 'mf'"
    with quiet(), pytest.raises(DataError, match=says):
        model.fit(answered(case))


@pytest.mark.parametrize("key", WEIGHTED)
def test_known_propensities_may_be_alike(key):
    model = EVERY[key].clone().set_params(**{WEIGHTED[key]: Known(values=np.full(SHAPE, 0.5))})
    check_answers(fit(model, world())[0], world())


@pytest.mark.parametrize("key", ["concat-vae", "deep-deconf"])
def test_ratings_below_0_are_no_counts(key):
    with pytest.raises(DataError, match=r"reads ratings as counts, .* the lowest is -2\. Shift the ratings"):
        EVERY[key].clone().fit(world(STARS - 3, STARS - 3, rating_range=(-2.0, 2.0)))


@pytest.mark.parametrize("key", METHODS)
def test_an_empty_biased_log(key):
    data = world()
    who = type(EVERY[key]).__name__
    with pytest.raises(
        DataError, match=rf"^fit of {who} needs a biased log with at least one row; got none\. Check"
    ):
        EVERY[key].clone().fit(data.with_logs(data.biased.take(np.zeros(0, int)), data.unbiased))


# ---------------------------------------------------------------------- refused before any method sees it
@pytest.mark.parametrize("which", ["biased", "unbiased"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_ratings_that_are_not_finite(which, bad):
    broken = BOARD.copy()
    broken[tuple(np.argwhere(SEEN & RANDOM)[0])] = bad
    logs = {which: broken}
    with pytest.raises(
        DataError, match=rf"^the {which} log's ratings must be finite numbers; 1 of .*drop these rows"
    ):
        world(**logs)
    with pytest.raises(
        DataError, match=r"^a log's ratings must be finite numbers; 1 of 2 .*\(first: row 1\)"
    ):
        Log(np.array([0, 1]), np.array([0, 1]), np.array([1.0, bad]))


def test_a_table_without_rows():
    with pytest.raises(DataError, match="the biased log must have at least one row; got none"):
        world(seen=SEEN & False)


def test_codes_that_name_nobody():
    data = world()
    with pytest.raises(DataError, match=r"a log's codes must be at least 0"):
        Log(data.biased.user - 1, data.biased.item, data.biased.rating)
    with pytest.raises(
        DataError, match=r"the biased log's user codes must lie below 12, .*; got 12\. .*encode"
    ):
        data.with_logs(Log(data.biased.user + 1, data.biased.item, data.biased.rating))
    with pytest.raises(DataError, match=r"the unbiased log's item codes must lie below 8"):
        data.with_logs(data.biased, Log(np.array([0]), np.array([8]), np.array([1.0])))
