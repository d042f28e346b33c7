"""Changes of files under a folder, seen before they are made: counted, refused, or the last thing a process does.

    python changes.py FOLDER 3 COUNT fit mf data.toml --out m

runs the command line and ends as by `kill -9`, with all that it started, before the third change; 0 = never. How many
changes there were is written to COUNT. Only what Python itself opens, renames, removes and makes is seen: not the bytes
that go into an open file, nor what libraries of other languages write.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Act = Callable[
    [str, str], None
]  # told the kind of change (open, rename, mkdir, remove; or read) and the path
_KINDS = {
    "open": "open",
    "os.rename": "rename",
    "os.mkdir": "mkdir",
    "os.remove": "remove",
    "os.rmdir": "remove",
    "os.truncate": "open",
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_state: dict[str, Any] = {"installed": False, "folder": "", "act": None}


def _hook(event: str, given: tuple[Any, ...]) -> None:
    act, kind = _state["act"], _KINDS.get(event)
    if act is None or kind is None or not isinstance(given[0], str | bytes | os.PathLike):
        return
    if event == "open" and not int(given[2]) & _WRITES:
        kind = "read"
    path = os.path.abspath(os.fsdecode(given[0]))
    if path.startswith(_state["folder"] + os.sep):
        act(kind, path)


@contextmanager
def watched(folder: Path, act: Act) -> Iterator[None]:
    """Have `act` told of every change and reading under the folder; what it raises is what that fails with."""
    if not _state["installed"]:  # for good: Python removes no such hook
        sys.addaudithook(_hook)
        _state["installed"] = True
    _state["folder"], _state["act"] = os.path.abspath(folder), act
    try:
        yield
    finally:
        _state["act"] = None


def main() -> int:
    """See the text of this file."""
    folder, last, count, *words = sys.argv[1:]
    made = 0

    def act(kind: str, path: str) -> None:
        nonlocal made
        made += kind != "read"
        if kind != "read" and made == int(last):
            os.killpg(0, signal.SIGKILL)

    from deconrec.cli.main import main as command

    with watched(Path(folder), act):
        code = command(words)
    Path(count).write_text(str(made))
    return code


if __name__ == "__main__":
    sys.exit(main())
