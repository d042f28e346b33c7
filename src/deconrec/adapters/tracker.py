"""Trackers of experiments: a protocol of four methods, and MLflow behind it. Off unless asked for.

A tracker is named by a text, "mlflow:URI" ("mlflow:sqlite:///runs.db", "mlflow:http://host:5000"). One run of `fit`,
`tune` or `compare` is one run of the tracker; what fails in between is marked as failed there.
"""

from __future__ import annotations

import logging
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from deconrec.errors import MissingExtra, ParameterError

EXPERIMENT = "deconrec"
LONGEST = 500  # characters of a value, which every MLflow server takes
BATCH = 100  # parameters in a request, as much as every MLflow server takes


class Tracker(Protocol):
    """Where runs are noted."""

    def start(self, name: str, params: Mapping[str, Any]) -> None:
        """Begin a run with its parameters."""

    def metrics(self, values: Mapping[str, float | None], step: int = 0) -> None:
        """Note numbers; those that are missing or not finite are left out."""

    def note(self, facts: Mapping[str, Any]) -> None:
        """Note facts that are no numbers: versions, fingerprints, paths."""

    def end(self, failed: bool = False) -> None:
        """End the run."""


class Silent:
    """A tracker that notes nothing: what is used unless one is asked for."""

    def start(self, name: str, params: Mapping[str, Any]) -> None:
        """Nothing."""

    def metrics(self, values: Mapping[str, float | None], step: int = 0) -> None:
        """Nothing."""

    def note(self, facts: Mapping[str, Any]) -> None:
        """Nothing."""

    def end(self, failed: bool = False) -> None:
        """Nothing."""


class MLflow:
    """Runs in an MLflow store, in its experiment "deconrec"; needs mlflow or mlflow-skinny.

    Parameters
    ----------
    uri: of the store: sqlite:///FILE, http://HOST:PORT, ...

    Raises
    ------
    MissingExtra.  ParameterError: the store cannot be used.
    """

    def __init__(self, uri: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nobody was asked
        try:
            from mlflow import MlflowClient
            from mlflow.entities import Metric, Param, RunTag
        except ModuleNotFoundError as error:
            raise MissingExtra("mlflow-skinny", "mlflow", "--track mlflow:URI") from error
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._metric, self._param, self._tag = Metric, Param, RunTag
        try:
            self._client = MlflowClient(tracking_uri=uri)
            known = self._client.get_experiment_by_name(EXPERIMENT)
            self._experiment = known.experiment_id if known else self._client.create_experiment(EXPERIMENT)
        except Exception as error:  # whatever a store, a driver or a network raises
            raise ParameterError(
                f"--track 'mlflow:{uri}' must name an MLflow store that can be used; {str(error).splitlines()[0]}"
            ) from error
        self._run = ""

    def start(self, name: str, params: Mapping[str, Any]) -> None:
        """Begin a run."""
        self._run = self._client.create_run(self._experiment, run_name=name).info.run_id
        every = [self._param(_key(k), str(v)[:LONGEST]) for k, v in _flat(params).items()]
        for at in range(0, len(every), BATCH):
            self._client.log_batch(self._run, params=every[at : at + BATCH])

    def metrics(self, values: Mapping[str, float | None], step: int = 0) -> None:
        """Note numbers at a step."""
        now = int(time.time() * 1000)
        known = {k: float(v) for k, v in values.items() if v is not None and math.isfinite(v)}
        self._client.log_batch(
            self._run, metrics=[self._metric(_key(k), v, now, step) for k, v in known.items()]
        )

    def note(self, facts: Mapping[str, Any]) -> None:
        """Note facts as tags."""
        tags = [self._tag(_key(k), str(v)[:LONGEST]) for k, v in _flat(facts).items()]
        self._client.log_batch(self._run, tags=tags)

    def end(self, failed: bool = False) -> None:
        """End the run."""
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


def open_tracker(text: str | None) -> Tracker:
    """The tracker of a text; None = one that notes nothing.

    Raises
    ------
    ParameterError: no such tracker.  MissingExtra: its package is not installed.
    """
    if text is None:
        return Silent()
    kind, sign, uri = text.partition(":")
    if kind != "mlflow" or not sign or not uri:
        raise ParameterError(
            f"--track must be written mlflow:URI ('mlflow:sqlite:///runs.db', 'mlflow:http://host:5000'); got '{text}'."
        )
    return MLflow(uri)


@contextmanager
def tracked(tracker: Tracker, name: str, params: Mapping[str, Any]) -> Iterator[Tracker]:
    """A run of the tracker around some work; marked as failed where the work does."""
    tracker.start(name, params)
    try:
        yield tracker
    except BaseException:
        tracker.end(failed=True)
        raise
    tracker.end()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return out


def _key(name: str) -> str:
    """A name of the characters that MLflow allows: ndcg@5/shown is ndcg_at_5/shown."""
    return re.sub(r"[^\w./ -]", "_", name.replace("@", "_at_"))[:250]
