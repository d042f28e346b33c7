"""The guides that say what was measured say what their records say, and the records what the code measures."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deconrec.experiments.coverage import MEASURED

DOCS = Path(__file__).parent.parent / "docs"
GUIDES = (
    "diagnose",
    "diagnose-impressions",
    "cost-model",
    "duality",
    "effects",
    "grounded-gp",
    "impressions",
    "off-policy",
    "sensitivity",
    "serving",
)


def script(name: str) -> Any:
    """docs/NAME.py as a module; what it imports stands beside it."""
    spec = importlib.util.spec_from_file_location(f"{name}_guide", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(DOCS))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(DOCS))
    return module


def record_of(name: str) -> Any:
    return json.loads((DOCS / "records" / f"{name}.json").read_text())


@pytest.mark.parametrize("name", GUIDES)
def test_the_table_and_figures_are_those_of_the_record(name: str) -> None:
    guide = script(name).GUIDE
    record, text = record_of(name), guide.page.read_text()
    assert guide.table(record) in text
    for figure in guide.figures(record):
        assert (guide.page.parent / figure).exists()
        assert f"({figure})" in text


def test_the_guides_say_what_is_so() -> None:
    """The sentences that stand or fall with their records."""
    effects = record_of("effects")
    assert effects["adjusted"]["own"] <= effects["naive"]["own"] / 3
    diagnose = record_of("diagnose")
    size = diagnose["size"]
    assert size[0]["worlds"] >= 400
    worlds = sum(cell["worlds"] for cell in size)
    assert 0.03 <= sum(cell["rejected"] * cell["worlds"] for cell in size) / worlds <= 0.07
    for cell in size:
        assert cell["naive_rejected"] > 0.4 or cell["rows"] < 500
        assert abs(cell["rejected"] - 0.05) < 3 * (0.05 * 0.95 / cell["worlds"]) ** 0.5
    duality = record_of("duality")
    levels = {row["level"]: row for row in duality["levels"]}
    for a, b in ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75)):
        assert levels[b]["before"]["exposures"] > levels[a]["before"]["exposures"]
    assert levels[1.0]["before"]["ratings"] == 0.5
    assert levels[0.9]["before"]["deep-deconf"] > max(levels[k]["before"]["deep-deconf"] for k in (0.0, 1.0))
    assert min(levels[1.0]["hated"].values()) > 4.5
    assert all(row["before"]["deconf-mf"] > 0.98 for row in duality["levels"])
    explored = {row["explore"]: row for row in duality["explored"]}
    for name in ("wmf:reads=exposures", "deconf-mf", "concat-vae", "deep-deconf"):
        assert explored[0.02]["hated"][name] < 2
        assert explored[0.02]["before"][name] > 0.99


def test_the_guide_on_serving_says_what_is_so() -> None:
    """The sentences that stand or fall with the record of exploring lists."""
    rows = {(r["epsilon"], r["model"]): r for r in record_of("serving")["rows"]}
    first = rows[0.0, "first"]
    for name in ("naive", "weighted"):
        errors = [rows[share, name]["mse"] for share in (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)]
        assert errors == sorted(errors, reverse=True)
        assert errors[0] > first["mse"]
        assert errors[-1] < first["mse"] / 2
        assert errors[0] - errors[2] > 0.5 * (errors[0] - errors[-1])
    assert rows[0.05, "weighted"]["mse"] < 0.85 * rows[0.05, "naive"]["mse"]
    assert all(rows[share, "naive"]["top"] < first["top"] for share in (0.0, 0.05, 0.1))
    assert all(rows[share, "naive"]["top"] > first["top"] for share in (0.5, 1.0))
    assert rows[0.05, "weighted"]["top"] < rows[0.05, "naive"]["top"]


def test_the_guides_on_evaluation_say_what_is_so() -> None:
    """The sentences that stand or fall with the records of coverage."""
    rows = record_of("off-policy")["rows"]
    known = [r["coverage"] for r in rows if r["propensity"] == "known"]
    assert min(known) >= 0.895
    learned = [r["coverage"] for r in rows if r["propensity"] == "logistic-mf" and not r["confounding"]]
    assert min(learned) >= 0.8
    hidden = [r for r in rows if r["propensity"] == "logistic-mf" and r["confounding"]]
    assert all(
        abs(r["bias"] / r["truth"]) > 0.3 for r in hidden if r["metric"].startswith(("ndcg", "precision"))
    )
    for row in record_of("sensitivity")["rows"]:
        if row["gamma"] > row["hidden"]:
            assert row["interval"] == 1.0, row
        elif row["gamma"] == row["hidden"]:
            assert row["interval"] >= 0.88, row
        elif row["kind"] == "follows the outcome" and row["metric"] == "mse":
            assert row["interval"] <= 0.1, row


def test_the_guide_on_diagnosing_impressions_says_what_is_so() -> None:
    record = record_of("diagnose-impressions")
    for cell in record["size"]:
        assert abs(cell["rejected"] - 0.05) < 3 * (0.05 * 0.95 / cell["worlds"]) ** 0.5
        assert cell["before"] > 2 * max(cell["fitted"], cell["true"])
    assert record["size"][0]["naive_rejected"] > 0.4
    for share in (0.1, 0.3):
        assert next(c for c in record["power"] if c["share"] == share and c["dial"] == 2.0)["rejected"] >= 0.9


def test_what_evaluate_says_of_learned_propensities_was_measured() -> None:
    """The shares that its note tells are those of the record, and spread is not what is missing."""
    rows = [r for r in record_of("off-policy")["rows"] if not r["confounding"] and r["propensity"] != "known"]
    for (propensity, estimator), told in MEASURED.items():
        shares = [r["coverage"] for r in rows if (r["propensity"], r["estimator"]) == (propensity, estimator)]
        assert told == (round(min(shares), 2), round(max(shares), 2))
    assert {(r["propensity"], r["estimator"]) for r in rows} == set(MEASURED)
    default = [r for r in rows if r["propensity"] == "logistic-mf"]
    assert np.median([r["width"] / 3.92 / r["spread"] for r in default]) > 0.95
    assert np.median([abs(r["bias"]) / r["spread"] for r in default]) > 0.5


def test_the_guide_on_impressions_says_what_is_so() -> None:
    guide, record = script("impressions"), record_of("impressions")
    assert record["worlds"] == guide.WORLDS >= 10
    mean = {
        dial: {m: sum(v) / len(v) for m, v in errors.items()} for dial, errors in record["errors"].items()
    }
    against = guide.tests(record, "mf")
    shown = {key for key, (difference, _, _, p) in against.items() if p < 0.05 and difference < 0}
    assert {m for dial, m in shown if dial == "0"} == {"escm2-ips", "res-ips", "res-dr"}
    assert all(difference < 0 for (dial, _), (difference, *_) in against.items() if dial != "0")
    for m in ("escm2-ips", "res-ips", "res-dr"):
        assert mean["0"][m] / mean["0"]["mf"] == pytest.approx(6 / 7, abs=0.04)
    assert max(mean["2"][m] for m in ("res-ips", "res-dr")) < mean["2"]["mf"] / 2
    combined = {
        key
        for key, (difference, _, _, p) in guide.tests(record, "mf-combined").items()
        if p < 0.05 and difference < 0 and key[0] != "0"
    }
    assert combined == {("1", "res-ips"), ("2", "res-ips"), ("2", "res-dr")}
    assert against["2", "ips"][0] < 0
    assert mean["2"]["escm2-ips"] > 1.25 * mean["2"]["res-ips"]
    assert mean["1"]["escm2-ips"] < 1.25 * mean["1"]["res-ips"]


def test_every_verdict_has_a_heading() -> None:
    import ast
    import re

    from deconrec.effects import verdicts

    headings = set(re.findall(r"^### ([A-Z_]+)$", (DOCS / "guides" / "effects.md").read_text(), re.M))
    calls = [n for n in ast.walk(ast.parse(Path(verdicts.__file__).read_text())) if isinstance(n, ast.Call)]
    codes = {ast.literal_eval(c.args[0]) for c in calls if ast.unparse(c.func) == "Verdict"}
    assert codes == headings


@pytest.mark.slow
def test_the_record_of_effects_is_what_is_measured() -> None:
    """At 8,000 users and 30 % exposure, the dimension chosen by the predictive check."""
    record, now = record_of("effects"), script("effects").measure()
    assert now["dim"] == record["dim"]
    assert now["adjusted"]["own"] <= now["naive"]["own"] / 3
    for name in ("naive", "adjusted", "true_confounder"):
        assert now[name]["own"] == pytest.approx(record[name]["own"], rel=0.02)
    assert now["single"]["with"] == pytest.approx(record["single"]["with"], rel=0.02)
    assert now["net"]["zero"]["own_bias"] > 3 * abs(now["net"]["mean"]["own_bias"])
    assert now["masked"]["refused"]
    assert now["all"]["vae"]["adjusted"] > now["all"]["vae"]["naive"]


@pytest.mark.slow
def test_the_record_of_diagnose_is_what_is_measured() -> None:
    """Some of its worlds again: what was found, and how large the gaps were."""
    guide, record = script("diagnose"), record_of("diagnose")
    cell = next(c for c in record["power"] if c["dial"] == 0.5 and c["share"] == 0.03)
    again = [guide.world("400 x 150", 0.5, seed, 0.03) for seed in range(10)]
    gaps = [w["gap"] for w in again]
    assert sum(gaps) / 10 == pytest.approx(cell["gap"], abs=4 * cell["spread"] / 10**0.5)
    assert sum(w["p"] < 0.05 for w in again) >= 8


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::deconrec.errors.DataWarning")
def test_the_record_of_duality_is_what_is_measured() -> None:
    record, now = record_of("duality"), script("duality").measure()
    for kind in ("levels", "explored"):
        for kept, found in zip(record[kind], now[kind], strict=True):
            for name in ("ratings", "exposures", "mf", "deconf-mf"):
                assert found["before"][name] == pytest.approx(kept["before"][name], abs=0.05)


@pytest.mark.slow
def test_the_record_of_diagnosing_impressions_is_what_is_measured() -> None:
    """Some of its worlds again."""
    guide, record = script("diagnose-impressions"), record_of("diagnose-impressions")
    cell = next(c for c in record["power"] if c["dial"] == 2.0 and c["share"] == 0.1)
    again = [guide.world(guide.MAIN, 2.0, seed, 0.1) for seed in range(5)]
    assert sum(w["gap"] for w in again) / 5 == pytest.approx(cell["gap"], abs=4 * cell["spread"] / 5**0.5)
    assert sum(w["p"] < 0.05 for w in again) >= 4


@pytest.mark.slow
def test_the_record_of_impressions_is_what_is_measured() -> None:
    """One of its worlds again, with the two methods that take a second."""
    guide, record = script("impressions"), record_of("impressions")
    again = guide.runs(1.0, [0], ("mf", "mf-combined"))
    for method, (error,) in again.items():
        assert error == pytest.approx(record["errors"]["1"][method][0], rel=0.05)


def test_results_on_deep_deconf_say_what_is_so() -> None:
    """The sentences of docs/results.md that stand or fall with the kept runs."""
    kept = DOCS.parent / "experiments" / "results"
    table = json.loads((kept / "deep-deconf" / "table2-simulated.json").read_text())
    recall = {
        (s["setting"]["gamma_theta"], s["method"]): s["mean"]
        for s in table["summary"]
        if s["metric"] == "recall_capped@20/full" and s["setting"]["selection"] == "validation"
    }
    own, without, oracle = "deep-deconf", "concat-vae", "deep-deconf:exposure=known"
    assert all(recall[g, own] > recall[g, without] for g in (0.7, 0.9))
    assert all(recall[g, own] > recall[g, "deep-deconf:permuted=true"] for g in (0.7, 0.9))
    assert recall[0.1, own] < recall[0.1, without]
    assert recall[0.3, own] <= recall[0.3, "deep-deconf:permuted=true"]
    assert recall[0.1, oracle] < recall[0.1, without]
    others = {m for _, m in recall} - {oracle}
    assert all(recall[g, oracle] > 1.25 * max(recall[g, m] for m in others) for g in (0.5, 0.7, 0.9))
    assert all(recall[g, m] > recall[g, own] for g in (0.7, 0.9) for m in ("wmf", "deconf-mf"))
    duality = json.loads((kept / "studies" / "duality.json").read_text())
    over = {
        (s["setting"]["normalize_theta"], s["setting"]["gamma_theta"], s["method"]): s["mean"]
        for s in duality["summary"]
        if s["metric"] == "recall_capped@20/full"
    }
    levels = (0.1, 0.3, 0.5, 0.7, 0.9)
    for method in ("wmf", "wmf:reads=exposures", own):
        course = [over[True, g, method] for g in levels]
        assert course == sorted(course)
    weighed = json.loads((kept / "studies" / "feature-weight.json").read_text())
    at = {
        (s["setting"]["gamma_theta"], s["method"]): s["mean"]
        for s in weighed["summary"]
        if s["metric"] == "recall_capped@20/full"
    }
    gains = {g: at[g, f"{own}:feature_weight=none"] - at[g, own] for g in (0.1, 0.5, 0.9)}
    assert gains[0.1] > gains[0.5] > 0 > gains[0.9]
    assert at[0.1, "wmf:feature_weight=none"] - at[0.1, "wmf"] > gains[0.1]
    ratings = [over[False, g, "wmf"] - over[False, g, "wmf:reads=exposures"] for g in levels]
    assert ratings[0] > 0 > max(ratings[2:])


def test_the_guide_on_grounded_gp_says_what_is_so() -> None:
    rows = record_of("grounded-gp")["rows"]
    worlds = dict.fromkeys(r["world"] for r in rows)
    for world in worlds:
        mean = {
            what: np.mean([r[what] for r in rows if r["world"] == world and r[what] is not None] or [np.nan])
            for what in ("items", "users", "pairs", "ratings")
        }
        assert 0.85 <= mean["items"] <= 0.97, world
        assert 0.85 <= mean["users"] <= 0.97, world
        if "deconf" in world:
            assert mean["pairs"] < 0.6
            assert mean["ratings"] > 0.9
        else:
            assert 0.85 <= mean["pairs"] <= 0.98
