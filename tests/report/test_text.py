"""The verdict says what the tests say and no more; the leaderboard fits a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from deconrec.experiments import results
from deconrec.report.reading import Reading, names, number, p_value
from deconrec.report.text import WIDTH, glossary, leaderboard, verdict


def a_result(means, differences=(), metric="auc", seeds=3, rows=None, settings=({},)) -> results.Result:
    """means: by method. differences: (a, b, difference, p_holm). rows: unbiased rows by method."""
    runs, summary, tests = [], [], []
    for setting in settings:
        for method, mean in means.items():
            summary.append(
                results.Summary(
                    method=method, metric=metric, setting=setting, mean=mean, low=None, high=None, n=seeds
                )
            )
            for seed in range(seeds):
                used = (rows or {}).get(method, 0)
                values = {"metrics": {metric: mean}, "seconds": 1.0, "unbiased_rows": used, "params": {}}
                runs.append(results.Run(method=method, seed=seed, setting=setting, **values))
        for a, b, difference, p in differences:
            pair = {"a": a, "b": b, "metric": metric, "setting": setting, "difference": difference}
            pair |= {"low": None, "high": None, "p": p, "p_holm": p, "unit": "split", "n": seeds}
            tests.append(results.Test(**pair, test="corrected resampled t"))
    parts = {"runs": runs, "summary": summary, "tests": tests}
    return results.Result(dataset="made-up", protocol={}, environment={}, **parts)


def test_a_significant_win_is_named_and_nothing_else_is():
    said = verdict(
        a_result(
            {"mf": 0.70, "ips": 0.71, "res-dr": 0.74},
            [("res-dr", "mf", 0.04, 0.001), ("ips", "mf", 0.01, 0.3), ("res-dr", "ips", 0.03, 0.01)],
        )
    )
    finding = "res-dr is significantly better than plain MF (mf) on auc; no difference was shown for ips."
    assert said.startswith(finding)
    assert "not evidence that the methods are equal" in said
    assert "3 seeds" in said
    assert "3 random splits of one data set" in said


@pytest.mark.parametrize(("metric", "word"), [("auc", "better"), ("mse", "worse"), ("ece/truth", "worse")])
def test_direction_follows_the_metric_and_not_the_order_of_the_pair(metric, word):
    means = {"mf": 0.5, "res-dr": 0.6}
    for pair in [("res-dr", "mf", 0.1, 0.01), ("mf", "res-dr", -0.1, 0.01)]:
        said = verdict(a_result(means, [pair], metric=metric))
        assert f"res-dr is significantly {word}" in said
        assert ("No method is significantly better" in said) == (word == "worse")


def test_no_difference_is_not_called_equality():
    said = verdict(
        a_result(
            {"mf": 0.70, "ips": 0.71, "dr-jl": 0.69}, [("ips", "mf", 0.01, 0.3), ("mf", "dr-jl", 0.01, 1)]
        )
    )
    assert said.startswith("No method is distinguishable from plain MF (mf) on auc.")
    assert "not evidence that the methods are equal" in said
    assert "better" not in said


def test_p_of_exactly_the_level_is_no_win():
    said = verdict(a_result({"mf": 0.70, "ips": 0.71}, [("ips", "mf", 0.01, 0.05)]))
    assert said.startswith("ips is not distinguishable from plain MF (mf) on auc.")


def test_one_seed_gives_no_claim():
    said = verdict(a_result({"mf": 0.70, "ips": 0.71}, [("ips", "mf", 0.01, None)], seeds=1))
    assert said.startswith("ips has the best mean auc (0.7100), but no difference from plain MF (mf) could")
    assert "one seed gives no spread" in said
    assert "significant" not in said


def test_one_method_stands_alone():
    assert "nothing stands beside it" in verdict(a_result({"ips": 0.7}))
    assert "ips" in verdict(a_result({"ips": 0.7}))


def test_nothing_computed():
    assert verdict(a_result({"mf": None, "ips": None})).startswith("No metric could be computed")


def test_combined_is_a_second_yardstick_and_extra_rows_are_told():
    result = a_result(
        {"mf": 0.70, "mf-combined": 0.73, "res-dr": 0.735},
        [
            ("mf-combined", "mf", 0.03, 0.01),
            ("res-dr", "mf", 0.035, 0.01),
            ("res-dr", "mf-combined", 0.005, 0.6),
        ],
        rows={"mf-combined": 232, "res-dr": 464},
    )
    said = verdict(result)
    assert "res-dr and mf-combined are significantly better than plain MF (mf)" in said
    assert (
        "Against MF on both logs (mf-combined), no method is significantly better; mf is significantly worse;"
        in said
    )
    assert "res-dr used 464 unbiased rows and mf none; mf-combined is MF that was given them too." in said


def test_without_mf_the_first_method_is_the_baseline():
    assert "distinguishable from ips" in verdict(a_result({"ips": 0.7, "dr": 0.7}, [("dr", "ips", 0, 1)]))


def test_biased_metrics_carry_a_warning():
    said = verdict(a_result({"mf": 0.7, "ips": 0.8}, [("ips", "mf", 0.1, 0.001)], metric="auc/biased"))
    assert said.startswith(
        "There is no unbiased test, so that whether debiasing helps cannot be told. ips is"
    )
    assert "expected to lose" in said


def test_further_metrics_that_say_something_else_are_told():
    auc = a_result({"mf": 0.7, "ips": 0.6, "dr": 0.8}, [("ips", "mf", -0.1, 0.3), ("dr", "mf", 0.1, 0.01)])
    mse = a_result(
        {"mf": 0.3, "ips": 0.2, "dr": 0.2}, [("ips", "mf", -0.1, 0.01), ("dr", "mf", -0.1, 0.01)], "mse"
    )
    arp = a_result(
        {"mf": 9, "ips": 2, "dr": 2}, [("ips", "mf", -7, 0.01), ("dr", "mf", -7, 0.01)], "arp@5/full"
    )
    result = auc.model_copy(
        update={
            "runs": [
                run.model_copy(update={"metrics": run.metrics | a.metrics | b.metrics})
                for run, a, b in zip(auc.runs, mse.runs, arp.runs, strict=True)
            ],
            "summary": [*auc.summary, *mse.summary, *arp.summary],
            "tests": [*auc.tests, *mse.tests, *arp.tests],
        }
    )
    said = verdict(result)
    assert said.startswith(
        "dr is significantly better than plain MF (mf) on auc; no difference was shown for ips."
    )
    assert (
        "Other metrics say otherwise: ips is significantly better than plain MF (mf) on mse. This rests"
        in said
    )
    assert "Other metrics" not in verdict(auc)


def test_a_sweep_counts_settings():
    settings = [{"confounding": c, "items": 50} for c in (0, 1)]
    result = a_result({"mf": 0.7, "res-dr": 0.75}, [("res-dr", "mf", 0.05, 0.01)], settings=settings)
    result.tests[0].p_holm = 0.9
    assert verdict(result).startswith(
        "res-dr (at 1 of 2 settings of confounding) is significantly better than plain MF (mf) on auc."
    )


def test_a_reversed_test_turns_every_sign(fake_result):
    reading = Reading(fake_result(seeds=4))
    there, back = (reading.test(a, b, "auc", {}) for a, b in [("ips", "mf"), ("mf", "ips")])
    assert there.difference == -back.difference
    assert (there.low, there.high) == (-back.high, -back.low)
    assert there.effect_size == -back.effect_size
    assert there.p_holm == back.p_holm


def test_digits_show_the_interval(fake_result):
    reading = Reading(fake_result())
    row = reading.summary("mf", "auc", {})
    shown = number((row.high - row.low) / 2, reading.digits("auc")).lstrip("0.")
    assert len(shown) == 2


@pytest.mark.parametrize(
    ("value", "decimals", "sign", "shown"),
    [
        (None, 3, False, "–"),
        (float("nan"), 3, False, "–"),
        (0.71234, 3, False, "0.712"),
        (-0.0004, 3, True, "0.000"),
        (0.012, 3, True, "+0.012"),
        (-0.012, 3, True, "−0.012"),
        (12345.6, 0, False, "12,346"),
        (3.21e-9, 10, False, "3.21e−09"),
    ],
)
def test_numbers(value, decimals, sign, shown):
    assert number(value, decimals, sign) == shown


def test_small_p_is_never_zero():
    assert [p_value(p) for p in (None, 0.0, 0.0123, 0.04999, 1.0)] == ["–", "< 0.001", "0.012", "0.0500", "1"]


def test_names_are_a_list_in_words():
    assert [names(list("abcdef")[:n]) for n in (0, 1, 2, 3, 6)] == [
        "",
        "a",
        "a and b",
        "a, b and c",
        "a, b, c and 3 more",
    ]


def test_glossary_explains_every_part_once():
    told = dict(glossary(["auc", "recall_capped@20/full", "auc/leaked", "own@3"]))
    assert list(told) == ["auc", "recall_capped@20", "own@3", "…/full", "…/leaked"]
    assert "min(20, positives)" in told["recall_capped@20"]
    assert "Lower is better" in dict(glossary(["mse/truth"]))["mse"]


def shown(table) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=WIDTH, color_system=None).print(table)
    return out.getvalue().splitlines()


def test_leaderboard_fits_and_shows_the_headline_metric(fake_result):
    lines = shown(leaderboard(fake_result(twins=("leaked",))))
    assert max(map(len, lines)) <= WIDTH
    page = "\n".join(lines)
    assert "…" not in page
    assert "auc ↑" in page
    assert "further metrics" in page
    order = [line.split()[0] for line in lines if "±" in line and "interval" not in line]
    assert order[0].startswith("res-dr")
    assert order[-1] == "mf-uniform"
    best = next(line for line in lines if line.startswith("res-dr"))
    assert " a" in best


@pytest.mark.parametrize("methods", [["mf"], ["[bold]x[/bold]", "mf"], ["a" * 90, "mf"]])
def test_leaderboard_takes_any_name(fake_result, methods):
    lines = shown(leaderboard(fake_result(methods=methods, seeds=1)))
    assert max(map(len, lines)) <= WIDTH
    assert methods[0][:30] in "\n".join(lines)


def test_leaderboard_of_a_sweep_and_of_missing_values(fake_result):
    result = fake_result(settings=[{"confounding": 0.0}, {"confounding": 2.0}], seeds=2)
    for row in result.summary:
        if row.metric == "mse":
            row.mean = row.low = row.high = None
    page = "\n".join(shown(leaderboard(result)))
    assert "confounding=2" in page
