"""`reproduce` of experiments that describe worlds: what is refused, drawn, kept, tested and said."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deconrec.catalogue import open_data
from deconrec.cli import main
from deconrec.errors import FileError, ParameterError
from deconrec.evaluation import statistics
from deconrec.experiments import worlds as module
from deconrec.experiments.quantities import QUANTITIES, quantities
from deconrec.experiments.reproduce import reproduce
from deconrec.experiments.results import Reproduction, Result
from deconrec.experiments.spec import load_spec
from deconrec.experiments.world_spec import WorldSpec
from deconrec.experiments.worlds import Measured

TINY = "n_users=60+n_items=40+n_factors=8+n_features=2+exposure_rate=0.1"
ONE, OTHER, REAL = (
    f"sim-deconf:{TINY}",
    f"sim-deconf:{TINY}+gamma_b=2",
    "amazon-video-games:pairs=true+core=1",
)
ABSENT = "vg-causal:n_users=50"
SPEC = f"""# deconrec reproduce small --json out.json
kind = "worlds"
title = "Small worlds"
says = "What a paper says."
worlds = ["{ONE}", "{OTHER}"]
seeds = 4
metrics = ["users", "exposures/mean", "shift", "observed/5", "population/5", "kl", "kl/random"]
picture = ["kl", "popularity"]

[[sweep]]
gamma_theta = [0.1, 0.9, 0.5]

[tolerance]
users = 0
"exposures/mean" = 0.5

[paper]
where = "Table 0"

[[paper.tables]]
metrics = ["users", "exposures/mean"]
[paper.tables.values]
"{ONE}" = [60, 9]

[[claims]]
says = "the shift rises"
metric = "shift"
a = "{ONE}"
rising = "gamma_theta"

[[claims]]
says = "more than by chance"
metric = "kl"
a = "{ONE}"
b_metric = "kl/random"

[[claims]]
says = "worlds differ"
metric = "shift"
a = "{OTHER}"
b = ["{ONE}"]
at = {{ gamma_theta = 0.1 }}

[quick]
seeds = 1
worlds = ["{ONE}"]
set = {{ weight_scale = 0.5 }}
"""


@pytest.fixture
def spec_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes the experiment with other text in place of what it has."""

    def write(*replace: tuple[str, str]) -> Path:
        text = SPEC
        for old, new in replace:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "small.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def amazon(tmp_path: Path) -> Path:
    """A data root with a few pairs of the Amazon video games."""
    rng = np.random.default_rng(0)
    pairs = {(u, int(i)) for u in range(30) for i in rng.zipf(1.5, 6) if i < 20}
    (tmp_path / "root" / "amazon_vg").mkdir(parents=True)
    lines = "".join(f"u{u},i{i},5.0,1\n" for u, i in sorted(pairs))
    (tmp_path / "root" / "amazon_vg" / "ratings_Video_Games.csv").write_text(lines)
    return tmp_path / "root"


