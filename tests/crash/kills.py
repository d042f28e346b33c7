"""A command killed at random moments: what stands under a final name is whole, and the end is an undisturbed run's.

Half of the moments are times, one in each of as many equal parts of an undisturbed run. The others are changes of
files, drawn from all that an undisturbed run makes: there a half could be left, and time seldom strikes there. After a
kill the command is, by a coin, killed once more where it goes on, or let finish and begun anew. Two runs are equal if
they are in everything but seconds and versions.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import chdir, closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crash.changes import watched
from deconrec.cli import main
from deconrec.saving import MARKER

CHILD = Path(__file__).with_name("changes.py")
APART = ("seconds", "environment", "versions")  # what two equal runs may differ in
WORKING = re.compile(r"^\.|\.tmp-[0-9a-f]+(\.\w+)?$")  # names that no reader takes for an output
SECONDS = 120  # of one run; the machine may be busy


@dataclass(frozen=True)
class Command:
    """A command whose outputs lie in the working directory.

    Attributes
    ----------
    words: its arguments.
    earlier: arguments of another command, whose outputs bear the same names and stand there before; None = there are
        none.
    """

    words: Sequence[str]
    earlier: Sequence[str] | None = None


def survives(
    command: Command,
    given: Mapping[str, Path],
    folder: Path,
    kills: int,
    *,
    seed: int = 0,
    here: bool = False,
) -> int:
    """Kill it so many times; gives how many of the kills found it at work.

    Parameters
    ----------
    given: files and folders that the command reads, by the name that they get beside it.
    folder: an empty one to work in.
    here: undisturbed runs are made in this process, which is quicker.

    Raises
    ------
    AssertionError: a half-written output, or another end than that of an undisturbed run.
    """
    rng = random.Random(seed)
    before = folder / "before"
    before.mkdir()
    for name, source in given.items():
        (before / name).symlink_to(source)
    if command.earlier is not None:
        _run(command.earlier, before, here)
    earlier = outputs(before, given)
    started = time.perf_counter()
    changes = _run(command.words, undisturbed := _begun(before, "undisturbed"), here)
    length = time.perf_counter() - started
    whole = outputs(undisturbed, given)
    assert whole, "the command writes nothing"
    assert changes > 1, "no change was seen"

    times = [("time", length * (k + rng.random()) / (kills // 2)) for k in range(kills // 2)]
    moments = times + [("change", float(rng.randint(1, changes))) for _ in range(kills - len(times))]
    rng.shuffle(moments)
    struck, place = 0, None
    for turn, (kind, moment) in enumerate(moments):
        when = f"{kind} {moment:.6g}"
        place = place or _begun(before, str(turn))
        done = _killed(command.words, place, kind, moment)
        struck += not done
        check_whole(outputs(place, given), earlier, whole, when)
        if done or rng.random() < 0.5 or turn == len(moments) - 1:
            if not done:
                _run(command.words, place, here)
            found = outputs(place, given)
            assert found == whole, f"another end after {when}: {_difference(found, whole)}"
            left = [p.name for p in place.rglob("*") if WORKING.search(p.name) and p.name != ".deconrec"]
            assert not left, f"{left} is left after {when}"
            shutil.rmtree(place)
            place = None
    return struck


# ---------------------------------------------------------------------- running
def _begun(before: Path, name: str) -> Path:
    place = before.with_name(name)
    shutil.copytree(before, place, symlinks=True)
    return place


def _child(words: Sequence[str], place: Path, last: int = 0) -> subprocess.Popen[bytes]:
    count = place.with_name("changes.txt")
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(place), str(last), str(count), *words],
        cwd=place,
        start_new_session=True,  # with its workers it is a group of its own, which is killed as one
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _run(words: Sequence[str], place: Path, here: bool) -> int:
    """The changes of files that it made."""
    if here:
        made: list[str] = []
        with chdir(place), watched(place, lambda kind, path: made.append(kind) if kind != "read" else None):
            code, text = said(words)
        assert code == 0, text
        return len(made)
    child = _child(words, place)
    _, text = child.communicate(timeout=SECONDS)
    assert child.returncode == 0, text.decode()[-2000:]
    return int(place.with_name("changes.txt").read_text())


def said(words: Sequence[str]) -> tuple[int, str]:
    """The exit code of a command that runs in this process, and what it says on standard error."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as error:
        return main(words), error.getvalue()


def _killed(words: Sequence[str], place: Path, kind: str, when: float) -> bool:
    """Whether it ended before it could be killed."""
    child = _child(words, place, 0 if kind == "time" else int(when))
    try:
        _, text = child.communicate(timeout=when if kind == "time" else SECONDS)
    except subprocess.TimeoutExpired:
        assert kind == "time", "it hangs"
        os.killpg(child.pid, signal.SIGKILL)
        _, text = child.communicate()
    assert child.returncode in (0, -signal.SIGKILL), text.decode()[-2000:]
    return child.returncode == 0


# ---------------------------------------------------------------------- what stands there
def outputs(place: Path, given: Mapping[str, Path]) -> dict[str, Any]:
    """What can be compared of every file of a working directory, but for what it was given; a model is one thing."""
    found: dict[str, Any] = {}
    for path in sorted(place.iterdir()):
        if path.name in given or WORKING.search(path.name):
            continue
        if path.is_dir():
            inside = outputs(path, {})
            found |= (
                {path.name: inside}
                if MARKER in inside
                else {f"{path.name}/{k}": v for k, v in inside.items()}
            )
        else:
            found[path.name] = _content(path)
    return found


def _content(path: Path) -> Any:
    raw = path.read_bytes()
    if path.suffix == ".json":
        return _told(json.loads(raw))
    if path.suffix == ".jsonl":  # of which a last line may be torn: it is no line
        lines = [_told(json.loads(line)) for line in raw[: raw.rfind(b"\n") + 1].splitlines()]
        return {line["key"]: line for line in lines}
    if path.suffix == ".html":
        assert raw.rstrip().endswith(b"</html>"), f"{path.name} is cut off"
    if path.suffix in (".html", ".md"):  # seconds stand among its numbers, which are those of the JSON
        return re.sub(rb"[\d.,]+ *", b"#", raw)
    if path.suffix == ".db":
        with closing(sqlite3.connect(path)) as store:
            assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return "a store"
    return raw


def _told(node: Any) -> Any:
    if isinstance(node, dict):
        # A model's seal stands for its seconds too.
        apart = (*APART, "seal") if "seal" in node and "format" in node else APART
        return {k: _told(v) for k, v in node.items() if k not in apart}
    return [_told(v) for v in node] if isinstance(node, list) else node


def check_whole(
    found: Mapping[str, Any], earlier: Mapping[str, Any], whole: Mapping[str, Any], when: str
) -> None:
    """Every output is that of an undisturbed run or the earlier one; of one that grows, some lines may be there."""
    for name, content in found.items():
        allowed = [of[name] for of in (whole, earlier) if name in of]
        assert allowed, f"after {when} there is {name}, which no undisturbed run leaves"
        if name.endswith(".jsonl"):
            assert all(whole[name].get(key) == line for key, line in content.items()), f"after {when}: {name}"
        else:
            assert content in allowed, f"after {when}: half of {name}"


def _difference(found: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    if found.keys() != whole.keys():
        return f"{sorted(found)} instead of {sorted(whole)}"
    return ", ".join(name for name in whole if found[name] != whole[name])
