"""`reproduce` for experiments that describe worlds: drawn, measured, and put beside what the paper says of them.

Each world, setting and seed is one line of a `Store`, as a run of a method is. Worlds of one seed share every draw but
the dial, so two settings of a world are compared seed by seed; of two different worlds no draw is shared.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from deconrec.catalogue import is_simulated, open_data
from deconrec.errors import Error, MissingData
from deconrec.evaluation import statistics
from deconrec.experiments.compare import environment
from deconrec.experiments.judge import Outcome, Unit
from deconrec.experiments.pool import Engine, Job, progress_bar, run_jobs
from deconrec.experiments.quantities import curves, definitions, quantities
from deconrec.experiments.results import Claimed, Curve, Reproduction, Run, Summary, Test, Verdict
from deconrec.experiments.spec import COMMAND, Setting
from deconrec.experiments.store import Store, key_of
from deconrec.experiments.verdict import (
    compared,
    counts_of,
    published,
    sentences,
    shown,
    tested_claims,
    words,
)
from deconrec.experiments.world_spec import WorldSpec
from deconrec.records import finite

FRESH = Unit("world", 0.0)  # every seed draws anew
QUICK = "This is a quick run with few seeds: nothing can be concluded from it."


@dataclass(frozen=True)
class Measured:
    """What was found of one world; `failed` says why nothing was."""

    metrics: dict[str, float | None] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    failed: str = ""


@dataclass(frozen=True)
class World:
    """A world of the experiment as it is with its dials left alone, on seed 0: what its lines are filed under.

    Attributes
    ----------
    name: as the experiment has it.
    record: users, items, rows, fingerprint, whether the truth is known; {} where it cannot be drawn.
    notes: the data's own.
    failed: why it cannot be drawn; "" where it can.
    """

    name: str
    record: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    failed: str = ""


def reproduce_worlds(
    name: str,
    spec: WorldSpec,
    store: Store,
    *,
    root: str | None,
    workers: int,
    engine: Engine,
    force: bool,
    run: bool,
    quick: bool,
    progress: bool,
    say: Callable[[str], None],
) -> Reproduction:
    """Describe the worlds of an experiment; parameters and errors as in `reproduce`.

    A world that cannot be drawn stops no other: it is named in `missing`, with the reason.
    """
    work = _Work(name, spec, root, store, {*store.lines, *store.beside} if force else set())
    if run:
        work.do(workers, engine, progress, say, forced=force)
    return work.report(quick, {"engine": engine} if run else {})


def measure(name: str, root: str | None, seed: int, with_curves: bool) -> Measured:
    """Draw one world and measure it, or say why that cannot be done."""
    started = time.perf_counter()
    try:
        opened = open_data(name, root)
        data, truth = opened.draw(seed)
    except Error as error:
        return Measured(failed=_why(error))
    return Measured(
        metrics=finite(quantities(data, truth, seed)),
        curves=curves(data) if with_curves else {},
        params=dict(opened.params),
        seconds=time.perf_counter() - started,
    )


def named(spec: WorldSpec, world: str, setting: Setting) -> str:
    """The catalogue's text for a world at a setting, such as "sim-deconf:gamma_b=0+gamma_theta=0.5"."""
    more = "+".join(f"{n}={shown(v)}" for n, v in spec.effective(world, spec.set | setting).items())
    return world + (("+" if ":" in world else ":") + more if more else "")


def _why(error: Error) -> str:
    """What went wrong, without this machine's folders: the words are kept."""
    return error.anywhere if isinstance(error, MissingData) else str(error)


def _opened(spec: WorldSpec, world: str, root: str | None) -> World:
    try:
        data, truth = open_data(named(spec, world, {}), root).draw(0)
    except Error as error:
        return World(world, failed=_why(error))
    record = {
        "users": data.n_users,
        "items": data.n_items,
        "rows": len(data.biased),
        "simulated": truth is not None,
        "fingerprint": data.fingerprint,
    }
    return World(world, record, data.notes)


@dataclass(frozen=True)
class _Case:
    """A world at a setting of the dials that it has, and its seeds."""

    world: World
    setting: Setting
    seeds: list[int]

    def __str__(self) -> str:
        return self.world.name + (f" at {words(self.setting)}" if self.setting else "")


