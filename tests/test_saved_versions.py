"""Models that earlier versions saved still answer as they did; and hostile folders are refused with a reason."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from deconrec.checks.fixtures import confounded
from deconrec.data.sealed import OpenFolder, checksum, seal
from deconrec.data.tensors import checked_csr, read_tensors
from deconrec.errors import FileError
from deconrec.methods.mf import MF
from deconrec.saving import _MIGRATIONS, FORMAT, load_model, read_about
from fuzz.bounds import each
from fuzz.mutate import changed_json

HERE = Path(__file__).parent / "fixtures"
KEPT = sorted((HERE / "models").glob("format-*/*"))


def _maker():
    spec = importlib.util.spec_from_file_location("make_models", HERE / "make_models.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------------- earlier versions
@pytest.mark.parametrize("place", KEPT, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_kept_model_gives_the_answers_that_it_gave(place):
    kept = json.loads((place / "answers.json").read_text())
    again = _maker().answers(load_model(place / "model"), kept["asked"])
    assert set(again) == set(kept["answers"])
    for name, value in kept["answers"].items():
        if name == "recommended":
            assert again[name] == value
        else:  # another machine's arithmetic may differ in the last bits
            np.testing.assert_allclose(again[name], value, rtol=1e-6, atol=1e-7, err_msg=name)


def test_every_format_has_its_models_and_a_way_to_the_present_one():
    formats = {int(p.parent.name.removeprefix("format-")) for p in KEPT}
    assert formats == set(range(1, FORMAT + 1))
    assert set(_MIGRATIONS) == set(range(1, FORMAT))
    maker = _maker()
    for number in formats:
        kept = {p.name for p in KEPT if p.parent.name == f"format-{number}"}
        assert kept == set(maker.MODELS), "run tests/fixtures/make_models.py"


def test_an_earlier_model_is_saved_anew_in_the_present_format(tmp_path):
    old = load_model(HERE / "models" / "format-1" / "esmm-impressions" / "model")
    new = load_model(old.save(tmp_path / "m"))
    assert read_about(tmp_path / "m")["format"] == FORMAT
    assert new.context_.same(old.context_)
    assert new.users_.same(old.users_)


# ---------------------------------------------------------------------- where a model comes from
@pytest.fixture(scope="module")
def model():
    return MF(dim=2, epochs=2).fit(confounded()[0])


@pytest.fixture
def folder(model, tmp_path):
    return model.save(tmp_path / "model")


def test_what_a_folder_says_of_its_model(folder):
    data = confounded()[0]
    about = read_about(folder)
    assert about["about"]["data"]["biased_rows"] == len(data.biased)
    assert about["about"]["data"]["unbiased_rows"] == len(data.unbiased)
    assert about["about"]["data"]["mean_unbiased"] == data.outcome(data.unbiased).mean()
    assert about["about"]["protocol"]["stopped_on"] == "a part of the biased log, drawn by the seed"
    assert about["about"]["features"]["user"]["names"] == list(data.user_features.names)
    assert about["about"]["diagnosis"] is None
    assert about["unbiased_rows"] == 0  # MF makes no use of them
    assert about["params"]["dim"] == 2
    assert load_model(folder).about_ == about["about"]


def test_arrays_are_as_readable_as_the_description(folder):
    modes = {p.name: p.stat().st_mode for p in folder.iterdir()}
    assert modes["arrays.safetensors"] == modes["model.json"]


# ---------------------------------------------------------------------- what is refused
def rewrite(folder, arrays=None, **changes):
    """Somebody who knows the format writes what they like, with all checksums right."""
    if arrays is not None:
        save_file(arrays, folder / "arrays.safetensors")
    about = json.loads((folder / "model.json").read_text()) | changes
    about["files"] = {"arrays.safetensors": checksum(folder / "arrays.safetensors")}
    (folder / "model.json").write_text(json.dumps(about | {"seal": seal(about)}))


@pytest.mark.parametrize("name", ["arrays.safetensors", "model.json"])
def test_any_flipped_bit_is_noticed(folder, name):
    path = folder / name
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(content), 60):
        changed = bytearray(content)
        changed[at] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        if name == "model.json" and json_or_none(changed) == json.loads(content):
            continue  # white space between tokens says nothing
        with pytest.raises(FileError):
            load_model(folder)


def json_or_none(content):
    try:
        return json.loads(content)
    except ValueError:
        return None


@pytest.mark.parametrize("keep", [0, 7, 8, 100, -1])
def test_a_file_that_was_cut_off(folder, keep):
    content = (folder / "arrays.safetensors").read_bytes()
    (folder / "arrays.safetensors").write_bytes(content[:keep])
    with pytest.raises(FileError, match=r"'arrays.safetensors' must have [\d,]+ bytes"):
        load_model(folder)


@pytest.mark.parametrize("name", ["arrays.safetensors", "model.json"])
def test_links_are_not_followed(folder, tmp_path, name):
    shutil.move(folder / name, tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileError, match="not a link"):
        load_model(folder)


def test_a_folder_that_is_a_link_is_somebodys_choice(folder, tmp_path, model):
    (tmp_path / "current").symlink_to(folder)
    assert np.array_equal(load_model(tmp_path / "current").score(), model.score())


def test_a_pipe_does_not_hang(folder):
    (folder / "arrays.safetensors").unlink()
    os.mkfifo(folder / "arrays.safetensors")
    with pytest.raises(FileError, match="regular file"):
        load_model(folder)


@pytest.mark.parametrize("name", ["../model.json", "..", "", "a/b"])
def test_only_plain_names_are_opened(folder, name):
    with OpenFolder(folder) as opened, pytest.raises(FileError, match="not a path"):
        opened.read(name)


def test_a_description_beyond_bounds(folder, monkeypatch):
    monkeypatch.setattr("deconrec.saving.LARGEST_JSON", 100)
    with pytest.raises(FileError, match="at most 100 bytes"):
        load_model(folder)
    monkeypatch.undo()
    (folder / "model.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(FileError, match="is damaged"):
        load_model(folder)


@pytest.mark.parametrize("dim", [10**6, 10**9, 10**15])
def test_parameters_cannot_ask_for_memory_that_the_arrays_do_not_bear_out(folder, dim):
    about = json.loads((folder / "model.json").read_text())
    rewrite(folder, params=about["params"] | {"dim": dim})
    with pytest.raises(FileError, match=r"must have the shape|damaged"):
        load_model(folder)


@pytest.mark.parametrize("what", ["n_users", "n_items"])
def test_sizes_cannot_either(folder, what):
    about = json.loads((folder / "model.json").read_text())
    rewrite(folder, spec=about["spec"] | {what: 10**9})
    with pytest.raises(FileError, match="sizes of ids and arrays"):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("seen.indices", lambda a: a + 1000, "columns of 'seen' must lie in"),
        ("seen.indices", lambda a: a - 1000, "columns of 'seen' must lie in"),
        ("seen.indptr", lambda a: a[::-1].copy(), "rows of 'seen' must be"),
        ("seen.indptr", lambda a: a * 1000, "rows of 'seen' must be"),
        ("ids.user.ends", lambda a: a + 1, "must be the rising ends"),
        ("ids.user.ends", lambda a: -a, "must be the rising ends"),
        ("ids.item.numbers", lambda a: a * 0, "sizes of ids and arrays"),
        ("item_mean", lambda a: a[:-1], "sizes of ids and arrays"),
        ("state.nets.prediction.item", lambda a: a.T.copy(), "must have the shape"),
        ("state.nets.prediction.item", lambda a: a * np.float32("nan"), "must be 25 finite numbers"),
    ],
)
def test_arrays_that_lie_are_refused(folder, name, change, says):
    arrays = load_file(folder / "arrays.safetensors")
    rewrite(folder, arrays | {name: change(arrays[name])})
    with pytest.raises(FileError, match=says):
        load_model(folder)


def tensors(header, body=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + body


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "at least 8 bytes"),
        ((1 << 62).to_bytes(8, "little") + b"{}", "the header says"),
        ((100).to_bytes(8, "little") + b"{}", "the header says 100 bytes; at most 2"),
        (tensors([]), "must be a JSON object"),
        (tensors(b"\xff{}"), "codec can't decode"),
        (tensors({"a": 1}), "must be described by"),
        (tensors({"a": entry("PICKLE")}, b"1234"), "has elements 'PICKLE'"),
        (tensors({"a": entry(shape=(-1,))}, b"1234"), "must be whole numbers"),
        (tensors({"a": entry(shape=(True,))}, b"1234"), "must be whole numbers"),
        (tensors({"a": entry(shape=(1.0,))}, b"1234"), "must be whole numbers"),
        (tensors({"a": entry(shape=(1 << 40, 1 << 40))}, b"1234"), "does not take the bytes"),
        (tensors({"a": entry(shape=(2,))}, b"1234"), "does not take the bytes"),
        (tensors({"a": entry(offsets=(4, 8))}, b"12345678"), "must lie at byte 0"),
        (tensors({"a": entry()}, b"12"), "must lie at byte 0 and end by 2"),
        (tensors({"a": entry(), "b": entry()}, b"1234"), "must lie at byte 4"),
        (tensors({"a": entry()}, b"12345"), "1 bytes belong to no array"),
    ],
)
def test_a_header_that_lies(content, says):
    with pytest.raises(ValueError, match=says):
        read_tensors(content)


def test_arrays_are_read_as_the_library_writes_them(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "bool": rng.random(3) > 0.5,
        "empty": np.zeros((0, 4), np.float32),
        "scalar": np.array(2.5),
        "bytes": rng.integers(0, 9, (2, 3)).astype(np.uint8),
        "wide": rng.integers(-9, 9, (2, 3, 4)),
        "half": rng.random(5).astype(np.float16),
    }
    save_file(arrays, tmp_path / "a.safetensors", metadata={"who": "test"})
    again = read_tensors((tmp_path / "a.safetensors").read_bytes())
    assert set(again) == set(arrays)
    for name, value in arrays.items():
        assert again[name].dtype == value.dtype, name
        assert np.array_equal(again[name], value), name
        assert again[name].shape == value.shape, name


def test_a_sparse_matrix_needs_as_many_values_as_places():
    with pytest.raises(ValueError, match="needs 1 values"):
        checked_csr(np.array([0, 1]), np.array([0]), (1, 2), "x", np.zeros(2))


def test_a_model_that_is_replaced_while_it_is_read(model, folder, monkeypatch):
    """The description is of the old model, the arrays of the new one: the new one is read from the start."""
    other = MF(dim=3, epochs=1).fit(confounded()[0])
    read, turns = OpenFolder.read, []

    def slow(self, name, **options):
        if name == "arrays.safetensors" and not turns:
            turns.append(name)
            other.save(folder)
        return read(self, name, **options)

    monkeypatch.setattr(OpenFolder, "read", slow)
    assert load_model(folder).dim == 3


SAVES = """
import itertools, sys
from deconrec.saving import load_model
one, other = load_model(sys.argv[1]), load_model(sys.argv[2])
print("ready", flush=True)
for turn in itertools.count():
    (one, other)[turn % 2].save(sys.argv[3])
