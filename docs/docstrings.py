"""The library's docstrings as reStructuredText, for the API reference: sections, `name: meaning` lines, plain signs."""

from __future__ import annotations

import re
from typing import Any

RULE = re.compile(r"^-{3,}$")
ENTRY = re.compile(r"^([\w.*]+(?:, ?[\w.*]+)*): +(.*)$")  # "name: meaning", "a, b: meaning"


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Sphinx's hook: the lines of a docstring are replaced by what is shown."""
    lines[:] = restructured(lines)


def restructured(lines: list[str]) -> list[str]:
    """A docstring's lines as valid reStructuredText.

    A heading with a rule below it becomes bold; under it each `name: meaning` (with its indented continuation) becomes
    an item. Lines that are indented outside a list are equations or tables and stay as they are. No sign of the text
    is markup but backticks.
    """
    out: list[str] = []
    at, listed = 0, False
    while at < len(lines):
        line = lines[at]
        if not line.strip():
            out.append("")
            at += 1
        elif at + 1 < len(lines) and RULE.match(lines[at + 1].strip()):
            out += ["", f"**{line.strip()}**", ""]
            listed, at = True, at + 2
        elif line.startswith(">>> "):
            block, at = taken(lines, at, filled)
            out += ["", *block, ""]
        elif line[0] == " ":
            block, at = taken(lines, at, lambda text: text[:1] == " ")
            out += ["", "::", "", *(f"    {text}" for text in block), ""]
        else:
            paragraph, at = taken(lines, at, filled if listed else flush)
            out += ["", *(items(paragraph) if listed else [escaped(text) for text in paragraph]), ""]
    return out


def filled(line: str) -> bool:
    """Whether a line says anything."""
    return bool(line.strip())


def flush(line: str) -> bool:
    """Whether it does, from its first column on."""
    return line[:1].strip() != ""


def taken(lines: list[str], at: int, more: Any) -> tuple[list[str], int]:
    """The lines from `at` on as long as `more` holds, and where they end."""
    end = at
    while end < len(lines) and more(lines[end]) and (end == at or not begins(lines, end)):
        end += 1
    return lines[at:end], end


def begins(lines: list[str], at: int) -> bool:
    """Whether a heading with its rule begins here."""
    return at + 1 < len(lines) and bool(RULE.match(lines[at + 1].strip()))


def items(paragraph: list[str]) -> list[str]:
    """The lines of a section as a list: each line that is not indented begins an item; prose stays prose."""
    joined: list[str] = []
    for line in paragraph:
        if line[0] == " " and joined:
            joined[-1] += f" {line.strip()}"
        else:
            # "ParameterError: why.  FileError: why." are two.
            joined += re.split(r"(?<=\.)  +(?=\w+: )", line.strip())
    if not any(ENTRY.match(text) for text in joined):
        return [escaped(" ".join(joined))]
    out = []
    for text in joined:
        match = ENTRY.match(text)
        shown = f"**{escaped(match[1])}**: {escaped(match[2])}" if match else escaped(text)
        out.append(f"- {shown}")
    return out


def escaped(text: str) -> str:
    """Plain text whose signs are no markup; what stands in backticks is code."""
    parts = re.split(r"(`+[^`]+`+)", text)
    for k, part in enumerate(parts):
        if k % 2:
            code = f"``{part.strip('`')}``"
            before = parts[k - 1]
            # Code that touches a word needs a null space to be seen as such.
            code = ("" if not before or before[-1] in " (" else "\\ ") + code
            after = parts[k + 1] if k + 1 < len(parts) else ""
            parts[k] = code + ("" if not after or after[0] in " .,;:)?!" else "\\ ")
        else:
            parts[k] = re.sub(r"([\\*_|])", r"\\\1", part)
    return "".join(parts)
