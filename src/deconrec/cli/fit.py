"""`deconrec fit METHOD DATA --out DIR`."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deconrec.cli import output
from deconrec.cli.options import (
    CheckpointEvery,
    FitEngine,
    FitWorkers,
    Json,
    Quiet,
    Root,
    Seed,
    Settings,
    Track,
    pairs_of,
    threads,
)
from deconrec.errors import ParameterError

if TYPE_CHECKING:
    from deconrec.base import Estimator
    from deconrec.catalogue import Opened


def fit(
    method: Annotated[str, typer.Argument(help="A method, as name or name:param=value+param=value.")],
    data: Annotated[str, typer.Argument(help="A catalogue name, a TOML data file, or a folder or log.")],
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Where the model is saved.")],
    settings: Settings = None,
    root: Root = None,
    seed: Seed = 0,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, mps (default: cpu).")] = None,
    refit: Annotated[
        bool, typer.Option("--refit/--no-refit", help="Once stopped, train again on all rows.")
    ] = True,
    diagnose: Annotated[
        bool, typer.Option("--diagnose", help="Keep with the model what `diagnose` says of its data.")
    ] = False,
    workers: FitWorkers = 1,
    engine: FitEngine = "torch",
    checkpoint_every: CheckpointEvery = None,
    track: Track = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Fit a method on all of a data set (no test is cut) and save the model.

    The whole randomised log is used. 15 % of the biased log stops the training; a method over pairs then learns again
    from all of it, for as many epochs. A method that is trained by gradient keeps a checkpoint, .DIR.checkpoint beside
    DIR: after a kill, the same command goes on from there, to the same model.
    """
    from deconrec.adapters.tracker import open_tracker, tracked
    from deconrec.data.writing import check_replaceable
    from deconrec.experiments.together import check_together, run_together
    from deconrec.saving import MARKER

    check_replaceable(out, MARKER)
    chosen = check_together(engine, workers)
    settings_of = pairs_of(settings) | ({} if device is None else {"device": device})
    rank, size = _torchrun()
    model = _checked(method, settings_of, together=workers > 1 or size > 1)
    tracker = open_tracker(track if rank == 0 else None)
    how: dict[str, Any] = {"seed": seed, "refit": refit, "diagnose": diagnose}
    how |= {"checkpoint_every": checkpoint_every, "quiet": quiet}
    work = (method, settings_of, data, root, out, how)
    with tracked(
        tracker, f"fit {method}", {"method": method, "data": data, "params": model.describe()}
    ) as run:
        placed = str(model.get_params().get("device", "cpu"))
        if workers > 1:
            record, history = run_together(_fit, (work,), workers, chosen, placed)
        elif size > 1:
            from deconrec.training.distributed import joined

            record, history = _fit(work, rank, partial(joined, rank, size, device=placed))
        else:
            record, history = _fit(work)
        if not record:  # another rank's
            return
        record = {"method": method} | record
        if engine == "ray" and workers > 1:  # whose workers print into its own log
            output.say(f"{method} fitted by {workers} workers in {record['seconds']:.1f} s; saved in {out}")
        for epoch, terms in enumerate(history):
            run.metrics(terms, epoch)
        run.metrics({k: record.get(k) for k in ("validation", "best_epoch", "unbiased_rows")})
        run.note({"out": out, "fingerprint": record["fingerprint"]})
    if json:
        output.write_json(record, json)


def _checked(method: str, settings: dict[str, str], *, together: bool) -> Estimator:
    """The method, with its parameters in range, and one that several workers can train where they are to."""
    from deconrec.methods import make

    model = make(method)
    model.set_text(settings)
    model.check_params()
    if together:
        from deconrec.torch_estimator import not_shared

        if why := not_shared(model):
            raise ParameterError(why)
    return model


def _fit(
    work: tuple[str, dict[str, str], str, str | None, str, dict[str, Any]],
    rank: int = 0,
    join: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """(record, epochs) of a fit that rank 0 saves; of other ranks, nothing."""
    from deconrec.catalogue import open_data

    method, settings, data, root, out, how = work
    threads()
    output.STATE["quiet"] = how["quiet"] or rank > 0
    model = _checked(method, settings, together=join is not nullcontext)
    record = fit_and_save(model, open_data(data, root), out, rank=rank, join=join, **how)
    return record, list(getattr(model, "history_", ())) if record else []


def _torchrun() -> tuple[int, int]:
    """(rank, size) of this process among those that torchrun started; (0, 1) where it did not."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def fit_and_save(
    model: Estimator,
    opened: Opened,
    out: str,
    *,
    seed: int = 0,
    refit: bool = True,
    diagnose: bool = False,
    checkpoint_every: float | None = None,
    quiet: bool = False,
    rank: int = 0,
    join: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> dict[str, Any]:
    """Fit a checked method on all of a data set, save it, say so, and give the record.

    Processes that train together all call this, each with its `rank` and with how to join the others; the first one
    alone saves and gives something.
    """
    if "seed" in model.get_params(deep=False):
        model.set_params(seed=seed)
    from deconrec.training.checkpoints import EVERY

    data, _ = opened.draw(seed)
    diagnosis = None
    if diagnose and rank == 0:
        from deconrec.diagnostics import diagnose as look

        diagnosis = look(data, seed=seed, name=opened.name).summary()
    with join():
        model.fit(
            data,
            refit=refit,
            progress=not quiet and rank == 0,
            checkpoint=None if checkpoint_every == 0 else checkpoint_of(out),
            checkpoint_every=checkpoint_every or EVERY,
        )
    if rank:
        return {}
    assert model.about_ is not None
    model.about_["diagnosis"] = diagnosis
    model.about_["data"]["fingerprint"] = data.fingerprint
    model.save(out)
    record: dict[str, Any] = {
        "data": opened.name,
        "fingerprint": data.fingerprint,
        "out": out,
        "seconds": model.seconds_,
        "unbiased_rows": model.unbiased_rows_,
        "users": len(model.users_),
        "items": len(model.items_),
        "params": model.describe(),
    }
    history = getattr(model, "history_", None)
    if history is not None and len(history):
        scores = history.curve("score")
        record |= {"epochs": len(history), "best_epoch": history.best_epoch, "stopped": history.stopped}
        record["validation"] = max(scores) if scores else None
    overlap = getattr(model, "overlap_", None)
    if overlap is not None:
        record["overlap"] = overlap.to_dict()
        output.say(f"propensities: {overlap}")
    shift = getattr(model, "selection_shift_", None)
    if shift is not None:
        record["selection_shift"] = shift
        output.say(
            f"selection raises the outcomes of the biased log by {shift['mean']:+.3f} (90 % interval "
            f"{shift['low']:+.3f} to {shift['high']:+.3f}): hidden confounding that features and exposures leave"
        )
    if diagnosis is not None:
        record["diagnosis"] = diagnosis
        for sentence in diagnosis["answer"]:
            output.say(sentence)
    text = f"{type(model).__name__} fitted in {model.seconds_:.1f} s"
    if history is not None and len(history):
        text += f", epoch {history.best_epoch + 1} of {len(history)} kept"
    if model.checkpoint_ is not None and model.checkpoint_.resumed:
        record["resumed"] = True
        text += ", gone on from the checkpoint of the same command"
    output.say(f"{text}; {model.unbiased_rows_:,} unbiased rows used; saved in {out}")
    return record


def checkpoint_of(out: str) -> Path:
    """The checkpoint's folder, beside the model's."""
    target = Path(out).absolute()
    return target.with_name(f".{target.name}.checkpoint")
