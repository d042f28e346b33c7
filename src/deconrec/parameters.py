"""Hyper-parameters as dataclass fields: stored by `__init__`, checked by `fit`, and read by everything else.

`get_params`, `set_params`, `clone`, `repr`, the command line's `--set`, the documentation's tables and the search
spaces are derived from the fields, never typed again.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import numbers
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from typing import Any, Self

from deconrec.errors import ParameterError, UnknownName


@dataclass(frozen=True)
class Search:
    """A tuning range: [low, high], on a logarithmic scale if `log`, whole numbers if `whole`; or `choices`."""

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()


def parameter(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[Any, ...] | None = None,
    search: Search | None = None,
    later: bool = False,
) -> Any:
    """A hyper-parameter.

    Parameters
    ----------
    default: its default.
    doc: one sentence: meaning, unit, the paper's symbol.
    low, high: closed bounds; above, below: open bounds. Of a tuple, bounds of each entry.
    choices: the allowed values.
    search: where tuning looks.
    later: added when records without it were kept; its default is what the method did before.
    """
    rules = {"low": low, "high": high, "above": above, "below": below, "choices": choices}
    return dataclasses.field(
        default=default, metadata={"doc": doc, "rules": rules, "search": search, "later": later}
    )


def nuisance(factory: Any, doc: str, options: Mapping[str, Any]) -> Any:
    """A model that is fitted first and kept as `<field>_`.

    Parameters
    ----------
    factory: gives the default.
    options: the names that the command line and saved models use for the possible classes.
    """
    return dataclasses.field(default_factory=factory, metadata={"doc": doc, "options": options})


def settings_of(text: str, whole: str) -> dict[str, str]:
    """Settings from "param=value+param=value"; `whole` is the text that it was cut from, for the error.

    Raises
    ------
    ParameterError: a part without "=".
    """
    settings: dict[str, str] = {}
    for part in (p for p in text.split("+") if p):
        name, sign, value = part.partition("=")
        if not sign:
            raise ParameterError(
                f"'{whole}' must be written name:param=value+param=value; '{part}' has no '='."
            )
        settings[name.strip()] = value.strip()
    return settings


class Parameterised:
    """Base of every dataclass of hyper-parameters (methods, propensities, exposure models)."""

    if typing.TYPE_CHECKING:  # every subclass is a dataclass; the base itself has no fields
        __dataclass_fields__: typing.ClassVar[dict[str, dataclasses.Field[Any]]]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters by name; with `deep`, those of nuisances too, as `nuisance__parameter`."""
        out: dict[str, Any] = {}
        for name in self._names():
            value = getattr(self, name)
            out[name] = value
            if deep and isinstance(value, Parameterised):
                out |= {f"{name}__{k}": v for k, v in value.get_params().items()}
        return out

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name; `nuisance__parameter` or "nuisance.parameter" reaches into a nuisance.

        Raises
        ------
        UnknownName: no such parameter.
        """
        for key, value in params.items():
            name, _, rest = key.replace(".", "__").partition("__")
            if name not in self._names():
                raise UnknownName(f"parameter of {type(self).__name__}", name, self._names())
            if rest:
                inner = getattr(self, name)
                if not isinstance(inner, Parameterised):
                    raise ParameterError(f"'{name}' of {type(self).__name__} has no parameters; got '{key}'.")
                setattr(self, name, inner.clone().set_params(**{rest: value}))
            else:
                setattr(self, name, value)
        return self

    def set_text(self, settings: Mapping[str, str]) -> Self:
        """Set parameters from text, typed by the parameter ("propensity=naive-bayes", "propensity.floor=0.05").

        Raises
        ------
        UnknownName: no such parameter.  ParameterError: text that does not give the parameter's type.
        """
        for key, text in settings.items():
            name, _, rest = key.partition(".")
            if name not in self._names():
                raise UnknownName(f"parameter of {type(self).__name__}", name, self._names())
            if rest:
                inner = getattr(self, name)
                if not isinstance(inner, Parameterised):
                    raise ParameterError(
                        f"'{name}' of {type(self).__name__} has no parameters; got '{key}={text}'."
                    )
                setattr(self, name, inner.clone().set_text({rest: text}))
            else:
                setattr(self, name, self._parse(name, text))
        return self

    def clone(self) -> Self:
        """An unfitted copy with the same parameters."""
        return type(self)(**{name: _copied(getattr(self, name)) for name in self._names()})

    def check_params(self) -> None:
        """Check every parameter's range.

        Raises
        ------
        ParameterError: in the one sentence form.
        """
        hints = self._hints()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Parameterised):
                value.check_params()
            elif "rules" in field.metadata:
                problem = _problem(value, hints[field.name], field.metadata["rules"])
                if problem:
                    raise ParameterError(
                        f"'{field.name}' of {type(self).__name__} must be {problem}; got {value!r}."
                    )

    def describe(self) -> dict[str, Any]:
        """Parameters as JSON values; a nuisance as {"name": ..., "params": ...}."""
        out: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Parameterised):
                names = {cls: key for key, cls in field.metadata["options"].items()}
                name = names.get(type(value), type(value).__name__)
                out[field.name] = {"name": name, "params": value.describe()}
            else:
                out[field.name] = _plain(value)
        return out

    def essence(self) -> dict[str, Any]:
        """`describe`, less what was added later and stands at its default: what earlier records say too."""
        out = self.describe()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Parameterised):
                out[field.name]["params"] = value.essence()
            elif field.metadata.get("later") and value == field.default:
                del out[field.name]
        return out

    @classmethod
    def rebuild(cls, described: Mapping[str, Any]) -> Self:
        """The inverse of `describe`.

        Raises
        ------
        UnknownName: a parameter or nuisance that this version does not have.
        """
        values: dict[str, Any] = {}
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for name, value in described.items():
            if name not in fields:
                raise UnknownName(f"parameter of {cls.__name__}", name, fields)
            options = fields[name].metadata.get("options")
            if options is not None and isinstance(value, Mapping):
                if value["name"] not in options:
                    raise UnknownName(name, value["name"], options)
                value = options[value["name"]].rebuild(value["params"])
            values[name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)

    def __repr__(self) -> str:
        """`Name(parameter=value, ...)` with what differs from the defaults: evaluates back."""
        parts = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            default = field.default if field.default is not MISSING else None
            if field.default is MISSING and field.default_factory is not MISSING:
                default = field.default_factory()
            if repr(value) != repr(default):
                parts.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(parts)})"

    # ------------------------------------------------------------------
    @classmethod
    def _names(cls) -> list[str]:
        return [f.name for f in dataclasses.fields(cls)]

    @classmethod
    def _hints(cls) -> dict[str, Any]:
        return typing.get_type_hints(cls)

    def _parse(self, name: str, text: str) -> Any:
        field = next(f for f in dataclasses.fields(self) if f.name == name)
        options = field.metadata.get("options")
        if options is not None:
            if text in ("none", "None") and None in options.values():
                return None
            if text not in options:
                raise UnknownName(name, text, options)
            return options[text]()
        try:
            return _from_text(text, self._hints()[name])
        except ValueError as error:
            raise ParameterError(
                f"'{name}' of {type(self).__name__} must be {error}; got '{text}'."
            ) from None


def _plain(value: Any) -> Any:
    """A parameter as JSON has it: tuples as lists, numpy numbers as Python's."""
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, numbers.Number) and hasattr(value, "item") else value


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Parameterised) else copy.deepcopy(value)


