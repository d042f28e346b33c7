"""Records of a comparison, as they stand in its JSON. Reports read these and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deconrec.records import finite

Setting = dict[str, Any]


class Record(BaseModel):
    """Base: unknown keys are kept out, numbers that are not finite become null."""

    model_config = ConfigDict(extra="forbid")


class Run(Record):
    """One method on one seed."""

    method: str
    seed: int
    setting: Setting = Field(default_factory=dict)
    metrics: dict[str, float | None]
    seconds: float
    unbiased_rows: int
    params: dict[str, Any]
    history: dict[str, list[float | None]] = Field(default_factory=dict)
    best_epoch: int | None = None
    overlap: dict[str, int | float] | None = None
    skipped_users: dict[str, int] = Field(default_factory=dict)


class Summary(Record):
    """A method's mean over seeds of one metric, with a 95 % interval."""

    method: str
    metric: str
    setting: Setting = Field(default_factory=dict)
    mean: float | None
    low: float | None
    high: float | None
    n: int


class Test(Record):
    """A paired test of method a against method b on one metric; difference = a - b.

    setting_b: of b, where it is another one than a's (one world at two levels of a dial).
    """

    __test__: ClassVar[bool] = False  # no test of pytest's

    a: str
    b: str
    metric: str
    setting: Setting = Field(default_factory=dict)
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    test: str
    unit: str
    n: int
    effect_size: float | None = None
    setting_b: Setting | None = None


class Lift(Record):
    """How many times a yardstick's value (`random`, `popularity`) a method's is, with a 95 % interval.

    lift: geometric mean over seeds of method / over, the two on the same seed; null where a value is not above 0.
    """

    method: str
    over: str
    metric: str
    setting: Setting = Field(default_factory=dict)
    lift: float | None
    low: float | None
    high: float | None
    n: int


class Distribution(Record):
    """Shares of outcomes in each population, for the report."""

    values: list[float]
    biased: list[float]
    unbiased: list[float] | None = None
    truth: list[float] | None = None


class Result(Record):
    """A whole comparison.

    `protocol` holds: name, select, seeds, split, candidates, binarize, relevant, counts (rows of every part on the
    first seed), world ("one data set" or "a fresh world per seed"), notes (sentences that the reader must know), and
    `data`: name, users, items, rows, unbiased_rows, fingerprint.
    """

    dataset: str
    protocol: dict[str, Any]
    runs: list[Run]
    summary: list[Summary]
    tests: list[Test]
    environment: dict[str, Any]
    distribution: Distribution | None = None
    letters: dict[str, dict[str, str]] = Field(default_factory=dict)
    lifts: list[Lift] = Field(default_factory=list)

    def __repr__(self) -> str:
        """One line for the whole and one a method: its first four metrics, with 95 % intervals."""
        methods, seeds = self.methods, len({run.seed for run in self.runs})
        first = self.summary[0].setting if self.summary else {}
        lines = [
            f"{type(self).__name__}('{self.dataset}': {len(methods)} methods, {seeds} seeds, {len(self.tests)} tests)"
        ]
        for method in methods:
            rows = [
                r for r in self.summary if r.method == method and r.setting == first and r.mean is not None
            ]
            cells = [
                f"{r.metric} {r.mean:.4g}"
                + ("" if r.low is None or r.high is None else f" [{r.low:.4g}, {r.high:.4g}]")
                for r in rows[:4]
            ]
            lines.append(f"  {method}: {', '.join(cells) or '-'}")
        return "\n".join(lines)

    __str__ = __repr__

    def to_json(self) -> str:
        """JSON without NaN."""
        return json.dumps(finite(self.model_dump()), indent=1, allow_nan=False)

    def write(self, path: str | Path) -> None:
        """Write the JSON to a file, whole at the end."""
        from deconrec.data.writing import write_file

        write_file(Path(path), self.to_json())

    @classmethod
    def read(cls, path: str | Path) -> Result:
        """A result from its JSON file.

        Raises
        ------
        FileError: not a file, or not a comparison.
        """
        from deconrec.errors import FileError

        try:
            text = Path(path).read_text(encoding="utf-8")
            kind = Reproduction if cls is Result and '"verdict"' in text else cls
            return kind.model_validate_json(text)
        except (OSError, ValueError) as error:
            raise FileError(
                f"'{path}' must be what `deconrec compare` or `reproduce` writes with --json; {_why(error)}."
            ) from error

    def mean(self, method: str, metric: str, setting: Setting | None = None) -> float | None:
        """A method's mean of a metric."""
        for row in self.summary:
            if (row.method, row.metric, row.setting) == (method, metric, setting or {}):
                return row.mean
        return None

    @property
    def methods(self) -> list[str]:
        """Methods in the order of the call."""
        return list(dict.fromkeys(run.method for run in self.runs))

    @property
    def metrics(self) -> list[str]:
        """Metrics in the order of the call."""
        return list(dict.fromkeys(m for run in self.runs for m in run.metrics))


