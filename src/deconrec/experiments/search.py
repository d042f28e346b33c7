"""Searches over the ranges that stand beside the parameters, judged on validation data only.

A search on one split takes the best of many trials on one small hold-out, which is largely luck. Judged on several
splits, the same parameters then serve every run of a comparison. The epoch is still chosen on each split's own
hold-out, and no test part is opened.
"""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from deconrec.base import Estimator
from deconrec.data.dataset import Dataset
from deconrec.data.split import ValidationPart
from deconrec.errors import DataError, MissingExtra, ParameterError, TrainingError
from deconrec.parameters import Parameterised, Search

PRUNE_FROM = 5  # NOTE trials before the first may be given up
CHANGED = 1 / 3  # NOTE share of the parameters that a trial changes
DIGITS = 4  # NOTE significant digits of a suggested value, so that it can be typed again


@dataclass(frozen=True)
class Tried:
    """What a trial gave: its score on each split that was fitted, the seconds it took, and why it failed."""

    scores: tuple[float, ...]
    seconds: float
    failed: str = ""


@dataclass(frozen=True)
class Trial:
    """A trial of a record: parameters beyond the method's own ({} = the method as it is), scores, and how it ended.

    state: "complete", "pruned" (given up after the first split) or "failed" (for the reason in `failed`).
    """

    params: dict[str, Any]
    scores: tuple[float, ...]
    state: str
    seconds: float
    failed: str = ""

    @property
    def score(self) -> float:
        """The mean over splits."""
        return sum(self.scores) / len(self.scores) if self.scores else math.nan


@dataclass(frozen=True)
class Searched:
    """The outcome of a search.

    Attributes
    ----------
    params: of the best trial, by dotted name; {} where the method's own values were best.
    score: its mean hold-out score.  default: that of the method's own values (NaN where they failed).
    trials: all of them, in order; those of finalists with the scores of all splits.
    """

    params: dict[str, Any]
    score: float
    default: float
    trials: tuple[Trial, ...] = field(default=())

    @property
    def seconds(self) -> float:
        """Seconds of all trials."""
        return sum(t.seconds for t in self.trials)

    @property
    def ranked(self) -> list[dict[str, Any]]:
        """Parameters of the complete trials, the best first: finalists, then the others; of equals, in order."""
        return [t.params for t in sorted(_complete(self.trials), key=lambda t: (-len(t.scores), -t.score))]

    def finalists(self, count: int) -> list[int]:
        """Numbers of the method's own values (trial 0, if it is complete) and of the `count` best trials beside."""
        own = [0] if _complete(self.trials[:1]) else []
        order = sorted(_complete(self.trials), key=lambda t: -t.score)
        others: list[int] = []
        seen = [self.trials[n].params for n in own]
        for trial in order:
            if trial.params not in seen and len(others) < count:
                seen.append(trial.params)
                others.append(self.trials.index(trial))
        return own + others

    def confirmed(self, further: Mapping[int, Tried]) -> Searched:
        """The search with its finalists judged on further splits: of those that all were fitted, the best.

        A search's best on few splits is the best of many in part by luck; the others were as good.
        """
        trials = list(self.trials)
        for number, tried in further.items():
            trial = trials[number]
            trials[number] = replace(
                trial,
                scores=trial.scores + tried.scores,
                state="failed" if tried.failed else trial.state,
                seconds=trial.seconds + tried.seconds,
                failed=tried.failed,
            )
        if not _complete(trials):
            return self
        most = max(len(t.scores) for t in _complete(trials))
        final = [t for t in _complete(trials) if len(t.scores) == most]
        best = max(final, key=lambda t: t.score)
        own = trials[0]
        return Searched(best.params, best.score, own.score if own in final else math.nan, tuple(trials))


