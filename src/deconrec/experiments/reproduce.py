"""`reproduce`: a table or figure of a paper made again from its spec, resumable, with the paper's figures beside ours.

What is done is kept as lines of a `Store`, so that a run may be stopped at any moment: the next one does what is
missing. A run's key holds the data's fingerprint, the method, its parameters, the setting and the seed; no commit,
version or machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from deconrec.base import Estimator, Propensity
from deconrec.catalogue import Opened
from deconrec.data.dataset import Dataset, Truth
from deconrec.data.split import Parts
from deconrec.errors import DataError, ParameterError, TrainingError
from deconrec.experiments.compare import (
    SHARED_NOTE,
    distribution_of,
    environment,
    protocol_of,
    search_record,
    unit_of,
)
from deconrec.experiments.judge import Outcome, Unit, judge, letters, lifts
from deconrec.experiments.metrics import check_metrics
from deconrec.experiments.pool import Engine, Job, check_engine, progress_bar, run_jobs
from deconrec.experiments.results import Lift, Reproduction, Run, Summary, Test, Verdict
from deconrec.experiments.runs import (
    DESK,
    SELECTS,
    Plan,
    check_methods,
    prepared,
    run_one,
    try_one,
    yardsticks_of,
)
from deconrec.experiments.search import (
    Searched,
    Searcher,
    Trial,
    Tried,
    has_parameter,
    named_settings,
    note_of_starts,
    space_of,
    starts_of,
)
from deconrec.experiments.spec import COMMAND, Setting, Spec, load_spec
from deconrec.experiments.store import Store, key_of, packed, unpacked
from deconrec.experiments.verdict import (
    compared,
    counts_of,
    other_data,
    published,
    sentences,
    shown,
    tested_claims,
    words,
)
from deconrec.experiments.world_spec import WorldSpec
from deconrec.experiments.worlds import reproduce_worlds
from deconrec.records import finite


@dataclass(frozen=True)
class Failure:
    """A run that could not be made, and why."""

    why: str


def reproduce(
    name: str | Path,
    *,
    seeds: int | None = None,
    seed: int | None = None,
    quick: bool = False,
    data: str | None = None,
    root: str | Path | None = None,
    trials: int | None = None,
    workers: int = 1,
    engine: Engine = "pool",
    force: bool = False,
    run: bool = True,
    results: str | Path | None = None,
    progress: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Reproduction:
    """Make a table or figure of a paper again.

    Parameters
    ----------
    name: an experiment ("res-dr/table1-coat"), or a TOML file of that form.
    seeds: how many; None = the spec's.  seed: the first of them; None = the spec's, 0.
    quick: the spec's quick form: minutes, to see that everything runs. Its lines stand in a file of their own.
    data: other data than the spec's, with the same columns (a catalogue name or a TOML data file); not of worlds.
    root: folder of the public data sets.
    trials: of each search; None = the spec's, 0 = the methods' defaults. More trials go on from those made before. An
        experiment that describes worlds has none.
    workers: processes, one thread each.  engine: of what, as of `compare`.
    force: do again what is done; the new lines replace the old ones.
    run: False = do nothing, and report what is there; `missing` names the rest.
    results: folder of the lines, NAME.jsonl; None = experiments/results in a checkout, else deconrec-results. What
        another table of the same paper has done already, by the lines beside, is not done again.
    progress: show a progress bar on a terminal.
    say: is told what is done and what is left.

    Raises
    ------
    UnknownName: no such experiment.  FileError: a spec or a results file that is none.
    MissingData: says what to fetch.  ParameterError, DataError: before anything is fitted.
    """
    if (seeds is not None and seeds < 1) or (trials is not None and trials < 0) or workers < 1:
        raise ParameterError(
            f"reproduce needs seeds >= 1, trials >= 0 and workers >= 1; got {seeds}, {trials} and {workers}."
        )
    check_engine(engine, workers, "reproduce")
    if seed is not None and seed < 0:
        raise ParameterError(f"'seed' of reproduce must be >= 0; got {seed}.")
    called, spec = load_spec(name)
    spec = spec.quicker() if quick else spec
    if isinstance(spec, WorldSpec):
        for what, value in (("data", data), ("trials", trials)):
            if value is not None:
                raise ParameterError(
                    f"'{what}' of reproduce has no meaning for '{called}': it fits no method."
                )
        asked = {"seeds": seeds, "first_seed": seed}
        return reproduce_worlds(
            called,
            spec.model_copy(update={n: v for n, v in asked.items() if v is not None}),
            Store(results_path(called, results, quick), say),
            root=None if root is None else str(root),
            workers=workers,
            engine=engine,
            force=force,
            run=run,
            quick=quick,
            progress=progress,
            say=say,
        )
    changes: dict[str, Any] = {} if seeds is None else {"seeds": seeds}
    if seed is not None:
        changes["first_seed"] = seed
    if trials is not None:
        changes["search"] = spec.search.model_copy(update={"trials": trials})
    if data is not None:
        changes["dataset"] = data
    spec = spec.model_copy(update=changes)
    store = Store(results_path(called, results, quick), say)
    DESK.clear()
    try:
        work = _Work.of(called, spec, None if root is None else str(root), store, force)
        if run:
            work.do(workers, engine, progress, say)
        return work.report(quick, {"engine": engine} if run else {})
    finally:
        DESK.clear()


def results_path(name: str, results: str | Path | None = None, quick: bool = False) -> Path:
    """The file of an experiment's lines; see `reproduce`."""
    if results is None:
        inside = Path("src/deconrec").is_dir() and Path("experiments").is_dir()
        results = Path("experiments/results") if inside else Path("deconrec-results")
    return Path(results) / f"{name}{'.quick' if quick else ''}.jsonl"


