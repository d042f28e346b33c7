"""The demonstration: a world with hidden confounding, a comparison on it, and the chosen model saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from deconrec.catalogue import write_world
from deconrec.data.dataset import Dataset
from deconrec.data.writing import write_file
from deconrec.experiments.compare import compare
from deconrec.experiments.results import Result, higher_is_better
from deconrec.methods import make
from deconrec.threads import one_thread

WORLD = "sim-pairs:confounding=2+n_users=600+n_items=300+exposure_rate=0.08+unbiased_share=0.1"
# The error of the predicted outcome first: a hidden confounder shifts levels more than it shuffles ranks.
METRICS = ("mse", "auc", "ndcg@5/shown", "recall@5/shown", "logloss", "mse/truth", "auc/truth")
METHODS = ("mf", "mf-combined", "ips", "dr-jl", "res-ips", "res-dr", "grounded-gp")


@dataclass(frozen=True)
class Demo:
    """What the demonstration made."""

    result: Result
    model: Path
    chosen: str
    recommendations: pl.DataFrame


def run_demo(
    out: str | Path,
    *,
    seeds: Sequence[int],
    workers: int = 1,
    say: Callable[[str], None] = print,
    progress: bool = False,
) -> Demo:
    """Compare METHODS on fresh worlds, fit the best by the headline on one world, save it, recommend.

    Writes into `out`: data/ (one world as files), compare.json, model/.
    """
    folder = Path(out)
    say(f"world:   {WORLD} (a hidden confounder moves what is shown and how it is rated)")
    world = write_world(WORLD, {}, seeds[0], folder / "data")
    result = compare(WORLD, METHODS, metrics=METRICS, seeds=seeds, workers=workers, progress=progress)
    write_file(folder / "compare.json", result.to_json())
    headline = result.metrics[0]
    sign = 1 if higher_is_better(headline) else -1
    chosen = max(METHODS, key=lambda name: sign * (result.mean(name, headline) or 0.0))
    data = Dataset.from_file(world / "data.toml")
    with one_thread():
        model = make(chosen).fit(data)
        recommendations = model.recommend(data.users.values.head(5), k=8)
    model.save(folder / "model")
    return Demo(result, folder / "model", chosen, recommendations)
