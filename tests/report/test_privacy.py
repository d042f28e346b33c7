"""What is written about a comparison, an evaluation or a sensitivity analysis names no user."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

import deconrec as dc
from deconrec.report import estimates, html, sensitivity, text

MARK = "person-"


@pytest.fixture(scope="module")
def data() -> dc.Dataset:
    """A log whose users have names that cannot be missed."""
    world, _ = dc.simulate.pairs(n_users=60, n_items=30, exposure_rate=0.3, unbiased_share=0.3, seed=1)
    frames = [
        world.frame(log).with_columns(user_id=pl.format(MARK + "{}-of-privacy", pl.col("user_id")))
        for log in (world.biased, world.unbiased)
    ]
    return dc.Dataset.from_frames(
        frames[0], unbiased=frames[1], binarize=0.5, rating_range=(0, 1), name="shop"
    )


@pytest.fixture(scope="module")
def halves(data: dc.Dataset) -> tuple[Any, dc.Dataset]:
    half = np.random.default_rng(0).random(len(data.biased)) < 0.5
    model = dc.MF(dim=2, epochs=2).fit(data.with_logs(data.biased.take(half)))
    return model, data.with_logs(data.biased.take(~half))


def screen(*things: Any) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    for thing in things:
        console.print(thing)
    return console.export_text()


def test_the_data_do_name_users(data: dc.Dataset) -> None:
    assert MARK in str(data.users.values[0])


def test_a_comparison(data: dc.Dataset) -> None:
    metrics = ["auc", "recall@5/full", "gini@5/full", "auc/cold-users"]
    result = dc.compare(data, ["mf:epochs=2", "popularity"], seeds=2, metrics=metrics)
    for written in (
        result.to_json(),
        html.render(result),
        screen(text.leaderboard(result)),
        text.verdict(result),
    ):
        assert "popularity" in written
        assert MARK not in written


def test_an_evaluation(halves: tuple[Any, dc.Dataset]) -> None:
    model, log = halves
    for estimator in ("snips", "dr"):
        found = dc.evaluate(
            model, log, estimator=estimator, propensity="popularity", imputation="mf:epochs=1"
        )
        page = estimates.render_estimates(found)
        assert found.estimates[0].metric in page
        for written in (found.to_json(), screen(estimates.table(found)), "\n".join(found.notes), page):
            assert MARK not in written


def test_a_sensitivity_analysis(halves: tuple[Any, dc.Dataset], tmp_path: Path) -> None:
    model, log = halves
    found = dc.sensitivity(model, log, propensity="popularity")
    page = sensitivity.write_sensitivity(found, tmp_path / "s.html").read_text()
    for written in (
        found.to_json(),
        page,
        screen(sensitivity.table(found)),
        "\n".join(found.answer + found.notes),
    ):
        assert MARK not in written
    assert found.items[0].item in page
