"""Experiments as TOML files: what is run, how it is tuned, what the paper says, and what counts as agreement.

The files stand in `deconrec/experiments/specs`; their folder and name are the experiment's ("res-dr/table1-coat").
Everything in a file is fixed before its runs, the tolerance above all.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from deconrec.errors import FileError, UnknownName
from deconrec.parameters import Search

if TYPE_CHECKING:
    from deconrec.experiments.world_spec import WorldSpec

Scalar = bool | int | float | str
Dial = Literal["data", "parameter", "unbiased", "select"]
Setting = dict[str, Scalar]
COMMAND = "deconrec reproduce"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Range(_Part):
    """A search range in place of the one beside the parameter."""

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False
    choices: list[Scalar] = []

    def search(self) -> Search:
        """As a parameter has it."""
        return Search(self.low, self.high, self.log, self.whole, tuple(self.choices))


class SearchPart(_Part):
    """How methods are tuned: one search a method and setting, for all splits.

    trials: 0 = the methods' defaults. splits: splits that a trial is judged on. at: the setting at which the one search
    for all settings is made; without it there is one a setting (and one in all for a method that never sees U, where
    only the size of U is swept). ranges, leave: other ranges, and parameters that are not searched ("dim", or
    "kd-feature:dim" for one method). finalists: so many of the best trials, and the method's own values, are judged on
    the hold-outs of all splits, and the best of them is taken; 0 = the best on `splits`.
    """

    trials: Annotated[int, Field(ge=0)] = 0
    splits: Annotated[int, Field(ge=1)] = 3
    at: Setting | None = None
    ranges: dict[str, Range] = {}
    leave: list[str] = []
    prune: bool = True
    finalists: Annotated[int, Field(ge=0)] = 0

    def left(self, method: str) -> set[str]:
        """Parameters of a method that are not searched."""
        key = method.partition(":")[0]
        return {n.rpartition(":")[2] for n in self.leave if n.partition(":")[0] in (key, n)}


class Expect(_Part):
    """Sizes of the paper's data; other data are run, but their figures are not compared with the paper's."""

    users: int | None = None
    items: int | None = None
    rows: int | None = None
    unbiased_rows: int | None = None


class PaperTable(_Part):
    """The paper's figures at one setting ({} = at every one): method -> a value for each of `metrics`."""

    setting: Setting = {}
    metrics: list[str]
    values: dict[str, list[float]]

    @model_validator(mode="after")
    def _shape(self) -> PaperTable:
        for method, values in self.values.items():
            if len(values) != len(self.metrics):
                raise ValueError(f"'{method}' needs {len(self.metrics)} values, one for each metric")
        return self


class PaperPart(_Part):
    """Where the figures were typed in from ("" = a study of our own), and whether ours are on the same data.

    why: they are not.
    """

    where: str
    comparable: bool = True
    why: str = ""
    twins: list[Literal["leaked"]] = []
    tables: list[PaperTable] = []


class Claim(_Part):
    """A sentence of the paper as contrasts: method `a` (at setting `at`) against each of `b` (at `b_at`, default `at`).

    Without `at` it is tested at every setting. `same`: it claims no difference, and holds where every 95 % interval
    contains 0 (uncorrected: a correction would make that easier). Without `b` it is `a` itself, and one of these tells
    the two apart: `b_at`; `b_metric`, another metric of b; `rising`, a dial, at each value against the one below.
    """

    says: str
    metric: str
    a: str
    b: list[str] = []
    at: Setting | None = None
    b_at: list[Setting] = []
    b_metric: str = ""
    rising: str = ""
    same: bool = False

    @model_validator(mode="after")
    def _two(self) -> Claim:
        if not (self.b or self.b_at or self.b_metric or self.rising):
            raise ValueError(f"the claim {self.says!r} needs one of b, b_at, b_metric and rising")
        if self.rising and self.b_at:
            raise ValueError(f"the claim {self.says!r} has both b_at and rising: which setting is b's?")
        return self

    @property
    def against(self) -> list[str]:
        """What `a` is put against."""
        return self.b or [self.a]

    @property
    def metrics(self) -> set[str]:
        """The metrics that it needs."""
        return {self.metric, self.b_metric or self.metric}

    @property
    def dials(self) -> set[str]:
        """The dials that it names."""
        named = {name for place in [self.at or {}, *self.b_at] for name in place}
        return named | ({self.rising} if self.rising else set())

    def check_order(self, sweep: list[dict[str, list[Scalar]]]) -> None:
        """Refuse a dial that is said to rise but whose values have no order."""
        if any(isinstance(v, bool | str) for block in sweep for v in block.get(self.rising, [])):
            raise ValueError(f"the claim {self.says!r} needs a dial of numbers; {self.rising!r} has others")


