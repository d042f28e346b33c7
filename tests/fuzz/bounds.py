"""Cases one after the other: each in bounded time, all of them in bounded memory, and a failure names its seed."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 30  # of one case; the machine may be busy
MOST = 1 << 29  # bytes by which the peak of memory may grow over all cases


class TookTooLong(BaseException):
    """No code under test may catch this."""


@contextmanager
def alarm(seconds: float = SECONDS) -> Iterator[None]:
    """Ends what takes longer, where the system can."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: Any) -> None:
        raise TookTooLong(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def peak() -> int:
    """The largest memory of this process so far, in bytes; 0 where the system does not say."""
    if sys.platform != "linux":
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else 0


def each(cases: int, case: Callable[[random.Random], bool]) -> None:
    """Run a case for each of the seeds 0, 1, ...; FUZZ_SEED=7 in the environment runs that one alone.

    Parameters
    ----------
    case: takes its generator, gives whether the input was taken; raises where something is wrong.
    """
    alone = os.environ.get("FUZZ_SEED")
    seeds = range(cases) if alone is None else [int(alone)]
    taken, start = 0, 0
    for k, seed in enumerate(seeds):
        try:
            with alarm():
                taken += case(random.Random(seed))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            raise AssertionError(
                f"seed {seed} (alone: FUZZ_SEED={seed}): {type(error).__name__}: {error}"
            ) from error
        if k == min(20, len(seeds) - 1):  # the code that the work needs is loaded by now
            start = peak()
    assert peak() - start < MOST, f"the peak of memory grew by {peak() - start:,} bytes"
    assert alone or 0 < taken < len(seeds), "all inputs were taken, or none: the cases test one side alone"
