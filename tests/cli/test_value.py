"""`deconrec value` on a simulator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deconrec.cli import main

WORLD = "sim-pairs:n_users=50+n_items=30+exposure_rate=0.3+unbiased_share=0.2"


def test_value_writes_record_page_and_pictures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    files = {name: tmp_path / f"v.{name}" for name in ("json", "html")}
    arguments = ["value", WORLD, "--methods", "ease:ridge=10,mf-combined:epochs=1", "--shares", "0,0.1,0.3"]
    arguments += ["--seeds", "2", "--json", str(files["json"]), "--report", str(files["html"])]
    assert main([*arguments, "--pictures", str(tmp_path / "pictures")]) == 0
    record = json.loads(files["json"].read_text())
    assert record["metric"] == "auc"
    assert len(record["points"]) == 6
    assert record["answer"][0] in files["html"].read_text()
    (svg,) = (tmp_path / "pictures").glob("*.svg")
    assert "mf-combined" in svg.read_text()  # its own key
    out = capsys.readouterr().out
    assert "mf-combined" in out


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (("--shares", "0,lots"), "--shares must be numbers"),
        (("--pictures", "here"), "add --report"),
        (("--metric", "nonsense"), "nonsense"),
    ],
)
def test_what_value_refuses(capsys: pytest.CaptureFixture[str], extra: tuple[str, ...], says: str) -> None:
    assert main(["value", WORLD, *extra]) == 2
    assert says in capsys.readouterr().err


def test_fit_says_by_how_much_selection_raises_outcomes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["fit", "grounded-gp", WORLD, "--set", "draws=10", "--out", str(tmp_path / "m"), "--quiet"]
    assert main([*arguments, "--json", str(tmp_path / "fit.json")]) == 0
    shift = json.loads((tmp_path / "fit.json").read_text())["selection_shift"]
    assert shift["low"] < shift["mean"] < shift["high"]


def test_fit_says_nothing_of_selection_where_a_method_has_no_shift(tmp_path: Path) -> None:
    arguments = ["fit", "wmf", WORLD, "--set", "dim=2", "--out", str(tmp_path / "m"), "--quiet"]
    assert main([*arguments, "--json", str(tmp_path / "fit.json")]) == 0
    assert "selection_shift" not in json.loads((tmp_path / "fit.json").read_text())