"""


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_saver_that_is_killed_leaves_the_earlier_model_or_the_new_one(model, tmp_path, kills):
    other = MF(dim=3, epochs=1).fit(confounded()[0])
    one, two, target = (tmp_path / name for name in ("one", "two", "target"))
    model.save(one)
    other.save(two)
    other.save(target)
    rng = random.Random(0)
    for _ in range(kills):
        child = subprocess.Popen(
            [sys.executable, "-c", SAVES, str(one), str(two), str(target)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        end = time.monotonic() + rng.uniform(0.1, 1.0)
        while time.monotonic() < end:
            assert load_model(target).dim in (2, 3)  # and while it is at work
        child.kill()
        child.wait()
        child.stdout.close()
        assert load_model(target).dim in (2, 3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cases", [60, pytest.param(3000, marks=pytest.mark.slow)])
def test_whoever_knows_the_checksums_gets_a_model_or_a_reason(tmp_path, cases):
    """Descriptions and arrays are changed at random and sealed again: FileError or a model, and nothing else."""
    places = [p for p in KEPT if p.parent.name == f"format-{FORMAT}"]

    def case(rng):
        shutil.rmtree(tmp_path / "m", ignore_errors=True)
        folder = shutil.copytree(rng.choice(places) / "model", tmp_path / "m")
        about = json.loads((folder / "model.json").read_text())
        if rng.random() < 0.6:
            for _ in range(rng.randint(1, 2)):
                about = changed_json(about, rng)
        else:
            content = bytearray((folder / "arrays.safetensors").read_bytes())
            for _ in range(rng.randint(1, 4)):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            (folder / "arrays.safetensors").write_bytes(content)
        if isinstance(about, dict):
            about = {**about, "files": {"arrays.safetensors": checksum(folder / "arrays.safetensors")}}
            about["seal"] = seal(about)
        (folder / "model.json").write_text(json.dumps(about))
        try:
            load_model(folder)
        except FileError:
            return False
        return True

    each(cases, case)