# ---------------------------------------------------------------------- what is to be done
@dataclass
class _Case:
    """One setting: its plan, its data on the first seed, and the fingerprint that stands for the data."""

    setting: Setting
    plan: Plan
    opened: Opened
    data: Dataset
    truth: Truth | None
    parts: Parts[Any]
    fingerprint: str

    @property
    def unit(self) -> Unit:
        return unit_of(self.opened, self.parts)


@dataclass
class _Search:
    """A search, and the (case, method) pairs that wait for its parameters."""

    case: _Case
    method: str
    base: dict[str, Any]
    setting: Setting
    key: str
    searcher: Searcher
    seeds: list[int]  # of the splits on which finalists are judged after the search
    finalists: int
    users: list[tuple[int, str]] = field(default_factory=list)
    further: dict[int, Tried] = field(default_factory=dict)  # by number of trial
    failed: str = ""

    @property
    def tried(self) -> Searched | None:
        """The result of all trials, before the finalists are judged."""
        if not self.searcher.finished or self.failed:
            return None
        return self.searcher.result()

    @property
    def waiting(self) -> list[int]:
        """Numbers of the trials that are still to be judged on the further splits."""
        tried = self.tried
        if tried is None or not self.seeds or not self.finalists:
            return []
        return [n for n in tried.finalists(self.finalists) if n not in self.further]

    @property
    def found(self) -> Searched | None:
        """The result, once all trials are made and the finalists judged (or there is nothing to search)."""
        tried = self.tried
        if tried is None or self.waiting:
            return None
        return tried.confirmed(self.further) if self.further else tried


