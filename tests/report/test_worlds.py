"""Pages and pictures of described worlds, on made-up numbers: nothing was drawn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deconrec.experiments.results import (
    Claimed,
    Compared,
    Contrast,
    Curve,
    Published,
    Reproduction,
    Run,
    Summary,
    Verdict,
)
from deconrec.report.html import render
from deconrec.report.paper import markdown, sections
from deconrec.report.world_pictures import drawable, write_world_pictures
from deconrec.report.worlds import claim_rows, paper_rows

ONE, OTHER, REAL = "sim-deconf:gamma_b=0+weight_scale=0.2", "ml-causal", "movielens-1m"
LEVELS = ({"gamma_theta": 0.1}, {"gamma_theta": 0.5}, {"gamma_theta": 0.9})
METRICS = [
    *(f"{which}/{r}" for which in ("observed", "population") for r in range(1, 6)),
    "users", "shift", "kl", "kl/random", "popularity/gini",
]  # fmt: skip


def value(metric: str, at: int) -> float:
    if metric == "users":
        return 4000.0
    head, _, rest = metric.partition("/")
    if rest.isdigit():
        return 0.2 + (0.01 * at * (int(rest) - 3) if head == "observed" else 0.0)
    return 0.1 + 0.2 * at


def described(
    picture: Sequence[str] = ("ratings", "kl", "popularity"),
    levels: Sequence[dict[str, Any]] = LEVELS,
    metrics: Sequence[str] = METRICS,
) -> Reproduction:
    """Two worlds at each level, and a real data set without a truth."""
    runs, summary, curves = [], [], []
    for world in (ONE, OTHER, REAL):
        real = world == REAL
        for at, setting in enumerate([{}] if real else levels):
            unknown = {m for m in metrics if real and m not in ("users", "popularity/gini")}
            found = {m: None if m in unknown else value(m, at) for m in metrics}
            runs += [
                Run(
                    method=world,
                    seed=s,
                    setting=setting,
                    metrics=found,
                    seconds=1,
                    unbiased_rows=0,
                    params={},
                )
                for s in range(1 if real else 3)
            ]
            for metric, mean in found.items():
                half = None if mean is None or real else 0.0 if metric == "users" else 0.01
                ends = {
                    n: None if half is None else mean + sign * half for n, sign in (("low", -1), ("high", 1))
                }
                summary.append(Summary(method=world, metric=metric, setting=setting, mean=mean, n=3, **ends))
            mean = [round(0.5 * 0.9**k, 5) if k < 90 or real else 0.0 for k in range(101)]
            ends = [None] * 101 if real else mean
            curves.append(
                Curve(method=world, name="popularity", setting=setting, mean=mean, low=ends, high=ends, n=3)
            )
    cells = [
        Compared(method=ONE, metric="users", setting=levels[0], paper=4000, mean=4000, low=4000, high=4000,
                 tolerance=0, verdict="reproduced"),
        Compared(method="vg-causal", metric="users", setting=levels[0], paper=7253, mean=None, low=None, high=None,
                 tolerance=0, verdict="missing"),
    ]  # fmt: skip
    test = {"difference": 0.2, "low": 0.19, "high": 0.21, "p": 0.001, "p_holm": 0.002, "test": "paired t",
            "unit": "world"}  # fmt: skip
    contrasts = [
        Contrast(a=ONE, b=ONE, setting_a=levels[-1], setting_b=levels[0], **test),
        Contrast(a=ONE, b=ONE, setting_a=levels[0], setting_b=levels[0], metric_b="kl/random", **test),
        Contrast(a=ONE, b=OTHER, setting_a=levels[0], setting_b=levels[0], **test),
    ]
    claims = [Claimed(says="It grows <much>", metric="kl", verdict="shown", contrasts=contrasts),
              Claimed(says="It stays", metric="kl", verdict="missing", contrasts=[])]  # fmt: skip
    records = {
        world: {
            "users": 4000,
            "items": 2000,
            "rows": 80_000,
            "simulated": world != REAL,
            "fingerprint": "f" * 64,
        }
        for world in (ONE, OTHER, REAL)
    }
    return Reproduction(
        dataset="sim-deconf, ml-causal, movielens-1m",
        protocol={
            "name": "worlds", "seeds": [0, 1, 2], "world": "a fresh world per seed", "tolerance": {"users": 0},
            "command": "deconrec reproduce small", "notes": ["ml-causal: a note."],
            "definitions": {"kl": "How far."}, "data": records,
        },
        runs=runs, summary=summary, tests=[], environment={"python": "3.11"}, name="small", title="Small worlds",
        says="What the paper says.", paper=[Published(method=ONE, metric="users", value=4000)],
        verdict=Verdict(says=["Of 2 claims: 1 shown, 1 missing.", "The claim 'It grows <much>' is shown."],
                        counts={"reproduced": 1}, cells=cells, claims=claims),
        missing=["vg-causal: it cannot be drawn: no files."], picture=list(picture), kind="worlds", curves=curves,
    )  # fmt: skip


def test_sections_are_of_worlds() -> None:
    found = sections(described())
    assert list(found) == [
        "What the paper says, and what came of it",
        "Sizes and exposures",
        "Ratings before and after exposure",
        "Each user's ratings before and after exposure",
        "How popular items are",
        "Ours, the paper's, and the verdict",
        "Claims of the paper, tested",
        "Not done",
    ]
    rows = found["Ratings before and after exposure"]
    assert [(r["world"], r["setting"]) for r in rows] == [
        (world, f"gamma_theta={level}") for world in (ONE, OTHER) for level in (0.1, 0.5, 0.9)
    ]  # the real data have no known ratings
    assert rows[2]["exposed pairs, % rated 1 to 5"] == "16.0 · 18.0 · 20.0 · 22.0 · 24.0"
    assert rows[2]["all pairs, % rated 1 to 5"] == "20.0 · 20.0 · 20.0 · 20.0 · 20.0"
    assert rows[2]["shift"] == "0.500 [0.490, 0.510]"
    assert found["Sizes and exposures"][0]["users"] == "4,000"  # no interval where nothing varies
    last = found["How popular items are"][-1]
    assert last == {"world": REAL, "setting": "–", "popularity/gini": "0.100"}
    assert "setting" not in sections(described(levels=({},)))["Sizes and exposures"][0]


def test_claims_say_what_is_subtracted_from_what() -> None:
    claim, untested = described().verdict.claims
    rows = claim_rows(claim)
    assert [r["contrast"] for r in rows] == [
        "kl, gamma_theta 0.9 − 0.1",
        "kl − kl/random, gamma_theta=0.1",
        "kl, gamma_theta=0.1",
    ]
    assert [r["world"] for r in rows] == [ONE, "", f"{ONE} − {OTHER}"]
    assert [r["claim"] for r in rows] == ["It grows <much>", "", ""]
    assert rows[0]["95 % interval"] == "[+0.190, +0.210]"
    (empty,) = claim_rows(untested)
    assert (empty["verdict"], empty["contrast"]) == ("missing", "–")


def test_the_papers_figures_stand_beside_ours() -> None:
    ours, missing = paper_rows(described())
    assert ours == {"world": ONE, "quantity": "users", "ours (95 % interval)": "4,000",
                    "paper": "4,000", "tolerance": "0", "verdict": "reproduced"}  # fmt: skip
    assert (missing["ours (95 % interval)"], missing["verdict"]) == ("–", "missing")


def test_pages_speak_of_no_methods() -> None:
    result = described()
    page = markdown(result, ["small-kl.png"])
    lines = page.splitlines()
    assert lines[:3] == ["# Small worlds", "", "`deconrec reproduce small`"]
    assert (
        f"- `{REAL}`: 4,000 users x 2,000 items, 80,000 exposed pairs, real (fingerprint ffffffffffff)"
        in lines
    )
    assert "| kl | How far. |" in lines
    assert "- ml-causal: a note." in lines
    assert "## Notes" not in markdown(result.model_copy(update={"protocol": result.protocol | {"notes": []}}))
    html = render(result, extra=sections(result))
    words = re.sub(r"<(style|svg).*?</\1>|<[^>]+>", " ", html, flags=re.DOTALL)
    for text in (page, words):
        assert not re.search(r"method|unbiased|hold-out|leaderboard|letter|fit\b", text, re.IGNORECASE)
    assert "It grows &lt;much&gt;" in html
    assert ">kl (nats)</th>" in html
    assert html.count("<svg") == 3
    assert "var(--series-0)" in html
    assert "#0102" not in html
    assert "#0103" not in html
    assert html.index("Of 2 claims") < html.index("What was drawn, and how") < html.index("Not done</h2>")
    assert render(result, extra=sections(result)) == html


@pytest.mark.parametrize("levels", [LEVELS, ({},), ({"a": "x", "b": 1}, {"a": "y", "b": 2})])
def test_pictures(tmp_path: Path, levels: Sequence[dict[str, Any]]) -> None:
    result = described(levels=levels)
    paths = write_world_pictures(result, tmp_path, "small")
    assert [p.name for p in paths] == ["small-ratings.png", "small-kl.png", "small-popularity.png"]
    for path in paths:
        assert path.read_bytes()[:4] == b"\x89PNG"
        assert "<svg" in path.with_suffix(".svg").read_text()
    svg = (tmp_path / "small-ratings.svg").read_text()
    assert svg.count('id="axes_') == 2 * len(levels)  # the real data have no known ratings
    assert f"<!-- {ONE} -->" in svg
    again = {p: p.read_bytes() for p in tmp_path.iterdir()}
    write_world_pictures(result, tmp_path, "small")
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == again


def test_only_what_is_there_is_drawn(tmp_path: Path) -> None:
    result = described()
    nothing: dict[str, list] = {"runs": [], "summary": [], "curves": []}
    bare = result.model_copy(update=nothing)
    assert drawable(bare) == []
    assert write_world_pictures(bare, tmp_path, "bare") == []
    assert "What was drawn" in render(bare, extra=sections(bare))
    assert drawable(described(metrics=("users",))) == ["popularity"]
