"""docs/reference/commands.md: every command with its help."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from markup import NOTICE, code

WIDTH = 90


def commands() -> Iterator[tuple[str, Any]]:
    """("compare", command), ("data describe", command), ...: every command, groups left out."""
    from typer.main import get_command

    from deconrec.cli.main import app

    def below(prefix: str, group: Any) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            full = f"{prefix} {name}".strip()
            if hasattr(command, "commands"):
                yield from below(full, command)
            else:
                yield full, command

    yield from below("", get_command(app))


def commands_page() -> str:
    """docs/reference/commands.md."""
    found = list(commands())
    links = ", ".join(f"[`{name}`](#{name.replace(' ', '-')})" for name, _ in found)
    out = [
        NOTICE,
        "# Commands",
        f"{links}. `deconrec --version` prints the version; `-h` or `--help` works everywhere.",
        "Exit codes: 0 done, 2 the user's mistake (usage, input, missing data), 1 failed. JSON holds null, never NaN. "
        "An existing output is replaced, whole, at the end. Every command uses one thread unless "
        "`OMP_NUM_THREADS` says otherwise.",
    ]
    for name, command in found:
        out += [f'<a id="{name.replace(" ", "-")}"></a>', f"## `{name}`", code(help_text(name, command))]
    return "\n\n".join(out) + "\n"


def help_text(name: str, command: Any) -> str:
    """A command's help at a fixed width, from its parameters: the same whatever the terminal and version of typer."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and "--help" not in p.opts]
    usage = " ".join(["deconrec", name, *((p.metavar or p.name.upper()) for p in arguments), "[OPTIONS]"])
    out = [f"Usage: {usage}", ""]
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        out += [*textwrap.wrap(" ".join(paragraph.split()), WIDTH), ""]
    if arguments:
        out += ["Arguments", *_listed([((p.metavar or p.name.upper()), _says(p)) for p in arguments]), ""]
    out += ["Options", *_listed([(_option(p), _says(p)) for p in options])]
    return "\n".join(out)


def _option(option: Any) -> str:
    names = ", ".join(sorted(option.opts, key=len))
    if option.is_flag:
        return names
    whole = isinstance(option.default, int) or _least(option) is not None
    return f"{names} {option.metavar or ('N' if whole else 'TEXT')}"


def _least(parameter: Any) -> int | None:
    """The lower bound: typer up to 0.15 keeps it in the parameter's type, later versions in the parameter."""
    own = getattr(parameter, "min", None)
    return own if own is not None else getattr(getattr(parameter, "type", None), "min", None)


def _says(parameter: Any) -> str:
    facts = []
    if parameter.required and parameter.param_type_name == "option":
        facts.append("required")
    default = parameter.default
    if (
        parameter.param_type_name == "option"
        and not parameter.is_flag
        and isinstance(default, str | int | float)
    ):
        facts.append(f"default: {default}")
    if (low := _least(parameter)) is not None:
        facts.append(f"at least {low}")
    return (parameter.help or "") + (f" [{'; '.join(facts)}]" if facts else "")


def _listed(rows: list[tuple[str, str]]) -> list[str]:
    left = max(len(name) for name, _ in rows) + 4
    out = []
    for name, says in rows:
        lines = textwrap.wrap(says, WIDTH - left) or [""]
        out += [f"  {name:<{left - 2}}{lines[0]}", *(" " * left + line for line in lines[1:])]
    return [line.rstrip() for line in out]
