"""Hyper-parameters: text by type, ranges, nesting, and the way to JSON and back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from deconrec.errors import ParameterError, UnknownName
from deconrec.parameters import Parameterised, Search, nuisance, parameter


@dataclass(kw_only=True, eq=False, repr=False)
class Inner(Parameterised):
    floor: float = parameter(0.1, "smallest", above=0, high=1)
    seed: int = parameter(0, "seed", low=0)


@dataclass(kw_only=True, eq=False, repr=False)
class Other(Parameterised):
    power: float = parameter(1.0, "power", low=0)


OPTIONS = {"inner": Inner, "other": Other, "none": None}


@dataclass(kw_only=True, eq=False, repr=False)
class Outer(Parameterised):
    dim: int = parameter(8, "factors", low=1, search=Search(4, 64, log=True, whole=True))
    lr: float = parameter(0.01, "rate", above=0)
    share: float = parameter(0.5, "share", low=0, below=1)
    on: bool = parameter(True, "switch")
    kind: str = parameter("a", "which", choices=("a", "b"))
    name: str = parameter("x", "anything")
    hidden: tuple[int, ...] = parameter((4,), "widths", low=1)
    limit: float | None = parameter(None, "or none", low=0)
    inner: Parameterised | None = nuisance(Inner, "inner model", OPTIONS)


# ---------------------------------------------------------------------- text
@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("dim", "12", 12),
        ("lr", "1e-3", 1e-3),
        ("lr", "2", 2.0),
        ("on", "no", False),
        ("on", "Yes", True),
        ("on", "0", False),
        ("on", "on", True),
        ("kind", "b", "b"),
        ("name", "3", "3"),
        ("hidden", "8,4", (8, 4)),
        ("hidden", "", ()),
        ("limit", "none", None),
        ("limit", "0.5", 0.5),
        ("inner.floor", "0.3", 0.3),
    ],
)
def test_text_is_typed_by_the_parameter(name, text, value):
    model = Outer().set_text({name: text})
    model.check_params()
    got = model.get_params()[name.replace(".", "__")]
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("dim", "1.5", "'dim' of Outer must be a whole number; got '1.5'"),
        ("dim", "many", "must be a whole number; got 'many'"),
        ("lr", "fast", "'lr' of Outer must be a number; got 'fast'"),
        ("on", "maybe", "'on' of Outer must be true or false; got 'maybe'"),
        ("hidden", "8,x", "must be a whole number; got '8,x'"),
        ("limit", "x", "must be a number; got 'x'"),
        ("dmi", "3", "no parameter of Outer 'dmi'; did you mean 'dim'"),
        ("inner", "iner", "did you mean 'inner'"),
        ("inner.flor", "0.1", "no parameter of Inner 'flor'; did you mean 'floor'"),
        ("dim.x", "3", "'dim' of Outer has no parameters; got 'dim.x=3'"),
    ],
)
def test_text_that_is_none_of_it(name, text, says):
    with pytest.raises(ParameterError, match=says):
        Outer().set_text({name: text})


def test_a_nuisance_is_named_and_then_reached_into():
    model = Outer().set_text({"inner": "other", "inner.power": "2"})
    assert isinstance(model.inner, Other)
    assert model.inner.power == 2.0
    assert Outer().set_text({"inner": "none"}).inner is None


# ---------------------------------------------------------------------- ranges
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("dim", 0, "'dim' of Outer must be a whole number >= 1; got 0."),
        ("dim", 2.0, "'dim' of Outer must be a whole number >= 1; got 2.0."),
        ("dim", True, "'dim' of Outer must be a whole number >= 1; got True."),
        ("dim", None, "'dim' of Outer must be a whole number >= 1; got None."),
        ("dim", "8", "'dim' of Outer must be a whole number >= 1; got '8'."),
        ("lr", 0, "'lr' of Outer must be a number > 0; got 0."),
        ("lr", float("nan"), "'lr' of Outer must be a number > 0; got nan."),
        ("lr", float("inf"), "'lr' of Outer must be a number > 0; got inf."),
        ("share", 1.0, "'share' of Outer must be a number >= 0 and < 1; got 1.0."),
        ("share", -0.1, "'share' of Outer must be a number >= 0 and < 1; got -0.1."),
        ("on", 1, "'on' of Outer must be true or false; got 1."),
        ("kind", "c", "'kind' of Outer must be one of 'a', 'b'; got 'c'."),
        ("name", 3, "'name' of Outer must be text; got 3."),
        ("hidden", (0,), "'hidden' of Outer must be a tuple, each entry a whole number >= 1; got (0,)."),
        ("hidden", 4, "'hidden' of Outer must be a tuple, each entry a whole number >= 1; got 4."),
        ("limit", -1, "'limit' of Outer must be a number >= 0; got -1."),
        ("inner__floor", 1.5, "'floor' of Inner must be a number > 0 and <= 1; got 1.5."),
    ],
)
def test_out_of_range_in_one_sentence(name, value, says):
    model = Outer().set_params(**{name: value})
    with pytest.raises(ParameterError) as caught:
        model.check_params()
    assert str(caught.value) == says


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dim", np.int64(3)),
        ("lr", np.float32(0.5)),
        ("lr", 1),
        ("share", 0),
        ("hidden", []),
        ("hidden", [8, 4]),
        ("limit", None),
        ("inner", None),
    ],
)
def test_in_range(name, value):
    model = Outer(**{name: value})
    model.check_params()
    assert model.get_params(deep=False)[name] is value  # stored as given


# ---------------------------------------------------------------------- get, set, clone
def test_deep_names():
    assert list(Outer().get_params(deep=False))[-1] == "inner"
    deep = Outer().get_params()
    assert deep["inner__floor"] == 0.1
    assert set(deep) - set(Outer().get_params(deep=False)) == {"inner__floor", "inner__seed"}


def test_setting_a_nuisance_s_parameter_leaves_the_caller_s_object_alone():
    mine = Inner(floor=0.2)
    model = Outer(inner=mine).set_params(**{"inner.floor": 0.3}, inner__seed=4)
    assert (model.inner.floor, model.inner.seed) == (0.3, 4)
    assert (mine.floor, mine.seed) == (0.2, 0)
    with pytest.raises(ParameterError, match="'dim' of Outer has no parameters; got 'dim__x'"):
        model.set_params(dim__x=3)
    with pytest.raises(UnknownName, match="did you mean 'share'"):
        model.set_params(shaer=3)


def test_a_clone_shares_nothing():
    model = Outer(hidden=[1, 2])
    model.learned_ = 3
    copy = model.clone()
    assert copy.hidden == [1, 2]
    assert copy.hidden is not model.hidden
    assert copy.inner is not model.inner
    assert not hasattr(copy, "learned_")


def test_defaults_are_not_shared_between_instances():
    assert Outer().inner is not Outer().inner


# ---------------------------------------------------------------------- repr, describe, rebuild
@pytest.mark.parametrize(
    ("model", "text"),
    [
        (Outer(), "Outer()"),
        (Outer(dim=3, inner=Inner(floor=0.5)), "Outer(dim=3, inner=Inner(floor=0.5))"),
        (Outer(inner=Other()), "Outer(inner=Other())"),
        (Outer(inner=None, limit=0.0), "Outer(limit=0.0, inner=None)"),
    ],
)
def test_repr_says_what_differs(model, text):
    assert repr(model) == text
    assert repr(eval(text)) == text


@pytest.mark.parametrize(
    "model",
    [
        Outer(),
        Outer(hidden=(8, 4), limit=0.5, on=False, inner=Other(power=2.0)),
        Outer(inner=None),
        Outer(dim=np.int64(5), lr=np.float32(0.5)),
    ],
)
def test_described_through_json_and_rebuilt(model):
    text = json.dumps(model.describe(), allow_nan=False)
    again = Outer.rebuild(json.loads(text))
    assert again.describe() == model.describe()
    again.check_params()
    assert type(again.dim) is int


def test_a_description_names_the_nuisance_as_the_command_line_does():
    assert Outer(inner=Other()).describe()["inner"] == {"name": "other", "params": {"power": 1.0}}


@pytest.mark.parametrize(
    ("described", "says"),
    [
        ({"dmi": 3}, "did you mean 'dim'"),
        ({"inner": {"name": "gone", "params": {}}}, "no inner 'gone'"),
        ({"inner": {"name": "other", "params": {"floor": 1}}}, "no parameter of Other 'floor'"),
    ],
)
def test_a_description_of_another_version(described, says):
    with pytest.raises(UnknownName, match=says):
        Outer.rebuild(described)


def test_a_field_without_rules_is_left_alone():
    @dataclass(kw_only=True, eq=False, repr=False)
    class Free(Parameterised):
        anything: Any = field(default=None)

    Free(anything=object()).check_params()