class Quick(_Part):
    """What --quick changes: minutes instead of hours, to see that everything runs."""

    seeds: Annotated[int, Field(ge=1)] = 2
    trials: Annotated[int, Field(ge=0)] = 0
    splits: Annotated[int, Field(ge=1)] = 1
    methods: list[str] = []
    set: Setting = {}
    sweep: list[dict[str, list[Scalar]]] = []


class Spec(_Part):
    """An experiment.

    dials: what each name of `sweep` and of settings turns: "data" (a parameter of the data's name), "parameter" (of the
    methods that have it and do not set it in their text), "unbiased" (the share of the randomised log in U, on one
    fixed test part) or "select" (`compare`'s; "validation", as papers say, is "biased"). sweep: blocks of values by
    dial; each block is a product, and they follow each other. only: methods that are run at some settings alone, each
    with the part of the setting that it needs. set: parameters of the methods that have them. tolerance: by metric, of
    its twins too. picture: metrics drawn.
    """

    title: str
    says: str
    dataset: str
    expect: Expect = Expect()
    protocol: Literal["pairs", "users"] = "pairs"
    select: Literal["biased", "unbiased", "within-exposure"] = "biased"
    seeds: Annotated[int, Field(ge=1)]
    first_seed: Annotated[int, Field(ge=0)] = 0
    metrics: Annotated[list[str], Field(min_length=1)]
    methods: Annotated[list[str], Field(min_length=1)]
    only: dict[str, Setting] = {}
    set: Setting = {}
    search: SearchPart = SearchPart()
    dials: dict[str, Dial] = {}
    sweep: list[dict[str, list[Scalar]]] = []
    tolerance: dict[str, Annotated[float, Field(ge=0)]] = {}
    paper: PaperPart
    claims: list[Claim] = []
    picture: list[str] = []
    quick: Quick = Quick()

    @model_validator(mode="after")
    def _agree(self) -> Spec:
        named = {name for block in [*self.sweep, *self.quick.sweep] for name in block}
        named |= {n for s in [self.search.at or {}, *(t.setting for t in self.paper.tables)] for n in s}
        named |= {n for c in self.claims for n in c.dials}
        named |= {n for part in self.only.values() for n in part}
        if unknown := sorted(named - set(self.dials)):
            raise ValueError(
                f"a setting names {unknown[0]!r}, which is none of the dials {sorted(self.dials)}"
            )
        if len(set(self.methods)) < len(self.methods):
            raise ValueError("each method stands once in 'methods'")
        if strangers := sorted(set(self.only) - set(self.methods)):
            raise ValueError(f"'only' names {strangers[0]!r}, which is none of the methods")
        for claim in self.claims:
            for method in (claim.a, *claim.b):
                if method not in self.methods:
                    raise ValueError(
                        f"the claim {claim.says!r} names {method!r}, which is none of the methods"
                    )
            if absent := sorted(claim.metrics - set(self.metrics)):
                raise ValueError(f"the claim {claim.says!r} needs the metric {absent[0]!r} among 'metrics'")
            claim.check_order([*self.sweep, *self.quick.sweep])
        for metric in (m for t in self.paper.tables for m in t.metrics):
            if metric not in self.metrics:
                raise ValueError(f"the paper's metric {metric!r} is none of 'metrics'")
            if metric not in self.tolerance:
                raise ValueError(f"'tolerance' says nothing of {metric!r}: it is declared before the runs")
        return self

    @property
    def seed_numbers(self) -> list[int]:
        """The seeds."""
        return list(range(self.first_seed, self.first_seed + self.seeds))

    @property
    def search_seeds(self) -> list[int]:
        """The seeds of the splits that a search is judged on."""
        return list(range(self.first_seed, self.first_seed + self.search.splits))

    @property
    def settings(self) -> list[Setting]:
        """Every setting, in order; [{}] where nothing is swept."""
        return expand(self.sweep)

    def methods_at(self, setting: Setting) -> list[str]:
        """The methods that are run at a setting."""

        def runs(method: str) -> bool:
            return all(setting.get(n) == v for n, v in self.only.get(method, {}).items())

        return [m for m in self.methods if runs(m)]

    def tolerance_of(self, metric: str) -> float:
        """The tolerance of a metric or, for a twin, of its plain name."""
        return self.tolerance.get(metric, self.tolerance.get(metric.removesuffix("/leaked"), 0.0))

    def quicker(self) -> Spec:
        """The experiment as --quick runs it."""
        quick = self.quick
        methods = quick.methods or self.methods
        kept = set(methods)
        return self.model_copy(
            update={
                "seeds": quick.seeds,
                "methods": methods,
                "only": {m: part for m, part in self.only.items() if m in kept},
                "set": self.set | quick.set,
                "sweep": quick.sweep or self.sweep,
                "search": self.search.model_copy(update={"trials": quick.trials, "splits": quick.splits}),
                "claims": [c for c in self.claims if {c.a, *c.b} <= kept],
            }
        )


