"""`reproduce`: end to end on a small log, resumed, forced, swept, and put beside the paper's figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import deconrec as dc
from deconrec.cli import main
from deconrec.errors import MissingData, ParameterError, TrainingError
from deconrec.experiments import reproduce as module
from deconrec.experiments.reproduce import reproduce, results_path
from deconrec.experiments.results import Reproduction, Result
from deconrec.experiments.spec import load_spec
from deconrec.experiments.verdict import cell_verdict
from deconrec.report import paper

SEARCH = "[search]\ntrials = 2\nsplits = 2\n"


def lines(folder: Path, name: str = "small") -> list[dict]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def count(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[tuple]:
    """Records every fit that is asked for; raises as a kill would after so many."""
    made: list[tuple] = []
    real = {"_run": module._run, "try_one": module.try_one}

    def watched(name):
        def call(*arguments):
            if stop_after is not None and len(made) >= stop_after:
                raise KeyboardInterrupt
            made.append((name, *arguments[1:3]))
            return real[name](*arguments)

        return call

    for name in real:
        monkeypatch.setattr(module, name, watched(name))
    return made


def test_end_to_end(spec_file, tmp_path: Path) -> None:
    result = reproduce(spec_file(), results=tmp_path)
    assert isinstance(result, Reproduction)
    record = json.loads(result.to_json())
    assert {"dataset", "protocol", "runs", "summary", "tests", "environment", "paper", "verdict"} <= set(
        record
    )
    assert {"method": "mf", "metric": "auc", "setting": {}, "value": 0.2} in record["paper"]
    assert len(record["runs"]) == 9
    assert not result.missing
    cells = {(c.method, c.metric): c for c in result.verdict.cells}
    assert set(cells) == {(m, x) for m in ("mf", "mf-combined") for x in ("auc", "auc/leaked")}
    assert cells["mf", "auc"].verdict == "above"
    assert cells["mf", "auc"].mean == result.mean("mf", "auc")
    assert result.verdict.counts["above"] >= 1
    assert result.verdict.claims[0].says == "more data are better"
    assert len(result.verdict.claims[0].contrasts) == 1
    kept = lines(tmp_path)
    assert len(kept) == 9
    for line in kept:
        assert {
            "key",
            "data",
            "method",
            "setting",
            "seed",
            "params",
            "metrics",
            "seconds",
            "versions",
        } <= set(line)
        assert line["params"]["epochs"] == (2 if line["method"].startswith("ips") else 3)


def test_it_is_what_compare_gives(spec_file, tmp_path: Path, data_file: Path) -> None:
    result = reproduce(spec_file(), results=tmp_path)
    names = ["mf:epochs=3", "mf-combined:epochs=3"]
    plain = dc.compare(data_file, names, seeds=3, metrics=["auc", "ndcg@3/shown", "auc/leaked"])
    for ours, own in (("mf", names[0]), ("mf-combined", names[1])):
        for metric in plain.metrics:
            a = next(s for s in result.summary if (s.method, s.metric) == (ours, metric))
            b = next(s for s in plain.summary if (s.method, s.metric) == (own, metric))
            assert a.mean == b.mean
            assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=1e-4)


def test_what_is_done_is_skipped_and_what_is_missing_is_named(spec_file, tmp_path: Path, monkeypatch) -> None:
    spec = spec_file(SEARCH)
    made = count(monkeypatch, stop_after=8)
    with pytest.raises(KeyboardInterrupt):
        reproduce(spec, results=tmp_path)
    assert len(lines(tmp_path)) >= 8
    monkeypatch.undo()
    none = count(monkeypatch)
    part = reproduce(spec, results=tmp_path, run=False)
    assert none == []
    assert any("seeds not run" in m or "trials of its search" in m for m in part.missing)
    assert any("missing" in s for s in part.verdict.says)
    whole = reproduce(spec, results=tmp_path)
    assert whole.missing == []
    assert len(made) + len(none) == 3 * 2 + 9  # no fit was made twice
    monkeypatch.undo()
    straight = reproduce(spec, results=tmp_path / "straight")
    assert [r.metrics for r in straight.runs] == [r.metrics for r in whole.runs]
    assert [s.model_dump() for s in straight.summary] == [s.model_dump() for s in whole.summary]
    again = count(monkeypatch)
    assert reproduce(spec, results=tmp_path).to_json() == whole.to_json()
    assert again == []


def test_a_torn_line_is_done_again(spec_file, tmp_path: Path, monkeypatch) -> None:
    spec = spec_file()
    whole = reproduce(spec, results=tmp_path)
    path = tmp_path / "small.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    made = count(monkeypatch)
    said: list[str] = []
    again = reproduce(spec, results=tmp_path, say=said.append)
    assert len(made) == 1
    assert any("torn" in text for text in said)
    assert [r.metrics for r in again.runs] == [r.metrics for r in whole.runs]


def test_force_does_everything_again_and_replaces_it(spec_file, tmp_path: Path, monkeypatch) -> None:
    spec = spec_file(SEARCH)
    first = reproduce(spec, results=tmp_path)
    before = lines(tmp_path)
    made = count(monkeypatch)
    second = reproduce(spec, results=tmp_path, force=True)
    assert len(made) == 3 * 2 + 9
    assert [line["key"] for line in lines(tmp_path)] == [line["key"] for line in before]
    assert [r.metrics for r in second.runs] == [r.metrics for r in first.runs]


def test_a_key_depends_on_what_it_should(spec_file, tmp_path: Path, monkeypatch) -> None:
    reproduce(spec_file(), results=tmp_path)
    made = count(monkeypatch)
    reproduce(spec_file(replace=(('title = "A small', 'title = "Another small'),)), results=tmp_path)
    assert made == []
    reproduce(spec_file(replace=(("epochs = 3,", "epochs = 4,"),)), results=tmp_path)
    assert {m for _, m, _ in made} == {"mf", "mf-combined"}  # the text of ips sets its epochs
    made.clear()
    reproduce(spec_file(), seeds=4, results=tmp_path)
    assert len(made) == 3
    made.clear()
    reproduce(spec_file(replace=(('"auc", "ndcg@3/shown", "auc/leaked"', '"auc", "mse", "auc/leaked"'),)),
              results=tmp_path)  # fmt: skip
    assert len(made) == 9  # a metric that was not kept


def test_more_trials_go_on_from_those_made(spec_file, tmp_path: Path, monkeypatch) -> None:
    reproduce(spec_file(SEARCH), results=tmp_path)
    made = count(monkeypatch)
    result = reproduce(spec_file(SEARCH), results=tmp_path, trials=4)
    assert sum(kind == "try_one" for kind, *_ in made) == 3 * 2
    assert {s["trials"] for s in result.protocol["searched"]} == {4}


def test_a_method_without_u_is_searched_once_and_the_test_stays(spec_file, tmp_path: Path) -> None:
    more = "dials = { share = 'unbiased' }\nsweep = [{ share = [0.1, 0.3] }]\n" + SEARCH
    result = reproduce(spec_file(more), results=tmp_path)
    searches = [line for line in lines(tmp_path) if line["kind"] == "search"]
    assert sorted(line["method"] for line in searches) == ["ips:epochs=2", "mf", "mf-combined", "mf-combined"]
    runs = {(r.method, r.setting["share"]): r for r in result.runs if r.seed == 0}
    assert runs["mf-combined", 0.1].unbiased_rows < runs["mf-combined", 0.3].unbiased_rows
    # The biased log, the parameters and the test rows are the same: so is what MF gets on them.
    assert runs["mf", 0.1].metrics == runs["mf", 0.3].metrics
    assert {s.setting["share"] for s in result.summary} == {0.1, 0.3}
    assert len(result.verdict.cells) == 8


def test_a_parameter_moves_the_methods_that_have_it(spec_file, tmp_path: Path, monkeypatch) -> None:
    made = count(monkeypatch)
    more = (
        "dials = { 'propensity.floor' = 'parameter' }\nsweep = [{ 'propensity.floor' = [0.05, 0.15] }]\n"
        "[search]\ntrials = 2\nsplits = 1\nat = { 'propensity.floor' = 0.15 }\n"
    )
    result = reproduce(spec_file(more), results=tmp_path)
    fits = [m for kind, m, _ in made if kind == "_run"]
    assert (fits.count("mf"), fits.count("ips:epochs=2")) == (3, 6)
    assert sum(kind == "try_one" for kind, *_ in made) == 6
    assert len(result.runs) == 18
    floors = {r.setting["propensity.floor"]: r.params["propensity"]["params"]["floor"] for r in result.runs
              if r.method.startswith("ips")}  # fmt: skip
    assert floors == {0.05: 0.05, 0.15: 0.15}


def test_worlds_by_a_data_dial_and_claims_between_settings(spec_file, tmp_path: Path) -> None:
    more = "dials = { confounding = 'data' }\nsweep = [{ confounding = [0, 2] }]\n"
    claim = (
        'b = ["mf"]\n', 'b = ["mf"]\n[[claims]]\nsays = "the dial hurts"\nmetric = "auc"\na = "mf"\n'
        'at = { confounding = 0 }\nb = ["mf"]\nb_at = [{ confounding = 2 }]\n',
    )  # fmt: skip
    world = "sim-pairs:n_users=60+n_items=30+exposure_rate=0.2+unbiased_share=0.3"
    result = reproduce(spec_file(more, (claim,), world), results=tmp_path)
    assert {r.setting["confounding"] for r in result.runs} == {0, 2}
    assert len(result.verdict.claims[0].contrasts) == 2
    (contrast,) = result.verdict.claims[1].contrasts
    assert (contrast.setting_a, contrast.setting_b) == ({"confounding": 0}, {"confounding": 2})
    mean = {s.setting["confounding"]: s.mean for s in result.summary if (s.method, s.metric) == ("mf", "auc")}
    assert contrast.difference == pytest.approx(mean[0] - mean[2])
    p = [c.p for claim in result.verdict.claims for c in claim.contrasts]
    corrected = [c.p_holm for claim in result.verdict.claims for c in claim.contrasts]
    assert all(q >= p_ for p_, q in zip(p, corrected, strict=True))


def test_a_claim_that_nothing_differs_and_seeds_from_another_number_on(spec_file, tmp_path: Path) -> None:
    level = ('a = "mf-combined"\nb = ["mf"]\n', 'a = "mf-combined"\nb = ["mf"]\nsame = true\n')
    world = "sim-pairs:n_users=60+n_items=30+exposure_rate=0.2+unbiased_share=0.3"
    result = reproduce(spec_file("", (level,), world), results=tmp_path, seed=100)
    assert {r.seed for r in result.runs} == {100, 101, 102}
    assert result.protocol["seeds"] == [100, 101, 102]
    (claim,) = result.verdict.claims
    (contrast,) = claim.contrasts
    assert claim.verdict == ("level" if contrast.low <= 0 <= contrast.high else "contradicted")
    assert contrast.p_holm is None
    assert any("95 % interval" in s or "contradicted" in s for s in result.verdict.says)
    with pytest.raises(ParameterError, match="'seed' of reproduce"):
        reproduce(spec_file(), results=tmp_path, seed=-1)


def test_a_run_that_fails_is_kept_as_such(spec_file, tmp_path: Path, monkeypatch) -> None:
    real = module.run_one

    def failing(plan, name, seed, params=None):
        if name == "mf" and seed == 1:
            raise TrainingError("biased", 3, ["prediction"], float("nan"))
        return real(plan, name, seed, params)

    monkeypatch.setattr(module, "run_one", failing)
    result = reproduce(spec_file(), results=tmp_path)
    assert any("mf: seed 1 failed" in m and "diverged" in m for m in result.missing)
    assert {s.method for s in result.summary} == {"mf-combined", "ips:epochs=2"}
    assert {c.verdict for c in result.verdict.cells if c.method == "mf"} == {"missing"}
    assert result.verdict.claims[0].verdict == "missing"
    made = count(monkeypatch)
    reproduce(spec_file(), results=tmp_path)
    assert made == []


def test_what_some_split_cannot_be_fitted_with_is_passed_over(spec_file, tmp_path: Path, monkeypatch) -> None:
    real = module.run_one
    whole = reproduce(spec_file(SEARCH.replace("2\nsplits", "4\nsplits")), results=tmp_path / "whole")
    best = {s["method"]: s["params"] for s in whole.protocol["searched"]}["mf"]
    ranked = sorted(
        (line for line in lines(tmp_path / "whole") if line["kind"] == "trial" and line["method"] == "mf"),
        key=lambda line: -sum(line["scores"]) / 2 * (line["state"] == "complete"),
    )
    assert ranked[0]["params"] == best

    def failing(plan, name, seed, params=None):
        if name == "mf" and seed == 1 and best.items() <= (params or {}).items():
            raise TrainingError("biased", 3, ["prediction"], float("nan"))
        return real(plan, name, seed, params)

    assert best, "the first trial is the method as it is: make another the best"
    monkeypatch.setattr(module, "run_one", failing)
    result = reproduce(spec_file(SEARCH.replace("2\nsplits", "4\nsplits")), results=tmp_path)
    assert not result.missing
    searched = next(s for s in result.protocol["searched"] if s["method"] == "mf")
    assert searched["passed_over"] == 1
    assert searched["taken"] == ranked[1]["params"]
    taken = searched["taken"].items()
    assert all(taken <= r.params.items() for r in result.runs if r.method == "mf")
    assert not best.items() <= taken
    made = count(monkeypatch)
    again = reproduce(spec_file(SEARCH.replace("2\nsplits", "4\nsplits")), results=tmp_path)
    assert made == []
    assert again.summary == result.summary
    assert "in place of the 1 best" in paper.markdown(again)


def test_finalists_are_judged_on_all_splits(spec_file, tmp_path: Path, monkeypatch) -> None:
    more = "[search]\ntrials = 6\nsplits = 1\nprune = false\nfinalists = 2\n"
    result = reproduce(spec_file(more), seeds=3, results=tmp_path)
    assert not result.missing
    trials = {
        line["number"]: line for line in lines(tmp_path) if line["kind"] == "trial" and line["method"] == "mf"
    }
    finals = {
        line["number"]: line for line in lines(tmp_path) if line["kind"] == "final" and line["method"] == "mf"
    }
    assert 0 in finals
    assert len(finals) == 3
    others = sorted((n for n in trials if n), key=lambda n: -trials[n]["scores"][0])
    assert set(finals) == {0, *others[:2]}
    mean = {n: np.mean(trials[n]["scores"] + finals[n]["scores"]) for n in finals}
    best = max(mean, key=mean.__getitem__)
    searched = next(s for s in result.protocol["searched"] if s["method"] == "mf")
    assert searched["params"] == trials[best]["params"]
    assert searched["score"] == pytest.approx(mean[best])
    assert searched["default"] == pytest.approx(mean[0])
    assert searched["splits"] == [0, 1, 2]
    made = count(monkeypatch)
    assert reproduce(spec_file(more), seeds=3, results=tmp_path).summary == result.summary
    assert made == []
    # The trials are those of a search without finalists.
    few = reproduce(spec_file(more.replace("finalists = 2", "finalists = 0")), seeds=3, results=tmp_path)
    assert {name for name, *_ in made} <= {"_run"}
    assert next(s for s in few.protocol["searched"] if s["method"] == "mf")["splits"] == [0]


def test_a_killed_final_goes_on(spec_file, tmp_path: Path, monkeypatch) -> None:
    more = "[search]\ntrials = 3\nsplits = 1\nfinalists = 1\n"
    whole = reproduce(spec_file(more), results=tmp_path / "whole")
    for after in (9, 11):
        with monkeypatch.context() as patch:
            count(patch, stop_after=after)
            with pytest.raises(KeyboardInterrupt):
                reproduce(spec_file(more), results=tmp_path)
    assert [r.metrics for r in reproduce(spec_file(more), results=tmp_path).runs] == [
        r.metrics for r in whole.runs
    ]


def test_a_search_that_fails_is_named(spec_file, tmp_path: Path) -> None:
    more = "[search]\ntrials = 2\nsplits = 1\n"
    useless = (("'propensity.epochs' = 2", "'propensity.epochs' = 2, 'propensity.floor' = 0.9"),)
    result = reproduce(spec_file(more, useless), results=tmp_path)
    assert [m for m in result.missing if m.startswith("ips") and "must differ" in m]
    assert {s.method for s in result.summary} == {"mf", "mf-combined"}


def test_workers_give_the_same(spec_file, tmp_path: Path) -> None:
    one = reproduce(spec_file(), seeds=1, results=tmp_path / "one")
    two = reproduce(spec_file(), seeds=1, results=tmp_path / "two", workers=2)
    assert [r.metrics for r in one.runs] == [r.metrics for r in two.runs]


@pytest.mark.parametrize(
    ("paper", "low", "high", "word"),
    [(0.75, 0.74, 0.76, "reproduced"), (0.77, 0.74, 0.76, "reproduced"), (0.78, 0.74, 0.76, "below"),
     (0.72, 0.74, 0.76, "above"), (0.76, None, None, "reproduced"), (0.78, None, None, "below")],
)  # fmt: skip
def test_words(paper: float, low: float | None, high: float | None, word: str) -> None:
    assert cell_verdict(paper, 0.75, low, high, 0.015) == word
    assert cell_verdict(paper, None, None, None, 0.015) == "missing"


def test_other_sizes_are_not_compared(spec_file, tmp_path: Path) -> None:
    result = reproduce(spec_file("[expect]\nusers = 61\n"), seeds=1, results=tmp_path)
    assert {c.verdict for c in result.verdict.cells} == {"not comparable"}
    assert "60 users instead of 61" in result.verdict.says[0]


@pytest.mark.filterwarnings("ignore::deconrec.errors.DeconrecWarning")
def test_yahoo_from_the_users_own_copy(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "yahoo-r3"
    folder.mkdir()
    for part, size in (("train", 9), ("test", 6)):
        rows = [
            (u, i, rng.integers(1, 6)) for u in range(1, 41) for i in rng.choice(30, size, replace=False) + 1
        ]
        text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
        (folder / f"ydata-ymusic-rating-study-v1_0-{part}.txt").write_text(text)
    result = reproduce("res-dr/table1-yahoo", quick=True, seeds=1, trials=0, root=tmp_path, results=tmp_path)
    assert not result.missing
    assert {c.verdict for c in result.verdict.cells} == {"not comparable"}
    assert "40 users instead of 15,400" in " ".join(result.verdict.says)
    assert (tmp_path / "res-dr" / "table1-yahoo.quick.jsonl").is_file()


@pytest.mark.filterwarnings("ignore::deconrec.errors.DeconrecWarning")
@pytest.mark.parametrize(
    ("table", "published"),
    [("table2-vg", 3), pytest.param("table3-vg", 2, marks=pytest.mark.slow)],
)
def test_vg_causal_from_the_users_own_copy(tmp_path: Path, table: str, published: int) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "amazon_vg"
    folder.mkdir()
    rows = [
        f"A{u},B{i:04},{rng.integers(1, 6)}.0,{u}\n"
        for u in range(60)
        for i in rng.choice(300, 60, replace=False)
    ]
    (folder / "ratings_Video_Games.csv").write_text("".join(rows))
    result = reproduce(f"deep-deconf/{table}", quick=True, seeds=1, root=tmp_path, results=tmp_path)
    assert not result.missing
    assert len({c.method for c in result.verdict.cells if c.mean is not None}) == published
    assert {c.verdict for c in result.verdict.cells} <= {"not comparable", "missing"}
    assert "2,141 items" in " ".join(result.verdict.says)
    assert (tmp_path / "deep-deconf" / f"{table}.quick.jsonl").is_file()


def test_missing_data_say_what_to_fetch(tmp_path: Path) -> None:
    for name, says in (
        ("res-dr/table1-yahoo", "webscope"),
        ("res-dr/table1-coat", "coat.zip"),
        ("res-dr/table2", "fetch kuairec"),
        ("deep-deconf/table2-vg", "amazon"),
    ):
        with pytest.raises(MissingData, match=says):
            reproduce(name, root=tmp_path, results=tmp_path)


def test_where_results_go(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert results_path("a/b") == Path("deconrec-results/a/b.jsonl")
    (tmp_path / "src" / "deconrec").mkdir(parents=True)
    (tmp_path / "experiments").mkdir()
    assert results_path("a/b", quick=True) == Path("experiments/results/a/b.quick.jsonl")
    assert results_path("a/b", "x") == Path("x/a/b.jsonl")


def test_refusals(spec_file, tmp_path: Path) -> None:
    for options in ({"seeds": 0}, {"trials": -1}, {"workers": 0}):
        with pytest.raises(ParameterError, match="reproduce needs"):
            reproduce(spec_file(), results=tmp_path, **options)


def test_command(spec_file, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page = tmp_path / "out.json", tmp_path / "page.html"
    spec = spec_file("picture = ['auc']\n")
    arguments = ["reproduce", str(spec), "--results", str(tmp_path), "--seeds", "2"]
    assert main([*arguments, "--json", str(out), "--report", str(page)]) == 0
    shown = capsys.readouterr()
    assert "| mf |" in shown.out
    assert "above" in shown.out
    assert (tmp_path / "small.md").read_text() == shown.out or "![small-auc]" in (
        tmp_path / "small.md"
    ).read_text()
    record = json.loads(out.read_text())
    assert record["verdict"]["cells"]
    assert isinstance(Result.read(out), Reproduction)
    assert "A small table" in page.read_text()
    assert "Claims of the paper, tested" in page.read_text()
    assert (tmp_path / "small-auc.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "small-auc.svg").read_text().lstrip().startswith("<?xml")
    assert main(["report", str(out), "--out", str(tmp_path / "again.html"), "--quiet"]) == 0
    assert (tmp_path / "again.html").read_text() == page.read_text()
    digest = json.loads((tmp_path / "small.json").read_text())
    assert {s["method"] for s in digest["summary"]} == {"mf", "mf-combined", "ips:epochs=2"}
    assert all({t["a"], t["b"]} & {"mf", "mf-combined"} for t in digest["tests"])
    assert not (tmp_path / "small.html").exists()  # --report said where
    assert main([*arguments, "--no-run", "--quiet", "--json", "-"]) == 0
    assert "A small table" in (tmp_path / "small.html").read_text()
    assert json.loads(capsys.readouterr().out)["missing"] == []


def test_command_lists_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--list", "--json", "-", "--results", str(tmp_path)]) == 0
    rows = json.loads(capsys.readouterr().out)
    spec = load_spec("res-dr/table1-coat")[1]
    runs = len(spec.methods) * spec.seeds
    assert {"name": "res-dr/table1-coat", "runs": runs, "lines kept": 0}.items() <= rows[
        [r["name"] for r in rows].index("res-dr/table1-coat")
    ].items()
    assert main(["reproduce"]) == 2
    assert "--list" in capsys.readouterr().err
    assert main(["reproduce", "res-dr/table9", "--results", str(tmp_path)]) == 2
    assert (
        main(["reproduce", "res-dr/table1-yahoo", "--root", str(tmp_path), "--results", str(tmp_path)]) == 2
    )
    assert "webscope" in capsys.readouterr().err


def test_interrupted_command_says_that_it_can_go_on(
    spec_file, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    count(monkeypatch, stop_after=2)
    assert main(["reproduce", str(spec_file()), "--results", str(tmp_path)]) == 1
    assert "goes on from there" in capsys.readouterr().err
    assert len(lines(tmp_path)) == 2