def lines(folder: Path, name: str = "small") -> list[dict]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def count(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[tuple]:
    """Records every world that is drawn and measured; raises as a kill would after so many."""
    made: list[tuple] = []
    real = module.measure

    def watched(name: str, root: str | None, seed: int, with_curves: bool) -> Measured:
        if stop_after is not None and len(made) >= stop_after:
            raise KeyboardInterrupt
        made.append((name, seed))
        return real(name, root, seed, with_curves)

    monkeypatch.setattr(module, "measure", watched)
    return made


# ---------------------------------------------------------------------- the file
REFUSED = [
    (('kind = "worlds"', 'kind = "methods"'), "kind"),
    ((f'"{OTHER}"]', f'"{ONE}"]'), "stands once"),
    ((f'"{OTHER}"]', '"sim-deconff"]'), "did you mean 'sim-deconf'"),
    (("+gamma_b=2", "+gamma_bb=2"), "gamma_bb"),
    (("+gamma_b=2", "+seed=2"), "sets its seed"),
    (('"kl/random"]', '"kl/randum"]'), "quantity of a world 'kl/randum'"),
    (("gamma_theta = [0.1, 0.9, 0.5]", "gamma = [1]"), "none of the worlds"),
    (("gamma_theta = [0.1, 0.9, 0.5]", 'gamma_theta = ["low", "high"]'), "dial of numbers"),
    (('rising = "gamma_theta"', 'rising = "gamma_b"'), "none of the dials"),
    (('rising = "gamma_theta"', ""), "needs one of b, b_at"),
    (('rising = "gamma_theta"', 'b_at = [{ gamma_theta = 0.1 }]\nrising = "gamma_theta"'), "both b_at and rising"),
    (('b_metric = "kl/random"', 'b_metric = "popularity/gini"'), "'popularity/gini' among 'metrics'"),
    (('\na = "' + OTHER, '\na = "coat'), "none of the worlds"),
    (('"exposures/mean" = 0.5', ""), "declared before the runs"),
    (("= [60, 9]", "= [60]"), "needs 2 values"),
    (('picture = ["kl"', 'picture = ["ratings"'), "needs the quantity 'observed/1'"),
    ((f'worlds = ["{ONE}"]\nset', 'worlds = ["coat"]\nset'), "'quick' names 'coat'"),
    (("{ weight_scale", "{ weight_scales"), "weight_scales"),
    (('says = "What a paper says."', ""), "says"),
]  # fmt: skip


@pytest.mark.parametrize(("replace", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_refusals(spec_file, replace: tuple[str, str], says: str) -> None:
    with pytest.raises(FileError, match=says):
        load_spec(spec_file(replace))


def test_options_of_methods_are_refused(spec_file, tmp_path: Path) -> None:
    for options in ({"trials": 3}, {"data": "coat"}):
        with pytest.raises(ParameterError, match="fits no method"):
            reproduce(spec_file(), results=tmp_path, **options)


def test_quick_is_smaller(spec_file, tmp_path: Path) -> None:
    spec = load_spec(spec_file())[1]
    assert isinstance(spec, WorldSpec)
    assert (spec.draws, spec.quicker().draws) == (2 * 3 * 4, 3)
    result = reproduce(spec_file(), quick=True, results=tmp_path)
    assert {(r.params["n_users"], r.params["weight_scale"]) for r in result.runs} == {(60, 0.5)}
    assert [c.says for c in result.verdict.claims] == ["the shift rises", "more than by chance"]
    assert "nothing can be concluded" in result.verdict.says[0]
    assert (tmp_path / "small.quick.jsonl").is_file()


# ---------------------------------------------------------------------- the record
def test_end_to_end(spec_file, tmp_path: Path) -> None:
    result = reproduce(spec_file(), results=tmp_path)
    assert isinstance(result, Reproduction)
    record = json.loads(result.to_json())
    assert {"dataset", "protocol", "runs", "summary", "tests", "environment", "paper", "verdict"} <= set(
        record
    )
    assert "NaN" not in result.to_json()
    assert not result.missing
    assert len(result.runs) == 2 * 3 * 4
    # A run is what the world by that name holds.
    run = next(r for r in result.runs if (r.method, r.setting, r.seed) == (OTHER, {"gamma_theta": 0.9}, 2))
    expected = quantities(*open_data(f"{OTHER}+gamma_theta=0.9").draw(2), 2)
    assert run.metrics == {m: expected[m] for m in result.metrics}
    assert run.params["gamma_theta"] == 0.9
    assert run.unbiased_rows == 0
    mean = result.mean(OTHER, "kl", {"gamma_theta": 0.9})
    own = [r.metrics["kl"] for r in result.runs if (r.method, r.setting) == (OTHER, {"gamma_theta": 0.9})]
    assert mean == pytest.approx(np.mean(own))
    row = next(s for s in result.summary if (s.method, s.metric, s.mean) == (OTHER, "kl", mean))
    interval = statistics.t_interval(own)
    assert (row.low, row.high, row.n) == (interval.low, interval.high, 4)
    assert {"method": ONE, "metric": "users", "setting": {}, "value": 60} in record["paper"]
    words = {(c.metric, c.setting["gamma_theta"]): c.verdict for c in result.verdict.cells}
    assert {words["users", level] for level in (0.1, 0.5, 0.9)} == {"reproduced"}
    assert {words["exposures/mean", level] for level in (0.1, 0.5, 0.9)} == {"below"}  # 4 a user
    assert result.protocol["definitions"]["kl"] == QUANTITIES["kl"]
    (curve,) = [c for c in result.curves if (c.method, c.setting) == (ONE, {"gamma_theta": 0.1})]
    assert (curve.name, len(curve.mean), curve.n) == ("popularity", 101, 4)
    assert curve.mean == sorted(curve.mean, reverse=True)
    read = tmp_path / "out.json"
    result.write(read)
    assert Result.read(read) == result


def test_settings_of_a_world_are_compared_seed_by_seed(spec_file, tmp_path: Path) -> None:
    result = reproduce(spec_file(), results=tmp_path)

    def of(world: str, level: float, metric: str) -> list[float]:
        setting = {"gamma_theta": level}
        own = [r for r in result.runs if (r.method, r.setting) == (world, setting)]
        return [r.metrics[metric] for r in sorted(own, key=lambda r: r.seed)]

    assert len(result.tests) == 2 * 3 * len(result.metrics)
    for test in result.tests:
        assert test.a == test.b
        assert test.setting_b is not None
        levels = (s["gamma_theta"] for s in (test.setting, test.setting_b))
        paired = statistics.paired_t(*(of(test.a, level, test.metric) for level in levels), unit="world")
        assert (test.difference, test.p, test.n) == (paired.difference, paired.p, 4)
        assert test.p_holm >= test.p
    rises, chance, differ = result.verdict.claims
    # Values of the dial count by size, whatever their order in the sweep.
    steps = [(c.setting_a["gamma_theta"], c.setting_b["gamma_theta"]) for c in rises.contrasts]
    assert sorted(steps) == [(0.5, 0.1), (0.9, 0.5)]
    for c in rises.contrasts:
        gap = np.subtract(*(of(ONE, s["gamma_theta"], "shift") for s in (c.setting_a, c.setting_b)))
        assert c.difference == pytest.approx(gap.mean())
    assert {c.metric_b for c in chance.contrasts} == {"kl/random"}
    assert len(chance.contrasts) == 3
    first = next(c for c in chance.contrasts if c.setting_a == {"gamma_theta": 0.9})
    gap = np.subtract(of(ONE, 0.9, "kl"), of(ONE, 0.9, "kl/random"))
    assert first.difference == pytest.approx(gap.mean())
    (contrast,) = differ.contrasts
    assert (contrast.a, contrast.b, contrast.setting_a) == (OTHER, ONE, {"gamma_theta": 0.1})
    every = [c for claim in result.verdict.claims for c in claim.contrasts]
    assert [c.p_holm for c in every] == pytest.approx(list(statistics.holm([c.p for c in every])))
    told = Counter(c.verdict for c in result.verdict.claims)
    each = ", ".join(f"{n} {verdict}" for verdict, n in told.items())
    assert result.verdict.says[0] == f"Of 3 claims on Table 0: {each}."


def test_nothing_is_drawn_twice(spec_file, tmp_path: Path, monkeypatch) -> None:
    made = count(monkeypatch, stop_after=7)
    with pytest.raises(KeyboardInterrupt):
        reproduce(spec_file(), results=tmp_path)
    assert len(lines(tmp_path)) == 7
    monkeypatch.undo()
    none = count(monkeypatch)
    part = reproduce(spec_file(), results=tmp_path, run=False)
    assert none == []
    assert f"{OTHER} at gamma_theta=0.5: 3 of 4 seeds not drawn (1, 2, 3)" in part.missing
    assert part.verdict.claims[0].verdict == "missing"
    whole = reproduce(spec_file(), results=tmp_path)
    assert len(made) + len(none) == 24
    assert not whole.missing
    assert reproduce(spec_file(), results=tmp_path).to_json() == whole.to_json()
    assert len(made) + len(none) == 24
    more = reproduce(spec_file(), seeds=2, seed=3, results=tmp_path)
    assert {r.seed for r in more.runs} == {3, 4}
    assert len(made) + len(none) == 24 + 6
    none.clear()
    again = reproduce(spec_file(), results=tmp_path, force=True)
    assert len(none) == 24
    assert [r.metrics for r in again.runs] == [r.metrics for r in whole.runs]
    assert len(lines(tmp_path)) == 24 + 6


def test_a_curve_that_was_not_kept_is_measured(spec_file, tmp_path: Path, monkeypatch) -> None:
    reproduce(spec_file(('"kl", "popularity"]', '"kl"]')), results=tmp_path)
    assert all(line["curves"] == {} for line in lines(tmp_path))
    made = count(monkeypatch)
    assert reproduce(spec_file(), results=tmp_path).curves
    assert len(made) == 24
    # All quantities are kept, so that others cost nothing.
    assert set(lines(tmp_path)[0]["metrics"]) == set(QUANTITIES)
    reproduce(spec_file(('"kl/random"]', '"kl/random", "popularity/gini"]')), results=tmp_path)
    assert len(made) == 24


def test_workers_give_the_same(spec_file, tmp_path: Path) -> None:
    one = reproduce(spec_file(), seeds=1, quick=True, results=tmp_path / "one")
    two = reproduce(spec_file(), seeds=1, quick=True, results=tmp_path / "two", workers=2)
    assert [r.metrics for r in one.runs] == [r.metrics for r in two.runs]


def test_a_world_without_files_stops_no_other(spec_file, tmp_path: Path) -> None:
    absent = (
        (f'"{OTHER}"]', f'"{ABSENT}"]'),
        (f'a = "{OTHER}"', f'a = "{ABSENT}"'),
    )
    result = reproduce(spec_file(*absent), root=tmp_path, results=tmp_path)
    (missing,) = result.missing
    assert missing.startswith(f"{ABSENT}: it cannot be drawn: the data set 'amazon-video-games' needs")
    assert "looked in" not in missing  # the words travel with the results; this machine's folders do not
    assert {r.method for r in result.runs} == {ONE}
    assert result.verdict.claims[2].verdict == "missing"
    assert any(ABSENT in s and "cannot be drawn" in s for s in result.verdict.says)
    assert {c.verdict for c in result.verdict.cells if c.metric == "users"} == {"reproduced"}
    json.loads(result.to_json())


def test_a_setting_that_cannot_be_drawn_is_kept_as_such(spec_file, tmp_path: Path, monkeypatch) -> None:
    result = reproduce(spec_file(("0.9, 0.5]", "0.9, 1.5]")), results=tmp_path)
    failed = [
        m for m in result.missing if m.startswith(f"{ONE} at gamma_theta=1.5: seed 0 failed: 'gamma_theta'")
    ]
    assert len(failed) == 1
    assert {r.setting["gamma_theta"] for r in result.runs} == {0.1, 0.9}
    assert result.verdict.claims[0].verdict == "missing"
    made = count(monkeypatch)
    reproduce(spec_file(("0.9, 0.5]", "0.9, 1.5]")), results=tmp_path)
    assert made == []


@pytest.mark.filterwarnings("ignore::deconrec.errors.DeconrecWarning")
def test_real_data_stand_beside(spec_file, tmp_path: Path, amazon: Path) -> None:
    real = (
        (f'"{OTHER}"]', f'"{REAL}"]'),
        ('"kl", "kl/random"]', '"kl", "kl/random", "popularity/gini"]'),
        (f'metric = "shift"\na = "{OTHER}"', f'metric = "popularity/gini"\na = "{REAL}"'),
    )
    spec = load_spec(spec_file(*real))[1]
    assert spec.draws == 3 * 4 + 1
    result = reproduce(spec_file(*real), root=amazon, results=tmp_path)
    assert not result.missing
    (run,) = [r for r in result.runs if r.method == REAL]  # no dial of the sweep, and one seed
    assert run.setting == {}
    assert run.metrics["shift"] is run.metrics["population/5"] is run.metrics["observed/5"] is None
    row = next(s for s in result.summary if (s.method, s.metric) == (REAL, "popularity/gini"))
    assert (row.low, row.high, row.n) == (None, None, 1)
    (contrast,) = result.verdict.claims[2].contrasts
    simulated = result.mean(ONE, "popularity/gini", {"gamma_theta": 0.1})
    assert contrast.difference == pytest.approx(run.metrics["popularity/gini"] - simulated)
    assert contrast.p is not None
    assert not any(t.a == REAL for t in result.tests)
    other = reproduce(spec_file(*real), seed=7, root=amazon, results=tmp_path)
    assert [r.seed for r in other.runs if r.method == REAL] == [7]
    assert sum(line["method"] == REAL for line in lines(tmp_path)) == 1


# ---------------------------------------------------------------------- the command
def test_command_writes_pages_and_pictures(
    spec_file, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    arguments = ["reproduce", str(spec_file()), "--results", str(tmp_path)]
    assert main([*arguments, "--json", str(out)]) == 0
    page = (tmp_path / "small.md").read_text()
    assert "the shift rises" in capsys.readouterr().out
    assert "![small-kl](small-kl.png)" in page
    for name in ("kl", "popularity"):
        assert (tmp_path / f"small-{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert (tmp_path / f"small-{name}.svg").read_text().lstrip().startswith("<?xml")
    digest = json.loads((tmp_path / "small.json").read_text())
    assert {s["method"] for s in digest["summary"]} == {ONE, OTHER}
    html = (tmp_path / "small.html").read_text()
    assert "Claims of the paper, tested" in html
    assert main(["report", str(out), "--out", str(tmp_path / "again.html"), "--quiet"]) == 0
    assert (tmp_path / "again.html").read_text() == html
    assert main(["reproduce", "--list", "--json", "-", "--results", str(tmp_path)]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    spec = load_spec("deep-deconf/figure9")[1]
    assert rows["deep-deconf/figure9"] == {
        "name": "deep-deconf/figure9",
        "title": spec.title,
        "data": "sim-deconf, ml-causal, vg-causal",
        "runs": 5 * 5 * 10,
        "lines kept": 0,
    }
