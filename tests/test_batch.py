"""Answers to files: the same as in one piece, whole or not at all, and resumed for the same work only."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from deconrec import batch
from deconrec.batch import Columns, predict_to, recommend_to
from deconrec.checks.fixtures import confounded, impressions
from deconrec.data.tables import read_table
from deconrec.errors import DataError, FileError, ParameterError
from deconrec.methods.esmm import ESMM
from deconrec.methods.mf import MF


@pytest.fixture(scope="module")
def model():
    return MF(dim=2, epochs=2).fit(confounded()[0])


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    return model.save(tmp_path_factory.mktemp("models") / "m")


def pairs_of(model, path, n=700):
    users, items = [*model.users_.values, "stranger"], [*model.items_.values, 999]
    frame = pl.DataFrame(
        {
            "user_id": [users[j % len(users)] for j in range(n)],
            "item_id": [items[j % len(items)] for j in range(n)],
        }
    )
    frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
    return path


def history_of(model, path):
    items = model.items_.values
    pl.DataFrame({"user_id": ["new"] * 2, "item_id": items[:2], "rating": [1.0, 0.0]}).write_csv(path)
    return path


def same(out, whole):
    """Ids, ranks and sources are equal; of a product of matrices the last bits depend on how many rows it has."""
    assert out.columns == whole.columns
    for name in whole.columns:
        if whole[name].dtype == pl.Float64:
            np.testing.assert_allclose(out[name].to_numpy(), whole[name].to_numpy(), rtol=1e-6, atol=1e-7)
        else:
            assert out[name].equals(whole[name], check_dtypes=True), name


def parts_in(folder):
    return list(folder.glob(".*.parts-*"))


# ---------------------------------------------------------------------- equal to one piece
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("part_rows", [1, 33, 100_000])
@pytest.mark.parametrize(
    "options", [{}, {"exclude_seen": False, "k": 100}, {"explore": "plackett-luce", "seed": 3}]
)
def test_recommendations_in_parts_are_those_of_one_piece(model, saved, tmp_path, suffix, part_rows, options):
    out = tmp_path / f"recs{suffix}"
    done = recommend_to(saved, out, part_rows=part_rows, **{"k": 4} | options)
    whole = model.recommend(unknown="fallback", **{"k": 4} | options)
    same(read_table(out, "it"), whole if suffix == ".parquet" else read_csv_of(whole, tmp_path))
    assert (done.rows, done.resumed, done.counts["users"]) == (len(whole), 0, len(model.users_))
    assert not parts_in(tmp_path)


def read_csv_of(frame, folder):
    frame.write_csv(folder / "whole.csv")
    return read_table(folder / "whole.csv", "it")


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("part_rows", [64, 350, 700, 100_000])
def test_predictions_in_parts_are_those_of_one_piece(model, saved, tmp_path, suffix, part_rows):
    pairs = pairs_of(model, tmp_path / f"pairs{suffix}")
    history = history_of(model, tmp_path / "history.csv")
    done = predict_to(saved, pairs, tmp_path / "out.parquet", history=history, part_rows=part_rows)
    whole = model.predict(pairs, history=history, unknown="fallback", details=True)
    same(pl.read_parquet(tmp_path / "out.parquet"), whole)
    assert done.counts == dict(whole["source"].value_counts().sort("count", descending=True).iter_rows())
    assert done.parts == -(-700 // part_rows)


def test_pairs_under_names_of_their_own(model, saved, tmp_path):
    pairs = read_table(pairs_of(model, tmp_path / "pairs.csv"), "pairs")
    pairs.rename({"user_id": "uid", "item_id": "sku"}).write_csv(tmp_path / "mine.csv", separator=";")
    predict_to(saved, tmp_path / "pairs.csv", tmp_path / "a.parquet", part_rows=100)
    predict_to(
        saved,
        tmp_path / "mine.csv",
        tmp_path / "b.parquet",
        columns=Columns("uid", "sku", delimiter=";"),
        part_rows=100,
    )
    assert pl.read_parquet(tmp_path / "a.parquet").equals(pl.read_parquet(tmp_path / "b.parquet"))
    with pytest.raises(DataError, match="Say which columns hold the ids"):
        predict_to(saved, tmp_path / "mine.csv", tmp_path / "c.parquet", columns=Columns(delimiter=";"))


def test_users_and_history_under_names_of_their_own(model, saved, tmp_path):
    users = pl.DataFrame({"user_id": ["u003", "new", "nobody"]})
    history = history_of(model, tmp_path / "history.csv")
    own = read_table(history, "history").rename({"user_id": "uid", "item_id": "sku", "rating": "stars"})
    own.write_csv(tmp_path / "own.csv", separator=";")
    users.write_csv(tmp_path / "users.csv")
    users.rename({"user_id": "uid"}).write_csv(tmp_path / "mine.csv", separator=";")
    called = Columns("uid", "sku", "stars", ";")
    recommend_to(saved, tmp_path / "a.csv", users=tmp_path / "users.csv", history=history, k=3)
    recommend_to(
        saved,
        tmp_path / "b.csv",
        users=tmp_path / "mine.csv",
        history=tmp_path / "own.csv",
        columns=called,
        k=3,
    )
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    with pytest.raises(DataError, match="--user"):
        recommend_to(saved, tmp_path / "c.csv", users=tmp_path / "mine.csv")


def test_users_of_a_file_and_users_that_are_folded_in(model, saved, tmp_path):
    pl.DataFrame({"user_id": ["u003", "new", "nobody", "u001"]}).write_csv(tmp_path / "users.csv")
    history = history_of(model, tmp_path / "history.csv")
    recommend_to(
        saved, tmp_path / "o.parquet", users=tmp_path / "users.csv", history=history, k=3, part_rows=3
    )
    whole = model.recommend(["u003", "new", "nobody", "u001"], 3, history=history, unknown="fallback")
    same(pl.read_parquet(tmp_path / "o.parquet"), whole)


def test_impressions(tmp_path):
    data = impressions()
    model = ESMM(dim=2, epochs=1).fit(data)
    saved = model.save(tmp_path / "m")
    rows = data.frame(data.impressions.log).drop("click", "conversion")
    rows.write_csv(tmp_path / "rows.csv")
    predict_to(saved, tmp_path / "rows.csv", tmp_path / "o.parquet", part_rows=70)
    whole = model.predict(tmp_path / "rows.csv", details=True)
    same(pl.read_parquet(tmp_path / "o.parquet"), whole)


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        (["1", "2", "3", "4"], pl.Int64),
        (["1", "2", "03", "4"], pl.String),
        (["17.0", "2.0", "3.0", "4.0"], pl.Float64),
        (["17.0", "2", "3.0", "4.0"], pl.String),
    ],
)
def test_what_an_id_means_follows_from_the_whole_file(tmp_path, monkeypatch, ids, kind):
    """An '03' in the last rows makes text of the numbers in the first."""
    monkeypatch.setattr("deconrec.data.blocks.SIZE", 8)
    data, _ = confounded()
    renumbered = data.frame(data.biased).with_columns(pl.col("user_id").str.slice(1).cast(pl.Int64) + 1)
    model = MF(dim=2, epochs=1).fit(type(data).from_frames(renumbered, binarize=0.5))
    saved = model.save(tmp_path / "m")
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("user_id,item_id\n" + "".join(f"{i},{model.items_.values[0]}\n" for i in ids))
    predict_to(saved, pairs, tmp_path / "o.parquet", part_rows=1)
    whole = model.predict(pairs, unknown="fallback", details=True)
    out = pl.read_parquet(tmp_path / "o.parquet")
    assert out["user_id"].dtype == kind
    same(out, whole)


def test_no_rows(model, saved, tmp_path):
    (tmp_path / "pairs.csv").write_text("user_id,item_id\n")
    predict_to(saved, tmp_path / "pairs.csv", tmp_path / "o.parquet")
    assert pl.read_parquet(tmp_path / "o.parquet").columns == ["user_id", "item_id", "score", "source"]
    assert not len(pl.read_parquet(tmp_path / "o.parquet"))


# ---------------------------------------------------------------------- stopped and resumed
@pytest.fixture
def stopped(saved, model, tmp_path, monkeypatch):
    """Predictions whose fourth part fails: three parts are kept, and no output."""
    pairs = pairs_of(model, tmp_path / "pairs.csv")
    put = batch._Work.put

    def fails(self, part, frame):
        if part == 3:
            raise KeyboardInterrupt
        put(self, part, frame)

    monkeypatch.setattr(batch._Work, "put", fails)
    with pytest.raises(KeyboardInterrupt):
        predict_to(saved, pairs, tmp_path / "o.parquet", part_rows=100)
    monkeypatch.undo()
    assert not (tmp_path / "o.parquet").exists()
    assert len(parts_in(tmp_path)) == 1
    return pairs


def test_the_same_work_goes_on(stopped, saved, model, tmp_path):
    done = predict_to(saved, stopped, tmp_path / "o.parquet", part_rows=100)
    assert (done.resumed, done.parts) == (3, 7)
    whole = model.predict(stopped, unknown="fallback", details=True)
    same(pl.read_parquet(tmp_path / "o.parquet"), whole)
    assert not parts_in(tmp_path)


@pytest.mark.parametrize("what", ["model", "pairs", "history", "rows"])
def test_other_work_starts_anew(stopped, saved, model, tmp_path, what):
    history, part_rows = None, 100
    if what == "model":
        model = MF(dim=2, epochs=2, seed=1).fit(confounded()[0])
        saved = model.save(tmp_path / "other")
    elif what == "pairs":
        text = stopped.read_text()
        stopped.write_text(text.replace("u000", "u001"))
    elif what == "history":
        history = history_of(model, tmp_path / "history.csv")
    else:
        part_rows = 99
    done = predict_to(saved, stopped, tmp_path / "o.parquet", history=history, part_rows=part_rows)
    assert done.resumed == 0
    whole = model.predict(stopped, history=history, unknown="fallback", details=True)
    same(pl.read_parquet(tmp_path / "o.parquet"), whole)
    assert not parts_in(tmp_path)  # of the earlier work neither


def test_an_earlier_output_stands_until_the_new_one_is_whole(stopped, saved, tmp_path):
    (tmp_path / "o.parquet").write_bytes(b"the earlier one")
    (tmp_path / "pairs.csv").write_text("user_id,item_id\n,\n")
    with pytest.raises(DataError):
        predict_to(saved, stopped, tmp_path / "o.parquet", part_rows=100)
    assert (tmp_path / "o.parquet").read_bytes() == b"the earlier one"


def test_nothing_is_left_of_work_that_never_began(saved, tmp_path):
    (tmp_path / "pairs.csv").write_text("who,what\n1,2\n")
    with pytest.raises(DataError, match="the pairs need the columns user_id, item_id"):
        predict_to(saved, tmp_path / "pairs.csv", tmp_path / "o.parquet")
    with pytest.raises(ParameterError, match="'k' of recommend"):
        recommend_to(saved, tmp_path / "o.parquet", k=0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pairs.csv"]


def test_two_processes_do_not_write_one_output(saved, model, tmp_path):
    pairs = pairs_of(model, tmp_path / "pairs.csv")
    seen = []

    def advance(done, total):
        if done == 1:
            with pytest.raises(FileError, match="is being written by another process"):
                predict_to(saved, pairs, tmp_path / "o.parquet", part_rows=300)
            seen.append(done)

    predict_to(saved, pairs, tmp_path / "o.parquet", part_rows=300, advance=advance)
    assert seen


def test_outputs_that_cannot_be(saved, tmp_path):
    for name, says in (("o.xlsx", "must end in .parquet or .csv"), ("no/o.csv", "its folder does not exist")):
        with pytest.raises(FileError, match=says):
            recommend_to(saved, tmp_path / name)


def test_a_full_disk_leaves_what_was_there(saved, model, tmp_path, monkeypatch):
    pairs = pairs_of(model, tmp_path / "pairs.csv")
    (tmp_path / "o.parquet").write_bytes(b"the earlier one")

    def full(self, path, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(FileError, match="No space left on device"):
        predict_to(saved, pairs, tmp_path / "o.parquet")
    assert (tmp_path / "o.parquet").read_bytes() == b"the earlier one"


CHILD = """
import sys, time
from deconrec import batch
put = batch._Work.put
def slow(self, part, frame):
    put(self, part, frame)
    print(part, flush=True)
    time.sleep(0.2)
batch._Work.put = slow
batch.predict_to(sys.argv[1], sys.argv[2], sys.argv[3], part_rows=100)
"""


def test_killed_and_resumed(saved, model, tmp_path):
    pairs, out = pairs_of(model, tmp_path / "pairs.csv"), tmp_path / "o.parquet"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(saved), str(pairs), str(out)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "0\n"
    assert child.stdout.readline() == "1\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert not out.exists()
    done = predict_to(saved, pairs, out, part_rows=100)
    assert 2 <= done.resumed < 7
    same(pl.read_parquet(out), model.predict(pairs, unknown="fallback", details=True))
