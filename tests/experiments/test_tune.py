"""`tune`: the search of `compare` for one method; kept, resumed, and the same whatever the number of workers."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import deconrec as dc
from deconrec.cli import main
from deconrec.errors import ParameterError, UnknownName
from deconrec.experiments.results import Tuned
from deconrec.experiments.search import Searcher, Tried
from deconrec.experiments.studies import Study, importance
from deconrec.experiments.tune import as_text, fit_command, named, tune, tuned_model
from deconrec.methods import make

pytest.importorskip("optuna")
METHOD = "mf:epochs=2"


@pytest.fixture(scope="module")
def data():
    return dc.simulate.pairs(n_users=50, n_items=25, exposure_rate=0.25, unbiased_share=0.2, seed=0)[0]


OPTIONS = {"trials": 7, "splits": 2, "confirm": 2}


@pytest.fixture(scope="module")
def whole(data):
    return tune(data, METHOD, **OPTIONS)


def same(a: Tuned, b: Tuned) -> None:
    """Everything but how long it took, where it was kept and what was there before."""
    drop = {"environment", "storage"}
    one, other = (t.model_dump(exclude=drop) for t in (a, b))
    for record in (one, other):
        for trial in record["trials"]:
            trial.pop("seconds")
    assert one == other


# ---------------------------------------------------------------------- what it finds
def test_the_record(whole, data):
    assert [t.number for t in whole.trials] == list(range(7))
    assert whole.trials[0].params == {}
    assert whole.score == max(t.score for t in whole.trials if len(t.scores) == 4)
    assert whole.default == whole.trials[0].score
    assert set(whole.space) == {"lr", "l2", "dim"}
    assert whole.protocol["splits"] == [0, 1]
    assert whole.protocol["further"] == [2, 3]
    assert whole.protocol["data"]["fingerprint"] == data.fingerprint
    json.loads(whole.to_json())
    best = next(t for t in whole.trials if t.params == whole.params)
    if whole.params:
        gain = sum(best.scores[2:]) / 2 - sum(whole.trials[0].scores[2:]) / 2
        assert whole.gain["mean"] == pytest.approx(gain)
        assert whole.gain["n"] == 2


def test_scores_are_those_of_hold_outs_and_no_test_row_is_touched(whole, data):
    """Outcomes of the test parts of all splits are turned round: not one score moves."""
    from deconrec.data.dataset import Log
    from deconrec.data.split import PairsSplit

    assert data.unbiased is not None
    flipped = Log(data.unbiased.user, data.unbiased.item, 1 - data.unbiased.rating)
    other = tune(data.with_logs(data.biased, flipped), METHOD, **OPTIONS)  # mf is not given U
    assert [t.scores for t in other.trials] == [t.scores for t in whole.trials]
    assert other.study != whole.study  # other data nevertheless
    parts = PairsSplit(0).apply(data)
    model = make(METHOD).set_params(seed=0).fit(parts.train, validation=parts.holdout)
    assert max(model.history_.curve("score")) == pytest.approx(whole.trials[0].scores[0], abs=1e-6)


def test_the_command_is_the_method(whole):
    words = shlex.split(whole.command)
    assert words[:3] == ["deconrec", "fit", METHOD]
    model = make(words[2]).set_text(dict(w.split("=", 1) for flag, w in pairwise(words) if flag == "--set"))
    assert repr(model) == repr(tuned_model(whole))


def test_values_as_text_are_read_back():
    model = dc.ConcatVAE(hidden=(3, 4), l2=1e-5, features=False)
    values = {n: as_text(getattr(model, n)) for n in ("hidden", "l2", "features")}
    assert repr(dc.ConcatVAE().set_text(values)) == repr(model)
    assert as_text(None) == "none"
    assert fit_command("ips", "my data.toml", {"dim": "3"}, "/x y") == (
        "deconrec fit ips 'my data.toml' --set dim=3 --root '/x y' --out model"
    )


def test_settings_stay(data):
    found = tune(data, METHOD, settings={"dim": "3", "l2": "none"}, trials=2, splits=1, confirm=0)
    assert set(found.space) == {"lr"}
    assert found.gain is None
    assert tuned_model(found, {"dim": "3"}).dim == 3
    assert named("mf", {}) == "mf"
    assert named("mf:a=1", {"b": "2"}) == "mf:a=1+b=2"


def test_what_is_refused(data):
    for options, says in (
        ({"trials": 0}, "trials, splits and workers >= 1"),
        ({"select": "test"}, "'select' of tune must be one of"),
        ({"storage": "nonsense"}, "must be a storage of Optuna"),
    ):
        with pytest.raises(ParameterError, match=says):
            tune(data, METHOD, **options)
    with pytest.raises(ParameterError, match="no parameter with a range"):
        tune(data, "popularity")
    with pytest.raises(UnknownName):
        tune(data, "mff")


# ---------------------------------------------------------------------- kept and resumed
def test_a_search_goes_on_where_it_was(whole, data, tmp_path):
    url, told = f"sqlite:///{tmp_path}/tune.db", []

    def stop(number, trial):
        told.append(number)
        if number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(data, METHOD, storage=url, told=stop, **OPTIONS)
    again = tune(data, METHOD, storage=url, told=lambda n, _: told.append(n), **OPTIONS)
    assert told == list(range(7))
    assert again.resumed == 4
    same(again, whole)
    third = tune(data, METHOD, storage=url, told=lambda n, _: told.append(n), **OPTIONS)
    assert told == list(range(7))
    assert third.resumed == 7
    same(third, whole)
    fewer = tune(data, METHOD, storage=url, **OPTIONS | {"trials": 5})
    assert [t.scores for t in fewer.trials][:1] == [t.scores for t in whole.trials][:1]
    more = tune(data, METHOD, storage=url, **OPTIONS | {"trials": 8})
    assert more.resumed == 7
    assert [t.params for t in more.trials][:7] == [t.params for t in whole.trials]


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"splits": 1}, {"select": "within-exposure"}, {"settings": {"dim": "3"}}]
)
def test_another_search_is_another_study(data, tmp_path, other):
    url = f"sqlite:///{tmp_path}/tune.db"
    options = {"trials": 1, "splits": 2, "confirm": 0}
    first = tune(data, METHOD, storage=url, **options)
    second = tune(data, METHOD, storage=url, **options | other)
    assert second.resumed == 0
    assert second.study != first.study


def test_a_study_is_found_by_the_data_and_not_by_their_path(data, tmp_path):
    from deconrec.data.files import write_dataset

    url, options = f"sqlite:///{tmp_path}/tune.db", {"trials": 1, "splits": 1, "confirm": 0}
    first = tune(str(write_dataset(data, tmp_path / "here")), METHOD, storage=url, **options)
    again = tune(str(write_dataset(data, tmp_path / "there")), METHOD, storage=url, **options)
    assert (again.study, again.resumed) == (first.study, 1)
    other = data.with_logs(data.biased.take(slice(1, None)), data.unbiased)
    assert tune(other, METHOD, storage=url, **options).resumed == 0


def test_a_trial_that_was_half_written_is_made_again(tmp_path):
    url = f"sqlite:///{tmp_path}/tune.db"
    search, study = Searcher(make("mf"), 3), Study("x", url)
    for score in (0.5, 0.6):
        search.tell(search.ask(), Tried((score,), 1.0), 1)
        study.keep(search)
    study._study.add_trial(study._optuna.trial.create_trial(value=0.7))  # without our record of it
    kept = Study("x", url).kept()
    assert [t.scores for _, t, _ in kept] == [(0.5,), (0.6,)]
    assert [p for p, _, _ in kept] == [t.params for t in search.done]


@pytest.mark.slow
def test_workers_share_the_splits_of_a_trial(whole, data):
    same(tune(data, METHOD, workers=2, **OPTIONS), whole)


def test_a_failed_trial_is_a_trial(data, monkeypatch):
    from deconrec.experiments import tune as module

    def fails(plan, name, seeds, params, stop_below=None):
        return (
            Tried((), 0.1, "it diverged") if params and seeds == [1] else Tried((0.5 + seeds[0] / 10,), 0.1)
        )

    monkeypatch.setattr(module, "try_one", fails)
    found = tune(data, METHOD, trials=3, splits=3, confirm=1)
    assert [t.state for t in found.trials] == ["complete", "failed", "failed"]
    assert [t.scores for t in found.trials] == [[0.5, 0.6, 0.7, 0.8], [0.5], [0.5]]
    assert found.params == {}
    assert found.answer[0].startswith("The method's own values were best")
    assert "2 failed" in found.answer[1]


# ---------------------------------------------------------------------- importance
def test_importance_finds_what_matters():
    search = Searcher(make("mf"), 40)
    for turn in range(40):
        params = search.ask()
        if turn:
            params = {"lr": 10 ** (-3 + turn / 30), "dim": 4 + (turn * 37) % 100, "l2": 1e-6 * 1.2**turn}
            params["l2"] = min(params["l2"], 1e-2)
        score = -((params.get("dim", 32) - 60) ** 2) / 1e4
        search.tell(params, Tried((score,), 1.0), 1)
    found = importance(search)
    assert max(found, key=lambda n: found[n]) == "dim"
    assert importance(Searcher(make("mf"), 3)) == {}


# ---------------------------------------------------------------------- the command
def test_the_command_line(tmp_path, capsys):
    world = "sim-pairs:n_users=40+n_items=20+exposure_rate=0.3"
    options = [
        f"--storage=sqlite:///{tmp_path}/t.db",
        "--trials=6",
        "--splits=1",
        "--confirm=1",
        "--set=epochs=2",
    ]
    files = [f"--json={tmp_path}/t.json", f"--report={tmp_path}/t.html", f"--out={tmp_path}/m"]
    assert main(["tune", "mf", world, *options, *files]) == 0
    err = capsys.readouterr().err
    found = Tuned.model_validate_json((tmp_path / "t.json").read_text())
    assert found.command in err
    page = (tmp_path / "t.html").read_text()
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert found.study in page
    model = dc.load_model(tmp_path / "m")
    assert model.epochs == 2
    for name, value in found.params.items():
        assert getattr(model, name) == value
    assert main(["tune", "mf", world, "--trials=1", "--storage=what"]) == 2
    assert main(["tune", "mff", world]) == 2
    assert main(["tune", "mf", world, "--trials=0"]) == 2


CHILD = """
import sys
import deconrec as dc
from deconrec.experiments.tune import tune
data = dc.simulate.pairs(n_users=50, n_items=25, exposure_rate=0.25, unbiased_share=0.2, seed=0)[0]
tune(data, "mf:epochs=2", trials=7, splits=2, confirm=2, storage=sys.argv[1], told=lambda n, t: print(n, flush=True))
"""


def test_killed_and_resumed(whole, data, tmp_path: Path):
    url = f"sqlite:///{tmp_path}/tune.db"
    child = subprocess.Popen([sys.executable, "-c", CHILD, url], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert [child.stdout.readline() for _ in range(2)] == ["0\n", "1\n"]
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    again = tune(data, METHOD, storage=url, **OPTIONS)
    assert again.resumed >= 2
    same(again, whole)
