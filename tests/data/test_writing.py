"""Files and folders that are replaced whole or not at all, and what a killed process leaves of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from deconrec.data.writing import MARKER, replaced_file, replaced_folder, write_file
from deconrec.errors import FileError


def test_a_file_is_written_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    write_file(path, "ü\n")
    assert path.read_bytes() == "ü\n".encode()
    write_file(str(path), b"\x00")
    assert path.read_bytes() == b"\x00"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_file(path, "old")

    def refuse(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(FileError, match="No space left"):
        write_file(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(FileError, match="it is a folder"):
        write_file(tmp_path, "x")
    (tmp_path / "a").touch()
    with pytest.raises(FileError, match="cannot be written"):
        write_file(tmp_path / "a" / "b", "x")


def test_a_link_and_a_device_stay_what_they_are(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_file(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    write_file(os.devnull, "x")
    assert Path(os.devnull).is_char_device()


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_a_folder_takes_its_place_at_the_end(tmp_path):
    target = tmp_path / "deep" / "out"
    with replaced_folder(target, "mark") as fresh:
        (fresh / "a").touch()
        assert not target.exists()
        assert fresh.parent == target.parent
    assert files(tmp_path) == ["deep", "deep/out", "deep/out/a", "deep/out/mark"]
    with replaced_folder(str(target), "mark") as fresh:
        (fresh / "b").touch()
        assert (target / "a").exists()
    assert files(target) == ["b", "mark"]
    assert files(tmp_path / "deep") == ["out", "out/b", "out/mark"]


def test_an_empty_folder_may_be_filled(tmp_path):
    with replaced_folder(tmp_path / "out") as fresh:
        (fresh / "a").touch()
    assert files(tmp_path / "out") == [MARKER, "a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_folder(tmp_path, error):
    with replaced_folder(tmp_path / "out", "mark") as fresh:
        (fresh / "old").touch()

    def fail():
        with replaced_folder(tmp_path / "out", "mark") as fresh:
            (fresh / "new").touch()
            raise error

    with pytest.raises(error):
        fail()
    assert files(tmp_path) == ["out", "out/mark", "out/old"]


def test_a_failed_swap_puts_the_old_folder_back(tmp_path, monkeypatch):
    with replaced_folder(tmp_path / "out", "mark") as fresh:
        (fresh / "old").touch()
    rename = Path.rename
    monkeypatch.setattr("deconrec.data.writing._exchanged", lambda one, other: False)  # as on other systems

    def refuse_second(self, target):
        if (self / "new").exists():
            raise OSError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_second)

    def swap():
        with replaced_folder(tmp_path / "out", "mark") as fresh:
            (fresh / "new").touch()

    with pytest.raises(FileError, match="cannot be written: Permission denied"):
        swap()
    assert files(tmp_path) == ["out", "out/mark", "out/old"]


def test_what_must_not_be_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    entered = []

    def replace(name):
        with replaced_folder(tmp_path / name, "mark") as fresh:
            entered.append(fresh)

    with pytest.raises(FileError, match=r"'mark'.*left alone"):
        replace("mine")
    with pytest.raises(FileError, match="it is a file"):
        replace("file")
    with pytest.raises(FileError, match="cannot be written"):
        replace("file/below")
    assert not entered
    assert files(tmp_path) == ["file", "mine", "mine/thesis.tex"]


def test_a_folder_that_was_filled_meanwhile_is_left_alone(tmp_path):
    def race():
        with replaced_folder(tmp_path / "out", "mark"):
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "mine").touch()

    with pytest.raises(FileError, match="left alone"):
        race()
    assert files(tmp_path) == ["out", "out/mine"]


# ------------------------------------------------------------------ what a kill leaves
KILLED = """
import os, signal, sys
from deconrec.data.writing import {how}
with {how}(sys.argv[1]) as fresh:
    print(fresh, flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks")
@pytest.mark.parametrize("how", ["replaced_file", "replaced_folder"])
def test_what_a_killed_process_leaves_goes_with_the_next_output(tmp_path: Path, how: str) -> None:
    """And not what a process that is at work is writing."""
    out = tmp_path / "out.csv"
    command = [sys.executable, "-c", KILLED.format(how=how), str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        fresh = Path(child.stdout.readline().strip())
        write_file(out, "while it is at work")
        assert fresh.exists()
        child.communicate("now\n")
    assert fresh.exists()
    own = tmp_path / "out.csv.tmp-mine"
    own.touch()
    write_file(out, "after the kill")
    assert sorted(p.name for p in tmp_path.iterdir()) == [out.name, own.name]
    assert out.read_text() == "after the kill"


def test_a_name_that_was_swept_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deconrec.data import writing

    real, calls = writing._lock, []

    def lock(path, held):
        calls.append(path)
        if len(calls) == 1:
            path.unlink()
        return real(path, held)

    monkeypatch.setattr(writing, "_lock", lock)
    write_file(tmp_path / "out", "it")
    assert len(calls) == 2
    assert [p.read_text() for p in tmp_path.iterdir()] == ["it"]


def test_without_locks_nothing_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    left = tmp_path / "out.tmp-01234567"
    left.touch()
    write_file(tmp_path / "out", "it")
    assert left.exists()
    assert (tmp_path / "out").read_text() == "it"


# ------------------------------------------------------------------ errors of the disk
def test_an_error_of_the_disk_names_the_output_whoever_met_it(tmp_path: Path) -> None:
    table = pl.DataFrame({"a": [1]})
    for how in (
        lambda path: table.write_parquet(path / "no" / "x"),
        lambda path: table.lazy().sink_csv(path / "no" / "x"),
        lambda path: np.save(path / "no" / "x", np.zeros(1)),
    ):
        with (
            pytest.raises(FileError, match=r"^'.*out' cannot be written: No such file or directory\.$"),
            replaced_file(tmp_path / "out"),
        ):
            how(tmp_path)
    for other in (ZeroDivisionError("(os error 28)"), pl.exceptions.ComputeError("too deep")):
        with pytest.raises(type(other)), replaced_file(tmp_path / "out"):
            raise other
    assert not list(tmp_path.iterdir())