@dataclass
class _Work:
    """An experiment in progress."""

    name: str
    spec: Spec
    cases: list[_Case]
    store: Store
    searches: dict[str, _Search]
    of_run: dict[tuple[int, str], _Search | None]
    ignored: set[str]  # keys of lines that are to be done again
    forced: bool = False
    asked: set[str] = field(default_factory=set)  # keys of runs that were handed out

    @classmethod
    def of(cls, name: str, spec: Spec, root: str | None, store: Store, force: bool) -> _Work:
        cases: list[_Case] = []
        for setting in spec.settings:
            cases.append(_case(spec, setting, root))
        work = cls(name, spec, cases, store, {}, {}, {*store.lines, *store.beside} if force else set(), force)
        for at, case in enumerate(cases):
            methods = spec.methods_at(case.setting)
            models = {m: prepared(m, work.base(m, case.setting)) for m in methods}
            check_methods(models, case.data, case.truth, case.parts, case.plan)
            for method in methods:
                work.of_run[at, method] = work._search(at, method, models[method], root)
        return work

    # ------------------------------------------------------------------ parameters, settings, keys
    def base(self, method: str, setting: Setting) -> dict[str, Any]:
        """Parameters that the spec and the setting give a method: those that it has and its text does not set."""
        dialled = {n: v for n, v in setting.items() if self.spec.dials[n] == "parameter"}
        return {n: v for n, v in (self.spec.set | dialled).items() if reaches(method, n)}

    def effective(self, method: str, setting: Setting) -> Setting:
        """The part of a setting that changes what the method does."""
        return {n: v for n, v in setting.items() if self.spec.dials[n] != "parameter" or reaches(method, n)}

    def _search(self, at: int, method: str, model: Estimator, root: str | None) -> _Search | None:
        spec, setting = self.spec, self.cases[at].setting
        if not spec.search.trials:
            return None
        wanted = self.effective(method, setting | (spec.search.at or {}))
        if not _sees_unbiased(model, self.cases[at].plan):
            # Its search is the same whatever the size of U: it is made at the first one.
            first = self.cases[0].setting
            wanted = {n: first[n] if spec.dials[n] == "unbiased" else v for n, v in wanted.items()}
        whole = self.cases[0].setting | wanted
        case = next((c for c in self.cases if c.setting == whole), None) or _case(spec, whole, root)
        base = self.base(method, whole)
        fixed = {*named_settings(method), *base, *spec.search.left(method)}
        ranges = {n: r.search() for n, r in spec.search.ranges.items()}
        seeds = spec.search_seeds
        prototype = prepared(method, base)
        space = space_of(prototype, fixed, ranges)
        starts = starts_of(prototype, space)
        key = key_of(
            kind="search",
            data=case.fingerprint,
            method=method,
            params=_described(prototype),
            setting=wanted,
            split=_split(case.plan),
            seeds=seeds,
            space={n: asdict(s) for n, s in space.items()},
            prune=spec.search.prune,
            **({"starts": starts} if starts else {}),
        )
        if key not in self.searches:
            searcher = Searcher(
                prototype,
                spec.search.trials,
                fixed=fixed,
                ranges=ranges,
                prune=spec.search.prune,
                done=self._trials(key),
            )
            rest = [s for s in spec.seed_numbers if s not in seeds]
            search = _Search(case, method, base, wanted, key, searcher, rest, spec.search.finalists)
            self._settle(search)
            for number in search.waiting:
                line = self._known(_final_key(search, number))
                if line is not None:
                    search.further[number] = Tried(
                        tuple(line["scores"]), line["seconds"], line.get("failed", "")
                    )
            self.searches[key] = search
        self.searches[key].users.append((at, method))
        return self.searches[key]

    def _trials(self, search: str) -> list[Trial]:
        """Trials of a search that were made before, up to the first gap."""
        done: list[Trial] = []
        while (line := self._known(_trial_key(search, len(done)))) is not None:
            scores = tuple(line["scores"])
            done.append(Trial(line["params"], scores, line["state"], line["seconds"], line.get("failed", "")))
        return done

    def _settle(self, search: _Search) -> None:
        """Note a search whose every trial failed."""
        if search.searcher.finished:
            try:
                search.searcher.result()
            except ParameterError as error:
                search.failed = str(error)

    def params(self, at: int, method: str) -> dict[str, Any] | None:
        """All parameters beyond the method's own for its runs at a setting; None while its search is not done.

        They are the search's best that every split of the comparison can be fitted with: a floor that no propensity of
        some split exceeds is no choice, and what cannot be fitted opens no test part.
        """
        search, base = self.of_run[at, method], self.base(method, self.cases[at].setting)
        if search is None:
            return base
        found = search.found
        if found is None:
            return None
        ranked = [params | base for params in found.ranked] or [base]
        return next((params for params in ranked if not self._fails(at, method, params)), ranked[0])

    def _fails(self, at: int, method: str, params: Mapping[str, Any]) -> bool:
        """Whether some split is known not to be fitted with these parameters."""
        lines = (self._known(self.run_key(at, method, s, params)) for s in self.spec.seed_numbers)
        return any(line is not None and line.get("failed") for line in lines)

    def run_key(self, at: int, method: str, seed: int, params: Mapping[str, Any]) -> str:
        """The key of a run."""
        case = self.cases[at]
        return key_of(
            kind="run",
            data=case.fingerprint,
            method=method,
            params=_described(prepared(method, params)),
            setting=self.effective(method, case.setting),
            split=_split(case.plan) | {"refit": case.plan.refit},
            seed=seed,
        )

    def _known(self, key: str) -> dict[str, Any] | None:
        """A line that counts: there, not to be done again, and with every metric that is asked for."""
        line = None if key in self.ignored else self.store.get(key)
        if line is not None and line["kind"] == "run" and not line.get("failed"):
            return line if set(self.spec.metrics) <= set(line["metrics"]) else None
        return line

    # ------------------------------------------------------------------ doing it
    def jobs_of_runs(self, pairs: Sequence[tuple[int, str]]) -> list[Job]:
        """The runs of these (setting, method) that are not done and can be."""
        out = []
        of_pair = {pair: self.params(*pair) for pair in pairs}
        for seed in self.spec.seed_numbers:
            for (at, method), params in of_pair.items():
                if params is None:
                    continue
                key = self.run_key(at, method, seed, params)
                if key not in self.asked and self._known(key) is None:
                    self.asked.add(key)
                    arguments = (self.cases[at].plan, method, seed, params)
                    out.append(Job(("run", at, key), _run, arguments))
        return out

    def job_of_trial(self, search: _Search) -> Job:
        """The next trial of a search."""
        suggested = search.searcher.ask()
        seeds = self.spec.search_seeds
        arguments = (
            search.case.plan,
            search.method,
            seeds,
            search.base | suggested,
            search.searcher.stop_below(),
        )
        return Job(("trial", search.key, suggested), try_one, arguments)

    def jobs_of_finals(self, search: _Search) -> list[Job]:
        """The finalists of a search that are still to be judged on the further splits."""
        tried = search.tried
        out = []
        for number in search.waiting:
            assert tried is not None
            arguments = (
                search.case.plan,
                search.method,
                search.seeds,
                search.base | tried.trials[number].params,
            )
            out.append(Job(("final", search.key, number), try_one, arguments))
        return out

    def do(self, workers: int, engine: Engine, progress: bool, say: Callable[[str], None]) -> None:
        """Do what is missing."""
        open_ = [s for s in self.searches.values() if not s.searcher.finished]
        finals = [job for s in self.searches.values() for job in self.jobs_of_finals(s)]
        everything = list(self.of_run)
        ready = self.jobs_of_runs([pair for pair in everything if self.params(*pair) is not None])
        later = sum(1 for pair in everything if self.params(*pair) is None) * self.spec.seeds
        trials = sum(s.searcher.trials - len(s.searcher.done) for s in open_)
        judged = len(finals) + sum(s.finalists + 1 for s in open_ if s.seeds and s.finalists)
        say(
            f"{self.name}: {len(self.spec.methods)} methods, {len(self.cases)} settings, {self.spec.seeds} seeds; to "
            f"do: {trials} trials of {len(open_)} searches, {judged} finalists and {len(ready) + later} runs "
            f"(results in {self.store.path})"
        )
        about = _versions()

        def then(job: Job, result: Any) -> list[Job]:
            kind, where, what = job.label
            advance(job.arguments[1])
            if kind == "run":
                case = self.cases[where]
                self._keep_run(case, job, what, result, about)
                if not isinstance(result, Failure):
                    return []
                # The next best parameters of its search, where it has one.
                return self.jobs_of_runs([pair for pair in everything if pair[1] == job.arguments[1]])
            search = self.searches[where]
            if kind == "final":
                search.further[what] = result
                self._keep(_final_key(search, what), _final_line(search, what, result, about))
            else:
                number = len(search.searcher.done)
                # As they are written: a search that goes on from its lines sees the numbers of one that never stopped.
                result = replace(result, scores=tuple(round(s, 6) for s in result.scores))
                trial = search.searcher.tell(what, result, self.spec.search.splits)
                self._keep(_trial_key(where, number), _trial_line(search, number, trial, about))
                if not search.searcher.finished:
                    return [self.job_of_trial(search)]
                self._settle(search)
                if search.waiting:
                    return self.jobs_of_finals(search)
            self._keep_search(search, about)
            return self.jobs_of_runs(search.users)

        for search in self.searches.values():  # work may have stopped between a last trial and this line
            self._keep_search(search, about)

        with progress_bar(trials + judged + len(ready) + later if progress else None) as advance:
            run_jobs([*(self.job_of_trial(s) for s in open_), *finals, *ready], then, workers, engine)
        if self.forced:  # everything was done again: the old lines go
            self.store.rewrite()
        self.ignored.clear()

    def _keep(self, key: str, line: Mapping[str, Any]) -> None:
        self.store.add(key, line)
        self.ignored.discard(key)

    def _keep_search(self, search: _Search, about: Mapping[str, str]) -> None:
        """Write down what a search found, once it is done and where that is not there."""
        more = {"finalists": search.finalists} if search.further else {}
        key = key_of(search=search.key, trials=search.searcher.trials, **more)
        if search.found is not None and self._known(key) is None:
            self._keep(key, _search_line(search, self.spec, about))

    def _keep_run(
        self, case: _Case, job: Job, key: str, result: Outcome | Failure, about: Mapping[str, str]
    ) -> None:
        _, method, seed, _ = job.arguments
        line: dict[str, Any] = {
            "kind": "run",
            "data": case.fingerprint,
            "method": method,
            "setting": self.effective(method, case.setting),
            "seed": seed,
        }
        if isinstance(result, Failure):
            self._keep(key, line | {"failed": result.why, "versions": dict(about)})
            return
        run = result.run
        line |= {
            "params": run.params,
            "metrics": run.metrics,
            "seconds": round(run.seconds, 3),
            "unbiased_rows": run.unbiased_rows,
            "best_epoch": run.best_epoch,
            "skipped_users": run.skipped_users,
            "overlap": run.overlap,
            "users": case.data.n_users,
            # Fresh worlds are compared seed by seed: their users are strangers to each other.
            "per_user": {} if case.unit.kind == "world" else packed(result.per_user, case.data.n_users),
            "versions": dict(about),
        }
        self._keep(key, line)

    # ------------------------------------------------------------------ the record
    def outcomes(self, at: int) -> tuple[dict[tuple[str, int], Outcome], list[str]]:
        """What is there of a setting, and what is missing, in words."""
        out: dict[tuple[str, int], Outcome] = {}
        missing = []
        case = self.cases[at]
        place = f" at {words(case.setting)}" if case.setting else ""
        for method in self.spec.methods_at(case.setting):
            params = self.params(at, method)
            if params is None:
                search = self.of_run[at, method]
                assert search is not None
                made = (
                    f"{len(search.searcher.done)} of {search.searcher.trials} trials of its search are made"
                    + (f", {len(search.waiting)} finalists are to be judged" if search.waiting else "")
                )
                missing.append(f"{method}{place}: {search.failed or made}")
                continue
            absent = []
            for seed in self.spec.seed_numbers:
                line = self._known(self.run_key(at, method, seed, params))
                if line is None:
                    absent.append(seed)
                elif line.get("failed"):
                    missing.append(f"{method}{place}: seed {seed} failed: {line['failed']}")
                else:
                    out[method, seed] = self._outcome(case, method, line)
            if absent:
                few = ", ".join(map(str, absent[:10])) + (" ..." if len(absent) > 10 else "")
                missing.append(f"{method}{place}: {len(absent)} of {self.spec.seeds} seeds not run ({few})")
        return out, missing

    def _outcome(self, case: _Case, method: str, line: Mapping[str, Any]) -> Outcome:
        run = Run(
            method=method,
            seed=line["seed"],
            setting=dict(case.setting),
            metrics={m: line["metrics"][m] for m in self.spec.metrics},
            seconds=line["seconds"],
            unbiased_rows=line["unbiased_rows"],
            params=line["params"],
            best_epoch=line["best_epoch"],
            overlap=line["overlap"],
            skipped_users=line["skipped_users"],
        )
        return Outcome(run, unpacked(line["per_user"], line["users"]))

    def report(self, quick: bool, how: Mapping[str, str]) -> Reproduction:
        """Everything that is there, judged, beside the paper's figures; `how` the last of it was made."""
        spec, seeds = self.spec, self.spec.seed_numbers
        runs: list[Run] = []
        summary: list[Summary] = []
        tests: list[Test] = []
        missing: list[str] = []
        lifted: list[Lift] = []
        found: list[dict[tuple[str, int], Outcome]] = []
        for at, case in enumerate(self.cases):
            outcomes, absent = self.outcomes(at)
            missing += absent
            found.append(outcomes)
            whole = [m for m in spec.methods if all((m, s) in outcomes for s in seeds)]
            runs += [outcomes[m, s].run for m in spec.methods for s in seeds if (m, s) in outcomes]
            here = judge(outcomes, whole, list(seeds), spec.metrics, case.unit, case.setting)
            summary += here[0]
            tests += here[1]
            yardsticks = yardsticks_of(whole)
            lifted += lifts(outcomes, whole, yardsticks, list(seeds), spec.metrics, case.unit, case.setting)
        first = self.cases[0]
        done = [m for m in spec.methods if any(s.method == m for s in summary)]
        paper = published(spec)
        why = other_data(spec, first.data)
        cells = [
            cell for case in self.cases for cell in compared(spec, case.setting, summary, comparable=not why)
        ]
        claims = tested_claims(spec, [c.setting for c in self.cases], found, [c.unit for c in self.cases])
        single = letters if len(self.cases) == 1 and not missing else None
        protocol = protocol_of(
            first.plan, first.opened, first.data, first.truth, first.parts, list(seeds), spec.methods
        )
        protocol |= {
            "trials": spec.search.trials,
            "search": "shared" if spec.search.trials else None,
            "searched": [self._searched(s) for s in self.searches.values() if s.found is not None],
            "tolerance": dict(spec.tolerance),
            "command": f"{COMMAND} {self.name}{' --quick' if quick else ''}",
        }
        if spec.search.trials:
            protocol["notes"] += [SHARED_NOTE, *note_of_starts({m: prepared(m) for m in spec.methods})]
        if spec.search.finalists:
            protocol["notes"].append(
                f"The {spec.search.finalists} best trials of a search and the method's own values were judged on the "
                "hold-outs of all splits, and the best of them taken: a best of many on few splits is one by luck."
            )
        return Reproduction(
            dataset=spec.dataset,
            protocol=finite(protocol),
            runs=runs,
            summary=summary,
            tests=tests,
            environment=environment() | {"results": self.store.path.name} | dict(how),
            distribution=distribution_of(first.data, first.truth),
            letters={m: single(m, done, summary, tests) for m in spec.metrics} if single else {},
            name=self.name,
            title=spec.title,
            says=spec.says,
            paper=paper,
            verdict=Verdict(
                says=sentences(spec, cells, claims, why, missing, quick),
                counts=counts_of(cells),
                cells=cells,
                claims=claims,
            ),
            missing=missing,
            picture=list(spec.picture),
            lifts=lifted,
        )

    def _searched(self, search: _Search) -> dict[str, Any]:
        assert search.found is not None
        splits = self.spec.search_seeds + (search.seeds if search.further else [])
        record = search_record(search.found, splits)
        at, method = search.users[0]
        base, ranked = self.base(method, self.cases[at].setting), search.found.ranked
        fails = [self._fails(at, method, params | base) for params in ranked]
        if any(fails) and not all(fails):
            record |= {"taken": finite(ranked[fails.index(False)]), "passed_over": fails.index(False)}
        return {"method": search.method, "setting": dict(search.setting)} | record