def expand(sweep: list[dict[str, list[Scalar]]]) -> list[Setting]:
    """The settings of blocks of values by dial."""
    if not sweep:
        return [{}]
    found = [dict(zip(block, values, strict=True)) for block in sweep for values in product(*block.values())]
    return [s for at, s in enumerate(found) if s not in found[:at]]


def spec_names() -> list[str]:
    """Every experiment of the package."""
    folder = resources.files("deconrec.experiments") / "specs"
    return sorted(
        f"{group.name}/{file.name.removesuffix('.toml')}"
        for group in folder.iterdir()
        if group.is_dir()
        for file in group.iterdir()
        if file.name.endswith(".toml")
    )


def load_spec(name: str | Path) -> tuple[str, Spec | WorldSpec]:
    """(name, experiment) by name, or from a TOML file of the same form.

    Raises
    ------
    UnknownName: no such experiment.  FileError: a file that is no experiment; names the key.
    """
    text = str(name)
    if text.endswith(".toml"):
        path: Any = Path(text)
        called = path.stem
    else:
        if text not in spec_names():
            raise UnknownName("experiment", text, spec_names())
        path, called = resources.files("deconrec.experiments").joinpath("specs", f"{text}.toml"), text
    return called, read_spec(path, text)


def read_spec(path: Any, name: str) -> Spec | WorldSpec:
    """An experiment from a file; see `load_spec`."""
    try:
        content = path.read_text(encoding="utf-8")
        raw = tomllib.loads(content)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FileError(f"the experiment '{name}' must be a TOML file; {error}.") from error
    if not content.startswith(f"# {COMMAND} "):
        raise FileError(
            f"the experiment '{name}' must begin with its command as a comment ('# {COMMAND} NAME ...')."
        )
    from deconrec.experiments.world_spec import WorldSpec  # it is made of the parts above

    form: type[Spec | WorldSpec] = WorldSpec if "kind" in raw else Spec
    try:
        return form.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise FileError(f"the experiment '{name}': {where}: {first['msg']}.") from error