class Published(Record):
    """A figure of the paper, typed in from it; `setting` is {} where it holds at every setting."""

    method: str
    metric: str
    setting: Setting = Field(default_factory=dict)
    value: float


class Compared(Record):
    """A figure of the paper beside ours.

    verdict: "reproduced" (the paper's figure lies in our 95 % interval widened by the tolerance), "below" or "above"
    (ours is lower or higher than that), "not comparable" (other data: see the reason), "missing" (no runs of ours).
    """

    method: str
    metric: str
    setting: Setting = Field(default_factory=dict)
    paper: float
    mean: float | None
    low: float | None
    high: float | None
    tolerance: float
    verdict: str


class Contrast(Record):
    """The test behind a claim: a at one setting against b at another; difference = a - b.

    metric_b: of b, where it is another one than the claim's.
    """

    a: str
    b: str
    setting_a: Setting = Field(default_factory=dict)
    setting_b: Setting = Field(default_factory=dict)
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    test: str
    unit: str
    metric_b: str = ""


class Claimed(Record):
    """A sentence of the paper, tested.

    verdict: "shown" (every contrast is significant in the claim's favour, after Holm over the claims of the
    experiment), "contradicted" (one is significant against it), "not shown" (anything else), "missing"; of a claim that
    nothing differs "level" (every interval contains 0) or "contradicted".
    """

    says: str
    metric: str
    verdict: str
    contrasts: list[Contrast]


class Verdict(Record):
    """What became of a table or figure.

    says: sentences, the finding first. counts: cells by verdict, of the headline's metrics (leaked twins apart).
    """

    says: list[str]
    counts: dict[str, int]
    cells: list[Compared]
    claims: list[Claimed]


class Curve(Record):
    """A world's curve over [0, 1] in equal steps: the mean over seeds at each, with 95 % intervals."""

    method: str
    name: str
    setting: Setting = Field(default_factory=dict)
    mean: list[float | None]
    low: list[float | None]
    high: list[float | None]
    n: int


class Reproduction(Result):
    """A table or figure of a paper made again: the comparison, the paper's figures, and the verdict.

    missing: what was not done, in words. picture: metrics that are drawn over the settings. kind: "worlds" where worlds
    are described and nothing is fitted: a world's name stands where a method's does, `protocol["data"]` holds a record
    of each, and `protocol["definitions"]` says what each quantity is. curves: of worlds.
    """

    name: str
    title: str
    says: str
    paper: list[Published]
    verdict: Verdict
    missing: list[str] = Field(default_factory=list)
    picture: list[str] = Field(default_factory=list)
    kind: Literal["methods", "worlds"] = "methods"
    curves: list[Curve] = Field(default_factory=list)


LOWER_IS_BETTER = ("mse", "logloss", "ece", "gini", "arp")


def _why(error: OSError | ValueError) -> str:
    """Why a file is no result, as a clause."""
    if isinstance(error, OSError):
        return f"it cannot be read ({error.strerror})"
    if not isinstance(error, ValidationError):
        return "it is not UTF-8"
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"'{place}': {first['msg']}" if place else first["msg"]


def higher_is_better(metric: str) -> bool:
    """Whether a larger value of the named metric is better."""
    return metric.partition("/")[0].partition("@")[0] not in LOWER_IS_BETTER


# ---------------------------------------------------------------------- the value of randomised ratings
class Point(Record):
    """A method at a size of U: mean over seeds, 95 % interval.

    share: of the randomised log; rows: of U.  ran: the method that was run.
    """

    method: str
    share: float
    rows: int
    ran: str
    mean: float | None
    low: float | None
    high: float | None
    n: int


class Gain(Record):
    """What a method gains from `rows` randomised rows over `over` of them: paired over seeds."""

    method: str
    over: int
    rows: int
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    test: str
    n: int


class Value(Record):
    """The record of `deconrec value`.

    missing: methods and sizes that could not be run, and why.  answer: what it comes to, in sentences.
    """

    dataset: str
    metric: str
    protocol: dict[str, Any]
    points: list[Point]
    gains: list[Gain]
    answer: list[str]
    missing: list[str] = Field(default_factory=list)
    environment: dict[str, Any]

    def to_json(self) -> str:
        """The record as JSON."""
        return json.dumps(self.model_dump(), indent=1, allow_nan=False)

    @property
    def methods(self) -> list[str]:
        """Methods, in the order asked for."""
        return list(dict.fromkeys(p.method for p in self.points))

    def point(self, method: str, rows: int) -> Point | None:
        """A method at a number of rows, or None."""
        return next((p for p in self.points if p.method == method and p.rows == rows), None)

    @property
    def sizes(self) -> list[int]:
        """Numbers of rows, rising."""
        return sorted({p.rows for p in self.points})


# ---------------------------------------------------------------------- off-policy evaluation
class Estimated(Record):
    """A metric over all pairs that a model was not given, estimated from a biased log; 95 % interval.

    ess: Kish's effective number of the rows that the estimate rests on. rows: those rows (of a ranking metric: logged
    positives in the first K). grade: "fair", "weak" or "hopeless" (see the guide). says: what to know before using it.
    """

    metric: str
    estimate: float | None
    low: float | None
    high: float | None
    estimator: str
    ess: float
    rows: int
    grade: str
    says: str = ""


