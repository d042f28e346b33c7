"""One run: draw, split, fit, evaluate once; and one trial of a search, which never touches the test part."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from deconrec.base import Estimator, Propensity, refuse_impressions
from deconrec.catalogue import Opened, open_data
from deconrec.data.dataset import Dataset, Truth
from deconrec.data.split import PairsSplit, Parts, UsersSplit, ValidationPart
from deconrec.errors import DataError, MissingUnbiasedLog, ParameterError
from deconrec.experiments.impressions import evaluate_impressions
from deconrec.experiments.judge import Outcome
from deconrec.experiments.metrics import evaluate_pairs, evaluate_users
from deconrec.experiments.results import Run
from deconrec.experiments.search import Tried, named_settings, shared_search, try_out
from deconrec.exposure.known import KnownConfounder, with_confounder
from deconrec.methods import make
from deconrec.records import finite
from deconrec.threads import one_thread

Select = Literal["biased", "unbiased", "within-exposure"]
SELECTS: tuple[str, ...] = get_args(Select)
DRAWS_KEPT = 3  # NOTE worlds that a process keeps: a large one takes some 100 MB


@dataclass(frozen=True)
class Plan:
    """What is the same for every run of a comparison, or of one setting of an experiment.

    Attributes
    ----------
    data: a catalogue name with its root, or a data set in memory.
    protocol, select, metrics, trials, search, by, refit: see `compare`.
    shares, largest_train: see `PairsSplit`.
    """

    data: str | Dataset
    root: str | None
    protocol: Literal["pairs", "users"]
    select: Select
    metrics: tuple[str, ...]
    trials: int = 0
    by: Literal["record", "time"] = "record"
    search: Literal["split", "shared"] = "shared"
    shares: tuple[float, float, float] | None = None
    largest_train: float = 0.0
    refit: bool = True

    def open(self) -> Opened:
        """The data."""
        if isinstance(self.data, Dataset):
            data = self.data
            return Opened(data.name, False, lambda seed: (data, None))
        return open_data(self.data, self.root)

    def split(self, data: Dataset, truth: Truth | None, seed: int) -> Parts[Any]:
        """The parts of one seed."""
        if self.protocol == "users":
            return UsersSplit(seed).apply(data, truth)
        return PairsSplit(seed, self.shares, self.largest_train, by=self.by).apply(data)

    def judge_part(self, parts: Parts[Any]) -> ValidationPart:
        """What stops training and judges a trial."""
        if self.select == "within-exposure":
            return replace(parts.holdout, within_exposure=True)
        return parts.validation if self.select == "unbiased" and parts.validation else parts.holdout


class Desk:
    """Data that this process has opened, and the worlds that it drew last, so that the next job need not."""

    def __init__(self) -> None:
        self._opened: dict[tuple[str, str | None], Opened] = {}
        self._drawn: OrderedDict[tuple[str, str | None, int], tuple[Dataset, Truth | None]] = OrderedDict()

    def open(self, plan: Plan) -> Opened:
        """The plan's data."""
        if isinstance(plan.data, Dataset):
            return plan.open()
        key = plan.data, plan.root
        if key not in self._opened:
            self._opened[key] = plan.open()
        return self._opened[key]

    def draw(self, plan: Plan, seed: int) -> tuple[Dataset, Truth | None]:
        """The data of one seed."""
        opened = self.open(plan)
        if isinstance(plan.data, Dataset) or not opened.fresh:
            return opened.draw(seed)
        key = plan.data, plan.root, seed
        if key not in self._drawn:
            self._drawn[key] = opened.draw(seed)
        self._drawn.move_to_end(key)
        while len(self._drawn) > DRAWS_KEPT:
            self._drawn.popitem(last=False)
        return self._drawn[key]

    def clear(self) -> None:
        """Forget everything: files may have changed."""
        self._opened.clear()
        self._drawn.clear()


DESK = Desk()  # of this process


def prepared(name: str, params: Mapping[str, Any] | None = None, seed: int | None = None) -> Estimator:
    """An unfitted method with further parameters, checked, and with the run's seed where it takes one."""
    model = make(name)
    model.set_params(**dict(params or {}))
    if seed is not None and "seed" in model.get_params(deep=False):
        model.set_params(seed=seed)
    model.check_params()
    return model


