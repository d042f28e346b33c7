"""`python -m benchmarks [CASE ...]`: run cases, print them against the last results, keep the new ones."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks import measure


def main() -> int:
    """Run the command line above."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "cases", nargs="*", metavar="CASE", help=f"default: all of {', '.join(measure.CASES)}"
    )
    parser.add_argument(
        "--tiny", action="store_true", help="small settings, to see that it runs; nothing is kept"
    )
    parser.add_argument(
        "--peak", nargs=2, metavar=("CASE", "SIDE"), help=argparse.SUPPRESS
    )  # a child of ours
    arguments = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS"):  # read when torch and polars are first imported
        os.environ[name] = "1"
    if arguments.peak:
        print(measure.peak_here(*arguments.peak, tiny=arguments.tiny))
        return 0
    measure.one_thread()
    unknown = sorted(set(arguments.cases) - set(measure.CASES))
    if unknown:
        parser.error(f"there is no case {', '.join(unknown)}; known: {', '.join(measure.CASES)}")
    here = Path(__file__).parent
    for case in arguments.cases or measure.CASES:
        record = measure.run(case, tiny=arguments.tiny)
        print("\n".join(measure.lines(record, measure.last(case, here / "results"))), flush=True)
        if not arguments.tiny:
            measure.keep(record, here)
    return 0


if __name__ == "__main__":
    sys.exit(main())