class Evaluation(Record):
    """The record of `deconrec evaluate`.

    log: rows given, left out and used, users, pairs of the population, the propensity and its parameters.
    mass: sum of weights over pairs of the population, with its interval: 1 where propensities are right.
    overlap: what the weights rest on. notes: sentences that the reader must know.
    """

    dataset: str
    method: str
    estimator: str
    estimates: list[Estimated]
    log: dict[str, Any]
    mass: dict[str, float | None]
    overlap: dict[str, int | float]
    notes: list[str]

    def to_json(self) -> str:
        """A list with one entry a metric; what holds for all of them stands in each."""
        shared = {
            "log": self.log,
            "weight_mass": self.mass,
            "overlap": self.overlap,
            "method": self.method,
            "dataset": self.dataset,
            "notes": self.notes,
        }
        rows = [finite(e.model_dump() | shared) for e in self.estimates]
        return json.dumps(rows, indent=1, allow_nan=False)


# ---------------------------------------------------------------------- sensitivity
class Bounded(Record):
    """A metric over odds ratios: bounds at each Gamma, and the 95 % interval of the lower and of the upper one.

    estimate: at Gamma 1.  over: the second model, where the metric is a difference of two; "" otherwise.
    """

    metric: str
    method: str
    over: str = ""
    estimate: float | None
    low: list[float | None]
    high: list[float | None]
    interval_low: list[float | None]
    interval_high: list[float | None]
    ess: float


class Tipping(Record):
    """Where the leading model may lose to the next: the Gamma at which the difference may be 0.

    gamma: null beyond `LARGEST`.  gamma_interval: the same for the end of the 95 % interval; 1 where the lead is not
    significant even without hidden confounding.  as_strong_as: measured features whose absence moves odds as far.
    """

    metric: str
    leading: str
    second: str
    difference: float
    gamma: float | None
    gamma_interval: float | None
    as_strong_as: list[str]


class Benchmark(Record):
    """How far the odds of exposure move where a measured feature is left out: median and 95 % quantile over rows."""

    feature: str
    median: float
    gamma: float


class BoundedItem(Record):
    """An item of the list by weighted mean outcome: its mean, bounds at each Gamma, and the last at which it stays.

    stays_to: the largest Gamma of a fine grid at which no odds within it push the item out of the list.
    """

    item: str
    rank: int
    rows: int
    mean: float
    low: list[float]
    high: list[float]
    stays_to: float | None


class Sensitivity(Record):
    """The record of `deconrec sensitivity`.

    gammas: the odds ratios.  metrics: of each model, then differences of the first two.  items: the list by mean
    outcome.  lists: per Gamma, the share of places of users' own lists that stay, by model.  answer: in sentences.
    """

    dataset: str
    methods: list[str]
    gammas: list[float]
    metrics: list[Bounded]
    tipping: list[Tipping]
    benchmarks: list[Benchmark]
    items: list[BoundedItem]
    k: int
    lists: dict[str, list[float]]
    log: dict[str, Any]
    overlap: dict[str, int | float]
    answer: list[str]
    notes: list[str]

    def to_json(self) -> str:
        """The record as JSON."""
        return json.dumps(finite(self.model_dump()), indent=1, allow_nan=False)


# ---------------------------------------------------------------------- tuning
class TunedTrial(Record):
    """One trial of `deconrec tune`: parameters beyond the method's own, and its score on each split that was fitted.

    state: "complete", "pruned" (given up after the first split) or "failed" (for the reason in `failed`).
    """

    number: int
    params: dict[str, Any]
    scores: list[float]
    score: float | None
    state: str
    seconds: float
    failed: str = ""


class Tuned(Record):
    """The record of `deconrec tune`.

    Attributes
    ----------
    score, default: mean validation score of the best trial and of the method's own values, over the splits that both
        were judged on.
    gain: what the best gains over the method's own values: mean difference over the further splits, which chose among
        finalists only, with its standard error (corrected for the rows that splits share) and their number; or null.
    params: of the best trial, by dotted name; {} where the method's own values were best.
    space: the ranges that were searched.  importance: shares of the parameters, {} where there are too few trials.
    command: the `fit` command with these parameters.
    environment: versions, seconds, workers, and `resumed`: trials that an earlier run had made.
    """

    dataset: str
    method: str
    study: str
    storage: str | None
    protocol: dict[str, Any]
    params: dict[str, Any]
    score: float | None
    default: float | None
    gain: dict[str, float | int | None] | None
    space: dict[str, dict[str, Any]]
    trials: list[TunedTrial]
    importance: dict[str, float]
    command: str
    answer: list[str]
    environment: dict[str, Any]

    @property
    def resumed(self) -> int:
        """Trials that an earlier run had made."""
        return int(self.environment["resumed"])

    def to_json(self) -> str:
        """The record as JSON."""
        return json.dumps(self.model_dump(), indent=1, allow_nan=False)