def _problem(value: Any, hint: Any, rules: Mapping[str, Any]) -> str | None:
    """What the value must be, or None where it is that."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None:
        return None if type(None) in kinds else _wanted(kinds, rules)
    choices = rules["choices"]
    if choices is not None:
        return None if value in choices else f"one of {', '.join(map(repr, choices))}"
    if any(k in (int, float) for k in kinds):
        kind = numbers.Real if float in kinds else numbers.Integral
        ok = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
        bounds = (
            (rules["low"], lambda b: value >= b),
            (rules["high"], lambda b: value <= b),
            (rules["above"], lambda b: value > b),
            (rules["below"], lambda b: value < b),
        )
        if not ok or not all(b is None or test(b) for b, test in bounds):
            return _wanted(kinds, rules)
    elif typing.get_origin(kinds[0]) is tuple:
        inner = typing.get_args(kinds[0])[0]
        if not isinstance(value, tuple | list) or any(_problem(v, inner, rules) for v in value):
            return f"a tuple, each entry {_wanted((inner,), rules)}"
    elif bool in kinds and not isinstance(value, bool):
        return "true or false"
    elif str in kinds and not isinstance(value, str):
        return "text"
    return None


def _wanted(kinds: tuple[Any, ...], rules: Mapping[str, Any]) -> str:
    text = (
        "a whole number" if int in kinds and float not in kinds else "a number" if float in kinds else "given"
    )
    signs = (("low", ">="), ("above", ">"), ("high", "<="), ("below", "<"))
    bounds = [f"{sign} {rules[key]:g}" for key, sign in signs if rules[key] is not None]
    return f"{text} {' and '.join(bounds)}".strip()


def _from_text(text: str, hint: Any) -> Any:
    kinds = list(typing.get_args(hint)) if isinstance(hint, types.UnionType) else [hint]
    if type(None) in kinds:
        if text.lower() == "none":
            return None
        kinds.remove(type(None))
    kind = kinds[0]
    if typing.get_origin(kind) is typing.Literal or kind is str:
        return text
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        return tuple(_from_text(part, inner) for part in text.split(",") if part)
    if kind is bool:
        if text.lower() in ("true", "yes", "1", "on"):
            return True
        if text.lower() in ("false", "no", "0", "off"):
            return False
        raise ValueError("true or false")
    if kind is int:
        try:
            return int(text)
        except ValueError:
            raise ValueError("a whole number") from None
    if kind is float:
        try:
            return float(text)
        except ValueError:
            raise ValueError("a number") from None
    return text
