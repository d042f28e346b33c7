"""Saved models: what a damaged, foreign or later folder comes out as."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import deconrec as dc
from deconrec.checks.fixtures import confounded, rows_world
from deconrec.data.sealed import seal
from deconrec.errors import FileError, NotFitted, ParameterError
from deconrec.methods.concat_vae import ConcatVAE
from deconrec.methods.mf import MF
from deconrec.saving import FORMAT, load_model


@pytest.fixture(scope="module")
def model():
    return MF(dim=2, epochs=2).fit(confounded()[0])


@pytest.fixture
def folder(model, tmp_path):
    return model.save(tmp_path / "model")


def change(folder, **changes):
    """Somebody changes the description, and knows how it is sealed."""
    about = json.loads((folder / "model.json").read_text()) | changes
    (folder / "model.json").write_text(json.dumps(about | {"seal": seal(about)}))


# ---------------------------------------------------------------------- round trips
def test_the_folder_and_what_it_remembers(model, folder):
    assert sorted(p.name for p in folder.iterdir()) == ["arrays.safetensors", "model.json"]
    again = load_model(folder)
    assert type(again) is MF
    for name in ("fingerprint_", "unbiased_rows_", "seconds_", "task_", "scale_", "history_"):
        assert getattr(again, name) == getattr(model, name), name
    assert (again.spec_.shape, again.spec_.density) == (model.spec_.shape, model.spec_.density)


def test_the_scale_and_the_features_of_a_row_method_are_kept(tmp_path):
    data = rows_world()
    model = ConcatVAE(hidden=(4,), epochs=1).fit(data)
    again = load_model(model.save(tmp_path / "m"))
    assert np.array_equal(again.score(), model.score())
    history = (
        data.frame(data.biased).head(5).with_columns(user_id=data.users.values[:1].extend_constant("new", 4))
    )
    assert np.array_equal(again.score(history=history), model.score(history=history))
    again.save(tmp_path / "n")  # a loaded model can be saved
    assert np.array_equal(load_model(tmp_path / "n").score(), model.score())


def test_a_later_save_replaces_the_folder_whole(model, folder):
    (folder / "stale.txt").write_text("left over")
    model.save(folder)
    assert not (folder / "stale.txt").exists()
    load_model(folder)


# ---------------------------------------------------------------------- damage
@pytest.mark.parametrize("how", ["gone", "empty", "cut", "noise"])
def test_a_damaged_file_is_a_file_error(folder, how):
    path = folder / "arrays.safetensors"
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        noise = np.random.default_rng(0).bytes(200)
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "noise": noise}[how])
    with pytest.raises(FileError, match=f"saved model '.*{folder.name}' is damaged"):
        load_model(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"format": "one"}', '{"format": 1}'])
def test_a_damaged_description_is_a_file_error(folder, text):
    (folder / "model.json").write_text(text)
    with pytest.raises(FileError, match="is damaged"):
        load_model(folder)


def test_arrays_that_do_not_fit_the_parameters(folder):
    about = json.loads((folder / "model.json").read_text())
    change(folder, params=about["params"] | {"dim": 5})
    with pytest.raises(FileError, match="is damaged"):
        load_model(folder)


def test_arrays_that_are_missing(folder):
    arrays = load_file(folder / "arrays.safetensors")
    del arrays["state.nets.prediction.user"]
    save_file(arrays, folder / "arrays.safetensors")
    with pytest.raises(FileError, match="is damaged"):
        load_model(folder)


def test_parameters_that_this_version_does_not_have(folder):
    about = json.loads((folder / "model.json").read_text())
    change(folder, params=about["params"] | {"colour": 1})
    with pytest.raises(FileError, match="no parameter of MF 'colour'"):
        load_model(folder)


def test_a_later_format(folder):
    change(folder, format=FORMAT + 1, deconrec="9.0")
    with pytest.raises(
        FileError, match=rf"saved by deconrec 9.0 in format {FORMAT + 1}.*Install that version"
    ):
        load_model(folder)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(FileError, match=r"is no saved model: it has no model.json"):
        load_model(tmp_path)
    with pytest.raises(FileError, match="is no saved model"):
        load_model(tmp_path / "nothing")


def test_a_class_from_elsewhere_must_be_handed_in(tmp_path):
    @dataclass(kw_only=True, eq=False, repr=False)
    class Mine(MF):
        pass

    model = Mine(dim=2, epochs=1).fit(confounded()[0])
    folder = model.save(tmp_path / "m")
    with pytest.raises(
        FileError, match=r"holds a 'Mine', which is no method of this version; pass its class"
    ):
        load_model(folder)
    again = load_model(folder, cls=Mine)
    assert type(again) is Mine
    assert np.array_equal(again.score(), model.score())


# ---------------------------------------------------------------------- what is never overwritten
def test_a_foreign_folder_is_left_alone(model, tmp_path):
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter.txt").write_text("years of work")
    with pytest.raises(FileError, match="it holds other files, which are left alone"):
        model.save(mine)
    assert (mine / "chapter.txt").read_text() == "years of work"
    assert [p.name for p in mine.iterdir()] == ["chapter.txt"]


def test_a_file_is_left_alone(model, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(FileError, match="it is a file"):
        model.save(path)
    assert path.read_text() == "mine"


def test_a_save_that_fails_leaves_the_earlier_model(model, folder, monkeypatch):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    monkeypatch.setattr("deconrec.saving.json.dumps", lambda *a, **k: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(FileError, match="cannot be written: full"):
        model.save(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_an_unfitted_model_is_not_saved(tmp_path):
    with pytest.raises(NotFitted):
        MF().save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_copied_folder_is_the_model(model, folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    shutil.rmtree(folder)
    assert np.array_equal(load_model(moved).score(), model.score())


def test_a_model_trained_elsewhere_loads_on_the_cpu(tmp_path):
    data, _ = dc.simulate.pairs(n_users=40, n_items=20, exposure_rate=0.3, unbiased_share=0.1, seed=0)
    model = dc.MF(dim=2, epochs=1).fit(data)
    folder = model.save(tmp_path / "m")
    about = json.loads((folder / "model.json").read_text())
    change(folder, params=about["params"] | {"device": "cuda:7"})
    loaded = dc.load_model(folder)
    assert loaded.device == "cpu"
    assert (loaded.score() == model.score()).all()
    with pytest.raises(ParameterError, match="torch device of this machine"):
        dc.MF(device="cuda:77").fit(data)
    with pytest.raises(ParameterError, match="torch device of this machine"):
        dc.MF(device="toaster").fit(data)
