"""Tables "ours | paper | verdict", as rows and as Markdown, and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from deconrec.evaluation.statistics import holm
from deconrec.experiments.results import Claimed, Compared, Contrast, Published, Reproduction, Result, Verdict
from deconrec.report.paper import floor_rows, markdown, metric_rows, sections
from deconrec.report.pictures import folded, write_pictures
from deconrec.report.reading import Reading, p_value, search_rows


def reproduction(result: Result, picture: tuple[str, ...] = ("auc",)) -> Reproduction:
    """The result with made-up figures of a paper."""
    cells, paper = [], []
    for at, row in enumerate(r for r in result.summary if r.metric in ("auc", "auc/leaked")):
        word = ("reproduced", "below", "above")[at % 3]
        cells.append(
            Compared(method=row.method, metric=row.metric, setting=row.setting, paper=0.714, mean=row.mean,
                     low=row.low, high=row.high, tolerance=0.01, verdict=word)
        )  # fmt: skip
        paper.append(Published(method=row.method, metric=row.metric, value=0.714))
    contrast = Contrast(a="mf", b="ips", setting_b={"dial": 2}, difference=0.01234, low=-0.01, high=0.03, p=0.02,
                        p_holm=0.04, test="paired t", unit="seed")  # fmt: skip
    protocol = result.protocol | {
        "command": "deconrec reproduce small",
        "searched": [{"method": "mf", "setting": {"dial": 1}, "params": {"lr": 0.01}, "score": 0.71, "default": 0.7,
                      "trials": 30, "splits": [0], "seconds": 1.0}],
    }  # fmt: skip
    protocol |= {
        "seeds": [0, 1],
        "world": "one data set",
        "select": "biased",
        "trials": 30,
        "notes": ["A note."],
    }
    protocol["data"] = {
        "name": "d",
        "users": 9,
        "items": 8,
        "rows": 7,
        "unbiased_rows": 6,
        "fingerprint": "f" * 64,
    }
    return Reproduction(
        **(result.model_dump() | {"protocol": protocol}),
        name="small",
        title="A small table",
        says="What it is.",
        paper=paper,
        verdict=Verdict(
            says=["Of 3 figures: 1 reproduced."],
            counts={"reproduced": 1},
            cells=cells,
            claims=[Claimed(says="a | b", metric="auc", verdict="not shown", contrasts=[contrast]),
                    Claimed(says="untested", metric="auc", verdict="missing", contrasts=[])],
        ),
        missing=["ips: 1 of 2 seeds not run (1)"],
        picture=list(picture),
    )  # fmt: skip


@pytest.fixture
def one(fake_result) -> Reproduction:
    return reproduction(fake_result(metrics=("auc",), twins=("leaked",), seeds=3))


def test_rows_stand_side_by_side(one: Reproduction) -> None:
    rows = metric_rows(one, Reading(one), "auc")
    assert len(rows) == len(one.methods)
    first = rows[0]
    cell = next(c for c in one.verdict.cells if (c.method, c.metric) == (first["method"], "auc"))
    assert first["paper"] == "0.714"
    assert first["verdict"] == cell.verdict
    assert f"{cell.mean:.3f}" in first["ours (95 % interval)"]
    assert {"ours, leaked pairs kept", "verdict, leaked", "unbiased rows", "s / fit"} <= set(first)


def test_markdown_has_every_section(one: Reproduction) -> None:
    text = markdown(one, ["small-auc.png"])
    lines = text.splitlines()
    assert lines[0] == "# A small table"
    assert "`deconrec reproduce small`" in lines
    assert "![small-auc](small-auc.png)" in lines
    for heading in sections(one):
        assert f"## {heading}" in lines
    assert "| a \\| b | auc | not shown | mf − ips (dial=2) | +0.012 | [−0.010, +0.030] | 0.04 |" in text
    assert "| untested | auc | missing | – | – | – | – |" in lines
    assert "- ips: 1 of 2 seeds not run (1)" in lines
    assert "- A note." in lines
    tables = [line for line in lines if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_searches_are_told(one: Reproduction) -> None:
    (row,) = search_rows(one)
    assert row == {"method": "mf", "setting": "dial=1", "parameters": "lr=0.01", "hold-out score": "0.7100",
                   "with its own": "0.7000", "trials": "30"}  # fmt: skip


@pytest.mark.parametrize("settings", [({},), ({"dial": 0.01}, {"dial": 1.0}), ({"s": "jl"}, {"s": "dl"})])
def test_pictures(fake_result, settings, tmp_path: Path) -> None:
    result = reproduction(fake_result(metrics=("auc", "mse"), seeds=3, settings=settings), ("auc", "mse"))
    paths = write_pictures(result, tmp_path, "small")
    assert [p.name for p in paths] == ["small-auc.png", "small-mse.png"]
    for path in paths:
        assert path.read_bytes()[:4] == b"\x89PNG"
        svg = path.with_suffix(".svg").read_text()
        assert "<svg" in svg
    again = {p: p.read_bytes() for p in tmp_path.iterdir()}
    write_pictures(result, tmp_path, "small")
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == again


def test_a_sweep_of_many_methods_has_a_panel_each(fake_result, tmp_path: Path) -> None:
    methods = ("mf", "mf-combined", *(f"method-{n}" for n in range(10)))
    result = fake_result(methods=methods, metrics=("auc",), seeds=3, settings=({"dial": 0}, {"dial": 1}))
    (path,) = write_pictures(reproduction(result, ("auc",)), tmp_path, "many")
    svg = path.with_suffix(".svg").read_text()
    assert svg.count('id="axes_') == 15  # 3 rows of 5, the last three empty
    assert all(svg.count(f"<!-- {method} -->") == 1 for method in methods)
    assert "grey: mf (dashed) and mf-combined (dotted)" in svg


def test_a_method_far_from_all_others_does_not_flatten_them(fake_result, tmp_path: Path) -> None:
    def drawn(gains: Sequence[float], settings: Sequence[dict]) -> str:
        result = fake_result(metrics=("auc",), seeds=4, settings=settings, gains=gains)
        (path,) = write_pictures(reproduction(result, ("auc",)), tmp_path, "far")
        return path.with_suffix(".svg").read_text()

    for settings in (({},), ({"dial": 0}, {"dial": 1})):
        assert "beyond the frame: mf-uniform (0" in drawn((0, 0.5, -30, 0.2, 0.7, 0.9), settings)
        assert "beyond" not in drawn((0, 0.5, -1, 0.2, 0.7, 0.9), settings)


def test_every_method_is_put_against_the_floors(fake_result) -> None:
    result = reproduction(fake_result(metrics=("auc",), seeds=6, settings=({"dial": 0}, {"dial": 1})))
    reading = Reading(result)
    rows = floor_rows(reading, "mf-combined")
    assert len(rows) == 2 * (len(result.methods) - 1)
    tests = [reading.test(r["method"], "mf-combined", "auc", {"dial": int(r["setting"][-1])}) for r in rows]
    expected = holm([t.p for t in tests if t is not None])
    assert [r["p (Holm)"] for r in rows] == [p_value(p) for p in expected]
    value = next(name for name in rows[0] if name.startswith("auc minus that of mf-combined"))
    for row, test in zip(rows, tests, strict=True):
        assert test is not None
        assert row[value].startswith(f"{test.difference:+.3f}"[:4].replace("-", "−"))
    assert floor_rows(reading, "absent") == []
    assert "Every method against mf" in sections(result)


@pytest.mark.parametrize(
    "method", ["mf", "res-dr:agreement=loss", "deep-deconf:exposure.lr=0.001+exposure.epochs=150+late=true"]
)
def test_long_names_of_methods_are_folded_whole(method: str) -> None:
    lines = folded(method).split("\n")
    assert "".join(line.strip() for line in lines) == method
    assert all(len(line) <= 36 for line in lines)
    assert len(lines) == 1 or len(method) > 34