def yardsticks_of(names: Sequence[str]) -> list[str]:
    """Those of the methods that others are measured by."""
    return [name for name in names if make(name).tags.yardstick]


def handed(model: Estimator, data: Dataset, truth: Truth | None) -> Dataset:
    """The data as a method is given them: an oracle finds a simulator's hidden confounder among the user features."""
    oracle = any(isinstance(v, KnownConfounder) for v in model.get_params(deep=False).values())
    if not oracle or truth is None or truth.confounder is None:
        return data
    return with_confounder(data, truth.confounder)


def check_methods(
    models: Mapping[str, Estimator], data: Dataset, truth: Truth | None, parts: Parts[Any], plan: Plan
) -> None:
    """Refuse what cannot run before anything is fitted."""
    for name, model in models.items():
        refuse_impressions(f"method '{name}'", model.tags, data)
        for known in (v for v in model.get_params(deep=False).values() if isinstance(v, KnownConfounder)):
            known.clone().fit(handed(model, data, truth))
        propensities = [v for v in model.get_params(deep=False).values() if isinstance(v, Propensity)]
        needs = model.tags.needs_unbiased or any(p.needs_unbiased for p in propensities)
        if needs and (parts.train.unbiased is None or not len(parts.train.unbiased)):
            raise MissingUnbiasedLog(f"method '{name}'")
        if model.tags.outcome == "binary" and not data.outcome_scale.binary:
            raise DataError(f"method '{name}' needs a binary outcome; set `binarize` in the data's task.")
    if plan.select == "unbiased" and parts.validation is None:
        raise DataError(
            "select='unbiased' needs randomised validation rows (V), and the split gives none; use select='biased'."
        )


def run_one(plan: Plan, name: str, seed: int, params: Mapping[str, Any] | None = None) -> Outcome:
    """Split, fit (tune first where the plan says: a search a split), evaluate once."""
    data, truth = DESK.draw(plan, seed)
    model = prepared(name, params, seed)
    data = handed(model, data, truth)
    parts = plan.split(data, truth, seed)
    validation = plan.judge_part(parts)
    with one_thread():
        started = time.perf_counter()
        if plan.trials and plan.search == "split":
            found = shared_search(
                model, [(parts.train, validation)], plan.trials, seed, fixed=named_settings(name)
            )
            model.set_params(**found.params)
        model.fit(parts.train, validation=validation, refit=plan.refit)
        seconds = time.perf_counter() - started
        if data.impressions is not None:
            evaluated = evaluate_impressions(model, parts.test, data, plan.metrics, truth)
        elif plan.protocol == "users":
            evaluated = evaluate_users(model, parts.test, data, plan.metrics, truth, parts.train)
        else:
            evaluated = evaluate_pairs(model, parts.test, data, plan.metrics, truth)
    history = getattr(model, "history_", None)
    curves: dict[str, list[float | None]] = {}
    if history is not None:
        curves = finite(
            {n: history.curve(n) for n in dict.fromkeys(k for e in history for k in e if k != "seconds")}
        )
    overlap = getattr(model, "overlap_", None)
    run = Run(
        overlap=None if overlap is None else overlap.to_dict(),
        method=name,
        seed=seed,
        metrics=finite({m: evaluated.metrics[m] for m in plan.metrics}),
        seconds=seconds,
        unbiased_rows=model.unbiased_rows_,
        params=finite(model.describe()),
        history=curves,
        best_epoch=None if history is None else history.best_epoch,
        skipped_users=evaluated.skipped,
    )
    return Outcome(run, evaluated.per_user)


def try_one(
    plan: Plan, name: str, seeds: Sequence[int], params: Mapping[str, Any], stop_below: float | None = None
) -> Tried:
    """One trial of a shared search: the method with these parameters on the first splits."""

    def splits() -> Iterator[tuple[Dataset, ValidationPart]]:
        for seed in seeds:
            data, truth = DESK.draw(plan, seed)
            parts = plan.split(handed(model, data, truth), truth, seed)
            yield parts.train, plan.judge_part(parts)

    try:
        model = prepared(name, params)
    except ParameterError as error:  # suggested values that do not go together
        return Tried((), 0.0, str(error))
    with one_thread():
        return try_out(model, splits(), seeds=seeds, stop_below=stop_below)
