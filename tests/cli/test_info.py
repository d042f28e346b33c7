"""`deconrec info` of the machine and of a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deconrec.cli import main
from deconrec.cli.info import described
from deconrec.saving import read_about

FIXTURES = Path(__file__).parent.parent / "fixtures" / "models"
WORLD = "sim-pairs:n_users=50+n_items=30+exposure_rate=0.3+unbiased_share=0.2"


def test_info_of_a_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = str(tmp_path / "m")
    assert main(["fit", "mf", WORLD, "--set", "epochs=2", "--diagnose", "--out", model, "--quiet"]) == 0
    capsys.readouterr()
    assert main(["info", model]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for said in (
        "model MF",
        "50 users x 30 items",
        "epochs 2",
        "0 or 1 (rating >= 0.5)",
        "format 2",
        "interval",
    ):
        assert said in out, said
    assert main(["info", model, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == read_about(model)


@pytest.mark.parametrize("folder", sorted(p.parent for p in FIXTURES.rglob("model.json")), ids=str)
def test_models_of_every_format_are_described(folder: Path) -> None:
    facts = described(read_about(folder))
    assert facts["written by"].endswith(folder.parent.parent.name.replace("format-", "format "))
    assert " users x " in facts["from"]


def test_info_of_no_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["info", str(tmp_path)]) == 2
    assert "is no saved model" in capsys.readouterr().err