class _Work:
    """An experiment in progress."""

    def __init__(self, name: str, spec: WorldSpec, root: str | None, store: Store, ignored: set[str]) -> None:
        self.name, self.spec, self.root, self.store = name, spec, root, store
        self.ignored = ignored  # keys of lines that are to be done again
        self.worlds = [_opened(spec, world, root) for world in spec.worlds]
        self.cases: list[_Case] = []
        for setting in spec.settings:
            for world in self.worlds:
                own = spec.effective(world.name, setting)
                if not any((c.world, c.setting) == (world, own) for c in self.cases):
                    # Real data are the same on every seed.
                    seeds = spec.seed_numbers if is_simulated(world.name) else spec.seed_numbers[:1]
                    self.cases.append(_Case(world, own, seeds))

    def key(self, case: _Case, seed: int) -> str:
        """The key of a line."""
        return key_of(
            kind="world",
            data=case.world.record["fingerprint"],
            world=case.world.name,
            setting=self.spec.effective(case.world.name, self.spec.set | case.setting),
            seed=seed if is_simulated(case.world.name) else 0,
        )

    def known(self, case: _Case, seed: int) -> dict[str, Any] | None:
        """A line that counts: there, not to be done again, and with all that is asked for."""
        key = self.key(case, seed)
        line = None if key in self.ignored else self.store.get(key)
        if line is None or line.get("failed"):
            return line
        whole = set(self.spec.metrics) <= set(line["metrics"]) and set(self.spec.curves) <= set(
            line["curves"]
        )
        return line if whole else None

    # ------------------------------------------------------------------ doing it
    def do(
        self, workers: int, engine: Engine, progress: bool, say: Callable[[str], None], forced: bool
    ) -> None:
        """Draw and measure what is missing, a seed of every world before the next seed."""
        drawable = [case for case in self.cases if not case.world.failed]
        jobs = [
            Job(
                (case, seed),
                measure,
                (named(self.spec, case.world.name, case.setting), self.root, seed, bool(self.spec.curves)),
            )
            for seed in self.spec.seed_numbers
            for case in drawable
            if seed in case.seeds and self.known(case, seed) is None
        ]
        say(
            f"{self.name}: {len(drawable)} settings of worlds, {self.spec.seeds} seeds; to do: {len(jobs)} worlds "
            f"(results in {self.store.path})"
        )
        found = environment()
        about = {"python": found["python"]} | dict(found["versions"])

        def then(job: Job, result: Measured) -> list[Job]:
            case, seed = job.label
            self._keep(case, seed, result, about)
            advance(str(case))
            return []

        with progress_bar(len(jobs) if progress else None) as advance:
            run_jobs(jobs, then, workers, engine)
        if forced:  # everything was done again: the old lines go
            self.store.rewrite()
        self.ignored.clear()

    def _keep(self, case: _Case, seed: int, result: Measured, about: Mapping[str, str]) -> None:
        line: dict[str, Any] = {
            "kind": "world",
            "data": case.world.record["fingerprint"],
            "method": case.world.name,
            "setting": case.setting,
            "seed": seed,
        }
        if result.failed:
            line["failed"] = result.failed
        else:
            line |= {
                "params": result.params,
                "metrics": result.metrics,
                "curves": result.curves,
                "seconds": round(result.seconds, 3),
            }
        key = self.key(case, seed)
        self.store.add(key, line | {"versions": dict(about)})
        self.ignored.discard(key)

    # ------------------------------------------------------------------ the record
    def report(self, quick: bool, how: Mapping[str, str]) -> Reproduction:
        """Everything that is there, judged, beside what the paper says; `how` the last of it was made."""
        spec = self.spec
        missing = [f"{w.name}: it cannot be drawn: {w.failed}" for w in self.worlds if w.failed]
        lines: list[tuple[_Case, list[dict[str, Any]]]] = []
        for case in (c for c in self.cases if not c.world.failed):
            own, absent = self._lines(case)
            lines.append((case, own))
            missing += absent
        whole = [(case, own) for case, own in lines if len(own) == len(case.seeds)]
        summary = [row for case, own in whole for row in self._summary(case, own)]
        cells = [
            cell
            for setting in _distinct([case.setting for case in self.cases] or [{}])
            for cell in compared(spec, setting, summary, comparable=spec.paper.comparable)
        ]
        found = [self._at(setting, whole) for setting in spec.settings]
        claims = tested_claims(spec, spec.settings, found, [FRESH] * len(found))
        why = "" if spec.paper.comparable else spec.paper.why or "the worlds are not the paper's"
        says = [QUICK] if quick else []
        says += _counted(spec, claims)
        says += sentences(spec, cells, claims, why, missing, quick=False)
        says += [f"{w.name} cannot be drawn, so that nothing is said of it." for w in self.worlds if w.failed]
        return Reproduction(
            dataset=spec.dataset,
            protocol=finite(self._protocol(quick)),
            runs=[self._run(case, line) for case, own in lines for line in own],
            summary=summary,
            tests=list(self._tests(whole)),
            environment=environment() | {"results": self.store.path.name} | dict(how),
            name=self.name,
            title=spec.title,
            says=spec.says,
            paper=published(spec),
            verdict=Verdict(says=says, counts=counts_of(cells), cells=cells, claims=claims),
            missing=missing,
            picture=list(spec.picture),
            kind="worlds",
            curves=[row for case, own in whole for row in self._curves(case, own)],
        )

    def _lines(self, case: _Case) -> tuple[list[dict[str, Any]], list[str]]:
        """What is there of a case, and what is missing, in words."""
        found = {seed: self.known(case, seed) for seed in case.seeds}
        missing = [
            f"{case}: seed {seed} failed: {line['failed']}"
            for seed, line in found.items()
            if line is not None and line.get("failed")
        ]
        if absent := [seed for seed, line in found.items() if line is None]:
            few = ", ".join(map(str, absent[:10])) + (" ..." if len(absent) > 10 else "")
            missing.append(f"{case}: {len(absent)} of {len(case.seeds)} seeds not drawn ({few})")
        return [line for line in found.values() if line is not None and not line.get("failed")], missing

    def _run(self, case: _Case, line: Mapping[str, Any]) -> Run:
        return Run(
            method=case.world.name,
            seed=line["seed"] if is_simulated(case.world.name) else case.seeds[0],
            setting=dict(case.setting),
            metrics={m: line["metrics"][m] for m in self.spec.metrics},
            seconds=line["seconds"],
            unbiased_rows=0,
            params=line["params"],
        )

    def _at(
        self, setting: Setting, whole: list[tuple[_Case, list[dict[str, Any]]]]
    ) -> dict[tuple[str, int], Outcome]:
        """By world and seed, what claims about a setting are tested on; real data are the same on every seed."""
        out = {}
        for case, own in whole:
            if case.setting == self.spec.effective(case.world.name, setting):
                lines = own if is_simulated(case.world.name) else own * self.spec.seeds
                for seed, line in zip(self.spec.seed_numbers, lines, strict=True):
                    out[case.world.name, seed] = Outcome(self._run(case, line))
        return out

    def _summary(self, case: _Case, own: list[dict[str, Any]]) -> Iterator[Summary]:
        for metric in self.spec.metrics:
            interval = statistics.t_interval(_values(own, metric))
            yield Summary(
                method=case.world.name,
                metric=metric,
                setting=dict(case.setting),
                n=len(own),
                **finite({"mean": interval.mean, "low": interval.low, "high": interval.high}),
            )

    def _curves(self, case: _Case, own: list[dict[str, Any]]) -> Iterator[Curve]:
        for name in self.spec.curves:
            points = np.array([line["curves"][name] for line in own])
            intervals = [statistics.t_interval(column) for column in points.T]
            yield Curve(
                method=case.world.name,
                name=name,
                setting=dict(case.setting),
                n=len(own),
                **{part: finite([getattr(i, part) for i in intervals]) for part in ("mean", "low", "high")},
            )

    def _tests(self, whole: list[tuple[_Case, list[dict[str, Any]]]]) -> Iterator[Test]:
        """Every world at two settings that differ in one dial; Holm's correction within a world and quantity."""
        for world in self.worlds:
            own = [(case.setting, lines) for case, lines in whole if case.world == world]
            pairs = [(b, a) for a, b in combinations(own, 2) if _one_apart(a[0], b[0])]
            for metric in self.spec.metrics if is_simulated(world.name) else []:
                values = [(_values(a[1], metric), _values(b[1], metric)) for a, b in pairs]
                tests = [statistics.paired_t(*each, unit=FRESH.kind) for each in values]
                corrected = statistics.holm([t.p for t in tests])
                for (a, b), each, t, p in zip(pairs, values, tests, corrected, strict=True):
                    effect = statistics.effect_size(*each)
                    numbers = {n: getattr(t, n) for n in ("difference", "low", "high", "p")}
                    yield Test(
                        a=world.name,
                        b=world.name,
                        metric=metric,
                        setting=dict(a[0]),
                        setting_b=dict(b[0]),
                        test=t.test,
                        unit=t.unit,
                        n=t.n,
                        **finite(numbers | {"p_holm": float(p), "effect_size": effect}),
                    )

    def _protocol(self, quick: bool) -> dict[str, Any]:
        told = [f"{world.name}: {note}" for world in self.worlds for note in world.notes]
        return {
            "name": "worlds",
            "seeds": self.spec.seed_numbers,
            "world": "a fresh world per seed; those of one seed share every draw but the dial",
            "tolerance": dict(self.spec.tolerance),
            "command": f"{COMMAND} {self.name}{' --quick' if quick else ''}",
            "notes": told,
            "definitions": definitions(self.spec.metrics, self.spec.curves),
            "data": {world.name: world.record for world in self.worlds if not world.failed},
        }


def _values(lines: list[dict[str, Any]], metric: str) -> np.ndarray:
    """(n,) a quantity over seeds, NaN where it cannot be said."""
    raw = [line["metrics"][metric] for line in lines]
    return np.array([np.nan if v is None else v for v in raw], float)


def _counted(spec: WorldSpec, claims: Sequence[Claimed]) -> list[str]:
    """How many of the claims held, as a sentence; none where there are no claims."""
    told = Counter(c.verdict for c in claims)
    each = ", ".join(f"{n} {verdict}" for verdict, n in told.items())
    return [f"Of {len(claims)} claims on {spec.paper.where}: {each}."] if claims else []


def _distinct(settings: list[Setting]) -> list[Setting]:
    return [s for at, s in enumerate(settings) if s not in settings[:at]]


def _one_apart(a: Setting, b: Setting) -> bool:
    """Whether two settings of the same dials differ in exactly one."""
    return a.keys() == b.keys() and sum(a[n] != b[n] for n in a) == 1