def reaches(method: str, name: str) -> bool:
    """Whether a method has a parameter that its text does not set."""
    return name not in named_settings(method) and has_parameter(prepared(method), name)


def _case(spec: Spec, setting: Setting, root: str | None) -> _Case:
    by_kind = {
        kind: {n: v for n, v in setting.items() if spec.dials[n] == kind} for kind in spec.dials.values()
    }
    more = "+".join(f"{n}={shown(v)}" for n, v in by_kind.get("data", {}).items())
    name = spec.dataset + (("+" if ":" in spec.dataset else ":") + more if more else "")
    select: Any = next(iter(by_kind.get("select", {}).values()), spec.select)
    select = "biased" if select == "validation" else select
    if select not in SELECTS:
        raise ParameterError(
            f"a setting of kind 'select' must be one of {', '.join(SELECTS)}; got {select!r}."
        )
    plan = Plan(name, root, spec.protocol, select, ())
    opened = DESK.open(plan)
    data, truth = DESK.draw(plan, 0)
    share = next(iter(by_kind.get("unbiased", {}).values()), None)
    shares, largest = None, 0.0
    if share is not None:
        _, validation, test = data.task.unbiased_split
        dial = next(n for n in setting if spec.dials[n] == "unbiased")
        every = [float(s[dial]) for s in spec.settings if dial in s]
        shares, largest = (float(share), validation, test), max([*every, float(share)])
    metrics = tuple(check_metrics(spec.metrics, data, spec.protocol, truth))
    plan = replace(plan, metrics=metrics, shares=shares, largest_train=largest)
    parts = plan.split(data, truth, 0)
    return _Case(setting, plan, opened, data, truth, parts, data.fingerprint)


