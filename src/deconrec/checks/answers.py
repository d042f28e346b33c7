"""What a fitted method answers: numbers in range, raw ids, lists, new users, and data at the edge.

Each check takes an unfitted estimator and raises CheckFailed, whose message says the repair.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl

from deconrec.base import Estimator
from deconrec.checks import fixtures
from deconrec.checks.bench import NotApplicable, bench, refusal, require, some_pairs
from deconrec.data.dataset import Dataset, Log
from deconrec.errors import (
    DataError,
    ParameterError,
    UnknownItem,
    UnknownUser,
)


def _range(model: Estimator) -> tuple[float, float]:
    low, high = model.scale_.low, model.scale_.high
    slack = 1e-5 * (high - low)
    return low - slack, high + slack


def _require_numbers(model: Estimator, values: np.ndarray, what: str) -> None:
    who = type(model).__name__
    bad = int((~np.isfinite(values)).sum())
    require(not bad, f"{what} of {who}: {bad} of {values.size} numbers are NaN or infinite.")
    low, high = _range(model)
    inside = (values >= low) & (values <= high)
    require(
        inside.all(),
        f"{what} of {who} must lie on the outcome's scale [{model.scale_.low:g}, {model.scale_.high:g}]; got "
        f"{values.min():.4g} to {values.max():.4g}. The hooks give outcomes in [0, 1]; base puts them on "
        "the scale.",
    )


def _check_answers(model: Estimator, data: Dataset) -> None:
    who = type(model).__name__
    users, items = some_pairs(data)
    got = model.predict((users, items))
    require(
        isinstance(got, np.ndarray) and got.shape == (len(users),) and got.dtype == np.float64,
        f"predict of {who} must give {len(users)} float64 numbers; got {type(got).__name__} "
        f"{getattr(got, 'dtype', '')} {getattr(got, 'shape', '')}.",
    )
    _require_numbers(model, got, "predict")
    scores = model.score()
    require(
        scores.shape == data.shape and scores.dtype == np.float32,
        f"score of {who} must give float32 {data.shape}; got {scores.dtype} {scores.shape}.",
    )
    _require_numbers(model, scores, "score")
    table = model.recommend(k=3)
    wanted = {"user_id": data.users.values.dtype, "item_id": data.items.values.dtype}
    wanted |= {"rank": pl.Int32(), "score": pl.Float64()}
    require(dict(table.schema) == wanted, f"recommend of {who} must give {wanted}; got {dict(table.schema)}.")
    _require_numbers(model, table["score"].to_numpy(), "recommend")


def check_answers(estimator: Estimator) -> None:
    """Shapes, types and range of predict, score and recommend on a binary outcome."""
    b = bench(estimator)
    _check_answers(b.fitted(), b.data())


def check_ratings(estimator: Estimator) -> None:
    """The same on ratings from 1 to 5."""
    b = bench(estimator)
    if estimator.tags.outcome == "binary":
        with refusal(
            DataError, f"fit of {type(estimator).__name__} is tagged binary and must refuse ratings 1 to 5."
        ):
            b.fit(b.data("rows_world"))
        return
    _check_answers(b.fitted("rows_world"), b.data("rows_world"))


def check_batch_equals_single(estimator: Estimator) -> None:
    """Asked one by one, the answers are those of the batch."""
    b = bench(estimator)
    model, data = b.fitted(), b.data()
    who = type(estimator).__name__
    users, items = some_pairs(data, 12)
    single = np.concatenate([model.predict((users[k : k + 1], items[k : k + 1])) for k in range(len(users))])
    hint = "an answer must not depend on what else is asked (dropout, batch statistics, order)."
    require(
        np.allclose(model.predict((users, items)), single, atol=1e-6),
        f"predict of {who} one by one differs: {hint}",
    )
    rows = np.concatenate([model.score(users[k : k + 1]) for k in range(len(users))])
    require(np.allclose(model.score(users), rows, atol=1e-6), f"score of {who} one by one differs: {hint}")
    everyone = model.recommend(users.unique(maintain_order=True), k=4)
    for user in users.unique(maintain_order=True):
        mine = everyone.filter(pl.col("user_id") == user)
        alone = model.recommend([user], k=4)
        require(
            np.allclose(alone["score"].to_numpy(), mine["score"].to_numpy(), atol=1e-6),
            f"recommend of {who} one by one differs: {hint}",
        )


def check_answers_agree(estimator: Estimator) -> None:
    """predict, score and recommend tell one story, and every way to give pairs is understood."""
    b = bench(estimator)
    model, data = b.fitted(), b.data()
    who = type(estimator).__name__
    users, items = some_pairs(data)
    predicted, scores = model.predict((users, items)), model.score()
    frame = pl.DataFrame({"user_id": users, "item_id": items})
    for form in (
        model.predict(frame),
        model.predict(users, items),
        model.predict(frame, details=True)["score"],
    ):
        require(
            np.array_equal(predicted, np.asarray(form)), f"predict of {who} depends on how pairs are given."
        )
    at = scores[data.users.encode(users), data.items.encode(items)]
    require(
        np.allclose(predicted, at, atol=1e-5 * (model.scale_.high - model.scale_.low)),
        f"predict and score of {who} differ by up to {np.abs(predicted - at).max():.3g}; `_pairs` and "
        "`_block` "
        "must be the same function.",
    )
    table = model.recommend(k=5, exclude_seen=False)
    rows, columns = data.users.encode(table["user_id"]), data.items.encode(table["item_id"])
    require(
        np.allclose(scores[rows, columns], table["score"].to_numpy(), atol=1e-6),
        f"recommend of {who} gives other scores than score().",
    )
    best = -np.sort(-scores, axis=1)[:, :5]
    require(
        np.allclose(table["score"].to_numpy().reshape(best.shape), best, atol=1e-6)
        and np.array_equal(
            table["rank"].to_numpy().reshape(best.shape), np.tile(np.arange(1, 6), (len(best), 1))
        ),
        f"recommend of {who} must give the items of highest score, rank 1 first.",
    )


def check_raw_ids(estimator: Estimator) -> None:
    """Ids are names: other names of the same order give the same numbers, whatever the order of asking."""
    b = bench(estimator)
    model, data = b.fitted(), b.data()
    who = type(estimator).__name__
    named = fixtures.renamed(data, user="customer {:05d}", item=1_000_003)
    other = b.fit(named)
    require(
        np.array_equal(model.score(), other.score()),
        f"{who} learns from the names of users and items; use codes, never raw ids.",
    )
    order = np.arange(data.n_users)[::-1]
    require(
        np.allclose(other.score(named.users.decode(order)), model.score()[order], atol=1e-6),
        f"score of {who} does not follow the order of the users that are asked for.",
    )
    users, items = some_pairs(data)
    asked = named.users.decode(data.users.encode(users)), named.items.decode(data.items.encode(items))
    require(
        np.array_equal(other.predict(asked), model.predict((users, items))),
        f"predict of {who} mixes up raw ids and codes.",
    )


def check_empty_user_and_item(estimator: Estimator) -> None:
    """A user and an item of the vocabulary without any row are answered for."""
    b = bench(estimator)
    model, data = b.fitted("empty_user"), b.data("empty_user")
    user, item = data.users.values[data.n_users // 2], data.items.values[data.n_items // 2]
    pairs = ([user] * 3, [item, data.items.values[0], data.items.values[1]])
    _require_numbers(model, model.predict(pairs), "predict of a user without rows")
    _require_numbers(
        model, model.predict((data.users.values[:3], [item] * 3)), "predict of an item without rows"
    )
    _require_numbers(model, model.score([user]), "score of a user without rows")
    n = len(model.recommend([user], k=5))
    require(n == 5, f"recommend of {type(estimator).__name__} gave {n} of 5 items to a user without rows.")


def check_one_item(estimator: Estimator) -> None:
    """A catalogue of one item works, or is refused by a DataError that says why."""
    b = bench(estimator)
    data = b.data("one_item")
    try:
        model = b.fitted("one_item")
    except DataError as refusal:
        raise NotApplicable(f"refused: {refusal}") from refusal
    _require_numbers(model, model.score(), "score of one item")
    table = model.recommend(k=5, exclude_seen=False)
    require(
        len(table) == data.n_users,
        f"recommend of {type(estimator).__name__} must give the one item to each of {data.n_users} users; "
        f"got {len(table)} rows.",
    )


def check_equal_ratings(estimator: Estimator) -> None:
    """Ratings that are all the same (likes alone, the same stars) work, or are refused by a DataError."""
    b = bench(estimator)
    data = b.data()
    assert data.unbiased is not None

    def flat(log: Log, value: float) -> Log:
        return Log(log.user, log.item, np.full(len(log), value, np.float32))

    worlds = [data.with_logs(flat(data.biased, 1.0), flat(data.unbiased, 1.0))]
    if estimator.tags.outcome == "any":
        task = dataclasses.replace(data.task, binarize=None, rating_range=None)
        stars = flat(data.biased, 3.0), flat(data.unbiased, 3.0)
        worlds.append(dataclasses.replace(data, biased=stars[0], unbiased=stars[1], task=task))
    for world in worlds:
        try:
            model = b.fit(world)
        except DataError as refusal:
            raise NotApplicable(f"refused: {refusal}") from refusal
        _require_numbers(model, model.score(), "score after equal ratings")


def check_unknown_ids(estimator: Estimator) -> None:
    """Unknown ids are an error by default; `unknown="fallback"` answers with means and says so."""
    b = bench(estimator)
    model, data = b.fitted(), b.data()
    who, user, item = type(estimator).__name__, data.users.values[0], data.items.values[0]
    nobody, nothing = "nobody", -5
    with refusal(UnknownUser, f"predict of {who} must raise UnknownUser for an unknown user."):
        model.predict(([nobody], [item]))
    with refusal(UnknownItem, f"predict of {who} must raise UnknownItem for an unknown item."):
        model.predict(([user], [nothing]))
    with refusal(UnknownUser, f"recommend of {who} must raise UnknownUser for an unknown user."):
        model.recommend([nobody])
    with refusal(UnknownUser, f"score of {who} must raise UnknownUser for an unknown user."):
        model.score([nobody])
    pairs = ([nobody, user, nobody, user], [item, nothing, nothing, item])
    table = model.predict(pairs, unknown="fallback", details=True)
    _require_numbers(model, table["score"].to_numpy(), "the fallback")
    require(
        table["source"].to_list() == ["fallback", "fallback", "fallback", "model"],
        f"predict(..., details=True) of {who} must name the source of each score; got "
        f"{table['source'].to_list()}.",
    )
    require(
        len(model.recommend([nobody], k=4, unknown="fallback")) == 4, f"{who} must recommend by fallback."
    )
    _require_numbers(model, model.score([nobody], unknown="fallback"), "the fallback's score")


def check_exclude_seen(estimator: Estimator) -> None:
    """Seen pairs are left out, the rows that stopped training among them, and nothing else is."""
    b = bench(estimator)
    model, data = b.fitted(), b.data()
    who = type(estimator).__name__
    logs = [data.biased]
    if estimator.tags.uses_unbiased and data.unbiased is not None:
        logs.append(data.unbiased)
    seen = np.zeros(data.shape, bool)
    for log in logs:
        seen[log.user, log.item] = True
    table = model.recommend(k=data.n_items)
    given = np.zeros(data.shape, bool)
    given[data.users.encode(table["user_id"]), data.items.encode(table["item_id"])] = True
    again = int((given & seen).sum())
    require(
        not again,
        f"recommend of {who} gave {again} pairs that stand in its data (hold-out rows are seen too).",
    )
    lost = int((~given & ~seen).sum())
    require(not lost, f"recommend of {who} left out {lost} pairs that were never seen.")
    n = len(model.recommend(k=data.n_items, exclude_seen=False))
    require(
        n == seen.size,
        f"recommend(exclude_seen=False) of {who} must give every pair; got {n} of {seen.size}.",
    )


def check_large_k(estimator: Estimator) -> None:
    """Asked for more than the catalogue, the catalogue is given; k below 1 is an error."""
    b = bench(estimator)
    model, data = b.fitted(), b.data()
    table = model.recommend(data.users.values[:2], k=data.n_items + 50, exclude_seen=False)
    ranks = table["rank"].to_list()
    require(
        ranks == 2 * list(range(1, data.n_items + 1)),
        f"recommend of {type(estimator).__name__} with k beyond the catalogue must give every item once, "
        "ranked.",
    )
    for k in (0, -1, 1.5):
        with refusal(
            ParameterError, f"recommend(k={k}) of {type(estimator).__name__} must raise ParameterError."
        ):
            model.recommend(k=k)  # type: ignore[arg-type]  # wrong on purpose


def check_fold_in(estimator: Estimator) -> None:
    """Users that are known by a history alone get finite scores of their own, marked "fold-in"."""
    if not estimator.tags.fold_in:
        raise NotApplicable("tags.fold_in is False")
    b = bench(estimator)
    model, data = b.fitted(), b.data()
    who = type(estimator).__name__
    items = data.items.values
    half = data.n_items // 2
    history = pl.DataFrame(
        {
            "user_id": ["new a"] * half + ["new b"] * (data.n_items - half),
            "item_id": items,
            "rating": [1.0] * half + [0.0] * (data.n_items - half),
        }
    )
    users = ["new a", "new b", data.users.values[0]]
    table = model.predict((users, [items[0]] * 3), history=history, details=True)
    require(
        table["source"].to_list() == ["fold-in", "fold-in", "model"],
        f"predict(history=...) of {who} must say 'fold-in' for its users; got {table['source'].to_list()}.",
    )
    scores = model.score(history=history)
    require(
        scores.shape == (2, data.n_items),
        f"score(history=...) of {who} must give a row a user; got {scores.shape}.",
    )
    _require_numbers(model, scores, "fold-in")
    require(
        estimator.tags.yardstick or not np.array_equal(scores[0], scores[1]),
        f"fold-in of {who} gives users of different histories the same scores; `_fold_in` must read the "
        "history.",
    )
    require(
        np.allclose(table["score"][:2].to_numpy(), scores[:, 0], atol=1e-5),
        f"predict and score of {who} disagree on folded-in users.",
    )
    given = model.recommend(history=history, k=data.n_items)
    back = given.join(history, on=["user_id", "item_id"])
    require(
        not len(back) and len(given) == data.n_items,
        f"recommend(history=...) of {who} must leave out the pairs of the history, and only those.",
    )
    known = history.with_columns(pl.lit(data.users.values[1]).alias("user_id"))
    mine = model.predict((data.users.values[1:2], items[:1]), history=known, details=True)
    require(
        mine["source"].to_list() == ["fold-in"], f"a history of a known user must replace what {who} learned."
    )


def check_history(estimator: Estimator) -> None:
    """The record of training holds one finite entry an epoch."""
    b = bench(estimator)
    history = getattr(b.fitted(), "history_", None)
    if history is None:
        raise NotApplicable("it keeps no history_")
    who = type(estimator).__name__
    epochs = list(history)
    require(len(epochs) > 0, f"history_ of {who} is empty after a fit of {len(epochs)} epochs.")
    bad = sorted({name for epoch in epochs for name, value in epoch.items() if not np.isfinite(value)})
    require(not bad, f"history_ of {who} holds numbers that are not finite: {bad}.")
    require(
        0 <= history.best_epoch < len(epochs),
        f"history_.best_epoch of {who} is {history.best_epoch}, no epoch of it.",
    )


ANSWERS = (
    check_answers,
    check_ratings,
    check_batch_equals_single,
    check_answers_agree,
    check_raw_ids,
    check_empty_user_and_item,
    check_one_item,
    check_equal_ratings,
    check_unknown_ids,
    check_exclude_seen,
    check_large_k,
    check_fold_in,
    check_history,
)
