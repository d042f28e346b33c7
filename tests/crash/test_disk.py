"""A full disk, outputs that cannot be, inputs that vanish: one clear line, and what was there stays as it was.

Nothing here rests on permissions, which mean nothing to root: a change of a file is refused as a full disk would refuse
it, the system limits the size of files, or what should be a folder is a file.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import deconrec as dc
from crash.changes import watched
from crash.kills import check_whole, outputs, said
from crash.test_kills import SPEC, WORLD
from deconrec.data.files import write_tables
from deconrec.data.writing import MARKER
from deconrec.methods import make
from deconrec.saving import MARKER as MODEL
from deconrec.serving.log import ListLog

# Commands, their outputs in the working directory, every kind of output among them.
LINES = {
    "methods": "methods --json o.json",
    "data list": "data list --json o.json",
    "data describe": "data describe data --json o.json",
    "data convert": "data convert data --out o",
    "data convert to inter": "data convert data --out o --to inter",
    "data convert to a file": "data convert data --out o.csv --overwrite",
    "data split": "data split data --out o --json o.json",
    "fit": "fit mf data --out o --set epochs=1 --json o.json",
    "fit and diagnose": "fit ease data --out o --diagnose",
    "predict": "predict model pairs.csv --out o.parquet",
    "predict to csv": "predict model pairs.csv --out o.csv",
    "recommend": "recommend model --out o.parquet",
    "recommend to csv": "recommend model --out o.csv",
    "served": "served lists --outcomes outcomes.csv --out o.csv",
    "tune": "tune mf data --trials 2 --splits 1 --confirm 1 --set epochs=1 --json o.json --report o.html --out o",
    "tune with a store": "tune mf data --trials 2 --splits 1 --confirm 1 --set epochs=1 --storage sqlite:///o.db",
    "compare": f"compare {WORLD} --methods ease,random --seeds 2 --json o.json --report o.html",
    "reproduce": "reproduce small.toml --seeds 1 --trials 0 --results o --json o.json",
    "evaluate": "evaluate model other --propensity popularity --metrics mse --json o.json --report o.html",
    "sensitivity": "sensitivity model other --gammas 2 --propensity popularity --json o.json --report o.html",
    "value": "value data --methods ease --shares 0,0.2 --seeds 1 --json o.json --report o.html",
    "diagnose": "diagnose data --json o.json --report o.html",
    "effects": "effects rows --outcomes every.parquet --dims 1 --bootstrap 2 --json o.json --report o.html",
    "report": "report c.json --out o.html --pictures o",
    "simulate": "simulate sim-effects --set n_users=60 --set n_items=12 --out o",
    "info": "info model --json o.json",
}
SLOW = ("diagnose", "fit and diagnose", "report", "compare", "reproduce", "value", "evaluate", "sensitivity")
FULL = ("open", "rename", "mkdir")  # what a full disk refuses
# The third is sqlite's.
FULL_DISK = (os.strerror(errno.ENOSPC), os.strerror(errno.EFBIG), "disk I/O error", "disk is full")
VANISHES = ("open", "rename", "mkdir", "read")
KEPT = (".runs.jsonl", ".parts-")  # what was done, for the same command to go on from


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("given")
    data, _ = dc.simulate.pairs(n_users=60, n_items=30, exposure_rate=0.3, unbiased_share=0.3, seed=1)
    (folder / "data").mkdir()
    write_tables(data, folder / "data")
    (folder / "small.toml").write_text(SPEC)
    make("ease").fit(data).save(folder / "model")
    (folder / "other").mkdir()
    write_tables(dc.simulate.pairs(n_users=60, n_items=30, exposure_rate=0.3, seed=2)[0], folder / "other")
    data.frame(data.biased).write_csv(folder / "pairs.csv")
    dc.compare(data, ["random", "ease"], seeds=2).write(folder / "c.json")
    effects, truth = dc.simulate.effects(n_users=60, n_items=8, n_confounders=1, seed=0)
    make("concat-vae:epochs=1").fit(effects).save(folder / "rows")
    assert truth.rating is not None
    user, item = (x.ravel() for x in np.indices(effects.shape))
    every = pl.DataFrame({"user_id": user, "item_id": item, "rating": truth.rating.ravel()})
    every.write_parquet(folder / "every.parquet")
    every.head(20).write_csv(folder / "outcomes.csv")
    log = ListLog(folder / "lists")
    log.write(
        {
            "list_id": "l",
            "model": "m",
            "user_id": 0,
            "source": "model",
            "explore": "epsilon-greedy",
            "context": "c",
        }
        | {"item_id": [1, 2], "score": [0.5, 0.5], "propensity": [0.5, 0.5]}
    )
    log.close()
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture
def place(given: dict[str, Path], tmp_path: Path) -> Path:
    """A working directory with links to what commands read."""
    place = tmp_path / "place"
    place.mkdir()
    for name, source in given.items():
        (place / name).symlink_to(source)
    return place


def undisturbed(
    words: list[str], place: Path, given: dict[str, Path], kinds: tuple[str, ...]
) -> tuple[Any, int]:
    """What it writes, which is removed again, and how many events of these kinds there are."""
    events = []
    with chdir(place), watched(place, lambda kind, path: events.append(kind)):
        code, text = said(words)
    assert code == 0, text
    whole = outputs(place, given)
    assert whole
    for path in list(place.iterdir()):
        if path.name not in given:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return whole, sum(kind in kinds for kind in events)


def earlier_outputs(whole: dict[str, Any], place: Path) -> None:
    """Others under the same names; but for a store and a file of lines, which are gone on with."""
    for name, content in whole.items():
        path = place / name
        if isinstance(content, dict) and MODEL in content:
            make("popularity").fit(dc.simulate.pairs(n_users=9, n_items=5, seed=0)[0]).save(path)
        elif path.suffix not in (".jsonl", ".db"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("1" if path.suffix == ".json" else "the earlier one </html>")
            if name in ("o/data.toml", "o/split.json"):
                (path.parent / MARKER).touch()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes, whoever writes it."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def refuse(number: int, and_later: bool) -> Any:
    """A full disk: no file is opened to be written, renamed or made, from the N-th time on or only then."""
    seen = 0

    def act(kind: str, path: str) -> None:
        nonlocal seen
        seen += kind in FULL
        if kind in FULL and (seen == number or (and_later and seen > number and kind != "rename")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    return act


def take_away(inputs: list[Path], number: int) -> Any:
    """Remove these at the N-th change or reading; 0 = now."""
    seen = 0

    def act(kind: str, path: str) -> None:
        nonlocal seen
        seen += kind in VANISHES
        if kind in VANISHES and seen == number:
            for one in inputs:
                one.unlink(missing_ok=True)

    if number == 0:
        for one in inputs:
            one.unlink()
    return act


def check_refused(code: int, text: str, reasons: tuple[str, ...], place: Path, what: str) -> None:
    last = (text.strip().splitlines() or [""])[-1]
    assert code in (1, 2), f"{what}: exit code {code}: {text}"
    assert last.startswith("deconrec: "), f"{what}: {text}"
    assert any(reason in last for reason in reasons), f"{what}: {text}"
    left = [p.name for p in place.rglob("*.tmp-*")]
    assert not left, f"{what}: {left} is left"


def some(total: int, name: str, every: bool) -> list[int]:
    """Which of so many events are tried, by a fixed draw: two, or all but where they are very many."""
    return sorted(random.Random(name).sample(range(1, total + 1), min(24 if every else 2, total)))


EVERY = [
    *(pytest.param(name, False, id=name, marks=[pytest.mark.slow] if name in SLOW else []) for name in LINES),
    *(pytest.param(name, True, id=f"{name}: every time", marks=pytest.mark.slow) for name in LINES),
]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of the system")
@pytest.mark.parametrize(("name", "every"), EVERY)
def test_a_full_disk(name: str, every: bool, place: Path, given: dict[str, Path]) -> None:
    words = LINES[name].split()
    whole, times = undisturbed(words, place, given, FULL)
    earlier_outputs(whole, place)
    earlier = outputs(place, given)
    for and_later in (True, False):
        for number in some(times, f"{name}{and_later}", every):
            with chdir(place), watched(place, refuse(number, and_later)):
                code, text = said(words)
            what = f"from {number} of {times} on" if and_later else f"{number} of {times}"
            found = outputs(place, given)
            if code:
                check_refused(code, text, FULL_DISK, place, what)
            else:  # what was refused was no need: a folder that was there, say
                assert {k: found[k] for k in whole} == whole, what
            check_whole(found, earlier, whole, what)
    for size in (0, 20) if every else (0,):
        with chdir(place), largest_file(size):
            code, text = said(words)
        check_refused(code, text, FULL_DISK, place, f"{size} bytes")
        check_whole(outputs(place, given), earlier, whole, f"{size} bytes")
    with chdir(place):
        code, text = said(words)
    assert code == 0, text
    assert {k: v for k, v in outputs(place, given).items() if k in whole} == whole
    assert not [p for p in place.iterdir() if any(k in p.name for k in KEPT)]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in LINES]
)
def test_an_output_under_what_is_a_file(name: str, place: Path, given: dict[str, Path]) -> None:
    words = LINES[name].split()
    whole, _ = undisturbed(words, place, given, ())
    (place / "file").write_text("mine")
    options = [k for k, word in enumerate(words) if word.startswith(("o.", "sqlite:")) or word == "o"]
    for k in options:
        changed = list(words)
        changed[k] = words[k].replace("o", "file/o", 1) if ":" not in words[k] else "sqlite:///file/o.db"
        with chdir(place):
            code, text = said(changed)
        assert code == 2, f"{changed[k]}: {code}: {text}"
        check_refused(code, text, ("file",), place, changed[k])
        check_whole(outputs(place, given | {"file": place}), {}, whole, changed[k])
    assert (place / "file").read_text() == "mine"


@pytest.mark.parametrize(("name", "every"), EVERY)
def test_an_input_that_vanishes(name: str, every: bool, place: Path, given: dict[str, Path]) -> None:
    """Whenever it does, before the start (0) or later: either nothing more was wanted of it, or a clear refusal."""
    words = LINES[name].split()
    whole, times = undisturbed(words, place, given, VANISHES)
    inputs = [place / n for n in given]
    for number in [0, *some(times, name, every)]:
        with chdir(place), watched(place, take_away(inputs, number)):
            code, text = said(words)
        if code:
            check_refused(code, text, ("",), place, f"{number} of {times}")
        check_whole(outputs(place, given), {}, whole, f"{number} of {times}")
        for path in place.iterdir():
            if path.name not in given:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for n, source in given.items():
            if not (place / n).is_symlink():
                (place / n).symlink_to(source)


def test_every_command_that_writes_is_here() -> None:
    from typer.main import get_command

    from deconrec.cli.main import app

    writing = {"out", "json", "report", "pictures", "results", "storage"}

    def commands(group: Any, before: str = "") -> Iterator[str]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from commands(command, f"{before}{name} ")
            elif writing & {p.name for p in command.params}:
                yield before + name

    # `demo` is made of the others; it takes a minute.
    missing = [
        c for c in commands(get_command(app)) if not any(f"{w} ".startswith(f"{c} ") for w in LINES.values())
    ]
    assert missing == ["demo"]
