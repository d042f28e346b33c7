"""What a method's parameters do: stored as given, set by name, copied, shown, and held to their ranges.

Each check takes an unfitted estimator and raises CheckFailed, whose message says the repair.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from deconrec.base import Estimator
from deconrec.checks.bench import bench, quiet, refusal, require
from deconrec.errors import (
    ParameterError,
    UnknownName,
)
from deconrec.parameters import Parameterised


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


PARAMETERS = (
    check_init_stores_only,
    check_params_round_trip,
    check_clone,
    check_repr_evaluates,
    check_describe_round_trip,
    check_parameter_ranges,
)
