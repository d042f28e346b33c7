"""The contract of an estimator, as functions: parameters, fitting, answers, saving.

Each takes an unfitted estimator and raises CheckFailed, whose message says the repair.
"""

from __future__ import annotations

import dataclasses
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from deconrec.base import Estimator
from deconrec.checks import fixtures
from deconrec.checks.bench import NotApplicable, bench, equal_numbers, quiet, refusal, require, some_pairs
from deconrec.data.dataset import Dataset, Log
from deconrec.errors import (
    DataError,
    MissingUnbiasedLog,
    NotFitted,
    ParameterError,
    UnknownItem,
    UnknownName,
    UnknownUser,
)
from deconrec.parameters import Parameterised


# ---------------------------------------------------------------------- parameters
def check_init_stores_only(estimator: Estimator) -> None:
    """The constructor stores what it is given, as it is given, and does nothing else."""
    cls = type(estimator)
    marks = {f.name: object() for f in dataclasses.fields(cls) if f.init}
    try:
        made = cls(**marks)
    except Exception as error:
        require(
            False,
            f"{cls.__name__}() looked at its parameters ({error!r}); move what it checks to check_params.",
        )
    changed = [name for name, mark in marks.items() if getattr(made, name) is not mark]
    require(
        not changed, f"{cls.__name__}() changed {changed}; store parameters as given and convert them in fit."
    )
    extra = sorted(set(vars(made)) - set(marks))
    require(not extra, f"{cls.__name__}() made {extra}; only `fit` makes state, with names that end in '_'.")


def check_params_round_trip(estimator: Estimator) -> None:
    """`get_params` names every field, and `set_params` sets exactly what it is told."""
    cls = type(estimator)
    shallow = estimator.get_params(deep=False)
    names = [f.name for f in dataclasses.fields(cls)]
    require(
        list(shallow) == names, f"get_params of {cls.__name__} gives {list(shallow)}; the fields are {names}."
    )
    copy = estimator.clone()
    require(
        copy.set_params(**shallow) is copy, f"set_params of {cls.__name__} must return the estimator itself."
    )
    require(
        repr(copy.get_params()) == repr(estimator.get_params()),
        f"set_params(**get_params()) of {cls.__name__} changed a parameter; set_params must store what it "
        "is given.",
    )
    for name, value in estimator.get_params().items():
        if isinstance(value, Parameterised) or _mark_for(value) is None:
            continue
        before = repr(estimator.get_params())
        copy = estimator.clone().set_params(**{name: _mark_for(value)})
        require(
            repr(copy.get_params()[name]) == repr(_mark_for(value)),
            f"set_params({name}=...) of {cls.__name__} did not set it.",
        )
        require(
            repr(estimator.get_params()) == before,
            f"set_params({name}=...) of a clone changed the estimator it was cloned from; clone must copy "
            "nuisances.",
        )
    with refusal(UnknownName, f"set_params(no_such_parameter=1) of {cls.__name__} must raise UnknownName."):
        estimator.clone().set_params(no_such_parameter=1)


