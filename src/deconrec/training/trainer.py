"""The one training loop: runs a program over a sampler, stops early, keeps a true copy of the best state."""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

import torch

from deconrec.errors import TrainingError
from deconrec.random import numpy_generator
from deconrec.training.checkpoints import Run, next_run
from deconrec.training.distributed import current
from deconrec.training.impressions import ImpressionSource
from deconrec.training.program import SGD, Adam, History, Nets, Phase, Program
from deconrec.training.progress import Progress
from deconrec.training.samplers import Sampler, Source, shared


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
        at = Progress.of(nets, program, self.optimizer, numpy_generator(self.seed, "batches"))
        ranks = current()
        if ranks is not None:
            ranks.same_nets(nets)
            source = shared(source, ranks)
        run = next_run()
        run.restore(at, program)
        history = at.history
        with _bar(self.progress, self.epochs) as advance:
            for done in history:
                advance(done)
            while len(history) < self.epochs and history.stopped == "epochs":
                epoch, started = len(history), time.perf_counter() - at.seconds
                nets.train()
                try:
                    for place, phase in enumerate(program):
                        if place >= at.phase and phase.active(epoch):
                            at.record |= _one_pass(at, place, phase, sampler, source, run, started)
                except TrainingError:
                    nets.load_state_dict(at.best)
                    raise
                nets.eval()
                record, at.record = at.record, {}
                if score is not None:
                    with torch.no_grad():
                        value = float(score())
                    record["score"] = value = value if ranks is None else ranks.same_number(value)
                    if math.isnan(value):
                        nets.load_state_dict(at.best)
                        raise TrainingError("validation score", epoch, nets.keys(), value)
                    if value > at.best_score and epoch >= self.warmup:
                        at.best, at.best_score, at.waited = copy.deepcopy(nets.state_dict()), value, 0
                        history.best_epoch = epoch
                    elif epoch >= self.warmup:
                        at.waited += 1
                else:
                    history.best_epoch = epoch
                record["seconds"] = time.perf_counter() - started
                history.epochs.append(record)
                advance(record)
                if score is not None and self.patience and at.waited >= self.patience:
                    history.stopped = "patience"
                at.phase, at.seconds = 0, 0.0
                run.keep(at)
        if score is not None and at.best_score > -float("inf"):
            nets.load_state_dict(at.best)
        nets.eval()
        run.end(at)
        return history


def _one_pass(
    at: Progress,
    place: int,
    phase: Phase,
    sampler: Sampler,
    source: Source | ImpressionSource,
    run: Run,
    started: float,
) -> dict[str, float]:
    """One epoch of one phase, or what is left of it; gives the batch-weighted mean of every term."""
    nets, epoch = at.nets, len(at.history)
    if not at.batches:
        if phase.before is not None:
            with torch.no_grad():
                phase.before(nets)
        at.phase, at.start = place, at.rng.bit_generator.state
    for batch in islice(sampler.batches(source, at.rng, epoch), at.batches, None):
        for mover in at.movers[place]:
            for name, value in mover.move(nets, batch).items():
                at.owners[name] = mover.step.updates
                values, weights = at.terms.setdefault(name, ([], []))
                values.append(value.detach().reshape(()))
                weights.append(batch.weight)
        at.batches, at.seconds = at.batches + 1, time.perf_counter() - started
        run.keep(at)
    sums = {
        name: torch.cumsum(torch.stack(values) * torch.tensor(weights, device=values[0].device), 0)
        for name, (values, weights) in at.terms.items()
    }
    means = {name: float(running[-1]) / max(at.batches, 1) for name, running in sums.items()}
    at.phase, at.batches, at.terms = place + 1, 0, {}
    broken = [name for name, number in means.items() if not math.isfinite(number)]
    if broken:
        # The cause fails before its effects: the term that stayed finite for the fewest batches.
        first = min(broken, key=lambda name: int(sums[name].isfinite().sum()))
        raise TrainingError(first, epoch, at.owners[first], means[first])
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
