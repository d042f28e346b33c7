"""Trackers: what a run leaves behind, whether it ends well or not."""

from __future__ import annotations

import pytest

from deconrec.adapters.tracker import Silent, Tracker, open_tracker, tracked
from deconrec.cli import main
from deconrec.errors import MissingExtra, ParameterError
from deconrec.saving import read_about


class Kept:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple] = []

    def start(self, name, params):
        self.told.append(("start", name, dict(params)))

    def metrics(self, values, step=0):
        self.told.append(("metrics", dict(values), step))

    def note(self, facts):
        self.told.append(("note", dict(facts)))

    def end(self, failed=False):
        self.told.append(("end", failed))


def test_a_run_ends_whatever_happens():
    tracker = Kept()
    with tracked(tracker, "fit", {"dim": 2}) as run:
        run.metrics({"auc": 0.5})
    assert [t[0] for t in tracker.told] == ["start", "metrics", "end"]
    assert tracker.told[-1] == ("end", False)
    with pytest.raises(KeyboardInterrupt), tracked(tracker, "fit", {}):
        raise KeyboardInterrupt
    assert tracker.told[-1] == ("end", True)


def test_nothing_is_tracked_unless_asked():
    tracker: Tracker = open_tracker(None)
    assert isinstance(tracker, Silent)
    with tracked(tracker, "fit", {}) as run:
        run.metrics({"a": 1.0})
        run.note({"b": 2})


@pytest.mark.parametrize("text", ["mlflow", "mlflow:", "wandb:x", "", ":x"])
def test_no_such_tracker(text):
    with pytest.raises(ParameterError, match="must be written mlflow:URI"):
        open_tracker(text)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(MissingExtra, match=r"deconrec\[mlflow\]"):
        open_tracker("mlflow:sqlite:///x.db")


@pytest.mark.filterwarnings("ignore")  # of mlflow's own dependencies
def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/runs.db"
    tracker = open_tracker(f"mlflow:{uri}")
    with tracked(tracker, "compare", {"method": "ips", "propensity": {"name": "known", "floor": 0.1}}) as run:
        run.metrics({"ndcg@5/shown": 0.25, "auc": None, "mse": float("nan")}, step=1)
        run.metrics({"ndcg@5/shown": 0.5}, step=2)
        run.note({"fingerprint": "a" * 64, "long": "x" * 10_000})
    with pytest.raises(ValueError, match="no"), tracked(open_tracker(f"mlflow:{uri}"), "fit", {}):
        raise ValueError("no")
    client = mlflow.MlflowClient(tracking_uri=uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "deconrec"]
    failed, done = client.search_runs([experiment.experiment_id])
    assert (done.info.status, failed.info.status) == ("FINISHED", "FAILED")
    assert done.data.params == {"method": "ips", "propensity.name": "known", "propensity.floor": "0.1"}
    assert done.data.metrics == {"ndcg_at_5/shown": 0.5}
    assert done.data.tags["fingerprint"] == "a" * 64
    history = client.get_metric_history(done.info.run_id, "ndcg_at_5/shown")
    assert [(m.step, m.value) for m in history] == [(1, 0.25), (2, 0.5)]


@pytest.mark.filterwarnings("ignore")
def test_a_store_that_cannot_be_used(tmp_path):
    pytest.importorskip("mlflow")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ParameterError, match="must name an MLflow store that can be used"):
        open_tracker(f"mlflow:sqlite:///{tmp_path}/file/runs.db")


# ---------------------------------------------------------------------- the commands
WORLD = "sim-pairs:n_users=40+n_items=20+exposure_rate=0.3+unbiased_share=0.2"


@pytest.fixture
def kept(monkeypatch):
    tracker = Kept()
    monkeypatch.setattr("deconrec.adapters.tracker.open_tracker", lambda text: tracker if text else Silent())
    return tracker


def metrics_of(kept):
    return [t for t in kept.told if t[0] == "metrics"]


def test_fit_notes_its_curves(kept, tmp_path):
    assert main(["fit", "mf:epochs=3", WORLD, "--out", str(tmp_path / "m"), "--track", "x", "-q"]) == 0
    assert kept.told[0][1] == "fit mf:epochs=3"
    assert kept.told[0][2]["params"]["epochs"] == 3
    steps = [step for _, values, step in metrics_of(kept) if "score" in values]
    assert steps == [0, 1, 2]
    assert kept.told[-1] == ("end", False)
    about = read_about(tmp_path / "m")
    assert (
        "note",
        {"out": str(tmp_path / "m"), "fingerprint": about["about"]["data"]["fingerprint"]},
    ) in kept.told


def test_a_fit_that_fails_is_noted_as_failed(kept, tmp_path):
    assert main(["fit", "mf:lr=1e30", WORLD, "--out", str(tmp_path / "m"), "--track", "x", "-q"]) == 1
    assert kept.told[-1] == ("end", True)
    assert not (tmp_path / "m").exists()


def test_compare_notes_every_run_and_the_means(kept):
    assert (
        main(
            [
                "compare",
                WORLD,
                "--methods",
                "popularity",
                "--seeds",
                "2",
                "--metrics",
                "auc",
                "--track",
                "x",
                "-q",
            ]
        )
        == 0
    )
    told = metrics_of(kept)
    assert [(list(values), step) for _, values, step in told[:2]] == [
        (["popularity/auc"], 0),
        (["popularity/auc"], 1),
    ]
    assert list(told[2][1]) == ["mean/popularity/auc"]
    assert told[2][1]["mean/popularity/auc"] == pytest.approx(
        sum(t[1]["popularity/auc"] for t in told[:2]) / 2
    )


def test_tune_notes_every_trial(kept):
    pytest.importorskip("optuna")
    options = ["--trials", "2", "--splits", "1", "--confirm", "0"]
    assert main(["tune", "mf:epochs=1", WORLD, *options, "--track", "x", "-q"]) == 0
    told = metrics_of(kept)
    assert [step for _, values, step in told if "score" in values] == [0, 1]
    assert {"best", "default"} <= set(told[-1][1])


def test_nothing_is_noted_unless_asked(kept, tmp_path):
    assert main(["fit", "popularity", WORLD, "--out", str(tmp_path / "m"), "-q"]) == 0
    assert kept.told == []
