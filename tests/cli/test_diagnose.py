"""`deconrec diagnose`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import deconrec as dc
from deconrec.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(a) for a in arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_a_csv_with_text_ids_to_a_verdict(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = [
        (f"u-{u}", f"i-{i}", 1 + (u * i) % 5) for u in range(40) for i in range(15) if (u + 2 * i) % 4 == 0
    ]
    text = "user_id,item_id,rating\n" + "".join(f"{u},{i},{r}\n" for u, i, r in rows)
    (tmp_path / "log.csv").write_text(text)
    drawn = [
        (f"u-{u}", f"i-{i}", 1 + (u * i) % 5) for u in range(40) for i in range(15) if (3 * u + i) % 7 == 0
    ]
    (tmp_path / "random.csv").write_text(
        "user_id,item_id,rating\n" + "".join(f"{u},{i},{r}\n" for u, i, r in drawn)
    )
    (tmp_path / "data.toml").write_text('[biased]\npath = "log.csv"\n[unbiased]\npath = "random.csv"\n')
    files = ("--json", tmp_path / "d.json", "--report", tmp_path / "d.html")
    code, out, err = run(capsys, "diagnose", tmp_path / "data.toml", *files)
    assert code == 0, err
    assert "HIDDEN_CONFOUNDING" in out
    record = json.loads((tmp_path / "d.json").read_text())
    assert record["confounding"]["p"] is not None
    assert "<svg" in (tmp_path / "d.html").read_text()
    assert "u-3" not in (tmp_path / "d.json").read_text() + (tmp_path / "d.html").read_text()


def test_a_log_of_impressions_to_a_verdict(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data, _ = dc.simulate.impressions(
        n_impressions=2000, n_users=60, n_items=20, click_rate=0.3, unbiased_share=0.1
    )
    assert data.impressions is not None
    assert data.unbiased is not None
    data.frame(data.impressions.log, data.impressions.click).write_parquet(tmp_path / "log.parquet")
    data.frame(data.unbiased).write_parquet(tmp_path / "forced.parquet")
    (tmp_path / "data.toml").write_text(
        '[impressions]\npath = "log.parquet"\ncontext = ["device", "hour", "price", "depth"]\n'
        '[unbiased]\npath = "forced.parquet"\n'
    )
    files = ("--json", tmp_path / "d.json", "--report", tmp_path / "d.html")
    code, out, err = run(capsys, "diagnose", tmp_path / "data.toml", *files)
    assert code == 0, err
    assert "CONVERSIONS" in out
    record = json.loads((tmp_path / "d.json").read_text())
    assert record["confounding"]["p"] is not None
    assert record["predictive_check"]["p"] is None
    assert record["clicks"]["click"]["rows"] == 2000
    page = (tmp_path / "d.html").read_text()
    assert "<svg" in page
    assert "u00003" not in (tmp_path / "d.json").read_text() + page


def test_a_world_without_a_randomised_log(capsys: pytest.CaptureFixture[str]) -> None:
    world = "sim-pairs:n_users=60+n_items=20+exposure_rate=0.2+unbiased_share=0"
    code, out, err = run(capsys, "diagnose", world, "--json", "-", "--seed", 3)
    assert code == 0, err
    record = json.loads(out)
    assert record["confounding"]["gap"] is None
    assert world in record["command"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nothing-here",), "there is no data set"),
        (("sim-pairs:dial=2",), "there is no parameter"),
        (("sim-pairs:n_users=3+n_items=2+exposure_rate=0.5",), "biased rows"),
        (("sim-pairs", "--seed", "-1"), "seed"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str) -> None:
    code, _, err = run(capsys, "diagnose", *arguments)
    assert code == 2
    assert says in err


def test_a_log_in_which_every_rating_is_the_same_is_told_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = "".join(f"{u},{i},1\n" for u in range(30) for i in range(8) if (u * i) % 3)
    (tmp_path / "clicks.csv").write_text("user_id,item_id,rating\n" + rows)
    page = tmp_path / "page.html"
    code, out, err = run(
        capsys, "diagnose", tmp_path / "clicks.csv", "--report", page, "--json", tmp_path / "d.json"
    )
    assert code == 0
    assert "[ONE_OUTCOME]" in out + err
    assert any(
        n.startswith("[ONE_OUTCOME]") for n in json.loads((tmp_path / "d.json").read_text())["data"]["notes"]
    )
    assert "[ONE_OUTCOME]" in page.read_text()