def _run(plan: Plan, method: str, seed: int, params: Mapping[str, Any]) -> Outcome | Failure:
    """A run, or why it could not be made: one failure must not stop hours of others."""
    try:
        return run_one(plan, method, seed, params)
    except (TrainingError, DataError, ParameterError) as error:
        return Failure(str(error))


def _sees_unbiased(model: Estimator, plan: Plan) -> bool:
    nuisances = [v for v in model.get_params(deep=False).values() if isinstance(v, Propensity)]
    return model.tags.uses_unbiased or plan.select == "unbiased" or any(p.needs_unbiased for p in nuisances)


def _described(model: Estimator) -> dict[str, Any]:
    """The parameters in a run's key; the seed stands beside them."""
    return {n: v for n, v in finite(model.essence()).items() if n != "seed"}


def _split(plan: Plan) -> dict[str, Any]:
    return {n: getattr(plan, n) for n in ("protocol", "select", "by", "shares", "largest_train")}


def _trial_key(search: str, number: int) -> str:
    return key_of(search=search, number=number)


def _final_key(search: _Search, number: int) -> str:
    return key_of(search=search.key, final=number, seeds=search.seeds)


def _final_line(search: _Search, number: int, tried: Tried, about: Mapping[str, str]) -> dict[str, Any]:
    line = {
        "kind": "final",
        "search": search.key,
        "number": number,
        "method": search.method,
        "setting": search.setting,
        "scores": list(tried.scores),
        "seconds": round(tried.seconds, 3),
        "versions": dict(about),
    }
    return line | ({"failed": tried.failed} if tried.failed else {})


def _trial_line(search: _Search, number: int, trial: Trial, about: Mapping[str, str]) -> dict[str, Any]:
    line = {
        "kind": "trial",
        "search": search.key,
        "number": number,
        "method": search.method,
        "setting": search.setting,
        "params": trial.params,
        "scores": list(trial.scores),
        "state": trial.state,
        "seconds": round(trial.seconds, 3),
        "versions": dict(about),
    }
    return line | ({"failed": trial.failed} if trial.failed else {})


def _search_line(search: _Search, spec: Spec, about: Mapping[str, str]) -> dict[str, Any]:
    assert search.found is not None
    splits = spec.search_seeds + (search.seeds if search.further else [])
    return {
        "kind": "search",
        "search": search.key,
        "data": search.case.fingerprint,
        "method": search.method,
        "setting": search.setting,
        "versions": dict(about),
    } | search_record(search.found, splits)


def _versions() -> dict[str, str]:
    found = environment()
    return {"python": found["python"]} | dict(found["versions"])
