"""`tune`: one method's parameters, searched on hold-outs over several splits; no trial is given a test part.

The search is `compare`'s (`search.py`): the method's own values first, pruning after the first split, the five best
judged on further splits. Each split is a job of its own, so that workers share the splits of a trial and the result is
the same whatever their number.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deconrec.base import Estimator
from deconrec.data.dataset import Dataset
from deconrec.errors import ParameterError
from deconrec.experiments.compare import FINALISTS, SHARED_SPLITS, environment
from deconrec.experiments.pool import Engine, Job, check_engine, progress_bar, run_jobs
from deconrec.experiments.results import Tuned, TunedTrial
from deconrec.experiments.runs import DESK, SELECTS, Plan, Select, check_methods, try_one
from deconrec.experiments.search import Searched, Searcher, Trial, Tried, named_settings
from deconrec.experiments.store import key_of
from deconrec.experiments.studies import Study, importance
from deconrec.methods import make
from deconrec.records import finite

Told = Callable[[int, Trial], None]
WORDS = {
    "biased": "the method's validation score on held-out rows of the biased log",
    "within-exposure": "how scores follow ratings among the held-out rows of one user",
    "unbiased": "the method's validation score on V, randomised rows",
}


def tune(
    data: Dataset | str | Path,
    method: str,
    *,
    trials: int = 30,
    storage: str | None = None,
    select: Select = "biased",
    protocol: Literal["pairs", "users"] | None = None,
    splits: int = SHARED_SPLITS,
    confirm: int = SHARED_SPLITS,
    settings: Mapping[str, str] | None = None,
    seed: int = 0,
    workers: int = 1,
    engine: Engine = "pool",
    root: str | Path | None = None,
    progress: bool = False,
    told: Told | None = None,
) -> Tuned:
    """Search the ranges that stand beside a method's parameters.

    Parameters
    ----------
    data: a `Dataset`, a catalogue name or a data file.
    method: a name with its parameters ("ips:propensity=naive-bayes"); what its text sets stays.
    trials: at least 1; the first is the method as it is.
    storage: an Optuna storage ("sqlite:///tune.db"), where the same search goes on: it is found again by the data, the
        method, the protocol and the seed. More `trials` than were made go on from those. None = nothing is kept.
    select: what judges a trial, as of `compare`.
    protocol: "pairs" or "users"; None = the data's.
    splits: that judge every trial (or worlds of a simulator); confirm: further ones that judge the five best trials.
    settings: more parameters of the method, as text; they stay.
    seed: of the search; the splits are those of seeds `seed`, `seed` + 1, ...
    workers: processes.  engine: of what, as of `compare`.
    root: folder of the public data sets.
    progress: show a bar on a terminal.
    told: called with the number of each new trial and the trial.

    Raises
    ------
    UnknownName, ParameterError, DataError, MissingExtra: before anything is fitted; ParameterError also where every
    trial failed.
    """
    _check(trials, splits, confirm, workers, select)
    check_engine(engine, workers, "tune")
    text = named(method, settings or {})
    plan = Plan(
        data if isinstance(data, Dataset) else str(data),
        None if root is None else str(root),
        "pairs",
        select,
        (),
    )
    opened = plan.open()
    first, truth = opened.draw(seed)
    plan = replace(plan, protocol=protocol or first.task.protocol)
    model = make(text)
    parts = plan.split(first, truth, seed)
    check_methods({text: model}, first, truth, parts, plan)
    search = Searcher(model, trials, seed, fixed=named_settings(text))
    if not search.space:
        raise ParameterError(f"'{text}' has no parameter with a range to search; fit it as it is.")
    study = Study(_study_name(plan, first, text, search, splits, seed), storage)
    for params, tried, _ in study.kept()[: search.trials]:
        search.tell(params, tried, splits)
    resumed = len(search.done)
    started = time.perf_counter()
    DESK.clear()
    try:
        found = _Run(plan, text, search, study, splits, confirm, seed, told).all(workers, engine, progress)
    finally:
        DESK.clear()
    protocol_ = {
        "name": plan.protocol,
        "select": select,
        "judged_by": WORDS[select],
        "splits": list(range(seed, seed + splits)),
        "further": list(range(seed + splits, seed + splits + confirm)),
        "counts": dict(parts.counts),
        "data": {
            "name": first.name,
            "users": first.n_users,
            "items": first.n_items,
            "rows": len(first.biased),
            "fingerprint": first.fingerprint,
        },
    }
    held = len(parts.holdout.data.biased) / max(len(parts.train.biased), 1)
    best = next((t for t in found.trials if t.params == found.params), None)
    gain = _gain(best, found.trials[0], splits, 0.0 if opened.fresh else held)
    values = {**(settings or {}), **{name: as_text(value) for name, value in found.params.items()}}
    return Tuned(
        dataset=opened.name,
        method=method,
        study=study.name,
        storage=storage,
        protocol=protocol_,
        params=finite(found.params),
        gain=gain,
        space={name: finite(asdict(one)) for name, one in search.space.items()},
        trials=[_kept(number, trial) for number, trial in enumerate(found.trials)],
        importance=importance(search),
        command=fit_command(method, opened.name, values, root, seed),
        answer=_answer(found, gain, protocol_),
        environment=environment()
        | {
            "seconds": time.perf_counter() - started,
            "workers": workers,
            "engine": engine,
            "resumed": resumed,
        },
        **finite({"score": found.score, "default": found.default}),
    )


def named(method: str, settings: Mapping[str, str]) -> str:
    """A method's text with further settings."""
    key, _, own = method.partition(":")
    rest = "+".join([*filter(None, [own]), *(f"{k}={v}" for k, v in settings.items())])
    return f"{key}:{rest}" if rest else key