def _mark_for(value: Any) -> Any:
    """Another value of the same type, or None where there is none to be had."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int | float) else value + "!" if isinstance(value, str) else None


def check_clone(estimator: Estimator) -> None:
    """`clone` of a fitted estimator: the same parameters, nothing learned, nuisances of its own."""
    model = bench(estimator).fitted()
    copy = model.clone()
    who = type(estimator).__name__
    require(
        type(copy) is type(model), f"clone of {who} gave a {type(copy).__name__}; it must give its own class."
    )
    require(
        repr(copy.get_params()) == repr(model.get_params()),
        f"clone of {who} changed a parameter; build it from get_params(deep=False).",
    )
    learned = sorted(name for name in vars(copy) if name.endswith("_"))
    require(not learned, f"clone of {who} carries learned state {learned}; copy parameters only.")
    shared = [
        name
        for name, value in model.get_params(deep=False).items()
        if isinstance(value, Parameterised) and getattr(copy, name) is value
    ]
    require(not shared, f"clone of {who} shares {shared} with its original; clone nuisances too.")


def check_repr_evaluates(estimator: Estimator) -> None:
    """`repr` is Python that gives the estimator back."""
    text = repr(estimator)
    try:
        again = eval(text, dict(_classes(estimator)))
    except Exception as error:
        require(False, f"repr of {type(estimator).__name__} does not evaluate ({error}): {text}")
    require(
        repr(again.get_params()) == repr(estimator.get_params()),
        f"repr of {type(estimator).__name__} evaluates to other parameters: {text}",
    )


def _classes(estimator: Parameterised) -> Iterator[tuple[str, type]]:
    yield type(estimator).__name__, type(estimator)
    for value in estimator.get_params(deep=False).values():
        if isinstance(value, Parameterised):
            yield from _classes(value)


def check_describe_round_trip(estimator: Estimator) -> None:
    """`describe` is JSON, and `rebuild` is its inverse: what saved models and records rest on."""
    who = type(estimator).__name__
    try:
        text = json.dumps(estimator.describe(), allow_nan=False)
    except (TypeError, ValueError) as error:
        require(
            False, f"describe of {who} is not JSON ({error}); parameters must be numbers, text or nuisances."
        )
    again = type(estimator).rebuild(json.loads(text))
    require(
        repr(again.get_params()) == repr(estimator.get_params()),
        f"rebuild(describe()) of {who} changed a parameter; list a nuisance's class among its `options`.",
    )


def check_parameter_ranges(estimator: Estimator) -> None:
    """`fit` refuses each parameter just outside its range, in the library's sentence."""
    data = bench(estimator).data()
    for path, value in _bad_values(estimator):
        bad = estimator.clone().set_params(**{path: value})
        name = path.rsplit("__", 1)[-1]
        says = f"fit of {type(estimator).__name__} with {path}={value!r} must raise ParameterError."
        try:
            with quiet():
                bad.fit(data)
        except ParameterError as error:
            good = f"'{name}'" in str(error) and "must be" in str(error) and "got" in str(error)
            require(good, f"{says} Its message must read \"'{name}' of X must be ...; got ...\": {error}")
        except Exception as error:
            require(False, f"{says} It raised {type(error).__name__}: {error}")
        else:
            require(
                False, f"{says} It was accepted: call check_params() first, and give the field its bounds."
            )


def _bad_values(model: Parameterised, prefix: str = "") -> Iterator[tuple[str, Any]]:
    hints = type(model)._hints()
    for field in dataclasses.fields(model):
        value, rules = getattr(model, field.name), field.metadata.get("rules")
        name = prefix + field.name
        if isinstance(value, Parameterised):
            yield from _bad_values(value, f"{name}__")
        if rules is None:
            continue
        if rules["choices"] is not None:
            yield name, "no such choice"
            continue
        hint = hints[field.name]
        kinds = getattr(hint, "__args__", (hint,))
        numeric = int in kinds or float in kinds
        beyond: list[Any] = []
        beyond += [] if rules["low"] is None else [rules["low"] - 1]
        beyond += [] if rules["high"] is None else [rules["high"] + 1]
        beyond += [rules[end] for end in ("above", "below") if rules[end] is not None]
        if isinstance(value, tuple):
            yield from ((name, (bad,)) for bad in [*beyond, "text"])
            yield name, 7.5
        elif numeric:
            yield from ((name, bad) for bad in [*beyond, "text", float("nan"), True])
            if float not in kinds:
                yield name, 1.5
        elif bool in kinds:
            yield name, "true"


# ---------------------------------------------------------------------- fitting
def check_fit_returns_self(estimator: Estimator) -> None:
    """`fit` returns the estimator itself."""
    model = estimator.clone()
    with quiet():
        got = model.fit(bench(estimator).data())
    require(got is model, f"fit of {type(estimator).__name__} returned {got!r}; end it with `return self`.")


def check_not_fitted(estimator: Estimator) -> None:
    """Before `fit`, every answer raises NotFitted."""
    data, model = bench(estimator).data(), estimator.clone()
    who = type(estimator).__name__
    with tempfile.TemporaryDirectory() as folder:
        asked: dict[str, Callable[[], Any]] = {
            "predict": lambda: model.predict(some_pairs(data)),
            "score": lambda: model.score(),
            "recommend": lambda: model.recommend(k=3),
            "save": lambda: model.save(Path(folder) / "model"),
        }
        for name, ask in asked.items():
            with refusal(
                NotFitted, f"{name} of an unfitted {who} must raise NotFitted: call self._check_fitted()."
            ):
                ask()


def check_same_seed(estimator: Estimator) -> None:
    """The same seed gives the same bits."""
    b = bench(estimator)
    require(
        equal_numbers(b.fitted(), b.fit(b.data()), b.data()),
        f"two fits of {type(estimator).__name__} with one seed differ; draw everything from `seed` "
        "(deconrec.random) and nothing from a global generator.",
    )


def check_other_seed(estimator: Estimator) -> None:
    """Another seed gives other numbers."""
    b = bench(estimator)
    if "seed" not in estimator.get_params():
        raise NotApplicable("it has no `seed`")
    other = b.fit(b.data(), seed=b.template.get_params()["seed"] + 1)
    require(
        not np.array_equal(b.fitted().score(), other.score()),
        f"`seed` of {type(estimator).__name__} changes nothing; use it for initial values and batches, or "
        "drop it.",
    )


