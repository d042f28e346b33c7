"""The command line: one file per command, each a thin layer over a function of the library."""

from deconrec.cli.main import main

__all__ = ["main"]