def tuned_model(found: Tuned, settings: Mapping[str, str] | None = None) -> Estimator:
    """The method of a record with its best parameters, unfitted."""
    return make(named(found.method, settings or {})).set_params(**found.params)


def _check(trials: int, splits: int, confirm: int, workers: int, select: str) -> None:
    if trials < 1 or splits < 1 or confirm < 0 or workers < 1:
        raise ParameterError(
            f"tune needs trials, splits and workers >= 1 and confirm >= 0; got {trials}, {splits}, {workers} and "
            f"{confirm}."
        )
    if select not in SELECTS:
        raise ParameterError(f"'select' of tune must be one of {', '.join(SELECTS)}; got {select!r}.")


def _study_name(plan: Plan, data: Dataset, method: str, search: Searcher, splits: int, seed: int) -> str:
    """The method's name and what the search follows from: data, method, protocol, ranges, splits, seed."""
    key = key_of(
        fingerprint=data.fingerprint,
        method=make(method).essence(),
        fixed=sorted(named_settings(method)),
        protocol=[plan.protocol, plan.select, plan.by],
        space={n: asdict(s) for n, s in search.space.items()},
        splits=splits,
        seed=seed,
    )
    return f"{method.partition(':')[0]}-{key}"


class _Run:
    """The jobs of a search: a trial's first split, then its others, then the next trial; then the finalists."""

    def __init__(
        self,
        plan: Plan,
        method: str,
        search: Searcher,
        study: Study,
        splits: int,
        confirm: int,
        seed: int,
        told: Told | None,
    ) -> None:
        self.plan, self.method, self.search, self.study, self.told = plan, method, search, study, told
        self.at = list(range(seed, seed + splits))
        self.further_at = list(range(seed + splits, seed + splits + confirm))
        self.params: dict[str, Any] = {}
        self.stop: float | None = None
        self.results: dict[int, Tried] = {}
        self.finals: dict[tuple[int, int], Tried] = {}
        self.further: dict[int, Tried] = {}

    def all(self, workers: int, engine: Engine, progress: bool) -> Searched:
        """Do what is left to do and give the outcome."""
        left = max(0, self.search.trials - len(self.search.done)) * len(self.at)
        total = left + FINALISTS * len(self.further_at)
        with progress_bar(total if progress else None) as self.advance:
            run_jobs(self._next(), self._then, workers, engine)
        return self.search.result().confirmed(self.further)

    def _job(self, kind: Any, seed: int, params: Mapping[str, Any]) -> Job:
        return Job((kind, seed), try_one, (self.plan, self.method, [seed], dict(params)))

    def _next(self) -> list[Job]:
        if self.search.finished:
            return self._confirm()
        self.params, self.stop, self.results = self.search.ask(), self.search.stop_below(), {}
        return [self._job("trial", self.at[0], self.params)]

    def _then(self, job: Job, result: Tried) -> list[Job]:
        kind, seed = job.label
        self.advance(f"trial {len(self.search.done)}")
        if kind != "trial":
            self.finals[kind, seed] = result
            if len(self.finals) == len(self.asked) * len(self.further_at):
                self.further |= {
                    n: self._together([self.finals[n, s] for s in self.further_at]) for n in self.asked
                }
                self.study.confirm(self.further, len(self.further_at))
            return []
        self.results[seed] = result
        given_up = bool(result.failed) or (self.stop is not None and result.scores[0] < self.stop)
        if seed == self.at[0] and len(self.at) > 1 and not given_up:
            return [self._job("trial", s, self.params) for s in self.at[1:]]
        if len(self.results) < len(self.at) and not (seed == self.at[0] and given_up):
            return []
        tried = self._together([self.results[s] for s in self.at if s in self.results])
        trial = self.search.tell(self.params, tried, len(self.at))
        self.study.keep(self.search)
        if self.told is not None:
            self.told(len(self.search.done) - 1, trial)
        return self._next()

    def _confirm(self) -> list[Job]:
        finalists = self.search.result().finalists(FINALISTS) if self.further_at else []
        kept = self.study.confirmations(len(self.further_at))
        self.further = {n: kept[n] for n in finalists if n in kept}
        self.asked = [n for n in finalists if n not in kept]
        trials = self.search.done
        return [self._job(n, s, trials[n].params) for n in self.asked for s in self.further_at]

    @staticmethod
    def _together(each: Sequence[Tried]) -> Tried:
        """The outcomes of splits as those of one trial, up to the first that failed."""
        scores: tuple[float, ...] = ()
        failed = ""
        for one in each:
            scores += one.scores
            failed = one.failed
            if failed:
                break
        return Tried(scores, sum(t.seconds for t in each), failed)


