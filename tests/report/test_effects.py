"""The page about effects, from a record alone."""

from __future__ import annotations

import copy
from html.parser import HTMLParser
from typing import Any

import pytest

from deconrec.report.effects import render_effects, write_effects

VERDICT = {"value": 0.5, "uncertainty": 0.01, "threshold": 0.1, "says": "It says.", "cannot_see": "much."}
POINT = {"p": 0.5, "log_likelihood": -0.5, "behind_error": 0.1, "linear_share": 0.9, "own": 0.4, "moved": 0.2}
RECORD: dict[str, Any] = {
    "kind": "effects",
    "unit": "outcome",
    "refused": False,
    "settings": {"outcome": "linear", "dim": 2, "dims": [1, 2], "exposure": None},
    "verdicts": [
        {"code": "PREDICTIVE_CHECK", "status": "holds", **VERDICT},
        {"code": "SINGLE_CAUSE", "status": "assumed", **VERDICT | {"value": None, "threshold": None}},
    ],
    "sweep": [
        {"dim": 1, "behind": 2.0, "chosen": False, **POINT},
        {"dim": 2, "behind": 0.0, "chosen": True, **POINT},
    ],
    "summary": {
        "own_pairs": 1,
        "own_naive": 0.9,
        "own_adjusted": 0.4,
        "other_pairs": 1,
        "other_naive": 0.1,
        "other_adjusted": 0.0,
    },
    "effects": [
        {
            "cause_id": "a<b>",
            "item_id": "a<b>",
            "naive": 0.9,
            "adjusted": 0.4,
            "low": 0.3,
            "high": 0.5,
            "own": True,
        },
        {
            "cause_id": "x",
            "item_id": "y",
            "naive": 0.1,
            "adjusted": 0.0,
            "low": None,
            "high": None,
            "own": False,
        },
    ],
    "seconds": 1.0,
}


class Page(HTMLParser):
    """Tags that are open, and ids."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.ids += [v for k, v in attrs if k == "id" and v]
        assert tag != "script"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [v for k, v in attrs if k == "id" and v]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_escaped(tmp_path: Any) -> None:
    text = write_effects(RECORD, tmp_path / "page.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert "a&lt;b&gt;" in text
    assert "<b>" not in text.replace("<b>SINGLE_CAUSE</b>", "")
    assert "http" not in text.replace("http-equiv", "")
    assert text.count("<svg") == 4  # own, others, effects and likelihood over the dimension
    assert "by +0.400 on average (naive +0.900)" in text


def test_a_refused_record_shows_no_effect() -> None:
    record = copy.deepcopy(RECORD)
    record["refused"] = True
    record["verdicts"][0]["status"] = "refuses"
    record["summary"] |= {"own_adjusted": None, "other_adjusted": None}
    record["sweep"] = []
    for row in record["effects"]:
        row |= {"adjusted": None, "low": None, "high": None}
    text = render_effects(record)
    assert "No effects are given: PREDICTIVE_CHECK" in text
    assert "<svg" not in text
    assert "+0.900" in text  # the naive number, called an association
    assert "associations" in text


@pytest.mark.parametrize("n", [3, 400])
def test_long_tables_are_cut(n: int) -> None:
    record = copy.deepcopy(RECORD)
    record["effects"] = [record["effects"][1]] * n
    text = render_effects(record)
    assert ("further rows stand in the JSON" in text) == (n > 200)