def check_refit(estimator: Estimator) -> None:
    """A second `fit` forgets the first: the result is that of a fresh estimator."""
    b = bench(estimator)
    model = b.fit(b.data("empty_user"))
    with quiet():
        model.fit(b.data())
    require(
        equal_numbers(model, b.fitted(), b.data()),
        f"a second fit of {type(estimator).__name__} depends on the first; make all state afresh in `fit`.",
    )


def check_inputs_unchanged(estimator: Estimator) -> None:
    """`fit` and the answers leave the data, and the parameters, as they were."""
    who = type(estimator).__name__
    data, _ = fixtures.confounded()
    before, params = _fingerprint(data), repr(estimator.get_params())
    model = bench(estimator).fit(data)
    require(
        _fingerprint(data) == before,
        f"fit of {who} changed its data; copy an array before writing to it (torch.from_numpy shares "
        "memory).",
    )
    require(
        repr(model.get_params()) == params,
        f"fit of {who} changed its parameters; keep what is learned in attributes that end in '_'.",
    )
    scores = model.score()
    model.recommend(k=3)
    model.predict(some_pairs(data))
    require(
        np.array_equal(model.score(), scores),
        f"asking {who} changed its answers; answers must not write state.",
    )


def _fingerprint(data: Dataset) -> str:
    """The fingerprint from the arrays as they are now (a data set remembers its own)."""
    return dataclasses.replace(data).fingerprint


def check_global_random_state(estimator: Estimator) -> None:
    """`fit` neither reads nor moves the global generators of Python, numpy and torch."""
    b = bench(estimator)
    with _other_random_state() as read:
        before = read()
        again = b.fit(b.data())
        after = read()
    who = type(estimator).__name__
    moved = [name for name in before if before[name] != after[name]]
    require(
        not moved,
        f"fit of {who} moved the global generator of {', '.join(moved)}; draw from deconrec.random, and wrap "
        "torch layers' initial values in torch.random.fork_rng.",
    )
    require(
        equal_numbers(b.fitted(), again, b.data()),
        f"fit of {who} depends on a global generator; seed what it draws from its own `seed`.",
    )


@contextmanager
def _other_random_state() -> Iterator[Any]:
    """Gives a function that reads the global generators, which are moved here and restored at the end."""
    torch = sys.modules.get("torch")

    def read() -> dict[str, str]:
        state = {"random": repr(random.getstate()), "numpy": repr(np.random.get_state(legacy=False))}  # noqa: NPY002 - the caller's generator
        return state if torch is None else state | {"torch": repr(torch.get_rng_state().tolist())}

    kept = random.getstate(), np.random.get_state(), None if torch is None else torch.get_rng_state()  # noqa: NPY002 - the caller's generator
    random.seed(20_011)
    np.random.seed(20_011)  # noqa: NPY002 - the caller's generator
    if torch is not None:
        torch.manual_seed(20_011)
    try:
        yield read
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002 - the caller's generator
        if torch is not None:
            torch.set_rng_state(kept[2])


def check_refuses_truth(estimator: Estimator) -> None:
    """`fit` takes a Dataset: neither a simulator's truth nor the pair that a simulator returns."""
    data, truth = fixtures.confounded()
    for wrong in (truth, (data, truth), data.frame(data.biased)):
        says = f"fit of {type(estimator).__name__} must refuse a {type(wrong).__name__} with DataError."
        with refusal(DataError, says):
            estimator.clone().fit(wrong)  # type: ignore[arg-type]  # wrong on purpose


def check_ignores_test(estimator: Estimator) -> None:
    """A fixed test log changes nothing."""
    b = bench(estimator)
    data = b.data()
    flipped = Log(data.biased.user[::2], data.biased.item[::2], 1 - data.biased.rating[::2])
    other = b.fit(data.with_logs(data.biased, data.unbiased, flipped))
    require(
        equal_numbers(b.fitted(), other, data),
        f"the test log changed what {type(estimator).__name__} learned; fit must not look at data.test.",
    )


def check_needs_unbiased(estimator: Estimator) -> None:
    """With the tag `needs_unbiased`, `fit` refuses data without a randomised log; without it, it does not."""
    b = bench(estimator)
    data = b.data().with_logs(b.data().biased)
    if not estimator.tags.needs_unbiased:
        b.fit(data)
        return
    with refusal(
        MissingUnbiasedLog, f"fit of {type(estimator).__name__} without a randomised log must say so."
    ):
        b.fit(data)


