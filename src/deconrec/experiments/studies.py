"""Trials of a search in an Optuna storage (sqlite:///FILE, or another database): kept one by one, found by name.

A trial is written when it is finished, so that a search that was killed has lost the trial under way and nothing else;
what Optuna's own tools (its dashboard) show of a study is what stands here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from deconrec.errors import ParameterError
from deconrec.experiments.search import Searcher, Tried, distributions_of, optuna_of

FEWEST = 4  # NOTE values of a parameter among the trials, below which its importance is not told


class Study:
    """The record of one search; in memory only where there is no storage.

    Parameters
    ----------
    name: what the same search is found again by.
    storage: an Optuna storage URL, or None.

    Raises
    ------
    ParameterError: a storage that cannot be used, or a study of that name that is none of ours.
    MissingExtra: optuna is not installed.
    """

    def __init__(self, name: str, storage: str | None) -> None:
        self.name, self._optuna = name, optuna_of()
        self._study: Any = None
        if storage is None:
            return
        try:
            self._study = self._optuna.create_study(
                storage=storage, study_name=name, direction="maximize", load_if_exists=True
            )
        except Exception as error:  # whatever a driver raises
            raise ParameterError(
                f"--storage '{storage}' must be a storage of Optuna, such as sqlite:///tune.db; "
                f"{str(error).splitlines()[0]}"
            ) from error

    def kept(self) -> list[tuple[dict[str, Any], Tried, str]]:
        """(parameters, outcome, state) of the trials that were finished, in order."""
        if self._study is None:
            return []
        whole: dict[int, tuple[dict[str, Any], Tried, str]] = {}
        for trial in self._study.get_trials(deepcopy=False):
            about = trial.user_attrs.get("deconrec")
            if about is not None and trial.state.is_finished():  # one that was half written is made again
                scores = tuple(float(s) for s in about["scores"])
                tried = Tried(scores, float(about["seconds"]), str(about["failed"]))
                params = {n: tuple(v) if isinstance(v, list) else v for n, v in about["params"].items()}
                whole[int(about["number"])] = params, tried, str(about["state"])
        last = next(n for n in range(len(whole) + 1) if n not in whole)
        return [whole[n] for n in range(last)]

    def keep(self, search: Searcher) -> None:
        """Write the last trial of a search."""
        if self._study is None:
            return
        trial, number = search.done[-1], len(search.done) - 1
        states = self._optuna.trial.TrialState
        state = {"complete": states.COMPLETE, "pruned": states.PRUNED}.get(trial.state, states.FAIL)
        params = search.own | trial.params
        distributions = distributions_of(search.space)
        about = {
            "number": number,
            "params": trial.params,
            "scores": list(trial.scores),
            "state": trial.state,
            "seconds": trial.seconds,
            "failed": trial.failed,
        }
        self._study.add_trial(
            self._optuna.trial.create_trial(
                state=state,
                params=params,
                distributions={name: distributions[name] for name in params},
                value=trial.score if state is states.COMPLETE else None,
                intermediate_values=dict(enumerate(trial.scores)),
                user_attrs={"deconrec": about},
            )
        )

    def confirmations(self, splits: int) -> dict[int, Tried]:
        """Outcomes of finalists on so many further splits, by their number."""
        if self._study is None:
            return {}
        kept = self._study.user_attrs.get(f"confirmed on {splits}", {})
        return {
            int(n): Tried(tuple(t["scores"]), float(t["seconds"]), str(t["failed"])) for n, t in kept.items()
        }

    def confirm(self, further: Mapping[int, Tried], splits: int) -> None:
        """Keep outcomes of finalists."""
        if self._study is not None:
            kept = {
                str(n): {"scores": list(t.scores), "seconds": t.seconds, "failed": t.failed}
                for n, t in further.items()
            }
            self._study.set_user_attr(f"confirmed on {splits}", kept)


def importance(search: Searcher) -> dict[str, float]:
    """How much of what tells good trials from others lies in each parameter (PED-ANOVA), adding up to 1; {} where there
    are too few trials to say.

    A search that changes a few parameters of its best so far draws no fair sample of the space: a hint, no measurement.
    """
    optuna = optuna_of()
    complete = [t for t in search.done if t.state == "complete" and math.isfinite(t.score)]
    if len(complete) < 10 or len(search.space) < 2:
        return {}
    study = search.study()
    # A parameter whose own value lies outside its range is in no trial that left it; one of few values says nothing.
    each = [search.own | t.params for t in complete]
    names = [n for n in search.space if all(n in v for v in each) and len({v[n] for v in each}) >= FEWEST]
    if len(names) < 2:
        return {}
    try:
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.PedAnovaImportanceEvaluator(), params=names
        )
    except (ValueError, RuntimeError, AttributeError):
        return {}
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}
