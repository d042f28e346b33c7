"""The one training loop: runs a program over a sampler, stops early, keeps a true copy of the best state."""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from deconrec.errors import TrainingError
from deconrec.random import numpy_generator
from deconrec.training.impressions import ImpressionSource
from deconrec.training.program import SGD, Adam, History, Mover, Nets, Program
from deconrec.training.samplers import Sampler, Source


@dataclass(frozen=True)
class Trainer:
    """Parameters
    ----------
    epochs: passes, >= 0.
    optimizer: of every step that names none.
    patience: epochs without a better validation score before training stops; 0 = never.
    warmup: epochs before the best state is first looked for.
    seed: shuffles batches (the nets' own start is the estimator's).
    progress: title of a progress bar on a terminal; None = silent.
    """

    epochs: int
    optimizer: Adam | SGD = field(default_factory=Adam)
    patience: int = 0
    warmup: int = 0
    seed: int = 0
    progress: str | None = None

    def run(
        self,
        nets: Nets,
        program: Program,
        sampler: Sampler,
        source: Source | ImpressionSource,
        score: Callable[[], float] | None = None,
    ) -> History:
        """Train `nets` in place.

        Parameters
        ----------
        score: validation score after each epoch, higher is better; the best epoch's state is kept. None = keep the
            last state.

        Raises
        ------
        TrainingError: a term is not finite; names the term, the epoch and the nets. The nets then hold the
            best state so far.
        """
        history = History()
        movers = [[Mover.of(step, nets, self.optimizer) for step in phase.steps] for phase in program]
        rng = numpy_generator(self.seed, "batches")
        best, best_score, waited = copy.deepcopy(nets.state_dict()), -float("inf"), 0
        with _bar(self.progress, self.epochs) as advance:
            for epoch in range(self.epochs):
                started = time.perf_counter()
                record: dict[str, float] = {}
                nets.train()
                try:
                    for phase, steps in zip(program, movers, strict=True):
                        if not phase.active(epoch):
                            continue
                        if phase.before is not None:
                            with torch.no_grad():
                                phase.before(nets)
                        record |= _one_pass(nets, steps, sampler, source, rng, epoch)
                except TrainingError:
                    nets.load_state_dict(best)
                    raise
                nets.eval()
                if score is not None:
                    with torch.no_grad():
                        record["score"] = value = float(score())
                    if math.isnan(value):
                        nets.load_state_dict(best)
                        raise TrainingError("validation score", epoch, nets.keys(), value)
                    if value > best_score and epoch >= self.warmup:
                        best, best_score, waited = copy.deepcopy(nets.state_dict()), value, 0
                        history.best_epoch = epoch
                    elif epoch >= self.warmup:
                        waited += 1
                else:
                    history.best_epoch = epoch
                record["seconds"] = time.perf_counter() - started
                history.epochs.append(record)
                advance(record)
                if score is not None and self.patience and waited >= self.patience:
                    history.stopped = "patience"
                    break
        if score is not None and best_score > -float("inf"):
            nets.load_state_dict(best)
        nets.eval()
        return history


def _one_pass(
    nets: Nets,
    movers: list[Mover],
    sampler: Sampler,
    source: Source | ImpressionSource,
    rng: np.random.Generator,
    epoch: int,
) -> dict[str, float]:
    """One epoch of one phase; gives the batch-weighted mean of every term."""
    values: dict[str, list[torch.Tensor]] = {}
    weights: dict[str, list[float]] = {}
    owners: dict[str, tuple[str, ...]] = {}
    batches = 0
    for batch in sampler.batches(source, rng, epoch):
        batches += 1
        for mover in movers:
            for name, value in mover.move(nets, batch).items():
                owners[name] = mover.step.updates
                values.setdefault(name, []).append(value.detach().reshape(()))
                weights.setdefault(name, []).append(batch.weight)
    sums = {
        name: torch.cumsum(torch.stack(found) * torch.tensor(weights[name], device=found[0].device), 0)
        for name, found in values.items()
    }
    means = {name: float(running[-1]) / max(batches, 1) for name, running in sums.items()}
    broken = [name for name, number in means.items() if not math.isfinite(number)]
    if broken:
        # The cause fails before its effects: the term that stayed finite for the fewest batches.
        first = min(broken, key=lambda name: int(sums[name].isfinite().sum()))
        raise TrainingError(first, epoch, owners[first], means[first])
    return means


@contextmanager
def _bar(title: str | None, epochs: int) -> Iterator[Callable[[dict[str, float]], None]]:
    """A progress bar on a terminal; nothing otherwise."""
    if title is None or not sys.stderr.isatty():
        yield lambda record: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, TextColumn("{task.fields[score]}"), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task(title, total=epochs, score="")

        def advance(record: dict[str, float]) -> None:
            score = f"validation {record['score']:.4f}" if "score" in record else ""
            bar.update(task, advance=1, score=score)

        yield advance
