"""`Diagnosis`: what the doctor found, said with what it cannot see."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deconrec.diagnostics.balance import Covariate
from deconrec.diagnostics.confounding import Confounding
from deconrec.diagnostics.distribution import Distribution
from deconrec.diagnostics.evidence import Evidence
from deconrec.diagnostics.impressions.labels import Clicks
from deconrec.diagnostics.predictive import ExposureCheck
from deconrec.diagnostics.propensities import Propensities
from deconrec.diagnostics.randomised import Randomised
from deconrec.records import finite

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

Status = Literal["found", "not found", "unknown"]
Help = Literal["can", "may", "cannot"]


@dataclass(frozen=True)
class Verdict:
    """One thing that was looked at.

    Attributes
    ----------
    code: its name, an anchor of docs/diagnostics.md.
    status: "found" (something to act on), "not found" (it was looked for, and not seen), "unknown" (it could not be
        looked for).
    says: what follows.
    cannot_see: what it does not cover, whatever it says.
    """

    code: str
    status: Status
    says: str
    cannot_see: str


@dataclass(frozen=True)
class Advice:
    """What a family of methods can do with these data.

    Attributes
    ----------
    methods: names. help: "can" (what was found is what they are made for), "may", or "cannot".
    why: one sentence.
    """

    methods: tuple[str, ...]
    help: Help
    why: str


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The doctor's findings.

    Attributes
    ----------
    data: facts: name, users, items, biased_rows, unbiased_rows, in_both, density, outcome, features, fingerprint, notes
        (every rule that was applied as the data were read).
    distribution, evidence, confounding: see their files.
    randomised: None where it cannot be looked at.
    propensities: None where the default propensity is constant.
    balance: measured columns before and after weighting.
    exposure: the predictive check.
    clicks: rates of clicks and conversions, and leaks, of a log of impressions; None of pairs.
    verdicts, methods: what follows.
    answer: sentences: should I debias, with what, and what can this not tell me.
    command: the comparison to run next.
    """

    data: dict[str, Any]
    distribution: Distribution
    evidence: Evidence
    randomised: Randomised | None
    confounding: Confounding
    propensities: Propensities | None
    balance: tuple[Covariate, ...]
    exposure: ExposureCheck
    verdicts: tuple[Verdict, ...]
    methods: tuple[Advice, ...]
    answer: tuple[str, ...]
    command: str
    seed: int
    seconds: float
    clicks: Clicks | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; null for what cannot be had."""
        nothing = dict.fromkeys(
            (
                "n",
                "floored",
                "floored_share",
                "floor",
                "ess",
                "ess_share",
                "largest",
                "tail",
                "model",
                "features",
            )
        )
        p = self.propensities
        record = {
            "kind": "diagnosis",
            "answer": list(self.answer),
            "command": self.command,
            "data": self.data,
            "confounding": self.confounding.to_dict(),
            "overlap": {**nothing, "tail_curve": []} if p is None else p.overlap_dict(),
            "predictive_check": self.exposure.to_dict(),
            "verdicts": [asdict(v) for v in self.verdicts],
            "methods": [{**asdict(a), "methods": list(a.methods)} for a in self.methods],
            "distribution": self.distribution.to_dict(),
            "evidence": self.evidence.to_dict(),
            "randomised": None if self.randomised is None else self.randomised.to_dict(),
            "calibration": None if p is None else p.calibration_dict(),
            "balance": [c.to_dict() for c in self.balance],
            "clicks": None if self.clicks is None else self.clicks.to_dict(),
            "seed": self.seed,
            "seconds": self.seconds,
        }
        return dict(finite(record))

    def summary(self) -> dict[str, Any]:
        """What a saved model keeps: the answer, the test for confounding, overlap, and every verdict in words."""
        whole = self.to_dict()
        overlap = {k: whole["overlap"][k] for k in ("ess", "ess_share", "floored_share")}
        return {
            "answer": whole["answer"],
            "confounding": {k: whole["confounding"].get(k) for k in ("gap", "low", "high", "p")},
            "overlap": overlap,
            "verdicts": whole["verdicts"],
            "fingerprint": whole["data"]["fingerprint"],
            "seed": whole["seed"],
        }

    def to_json(self) -> str:
        """JSON without NaN."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def write(self, path: str | Path) -> None:
        """Write the JSON to a file, whole at the end."""
        from deconrec.data.writing import write_file

        write_file(Path(path), self.to_json() + "\n")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """For a terminal."""
        from rich.markup import escape
        from rich.table import Table

        yield f"[bold]{escape(str(self.data['name']))}[/bold]: {escape(self.answer[0])}"
        for sentence in self.answer[1:]:
            yield escape(sentence)
        for note in self.data["notes"]:
            yield escape(f"note: {note}")
        table = Table("looked at", "", "what it says", "what it cannot see", show_lines=True)
        for v in self.verdicts:
            table.add_row(v.code, v.status, escape(v.says), escape(v.cannot_see))
        yield table
        table = Table("methods", "here they", "because", show_lines=True)
        for a in self.methods:
            table.add_row(escape(", ".join(a.methods)), f"{a.help} help", escape(a.why))
        yield table
        yield f"next: {escape(self.command)}"

    def __str__(self) -> str:
        lines = [
            *self.answer,
            *(f"[{v.code}] {v.status}: {v.says} Cannot see: {v.cannot_see}" for v in self.verdicts),
        ]
        lines += [f"{', '.join(a.methods)} {a.help} help: {a.why}" for a in self.methods]
        return "\n".join([*lines, f"next: {self.command}"])