# ---------------------------------------------------------------------- the record
def _kept(number: int, trial: Trial) -> TunedTrial:
    return TunedTrial(
        number=number,
        params=finite(trial.params),
        scores=list(trial.scores),
        state=trial.state,
        seconds=trial.seconds,
        failed=trial.failed,
        **finite({"score": trial.score}),
    )


def _gain(best: Trial | None, own: Trial, splits: int, shared: float) -> dict[str, float | int | None] | None:
    """Of the best trial over the method's own values, on the splits after the first `splits`.

    shared: held-out rows over training rows where splits are of one data set (Nadeau and Bengio's correction), else 0.
    """
    if best is None or best is own or own.state != "complete":
        return None
    pairs = list(zip(best.scores[splits:], own.scores[splits:], strict=False))
    if not pairs:
        return None
    difference = np.array([a - b for a, b in pairs])
    n = len(difference)
    error = float(difference.std(ddof=1) * math.sqrt(1 / n + shared)) if n > 1 else None
    return {"mean": float(difference.mean()), "error": error, "n": n}


def _answer(found: Searched, gain: Mapping[str, Any] | None, protocol: Mapping[str, Any]) -> list[str]:
    counts = {s: sum(t.state == s for t in found.trials) for s in ("complete", "pruned", "failed")}
    made = f"{len(found.trials)} trials: {counts['complete']} complete, {counts['pruned']} given up after one split"
    said = [f"{made}, {counts['failed']} failed."] if counts["failed"] else [f"{made}."]
    if not found.params:
        return ["The method's own values were best: there is nothing to set.", *said]
    values = ", ".join(f"{k} = {as_text(v)}" for k, v in found.params.items())
    said.insert(0, f"Best: {values}; score {found.score:.4f} (the method's own values {found.default:.4f}).")
    if gain is not None and gain["mean"] is not None:
        error = "" if gain["error"] is None else f" (standard error {gain['error']:.4f})"
        sure = gain["error"] is not None and abs(gain["mean"]) > 2 * gain["error"]
        said.append(
            f"On {gain['n']} further splits, which chose among finalists only, it gains {gain['mean']:+.4f}{error}"
            + ("." if sure else ": within what splits differ by chance.")
        )
    said.append(
        f"Judged by {protocol['judged_by']}: what is best there need not be best over all pairs; compare on randomised "
        "rows where there are some."
    )
    return said


def as_text(value: Any) -> str:
    """A parameter's value as `--set` reads it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return ",".join(as_text(v) for v in value)
    return str(value)


def fit_command(
    method: str, data: str, values: Mapping[str, str], root: str | Path | None, seed: int = 0
) -> str:
    """The command line that fits a method with these values."""
    words = ["deconrec", "fit", method, data]
    for name, text in values.items():
        words += ["--set", f"{name}={text}"]
    words += [] if root is None else ["--root", str(root)]
    words += ["--seed", str(seed)] if seed else []
    return shlex.join([*words, "--out", "model"])
