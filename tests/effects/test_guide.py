"""The guide on effects says what its record says, and the record what the code measures."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("effects_guide", DOCS / "effects.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_and_figures_are_those_of_the_record(script: Any) -> None:
    record = json.loads(script.RECORD.read_text())
    assert script.table(record) in script.PAGE.read_text()
    assert all((script.GUIDES / name).exists() for name in script.figures(record))
    assert record["adjusted"]["own"] <= record["naive"]["own"] / 3


def test_every_verdict_has_a_heading(script: Any) -> None:
    import ast
    import re

    from deconrec.effects import verdicts

    headings = set(re.findall(r"^### ([A-Z_]+)$", script.PAGE.read_text(), re.M))
    calls = [n for n in ast.walk(ast.parse(Path(verdicts.__file__).read_text())) if isinstance(n, ast.Call)]
    codes = {ast.literal_eval(c.args[0]) for c in calls if ast.unparse(c.func) == "Verdict"}
    assert codes == headings


@pytest.mark.slow
def test_the_record_is_what_is_measured(script: Any) -> None:
    """At 8,000 users and 30 % exposure, the dimension chosen by the predictive check."""
    record, now = json.loads(script.RECORD.read_text()), script.measure()
    assert now["dim"] == record["dim"]
    assert now["adjusted"]["own"] <= now["naive"]["own"] / 3
    for name in ("naive", "adjusted", "true_confounder"):
        assert now[name]["own"] == pytest.approx(record[name]["own"], rel=0.02)
    assert now["single"]["with"] == pytest.approx(record["single"]["with"], rel=0.02)
    assert now["net"]["zero"]["own_bias"] > 3 * abs(now["net"]["mean"]["own_bias"])
    assert now["masked"]["refused"]
    assert now["all"]["vae"]["adjusted"] > now["all"]["vae"]["naive"]
