"""Every exception and warning of the library, as one tree.

Error:
├── DataError                  a log, a feature table or a file is not what it must be
│   ├── MissingUnbiasedLog     a method needs randomised ratings and there are none
│   ├── MissingFeatures        a method needs user or item features and there are none
│   ├── MissingData            a data set's files are not where they were looked for
│   ├── UnknownUser            raw user ids that the model was not trained on
│   ├── UnknownItem            raw item ids that the model was not trained on
│   └── SealedTest             the test part was asked for a second time
├── ParameterError (ValueError)   a hyper-parameter or an option is out of its range
│   └── UnknownName            no method, data set or parameter of that name; carries the closest match
├── NotFitted                  a learned thing was asked of an estimator that has not been fitted
├── TrainingError              training diverged; names the term, the epoch and the nets
├── WorkerLost                 another process of a training, or one that did a job, went away
├── FileError                  something on disk cannot be read or must not be overwritten
└── MissingExtra               an optional dependency is not installed

DeconrecWarning (UserWarning)
├── OverlapWarning             propensities are so small that weighting rests on a few rows
├── DataWarning                a rule for doubtful rows was applied
└── FitWarning                 training ended in a state that deserves a look

Each message is one sentence pattern: who - what was expected - what was got - what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class Error(Exception):
    """Root of every error that deconrec raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Come out of another process as it is: with its message, which its class may not be made from."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[Error], args: tuple[Any, ...], attributes: Mapping[str, Any]) -> Error:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class DataError(Error):
    """A log, a feature table or a data file is not what it must be."""


class MissingUnbiasedLog(DataError):
    """A method needs randomised ratings and the data set has none."""

    def __init__(self, who: str) -> None:
        super().__init__(
            f"{who} needs a randomised log, but `data.unbiased` is None or empty. "
            "Pass Dataset.from_frames(..., unbiased=log) or add an [unbiased] table to the data file."
        )


class MissingFeatures(DataError):
    """A method needs features that the data set does not have."""


class MissingData(DataError):
    """The files of a data set are not where they were looked for.

    Parameters
    ----------
    message: what is said.
    anywhere: the same without this machine's folders, for records that travel; None = `message`.
    """

    def __init__(self, message: str, anywhere: str | None = None) -> None:
        super().__init__(message)
        self.anywhere = message if anywhere is None else anywhere


class UnknownUser(DataError):
    """Raw user ids that the model does not know."""


class UnknownItem(DataError):
    """Raw item ids that the model does not know."""


class SealedTest(DataError):
    """The test part may be opened once in a run; this was a second time."""


class ParameterError(Error, ValueError):
    """A hyper-parameter or an option is out of its range."""


class UnknownName(ParameterError):
    """No method, data set, metric or parameter of that name.

    Parameters
    ----------
    kind: what was looked for ("method", "data set", ...).
    name: the name that was given.
    known: the names that exist; the closest one is offered.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = list(known)
        close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}."
        super().__init__(f"there is no {kind} '{name}'; {hint}")


class NotFitted(Error):
    """A learned thing was asked of an estimator that has not been fitted."""

    def __init__(self, who: str) -> None:
        super().__init__(f"{who} is not fitted; call `fit(data)` first.")


class TrainingError(Error):
    """Training diverged.

    Parameters
    ----------
    term: name of the term of the objective that is not finite.
    epoch: epoch, from 0.
    nets: names of the nets that the step updates.
    """

    def __init__(self, term: str, epoch: int, nets: Iterable[str], value: float) -> None:
        self.term, self.epoch, self.nets = term, epoch, tuple(nets)
        super().__init__(
            f"training diverged: term '{term}' became {value} in epoch {epoch} of the step that updates "
            f"{', '.join(self.nets)}; lower `lr`, raise the propensity `floor`, or check the ratings' range."
        )


class WorkerLost(Error):
    """Another process of a training, or one that did a job, went away; what is kept is gone on from."""


class FileError(Error):
    """Something on disk cannot be read, or must not be overwritten."""


class MissingExtra(Error, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs '{package}', which is not installed: pip install 'deconrec[{extra}]'."
        )


class DeconrecWarning(UserWarning):
    """Root of every warning that deconrec gives."""


class OverlapWarning(DeconrecWarning):
    """Propensities are so small that weighting rests on a few rows."""


class DataWarning(DeconrecWarning):
    """A rule for doubtful rows was applied; the message counts them."""


class FitWarning(DeconrecWarning):
    """Training ended in a state that deserves a look."""
