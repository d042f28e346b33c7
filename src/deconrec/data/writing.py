"""Files and folders replaced whole or not at all, whatever stops the work: a reader sees the old content or the new.

What is written bears a name of its own beside the target, NAME.tmp-1a2b3c4d, until it takes the target's place. Where
writing fails (a full disk), that name goes. A process that is killed leaves it; it holds a lock on it, which ends with
the process, and whoever writes the same target next removes the names that nobody holds.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from deconrec.data.explain import shown
from deconrec.errors import FileError

MARKER = ".deconrec"  # its presence says that a folder was written here and may be replaced whole
_SYSTEM = re.compile(r"\(os error (\d+)\)")  # how polars and safetensors end the text of an error of the disk


def followed(path: str | Path) -> Path:
    """Where a path leads, links followed.

    Raises
    ------
    FileError: no path, because it holds a NUL.
    """
    try:
        return Path(os.path.realpath(path))
    except ValueError as error:
        raise FileError(f"{shown(str(path))} must be a path; {error}.") from error


def write_file(path: str | Path, content: bytes | str) -> None:
    """Writes a file whole: a reader sees the old content or the new, never a part. Text is UTF-8.

    Missing folders are made. A device or pipe (/dev/stdout) is written to as it is.

    Raises
    ------
    FileError: it is a folder, or cannot be written.
    """
    target = followed(path)
    try:
        raw = content.encode() if isinstance(content, str) else content
    except UnicodeEncodeError as error:
        raise FileError(f"'{path}' cannot be written: a text is no UTF-8 ({error.reason}).") from error
    if target.exists() and not target.is_file() and not target.is_dir():
        with disk_errors(path):
            target.write_bytes(raw)
        return
    with replaced_file(path) as fresh:
        fresh.write_bytes(raw)


@contextmanager
def replaced_file(path: str | Path) -> Iterator[Path]:
    """Gives a new name to write to, which takes the place of the file `path` at the end; on an error nothing changes.

    Missing folders are made.

    Raises
    ------
    FileError: it is a folder, or cannot be written.
    """
    target = followed(path)
    if os.path.isdir(target):
        raise FileError(f"'{path}' must be a file to be written; it is a folder. Give another name.")
    with disk_errors(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _fresh(target, folder=False) as fresh:
            yield fresh
            os.replace(fresh, target)


@contextmanager
def replaced_folder(path: str | Path, marker: str = MARKER) -> Iterator[Path]:
    """Gives a new folder to fill, which takes the place of `path` at the end; on an error nothing changes.

    Parameters
    ----------
    path: the folder; its parents are made.
    marker: name of a file that tells an earlier output from a user's own folder; made if the body does not.

    Raises
    ------
    FileError: `path` is a file, or a folder with content but without the marker, or cannot be written.
    """
    target = followed(path)
    check_replaceable(path, marker)
    with disk_errors(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _fresh(target, folder=True) as fresh:
            yield fresh
            (fresh / marker).touch()
            check_replaceable(target, marker)
            _swap(fresh, target)


def check_replaceable(path: str | Path, marker: str) -> None:
    """Refuse to replace what is not an earlier output.

    Raises
    ------
    FileError: a file, or a folder with content but without the file `marker`.
    """
    target = Path(path)
    if os.path.isdir(target):
        if any(target.iterdir()) and not (target / marker).is_file():
            raise FileError(
                f"'{path}' must be a new or empty folder, or an earlier output (with the file '{marker}'); "
                "it holds other files, which are left alone. Give another folder."
            )
    elif os.path.exists(target):
        raise FileError(f"'{path}' must be a folder to be written; it is a file. Give another name.")


# ---------------------------------------------------------------------- what a disk says
@contextmanager
def disk_errors(path: str | Path) -> Iterator[None]:
    """Gives an error of the disk, whatever library met it, as a FileError that names the output; other errors pass.

    Raises
    ------
    FileError: it cannot be written.
    """
    try:
        yield
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            raise
        raise FileError(f"{shown(str(path))} cannot be written: {reason}.") from error


def _reason(error: Exception) -> str | None:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "what should be its folder is a file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # Of a library in another language: an OSError without its number, or an error of its own.
    if isinstance(error, OSError) or type(error).__module__.startswith(("polars", "safetensors")):
        found = _SYSTEM.search(str(error))
        return os.strerror(int(found[1])) if found else str(error) if isinstance(error, OSError) else None
    return None


# ---------------------------------------------------------------------- names of their own
@contextmanager
def _fresh(target: Path, *, folder: bool) -> Iterator[Path]:
    """An empty file or folder beside the target (so that a rename stays on one file system), gone at the end."""
    _sweep(target)
    with ExitStack() as held:
        while True:
            path = target.with_name(
                f"{target.name}.tmp-{secrets.token_hex(4)}{'' if folder else target.suffix}"
            )
            if folder:
                path.mkdir()
            else:
                path.touch(exist_ok=False)
            held.callback(_remove, path)
            if _lock(path, held) is not False:
                break  # else it was swept between these two lines
        yield path


def _sweep(target: Path) -> None:
    """Remove the names beside the target that killed processes left."""
    left = re.compile(re.escape(target.name) + r"\.tmp-[0-9a-f]{8}(" + re.escape(target.suffix) + ")?")
    with suppress(OSError), os.scandir(target.parent) as entries:
        for path in [Path(e.path) for e in entries if left.fullmatch(e.name)]:
            with ExitStack() as held:
                if _lock(path, held):
                    _remove(path)


def _lock(path: Path, held: ExitStack) -> bool | None:
    """Lock a file or folder while `held` is open; False = it is locked or gone, None = there are no locks here."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    held.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


# ---------------------------------------------------------------------- folders
def _swap(fresh: Path, target: Path) -> None:
    if not target.exists():
        fresh.rename(target)
        return
    if _exchanged(fresh, target):  # what was there goes away with the name of the new one
        return
    old = target.with_name(f"{target.name}.tmp-{secrets.token_hex(4)}")
    target.rename(old)
    try:
        fresh.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names in one step, where the system can: at no moment, nor after a kill, is there nothing."""
    if sys.platform != "linux":
        return False
    import ctypes

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # an older C library
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)