def check_unbiased_as_tagged(estimator: Estimator) -> None:
    """Without the tag `uses_unbiased` the randomised log changes nothing; with it, its ratings count."""
    b = bench(estimator)
    data, who = b.data(), type(estimator).__name__
    assert data.unbiased is not None
    if not estimator.tags.uses_unbiased:
        require(
            equal_numbers(b.fitted(), b.fit(data.with_logs(data.biased)), data),
            f"{who} has tags.uses_unbiased=False, but the randomised log changed what it learned; tag what "
            "it uses.",
        )
        require(
            b.fitted().unbiased_rows_ == 0,
            f"{who} has tags.uses_unbiased=False, but counts {b.fitted().unbiased_rows_} unbiased rows as "
            "consumed.",
        )
        return
    flipped = Log(data.unbiased.user, data.unbiased.item, 1 - data.unbiased.rating)
    require(
        not np.array_equal(b.fitted().score(), b.fit(data.with_logs(data.biased, flipped)).score()),
        f"{who} has tags.uses_unbiased=True, but other ratings in the randomised log change nothing.",
    )
    require(
        b.fitted().unbiased_rows_ == len(data.unbiased),
        f"{who} consumed {len(data.unbiased)} unbiased rows and reports {b.fitted().unbiased_rows_}.",
    )


def check_features_as_tagged(estimator: Estimator) -> None:
    """Without the tag `uses_features` features change nothing; with it, they count."""
    b = bench(estimator)
    data, who = b.data(), type(estimator).__name__
    bare = b.fit(dataclasses.replace(data, user_features=None, item_features=None))
    same = np.array_equal(b.fitted().score(), bare.score())
    if estimator.tags.uses_features:
        require(not same, f"{who} has tags.uses_features=True, but features change nothing.")
    else:
        require(same, f"{who} has tags.uses_features=False, but features changed what it learned.")


# ---------------------------------------------------------------------- answers
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


# ---------------------------------------------------------------------- saving
def check_save_load(estimator: Estimator) -> None:
    """A saved and loaded model gives the same bits, to known and to folded-in users."""
    from deconrec.saving import load_model

    b = bench(estimator)
    model, data = b.fitted(), b.data()
    who = type(estimator).__name__
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        with _other_random_state() as read:
            before = read()
            again = load_model(Path(folder) / "model", cls=type(estimator))
            require(
                read() == before, f"loading {who} moved a global random generator; wrap `nets()` in fork_rng."
            )
    require(repr(again) == repr(model), f"a loaded {who} has other parameters: {again!r}.")
    hint = "`_state` must hold everything that `_restore` needs."
    require(equal_numbers(model, again, data), f"a loaded {who} gives other numbers; {hint}")
    require(
        model.recommend(k=4).equals(again.recommend(k=4)),
        f"a loaded {who} recommends other items (or seen ones).",
    )
    require(
        again.unbiased_rows_ == model.unbiased_rows_,
        f"a loaded {who} forgot how many unbiased rows it consumed.",
    )
    if estimator.tags.fold_in:
        history = pl.DataFrame(
            {"user_id": ["new"] * 2, "item_id": data.items.values[:2], "rating": [1.0, 0.0]}
        )
        require(
            np.array_equal(model.score(history=history), again.score(history=history)),
            f"a loaded {who} folds new users in otherwise; {hint}",
        )


def check_saved_files(estimator: Estimator) -> None:
    """A saved model is JSON and safetensors: nothing that can run code when it is read."""
    magic = {".json": b"{"}
    with tempfile.TemporaryDirectory() as folder:
        bench(estimator).fitted().save(Path(folder) / "model")
        files = [path for path in (Path(folder) / "model").rglob("*") if path.is_file()]
        for path in files:
            ok = path.suffix in (".json", ".safetensors")
            start = path.read_bytes()[: len(magic.get(path.suffix, b""))]
            require(
                ok and start == magic.get(path.suffix, b""),
                f"{type(estimator).__name__} saved '{path.name}'; keep arrays in `_state` and nothing else "
                "on disk.",
            )
        require(files, f"{type(estimator).__name__} saved no file.")


CONTRACT = (
    check_init_stores_only,
    check_params_round_trip,
    check_clone,
    check_repr_evaluates,
    check_describe_round_trip,
    check_parameter_ranges,
    check_fit_returns_self,
    check_not_fitted,
    check_same_seed,
    check_other_seed,
    check_refit,
    check_inputs_unchanged,
    check_global_random_state,
    check_refuses_truth,
    check_ignores_test,
    check_needs_unbiased,
    check_unbiased_as_tagged,
    check_features_as_tagged,
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
    check_save_load,
    check_saved_files,
)
