"""The contract of a method as functions that run; `check_estimator` is public: test your own method with it.

>>> import deconrec as dc
>>> from deconrec.checks import CHECKS, check_estimator
>>> report = check_estimator(dc.MF(dim=2, epochs=1), exclude=["check_checkerboard", "check_beats_a_constant"])
>>> report.ok
True
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from deconrec.base import Estimator
from deconrec.checks.answers import ANSWERS
from deconrec.checks.bench import CheckFailed, NotApplicable
from deconrec.checks.engine import ENGINE
from deconrec.checks.fitting import FITTING
from deconrec.checks.impressions import IMPRESSIONS
from deconrec.checks.learning import LEARNING
from deconrec.checks.parameters import PARAMETERS
from deconrec.checks.saving import SAVING
from deconrec.checks.settings import FAST, XFAIL
from deconrec.errors import UnknownName
from deconrec.methods import key_of

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "CHECKS",
    "FAST",
    "XFAIL",
    "CheckFailed",
    "CheckReport",
    "NotApplicable",
    "Outcome",
    "check_estimator",
]

Check = Callable[[Estimator], None]
CHECKS: tuple[Check, ...] = (
    *PARAMETERS,
    *FITTING,
    *ANSWERS,
    *SAVING,
    *ENGINE,
    *IMPRESSIONS,
    *LEARNING,
)


@dataclass(frozen=True)
class Outcome:
    """What one check said.

    Attributes
    ----------
    check: its name.
    verdict: "passed", "failed", "not applicable" or "excluded".
    message: why, or how to repair it; empty where it passed.
    seconds: what it took.
    """

    check: str
    verdict: Literal["passed", "failed", "not applicable", "excluded"]
    message: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class CheckReport:
    """What all checks said of an estimator; prints itself.

    Attributes
    ----------
    estimator: its repr.
    outcomes: one a check, in the order of `CHECKS`.
    """

    estimator: str
    outcomes: tuple[Outcome, ...] = field(default=(), repr=False)

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The checks that failed."""
        return tuple(o for o in self.outcomes if o.verdict == "failed")

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return not self.failures

    def raise_for_failures(self) -> None:
        """Raise CheckFailed with every failure's message, where there is one."""
        if self.failures:
            lines = [f"  {o.check}: {o.message}" for o in self.failures]
            raise CheckFailed(f"{self.estimator} fails {len(lines)} checks:\n" + "\n".join(lines))

    def __rich__(self) -> Table:
        """A table: failures first."""
        from rich.markup import escape
        from rich.table import Table

        colour = {"passed": "green", "failed": "red", "not applicable": "dim", "excluded": "yellow"}
        table = Table("check", "verdict", "why", title=escape(self.estimator), title_justify="left")
        for o in sorted(self.outcomes, key=lambda o: o.verdict != "failed"):
            table.add_row(o.check, f"[{colour[o.verdict]}]{o.verdict}[/]", escape(o.message))
        count = {v: sum(o.verdict == v for o in self.outcomes) for v in colour}
        table.caption = ", ".join(f"{n} {verdict}" for verdict, n in count.items() if n)
        return table

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=120)
        with console.capture() as text:
            console.print(self)
        return text.get()


def check_estimator(estimator: Estimator | type[Estimator], *, exclude: Iterable[str] = ()) -> CheckReport:
    """Run every check on a method: its parameters, answers, saving, training steps, and that it learns.

    Parameters
    ----------
    estimator: an unfitted estimator, checked with its own parameters (choose cheap ones that still learn),
        or a class: methods of this library then run with cheap settings, others with their defaults.
    exclude: names of checks to leave out.

    Returns a report; failures are in it and are not raised (`report.raise_for_failures()` does).

    Raises
    ------
    UnknownName: no check of that name.
    """
    names = [check.__name__ for check in CHECKS]
    left_out = set(exclude)
    for name in left_out:
        if name not in names:
            raise UnknownName("check", name, names)
    try:
        subject = cheap(estimator) if isinstance(estimator, type) else estimator
        if not isinstance(subject, Estimator):
            raise CheckFailed(
                f"{subject!r} is no deconrec.Estimator; derive the class from it or from PairEstimator."
            )
    except Exception as error:
        return CheckReport(repr(estimator), (Outcome("check_is_estimator", "failed", _words(error)),))
    outcomes = [
        Outcome(check.__name__, "excluded") if check.__name__ in left_out else run(check, subject)
        for check in CHECKS
    ]
    return CheckReport(repr(subject), tuple(outcomes))


def cheap(cls: type[Estimator]) -> Estimator:
    """An estimator of the class, with the cheap settings where it is a method of this library."""
    made = cls()
    return made.set_params(**FAST[key_of(made)]) if key_of(made) in FAST else made


def run(check: Check, estimator: Estimator) -> Outcome:
    """One check's outcome; any exception of the estimator is a failure."""
    started = time.perf_counter()

    def outcome(verdict: Any, message: str = "") -> Outcome:
        return Outcome(check.__name__, verdict, message, time.perf_counter() - started)

    try:
        check(estimator)
    except NotApplicable as reason:
        return outcome("not applicable", str(reason))
    except Exception as error:
        return outcome("failed", _words(error))
    return outcome("passed")


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, CheckFailed) else f"it raised {type(error).__name__}: {error}"
