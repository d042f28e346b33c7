"""Shared search: judged over splits, resumable, and blind to what a method's text fixes."""

from __future__ import annotations

import math

import numpy as np
import pytest

import deconrec as dc
from deconrec.data.split import PairsSplit
from deconrec.errors import ParameterError
from deconrec.experiments.search import (
    Searched,
    Searcher,
    Trial,
    Tried,
    has_parameter,
    judged,
    named_settings,
    search_space,
    shared_search,
    space_of,
    try_out,
)
from deconrec.parameters import Search

pytest.importorskip("optuna")


@pytest.fixture(scope="module")
def splits():
    data, _ = dc.simulate.pairs(n_users=70, n_items=30, exposure_rate=0.2, unbiased_share=0.2, seed=0)
    parts = [PairsSplit(seed=s).apply(data) for s in range(3)]
    return [(p.train, p.holdout) for p in parts]


def test_a_trial_is_the_mean_over_splits_and_the_first_is_the_model(splits) -> None:
    model = dc.MF(epochs=2, dim=4)
    found = shared_search(model, splits, 3, prune=False)
    assert found.trials[0].params == {}
    assert found.trials[0].scores == try_out(model, splits).scores
    assert found.default == pytest.approx(sum(found.trials[0].scores) / 3)
    assert found.score == max(t.score for t in found.trials)
    best = next(t for t in found.trials if t.params == found.params)
    assert best.score == found.score
    again = try_out(model.clone().set_params(**found.params), splits)
    assert again.scores == best.scores


def test_a_method_that_extends_another_is_tried_at_its_settings_too() -> None:
    search = Searcher(dc.ResDR(), 5)
    assert search.ask() == {}
    search.tell({}, Tried((0.5,), 1.0), 1)
    assert search.ask() == {"shared": True, "imputation_weight": 0.1}
    search.tell(search.ask(), Tried((0.6,), 1.0), 1)
    third = search.ask()
    assert third not in ({}, search.starts[0])
    assert Searcher(dc.ResDR(), 5, fixed={"shared"}).starts == []  # half a setting is none
    for method in dc.METHODS.values():
        for start in method.starts:
            method(**start).check_params()
            assert set(start) <= set(search_space(method()))


INERT = {  # what makes a method's search leave something alone
    "rd-ips": {"weight_lr"},
    "rd-dr": {"weight_lr"},
    "brd-ips": {"weight_lr", "benchmark.dim"},
    "brd-dr": {"weight_lr", "benchmark.dim"},
    "kd-feature": {"weight", "teacher.dim"},
    "res-ips": {"consistency"},
    "res-dr": {"consistency", "sharing"},
    "res-dr:scheme=jl": {"consistency", "sharing", "shared"},
}


@pytest.mark.parametrize("spec", INERT)
def test_a_search_leaves_alone_what_has_no_effect(spec) -> None:
    from deconrec.checks import FAST

    key = spec.partition(":")[0]
    data, _ = dc.simulate.pairs(n_users=40, n_items=20, exposure_rate=0.2, unbiased_share=0.2, seed=0)
    parts = PairsSplit(seed=0).apply(data)
    model = dc.make(spec).set_params(**FAST[key])
    if "scheme" in spec:
        model.set_params(epochs=23)
    space = search_space(model)
    for name in INERT[spec]:
        assert name not in space
        other = {"shared": True, "benchmark.dim": 7, "teacher.dim": 32}.get(name, 0.4)
        changed = model.clone().set_params(**{name: other})
        ours, theirs = (m.clone().fit(parts.train, validation=parts.holdout) for m in (model, changed))
        assert (ours._block(np.arange(40)) == theirs._block(np.arange(40))).all()
    for method in dc.METHODS.values():  # whatever is left out is a parameter
        for name in method().inert:
            assert has_parameter(method(), name)


def test_no_test_part_is_opened(splits) -> None:
    data, _ = dc.simulate.pairs(n_users=70, n_items=30, exposure_rate=0.2, unbiased_share=0.2, seed=0)
    parts = PairsSplit(seed=0).apply(data)
    shared_search(dc.MF(epochs=1), [(parts.train, parts.holdout)], 2)
    assert len(parts.test.open().log)


def test_a_search_goes_on_where_it_stopped(splits) -> None:
    def scored(params: dict) -> Tried:
        return Tried((params.get("lr", 0.03), 0.5), 1.0)

    whole = Searcher(dc.IPS(), 14, seed=3)
    while not whole.finished:
        params = whole.ask()
        whole.tell(params, scored(params), 2)
    for stop in (1, 6, 13):
        rest = Searcher(dc.IPS(), 14, seed=3, done=whole.done[:stop])
        while not rest.finished:
            params = rest.ask()
            rest.tell(params, scored(params), 2)
        assert rest.done == whole.done
    assert len({tuple(sorted(t.params.items())) for t in whole.done}) == 14


