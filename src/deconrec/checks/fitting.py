"""What `fit` does, and leaves alone: seeds, its inputs, the test part, what the tags say that it reads.

Each check takes an unfitted estimator and raises CheckFailed, whose message says the repair.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from deconrec.base import Estimator
from deconrec.checks import fixtures
from deconrec.checks.bench import (
    NotApplicable,
    bench,
    equal_numbers,
    other_random_state,
    quiet,
    refusal,
    require,
    some_pairs,
)
from deconrec.data.dataset import Dataset, Log
from deconrec.errors import (
    DataError,
    MissingUnbiasedLog,
    NotFitted,
)
from deconrec.training.checkpoints import Checkpoint, keeping


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


def check_resumes(estimator: Estimator) -> None:
    """A fit that was stopped goes on from its checkpoint, to the bits of an undisturbed one."""
    b = bench(estimator)
    if not hasattr(b.fitted(), "history_"):
        raise NotApplicable("it is not trained by the engine")
    with tempfile.TemporaryDirectory() as folder:
        model = b.template.clone()
        for writes in (2, 15, None):
            checkpoint = _Stopping(Path(folder) / "checkpoint", {}, stop=writes)
            with keeping(checkpoint), quiet(), suppress(InterruptedError):
                model = b.template.clone().fit(b.data())
        if not checkpoint.resumed:
            raise NotApplicable("its training is over before there is anything to keep")
    require(
        equal_numbers(model, b.fitted(), b.data()),
        f"{type(estimator).__name__} goes on to another model after a kill; what a training changes must stand in its "
        "nets, and what `Phase(before=)` writes elsewhere must follow from them.",
    )


@dataclasses.dataclass
class _Stopping(Checkpoint):
    """A checkpoint whose training is stopped after so many writes."""

    stop: int | None = None

    @property
    def due(self) -> bool:
        return self.stop is not None

    def write(self, *given: Any) -> None:
        super().write(*given)
        if self.stop is not None:
            self.stop -= 1
            if self.stop == 0:
                raise InterruptedError


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
    with other_random_state() as read:
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


FITTING = (
    check_fit_returns_self,
    check_not_fitted,
    check_same_seed,
    check_resumes,
    check_other_seed,
    check_refit,
    check_inputs_unchanged,
    check_global_random_state,
    check_refuses_truth,
    check_ignores_test,
    check_needs_unbiased,
    check_unbiased_as_tagged,
    check_features_as_tagged,
)
