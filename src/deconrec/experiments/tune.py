"""Tuning: a search over the ranges that stand beside the parameters, judged on validation data only."""

from __future__ import annotations

import dataclasses
from typing import Any

from deconrec.base import Estimator
from deconrec.data.dataset import Dataset
from deconrec.data.split import ValidationPart
from deconrec.errors import MissingExtra, ParameterError, TrainingError
from deconrec.parameters import Parameterised, Search


def search_space(model: Parameterised, prefix: str = "") -> dict[str, Search]:
    """Search ranges of a method's parameters and of its nuisances', by dotted name."""
    space: dict[str, Search] = {}
    for field in dataclasses.fields(model):
        value = getattr(model, field.name)
        if isinstance(value, Parameterised):
            space |= search_space(value, f"{prefix}{field.name}.")
        elif field.metadata.get("search") is not None:
            space[f"{prefix}{field.name}"] = field.metadata["search"]
    return space


def tune(
    model: Estimator, train: Dataset, validation: ValidationPart, trials: int, *, seed: int = 0
) -> Estimator:
    """The best of `trials` fitted copies of a model, by validation score (the first copy has the model's own values
    where they lie inside the ranges).

    A copy whose training diverges counts as a trial and is never chosen.

    Raises
    ------
    MissingExtra: optuna is not installed.  ParameterError: trials < 1.  TrainingError: every trial diverged.
    """
    if trials < 1:
        raise ParameterError(f"'trials' of tune must be at least 1; got {trials}.")
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise MissingExtra("optuna", "tune", "tuning") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = search_space(model)
    best: tuple[float, Estimator] | None = None
    failed: TrainingError | None = None
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial({k: v for k, v in _present(model, space).items() if v is not None})
    for _ in range(trials):
        trial = study.ask()
        candidate = model.clone().set_params(**{name: _suggest(trial, name, s) for name, s in space.items()})
        try:
            candidate.fit(train, validation=validation)
        except TrainingError as error:
            failed = error
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        score = judged(candidate, validation)
        study.tell(trial, score)
        if best is None or score > best[0]:
            best = score, candidate
    if best is None:
        assert failed is not None
        raise failed
    return best[1]


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
    score = getattr(model, "validation_score", None)
    if score is None:
        raise ParameterError(f"{type(model).__name__} has no validation score to be tuned by; use trials=0.")
    return float(score(validation))


def _suggest(trial: Any, name: str, search: Search) -> Any:
    if search.choices:
        return trial.suggest_categorical(name, list(search.choices))
    if search.whole:
        return trial.suggest_int(name, int(search.low), int(search.high), log=search.log)
    return trial.suggest_float(name, search.low, search.high, log=search.log)


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