def test_a_trial_changes_a_third_of_the_parameters_of_the_best_so_far() -> None:
    search = Searcher(dc.IPS(), 12, seed=1)
    scores = iter([0.5, 0.4, 0.7, 0.6, 0.65, 0.8, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    while not search.finished:
        best, params = search.best, search.ask()
        if search.done:
            changed = {n for n in search.space if params.get(n) != best.get(n)}
            assert 1 <= len(changed) <= round(len(search.space) / 3)
            assert set(best) <= set(params)
        search.tell(params, Tried((next(scores), 0.5), 1.0), 2)
    assert search.best == search.done[5].params


def test_what_a_text_sets_is_not_searched() -> None:
    text = "res-dr:consistency=0+propensity.epochs=2"
    assert named_settings(text) == {"consistency", "propensity.epochs"}
    assert named_settings("mf") == set()
    space = space_of(dc.make("res-dr"), named_settings("res-dr:consistency=0"))
    assert "consistency" not in space
    assert "imputation_weight" in space
    other = space_of(dc.MF(), ["dim"], {"lr": Search(0.1, 0.2), "nothing": Search()})
    assert (other["lr"].low, "dim" in other, "nothing" in other) == (0.1, False, False)
    assert has_parameter(dc.IPS(), "propensity.floor")
    assert not has_parameter(dc.IPS(), "propensity.nothing")
    assert not has_parameter(dc.MF(), "propensity.floor")


def test_hopeless_trials_stop_after_the_first_split() -> None:
    search = Searcher(dc.MF(), 20)
    assert search.stop_below() is None
    for turn in range(5):
        search.tell(search.ask(), Tried((0.5 + turn / 10, 0.5), 1.0), 2)
    assert search.stop_below() == pytest.approx(0.7)
    trial = search.tell(search.ask(), Tried((0.1,), 1.0), 2)
    assert trial.state == "pruned"
    assert search.ask()
    assert search.result().score == pytest.approx(0.7)  # the mean of .9 and .5


def test_try_out_stops_below_and_reports_divergence(splits) -> None:
    assert len(try_out(dc.MF(epochs=1), splits, stop_below=2.0).scores) == 1
    assert len(try_out(dc.MF(epochs=1), splits, stop_below=0.0).scores) == 3
    failed = try_out(dc.MF(epochs=20, lr=1e30, error="squared", patience=0), splits)
    assert "diverged" in failed.failed


def test_failed_trials_are_never_chosen() -> None:
    search = Searcher(dc.MF(), 2)
    search.tell(search.ask(), Tried((), 0.1, "it diverged"), 2)
    with pytest.raises(ParameterError, match="it diverged"):
        search.result()
    search.tell(search.ask(), Tried((0.4, 0.6), 0.1), 2)
    found = search.result()
    assert found.score == pytest.approx(0.5)
    assert math.isnan(found.default)


def test_a_method_without_ranges_needs_no_trial(splits) -> None:
    search = Searcher(dc.MF(), 5, fixed=space_of(dc.MF()))
    assert search.finished
    assert search.result().params == {}


def test_refusals(splits) -> None:
    with pytest.raises(ParameterError, match="at least 1"):
        Searcher(dc.MF(), 0)
    with pytest.raises(ParameterError, match="at least one split"):
        shared_search(dc.MF(), [], 2)


def test_compare_with_a_shared_search() -> None:
    data, _ = dc.simulate.pairs(n_users=70, n_items=30, exposure_rate=0.2, unbiased_share=0.2, seed=0)
    result = dc.compare(data, ["mf:epochs=2", "ease"], seeds=3, trials=2, search="shared")
    assert result.protocol["search"] == "shared"
    found = result.protocol["searched"]["mf:epochs=2"]
    assert found["splits"] == [0, 1, 2]
    assert found["trials"] == 2
    used = [r.params for r in result.runs if r.method == "mf:epochs=2"]
    assert len({tuple(sorted((k, v) for k, v in p.items() if k != "seed")) for p in used}) == 1
    assert all(p["epochs"] == 2 for p in used)
    assert any("hold-out score over several splits" in note for note in result.protocol["notes"])
    with pytest.raises(ParameterError, match="search"):
        dc.compare(data, ["mf"], seeds=1, search="each")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["mf:epochs=2", "mf:epochs=0", "ease", "ips:epochs=2+propensity.epochs=2"])
def test_every_kind_of_method_can_be_searched(method, splits) -> None:
    assert shared_search(dc.make(method), splits[:1], 2).trials


def test_a_trial_is_judged_by_its_best_epoch(splits) -> None:
    train, holdout = splits[0]
    model = dc.MF(dim=2, epochs=4).fit(train, validation=holdout)
    assert judged(model, holdout) == max(model.history_.curve("score"))
    assert judged(model, holdout) == pytest.approx(model.validation_score(holdout))


def test_nuisances_are_searched_too() -> None:
    assert "propensity.floor" in search_space(dc.IPS())


def test_a_finalist_that_fails_is_out() -> None:
    trials = tuple(
        Trial({"dim": n}, (score,), "complete", 1.0) for n, score in enumerate((0.5, 0.7, 0.6, 0.4))
    )
    found = Searched({"dim": 1}, 0.7, 0.5, trials)
    assert found.finalists(2) == [0, 1, 2]
    assert found.finalists(9) == [0, 1, 2, 3]
    further = {0: Tried((0.6,), 1.0), 1: Tried((), 1.0, "diverged"), 2: Tried((0.4,), 1.0)}
    after = found.confirmed(further)
    assert (after.params, after.score, after.default) == (
        {"dim": 0},
        pytest.approx(0.55),
        pytest.approx(0.55),
    )
    assert after.ranked == [{"dim": 0}, {"dim": 2}, {"dim": 3}]
    assert found.confirmed({n: Tried((), 1.0, "diverged") for n in range(4)}) == found
