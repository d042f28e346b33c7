"""What checks share: how they fail, and the fits of one estimator on the fixtures, each made once."""

from __future__ import annotations

import random
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from deconrec.base import Estimator
from deconrec.checks import fixtures
from deconrec.data.dataset import Dataset
from deconrec.errors import DeconrecWarning


class CheckFailed(AssertionError):
    """An estimator breaks the contract; the message says what was seen and what repairs it."""


class NotApplicable(Exception):
    """The check asks nothing of this estimator; the message says why."""


def require(ok: Any, says: str) -> None:
    """Raise CheckFailed unless `ok`."""
    if not ok:
        raise CheckFailed(says)


@contextmanager
def refusal(error: type[Exception], says: str) -> Iterator[None]:
    """What stands inside must raise `error`; CheckFailed otherwise."""
    try:
        yield
    except error:
        return
    except Exception as other:
        raise CheckFailed(f"{says} It raised {type(other).__name__}: {other}") from other
    raise CheckFailed(f"{says} It raised nothing.")


DATA: dict[str, Callable[[], Dataset]] = {
    "confounded": lambda: fixtures.confounded()[0],
    "rows_world": fixtures.rows_world,
    "empty_user": fixtures.empty_user,
    "one_item": fixtures.one_item,
}


class Bench:
    """Fits of one estimator, by the name of the data; made when first asked for, never to be changed."""

    def __init__(self, estimator: Estimator) -> None:
        self.template = estimator.clone()
        self.made_for = repr(estimator)
        self._data: dict[str, Dataset] = {}
        self._fits: dict[str, Estimator] = {}

    def data(self, name: str = "confounded") -> Dataset:
        """A fixture's data set, one object for every check."""
        if name not in self._data:
            self._data[name] = DATA[name]()
        return self._data[name]

    def fitted(self, name: str = "confounded") -> Estimator:
        """The estimator fitted to a fixture."""
        if name not in self._fits:
            self._fits[name] = self.fit(self.data(name))
        return self._fits[name]

    def fit(self, data: Dataset, **changes: Any) -> Estimator:
        """A fresh fit, with some parameters changed."""
        model = self.template.clone().set_params(**changes)
        with quiet():
            model.fit(data)
        return model


@contextmanager
def quiet() -> Iterator[None]:
    """Without the library's own warnings: tiny data deserve them, and they are not the question."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeconrecWarning)
        yield


_benches: dict[int, tuple[weakref.ref[Estimator], Bench]] = {}


def bench(estimator: Estimator) -> Bench:
    """The bench of an estimator object; it lives as long as the object, and its parameters, do."""
    key = id(estimator)
    if key not in _benches or _benches[key][1].made_for != repr(estimator):
        gone = weakref.ref(estimator, lambda _: _benches.pop(key, None))
        _benches[key] = (gone, Bench(estimator))
    return _benches[key][1]


def some_pairs(data: Dataset, n: int = 60) -> tuple[Any, Any]:
    """(users, items), raw ids of n cells spread over the whole grid."""
    cell = np.arange(n) * 7919 % (data.n_users * data.n_items)
    return data.users.decode(cell // data.n_items), data.items.decode(cell % data.n_items)


def equal_numbers(a: Estimator, b: Estimator, data: Dataset) -> bool:
    """Whether two fitted estimators give the same bits for every cell of `data`."""
    pairs = some_pairs(data)
    return np.array_equal(a.score(), b.score()) and np.array_equal(a.predict(pairs), b.predict(pairs))


@contextmanager
def other_random_state() -> Iterator[Any]:
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