class Searcher:
    """A search that can stop after any trial and go on from its record: each suggestion follows from the seed and
    the trials before it.

    The first trial is the method as it is, the next are its further `starts`. Each later one keeps the best so far and
    changes a third of its parameters, drawn at random, to what Optuna's TPE suggests: with ten parameters and thirty
    trials, changing all of them at once seldom comes near a good starting point again.

    Parameters
    ----------
    model: the method with its own values, which are the first trial.
    trials: at least 1.
    fixed: parameters that keep their values; ranges: other ranges than those beside the parameters, by dotted name.
    prune: give a trial up after its first split where it is below the median of the others' first splits.
    done: trials made before.

    Raises
    ------
    ParameterError: trials < 1.  MissingExtra: optuna is not installed.
    """

    def __init__(
        self,
        model: Estimator,
        trials: int,
        seed: int = 0,
        *,
        fixed: Collection[str] = (),
        ranges: Mapping[str, Search] | None = None,
        prune: bool = True,
        done: Iterable[Trial] = (),
    ) -> None:
        if trials < 1:
            raise ParameterError(f"'trials' of a search must be at least 1; got {trials}.")
        self.space = space_of(model, fixed, ranges)
        self.trials = trials if self.space else 1
        self.seed, self.prune = seed, prune
        self.starts = starts_of(model, self.space)
        self.own = {k: v for k, v in _present(model, self.space).items() if v is not None}
        self.done: list[Trial] = list(done)[: self.trials]

    @property
    def finished(self) -> bool:
        """Whether all trials were made; a method without ranges needs none."""
        return len(self.done) >= self.trials or not self.space

    def ask(self) -> dict[str, Any]:
        """Parameters of the next trial."""
        if len(self.done) <= len(self.starts):
            return self.starts[len(self.done) - 1] if self.done else {}
        turn = self.seed * 10_007 + len(self.done)
        study, distributions = self.study(turn), distributions_of(self.space)
        changed = random.Random(turn).sample(sorted(self.space), max(1, round(len(self.space) * CHANGED)))
        asked = study.ask({name: distributions[name] for name in changed}).params
        return self.best | {name: _rounded(value, self.space[name]) for name, value in asked.items()}

    def study(self, turn: int = 0) -> Any:
        """The trials so far as a study of Optuna's in memory, whose sampler is seeded by `turn`."""
        optuna = optuna_of()
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=turn))
        distributions = distributions_of(self.space)
        states = optuna.trial.TrialState
        for trial in self.done:
            params = self.own | trial.params
            state = {"complete": states.COMPLETE, "pruned": states.PRUNED}.get(trial.state, states.FAIL)
            study.add_trial(
                optuna.trial.create_trial(
                    state=state,
                    params=params,
                    distributions={name: distributions[name] for name in params},
                    value=trial.score if state is states.COMPLETE else None,
                    intermediate_values={0: trial.scores[0]} if trial.scores else None,
                )
            )
        return study

    @property
    def best(self) -> dict[str, Any]:
        """Parameters of the best complete trial so far; of equals, the first."""
        complete = _complete(self.done)
        return dict(max(complete, key=lambda t: t.score).params) if complete else {}

    def stop_below(self) -> float | None:
        """The score on the first split below which the next trial is given up, or None."""
        first = sorted(t.scores[0] for t in self.done if t.scores)
        if not self.prune or len(first) < PRUNE_FROM:
            return None
        return first[len(first) // 2]

    def tell(self, params: Mapping[str, Any], tried: Tried, splits: int) -> Trial:
        """Add a trial's outcome."""
        state = "failed" if tried.failed else "complete" if len(tried.scores) == splits else "pruned"
        trial = Trial(dict(params), tried.scores, state, tried.seconds, tried.failed)
        self.done.append(trial)
        return trial

    def result(self) -> Searched:
        """The best so far.

        Raises
        ------
        ParameterError: every trial failed.
        """
        own = self.done[0] if self.done else None
        if not self.space:
            return Searched({}, math.nan, math.nan)
        complete = _complete(self.done)
        if not complete:
            why = next((t.failed for t in self.done if t.failed), "no trial was made")
            raise ParameterError(
                f"every trial of the search failed; narrow the ranges, or use trials=0. The first: {why}"
            )
        best = max(complete, key=lambda t: t.score)  # the first of equals: the method's own values
        default = own.score if own is not None and own.state == "complete" else math.nan
        return Searched(best.params, best.score, default, tuple(self.done))


def shared_search(
    model: Estimator,
    splits: Sequence[tuple[Dataset, ValidationPart]],
    trials: int,
    seed: int = 0,
    *,
    fixed: Collection[str] = (),
    ranges: Mapping[str, Search] | None = None,
    prune: bool = True,
) -> Searched:
    """The parameters with the best mean validation score over several splits.

    Parameters
    ----------
    model: a method; its own values are the first trial.
    splits: (training data, validation part) of each; three are usual.
    trials, seed, fixed, ranges, prune: see `Searcher`.

    Raises
    ------
    ParameterError: trials < 1, no split, or every trial failed.  MissingExtra: optuna is not installed.
    """
    if not splits:
        raise ParameterError("a search needs at least one split; got none.")
    search = Searcher(model, trials, seed, fixed=fixed, ranges=ranges, prune=prune)
    while not search.finished:
        params = search.ask()
        candidate = model.clone().set_params(**params)
        search.tell(params, try_out(candidate, splits, stop_below=search.stop_below()), len(splits))
    return search.result()


def try_out(
    model: Estimator,
    splits: Iterable[tuple[Dataset, ValidationPart]],
    *,
    seeds: Sequence[int] = (),
    stop_below: float | None = None,
) -> Tried:
    """Fit a copy of a model on each split and take its validation score; stop after the first if it is too low.

    seeds: the models' seeds, where they take one; none = the model's own for all.
    """
    scores: list[float] = []
    started = time.perf_counter()
    for turn, (train, validation) in enumerate(splits):
        candidate = model.clone()
        if turn < len(seeds) and "seed" in candidate.get_params(deep=False):
            candidate.set_params(seed=seeds[turn])
        try:
            candidate.fit(train, validation=validation)
        except (TrainingError, DataError, ParameterError) as error:
            return Tried(tuple(scores), time.perf_counter() - started, str(error))
        scores.append(round(judged(candidate, validation), 6))  # as it is kept, so that a search can go on
        if not math.isfinite(scores[-1]):
            return Tried(tuple(scores[:-1]), time.perf_counter() - started, "a score is not finite")
        if turn == 0 and stop_below is not None and scores[0] < stop_below:
            break
    return Tried(tuple(scores), time.perf_counter() - started)


def search_space(model: Parameterised, prefix: str = "") -> dict[str, Search]:
    """Search ranges of a method's parameters and of its nuisances', by dotted name, less those without effect."""
    space: dict[str, Search] = {}
    for one in dataclasses.fields(model):
        value = getattr(model, one.name)
        if isinstance(value, Parameterised):
            space |= search_space(value, f"{prefix}{one.name}.")
        elif one.metadata.get("search") is not None:
            space[f"{prefix}{one.name}"] = one.metadata["search"]
    inert: frozenset[str] = getattr(model, "inert", frozenset())
    return {name: search for name, search in space.items() if name.removeprefix(prefix) not in inert}


def judged(model: Estimator, validation: ValidationPart) -> float:
    """A fitted model's validation score: the best of its training curve, or its own score where it has no epochs.

    Raises
    ------
    ParameterError: the method has neither, so that it cannot be tuned.
    """
    history = getattr(model, "history_", None)
    curve = history.curve("score") if history is not None else []
    if curve:
        return float(max(curve))
    return float(model.judge(validation))


def space_of(
    model: Estimator, fixed: Collection[str] = (), ranges: Mapping[str, Search] | None = None
) -> dict[str, Search]:
    """What a search of this method would vary, by dotted name."""
    space = search_space(model) | {n: r for n, r in (ranges or {}).items() if has_parameter(model, n)}
    return {name: search for name, search in space.items() if name not in fixed}


def starts_of(model: Estimator, space: Mapping[str, Search]) -> list[dict[str, Any]]:
    """The further settings that a search begins with; none of a parameter that it leaves alone."""
    found = [{n: v for n, v in start.items() if n in space} for start in model.starts]
    return [start for start, whole in zip(found, model.starts, strict=True) if len(start) == len(whole)]


def note_of_starts(models: Mapping[str, Estimator]) -> list[str]:
    """What must be said where searches of some methods began with more than the method's own values."""
    named = [
        name for name, model in models.items() if starts_of(model, space_of(model, named_settings(name)))
    ]
    if not named:
        return []
    return [
        f"Among the trials of {', '.join(named)} are the settings of the method that each extends, tried first (a "
        "search of an extension should not end below what it extends)."
    ]


def named_settings(spec: str) -> set[str]:
    """Parameters that a method's text sets: {"propensity.floor"} of "ips:propensity.floor=0.1"."""
    return {part.partition("=")[0].strip() for part in spec.partition(":")[2].split("+") if part}


def has_parameter(model: Any, name: str) -> bool:
    """Whether a method has a parameter of this dotted name."""
    head, _, rest = name.partition(".")
    if head not in model.get_params(deep=False):
        return False
    inner = getattr(model, head)
    return not rest or (hasattr(inner, "get_params") and has_parameter(inner, rest))


def _complete(trials: Sequence[Trial]) -> list[Trial]:
    return [t for t in trials if t.state == "complete" and math.isfinite(t.score)]


def optuna_of() -> Any:
    """The package, its chatter off.

    Raises
    ------
    MissingExtra.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise MissingExtra("optuna", "tune", "tuning") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def distributions_of(space: Mapping[str, Search]) -> dict[str, Any]:
    """The ranges as Optuna's distributions."""
    return {name: _distribution(optuna_of(), search) for name, search in space.items()}


def _distribution(optuna: Any, search: Search) -> Any:
    if search.choices:
        return optuna.distributions.CategoricalDistribution(list(search.choices))
    if search.whole:
        return optuna.distributions.IntDistribution(int(search.low), int(search.high), log=search.log)
    return optuna.distributions.FloatDistribution(search.low, search.high, log=search.log)


def _rounded(value: Any, search: Search) -> Any:
    if search.choices or search.whole or not isinstance(value, float):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), search.low), search.high)


def _present(model: Parameterised, space: dict[str, Search]) -> dict[str, Any]:
    """The model's own values, where they lie inside the ranges."""
    out: dict[str, Any] = {}
    for name, search in space.items():
        value: Any = model
        for part in name.split("."):
            value = getattr(value, part)
        if search.choices:
            inside = value in search.choices
        else:  # None: a value that follows from the data has no place in a range
            inside = value is not None and search.low <= value <= search.high
        out[name] = value if inside else None
    return out
