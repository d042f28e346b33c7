"""`dc.diagnose`: what it says, and what it says it cannot see."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import deconrec as dc
from deconrec.data.dataset import Dataset, Log
from deconrec.diagnostics import Diagnosis
from deconrec.errors import DataError, ParameterError
from deconrec.methods import ALIASES, METHODS
from deconrec.report.diagnose import render_diagnosis

CODES = {
    "HIDDEN_CONFOUNDING",
    "POWER",
    "UNBIASED_LOG",
    "RANDOMISED_LOG",
    "DISTRIBUTION",
    "WEIGHTS",
    "CALIBRATION",
    "BALANCE",
    "PREDICTIVE_CHECK",
}


def world(dial: float, **settings: Any) -> Dataset:
    given = {"n_users": 200, "n_items": 50, "exposure_rate": 0.12, "unbiased_share": 0.1, "seed": 0}
    return dc.simulate.pairs(confounding=dial, **(given | settings))[0]


@pytest.fixture(scope="module")
def confounded() -> Diagnosis:
    return dc.diagnose(world(1.5), name="a world")


@pytest.fixture(scope="module")
def alone() -> Diagnosis:
    return dc.diagnose(world(1.5, unbiased_share=0.0))


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from numbers(part)
    elif isinstance(value, float):
        yield value


def of(d: Diagnosis, code: str) -> Any:
    return next(v for v in d.verdicts if v.code == code)


def test_hidden_confounding_is_found_and_said(confounded: Diagnosis) -> None:
    c = confounded.confounding
    assert c.found
    assert c.gap is not None
    assert c.gap > 0.1
    assert confounded.answer[0].startswith("Yes")
    helps = {m: a.help for a in confounded.methods for m in a.methods}
    assert helps["res-dr"] == helps["grounded-gp"] == "can"
    assert "selection shift" in next(a.why for a in confounded.methods if "grounded-gp" in a.methods)
    assert "'a world'" in confounded.command


def test_the_record_has_its_form(confounded: Diagnosis, alone: Diagnosis) -> None:
    for d in (confounded, alone):
        record = json.loads(d.to_json())
        assert {"gap", "low", "high", "p"} <= set(record["confounding"])
        assert {"ess", "ess_share", "floored_share"} <= set(record["overlap"])
        assert "p" in record["predictive_check"]
        assert all(v["code"] and v["says"] and v["cannot_see"] for v in record["verdicts"])
        assert all(math.isfinite(x) for x in numbers(record))
        assert {v["code"] for v in record["verdicts"]} == CODES


def test_without_randomised_rows_nothing_is_claimed(alone: Diagnosis) -> None:
    c = alone.confounding
    assert (c.gap, c.low, c.high, c.p) == (None, None, None, None)
    assert of(alone, "HIDDEN_CONFOUNDING").status == "unknown"
    assert "no randomised log" in of(alone, "HIDDEN_CONFOUNDING").says
    assert alone.answer[0].startswith("Whether to debias cannot be said")
    for a in alone.methods:
        for m in a.methods:
            name = ALIASES.get(m, m)
            if dc.make(name).tags.needs_unbiased:
                assert a.help == "cannot", m
    assert "mf-combined" not in alone.command


def test_where_nothing_is_found_no_correction_is_promised() -> None:
    d = dc.diagnose(world(0.0, seed=3))
    assert d.confounding.found is False
    assert of(d, "HIDDEN_CONFOUNDING").status == "not found"
    assert not [a for a in d.methods if a.help == "can"]
    assert re.search(r"0\.\d{3}", d.answer[0]), "the gap that would have been found"


def test_a_log_that_is_not_random_is_doubted() -> None:
    data = world(0.0)
    odd = np.arange(len(data.biased)) % 2 == 1
    d = dc.diagnose(data.with_logs(data.biased.take(~odd), data.biased.take(odd)))
    assert of(d, "RANDOMISED_LOG").status == "found"


def test_methods_exist_and_stand_once(confounded: Diagnosis) -> None:
    names = [m for a in confounded.methods for m in a.methods]
    assert len(names) == len(set(names))
    assert set(names) <= {*METHODS, *ALIASES}
    asked = re.search(r"--methods (\S+)", confounded.command)
    assert asked is not None
    assert set(asked[1].split(",")) <= {*METHODS, *ALIASES}


def test_every_verdict_has_a_heading() -> None:
    page = (Path(__file__).parents[2] / "docs" / "diagnostics.md").read_text()
    assert set(re.findall(r"^### ([A-Z_]+)$", page, re.M)) >= CODES


def test_it_prints_itself(confounded: Diagnosis, alone: Diagnosis) -> None:
    for d in (confounded, alone):
        console = Console(width=110, record=True, file=io.StringIO())
        console.print(d)
        text = console.export_text()
        assert "what it cannot see" in text
        assert "HIDDEN_CONFOUNDING" in text
        assert "Cannot see" in str(d)


def test_the_page_says_it_all(confounded: Diagnosis, alone: Diagnosis) -> None:
    page = render_diagnosis(confounded.to_dict())
    assert page.count("<svg") == 6
    assert page.count("Cannot see:") == len(CODES)
    assert "http" not in re.sub(r"http-equiv", "", page)
    fewer = render_diagnosis(alone.to_dict())
    assert fewer.count("<svg") == 4
    assert "NaN" not in page + fewer
    assert ">None<" not in page + fewer


def test_the_same_seed_says_the_same() -> None:
    data = world(0.5, n_users=60, n_items=20)
    a, b = (dc.diagnose(data, seed=4).to_dict() for _ in range(2))
    assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_odd_data_are_answered() -> None:
    """One outcome, a user with everything, hardly any row: an answer each time, and no NaN."""
    data = world(0.5, n_users=30, n_items=12)
    assert data.unbiased is not None
    same = [Log(log.user, log.item, np.ones(len(log))) for log in (data.biased, data.unbiased)]
    all_seen = Log(*(x.ravel() for x in np.indices(data.shape)), np.arange(360) % 2)
    for odd in (
        data.with_logs(*same),
        data.with_logs(data.biased, data.unbiased.take(np.arange(3))),
        data.with_logs(all_seen, data.unbiased),
    ):
        d = dc.diagnose(odd)
        assert d.confounding.gap is None
        json.loads(d.to_json())
        render_diagnosis(d.to_dict())


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match=r"needs a deconrec\.Dataset"):
        dc.diagnose("coat")  # type: ignore[arg-type]  # a name is no data set: that is the test
    data = world(0.0, n_users=30, n_items=12)
    with pytest.raises(ParameterError, match="'seed' of diagnose"):
        dc.diagnose(data, seed=-1)
    with pytest.raises(DataError, match="10 biased rows"):
        dc.diagnose(data.with_logs(data.biased.take(np.arange(4))))
