"""The figures of a page as files that stand alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from deconrec.errors import FileError
from deconrec.report import plots
from deconrec.report.html import render, write_report
from deconrec.report.slides import palette, slides


def sweep(key: str = "s") -> str:
    lines = {"mf": [(0.5, 0.4, 0.6), (0.6, 0.5, 0.7)], "ips": [(0.4, 0.3, 0.5), (0.7, 0.6, 0.8)]}
    return plots.sweep(key, "auc of 2 methods: mf 0.5", [0, 1], lines, "confounding", "higher is better")


def test_a_report_and_its_figures(fake_result, tmp_path: Path) -> None:
    result = fake_result()
    path = write_report(result, tmp_path / "page.html", pictures=tmp_path / "pictures")
    assert path.read_text() == render(result)  # the page is what it is without them
    files = sorted(p.name for p in (tmp_path / "pictures").iterdir())
    assert {Path(f).suffix for f in files} == {".png", ".svg"}
    assert [f for f in files if f.startswith("page-01-")] == [
        "page-01-auc-of-6-methods-with-95.png",
        "page-01-auc-of-6-methods-with-95.svg",
    ]
    assert len(files) == 2 * path.read_text().count('role="img"')


def test_colours_are_those_of_the_page_in_the_light(tmp_path: Path) -> None:
    with slides(tmp_path, "x"):
        drawn = sweep()
    (svg,) = tmp_path.glob("*.svg")
    text = svg.read_text()
    assert palette()["series-0"] in text
    assert palette()["series-1"] in text
    assert palette()["muted"] in text
    for stand_in in plots._VARIABLES:
        assert stand_in not in text
    assert "var(--series-0)" in drawn


def test_a_copy_has_its_title_and_key(tmp_path: Path) -> None:
    with slides(tmp_path, "x"):
        sweep()
    (svg,) = tmp_path.glob("x-01-auc-of-2-methods.svg")
    text = svg.read_text()
    assert ">auc of 2 methods<" in text
    assert ">mf<" in text
    assert ">ips<" in text
    assert ">ips<" not in sweep()  # the page has a key of its own


def test_same_bytes_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with slides(tmp_path / name, "x"):
            sweep()
    for first in (tmp_path / "a").iterdir():
        assert first.read_bytes() == (tmp_path / "b" / first.name).read_bytes()


def test_nothing_is_written_where_no_folder_is_named_or_drawing_fails(tmp_path: Path) -> None:
    with slides(None, "x"):
        sweep()
    with pytest.raises(ZeroDivisionError), slides(tmp_path / "here", "x"):
        print(sweep(), 1 / 0)
    sweep()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"), slides(tmp_path / "file" / "below", "x"):
        sweep()
