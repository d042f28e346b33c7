"""The application: commands, exit codes, and no traceback for a user's mistake.

Exit codes: 0 done, 2 the user's mistake (usage, input, missing data), 1 failed.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

import typer

from deconrec.cli.output import error_line
from deconrec.errors import DeconrecWarning, Error, TrainingError

app = typer.Typer(
    name="deconrec",
    help="Recommendation under hidden confounding: will debiasing help, which method, and how sure are you?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        from deconrec import __version__

        typer.echo(f"deconrec {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Recommendation under hidden confounding: will debiasing help, which method, and how sure are you?"""


def _register() -> None:
    from deconrec.cli import commands

    commands.register(app)


_register()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code (and exits with it when called as a program)."""
    os.environ.setdefault(
        "OMP_NUM_THREADS", "1"
    )  # machines are shared: one thread unless the user says otherwise
    warnings.showwarning = _one_line
    code = 0
    try:
        app(args=None if arguments is None else list(arguments))
    except SystemExit as stop:  # the end of every command: 0, or 2 for a usage error
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except TrainingError as error:
        error_line(str(error))
        code = 1
    except Error as error:
        error_line(str(error))
        code = 2
    except KeyboardInterrupt:
        error_line("stopped; no output was written (what resumes goes on with the same command)")
        code = 1
    except BrokenPipeError:  # the reader of a pipe went away: that is its right
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        error_line(f"{error.strerror or error}: {error.filename or ''}")
        code = 1
    if arguments is None:
        sys.exit(code)
    return code


def _one_line(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    if issubclass(category, DeconrecWarning):
        from deconrec.cli.output import warning_line

        warning_line(str(message))
