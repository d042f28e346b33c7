"""A search for parameters: a table for the screen, and one HTML page with its trials; no network, no script."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deconrec.experiments.results import Tuned, TunedTrial
from deconrec.report.page import rendered, write_page
from deconrec.report.plots import (
    ACCENT,
    GOOD,
    INK,
    MUTED,
    SURFACE,
    WIDTH,
    drawing,
    inline,
)
from deconrec.report.reading import NONE

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 8  # trials on the screen
SCATTERED = 4  # parameters that are drawn
WORDS = {"complete": "judged on all splits", "pruned": "given up after one split", "failed": "failed"}


def ranked(found: Tuned) -> list[TunedTrial]:
    """Trials, those with the most splits first, and of these the best first."""
    return sorted(found.trials, key=lambda t: (t.state == "failed", -len(t.scores), -(t.score or -1e300)))


def table(found: Tuned) -> Table:
    """The best trials, for the screen."""
    from rich.table import Table

    out = Table(title=f"tune {found.method} on {found.dataset}: the best of {len(found.trials)} trials")
    for name, justify in (
        ("trial", "right"),
        ("score", "right"),
        ("splits", "right"),
        ("parameters", "left"),
    ):
        out.add_column(name, justify=justify)  # type: ignore[arg-type]  # two of rich's words
    for trial in ranked(found)[:SHOWN]:
        out.add_row(str(trial.number), number(trial.score), str(len(trial.scores)), params_of(trial.params))
    return out


def number(value: float | None) -> str:
    """A score, to four places."""
    return NONE if value is None else f"{value:.4f}"


def params_of(params: dict[str, Any]) -> str:
    """Parameters in one line."""
    return ", ".join(f"{k} = {_value(v)}" for k, v in params.items()) or "as it is"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _course(found: Tuned) -> str:
    """Scores by trial, and the best so far."""
    width, height = WIDTH, 230.0
    judged = [t for t in found.trials if t.score is not None and t.state != "failed"]
    with drawing(width, height) as figure:
        ax = figure.add_axes((56 / width, 42 / height, 1 - 70 / width, 1 - 60 / height))
        for state, shape, colour in (("pruned", "x", MUTED), ("complete", "o", ACCENT)):
            of = [t for t in judged if t.state == state]
            style: dict[str, Any] = {"color": colour, "marker": shape, "ls": "", "ms": 5.5}
            ax.plot([t.number for t in of], [float(t.score or 0.0) for t in of], **style)
        best, line = None, []
        for t in judged:
            if t.state == "complete" and (best is None or (t.score or 0.0) > best):
                best = t.score
            if best is not None:
                line.append((t.number, best))
        ax.step([n for n, _ in line], [b for _, b in line], where="post", color=GOOD, lw=1.8)
        if found.default is not None:
            ax.axhline(found.default, color=INK, lw=1, ls=(0, (3, 3)))
        kept = next((t for t in found.trials if t.params == found.params and t.score is not None), None)
        if kept is not None:
            ax.plot(kept.number, float(kept.score or 0.0), "D", ms=8, color=GOOD, mec=SURFACE, mew=1)
        ax.spines[["right", "top"]].set_visible(False)
        ax.set_xlabel("trial")
        ax.text(0, 1.03, "score, higher is better ↑", transform=ax.transAxes, color=MUTED, fontsize=11.5)
        return inline(figure, "course", "Score of each trial, and the best so far")


def _scatter(found: Tuned, name: str, key: str) -> str | None:
    """Scores over the values of one parameter, among trials that set it."""
    points = [
        (t.params[name], float(t.score or 0.0))
        for t in found.trials
        if name in t.params and t.state == "complete"
    ]
    if len(points) < 4:
        return None
    width, height = 300.0, 190.0
    space = found.space[name]
    with drawing(width, height) as figure:
        ax = figure.add_axes((56 / width, 42 / height, 1 - 70 / width, 1 - 56 / height))
        if space["choices"]:
            choices = [str(_plain(c)) for c in space["choices"]]
            x: list[Any] = [choices.index(str(_plain(v))) for v, _ in points]
            ax.set_xticks(range(len(choices)), [c[:10] for c in choices])
            ax.set_xlim(-0.5, len(choices) - 0.5)
        else:
            x = [v for v, _ in points]
            low, high = space["low"], space["high"]
            middle = math.sqrt(low * high) if space["log"] else (low + high) / 2
            if space["log"]:
                ax.set_xscale("log")
                ax.minorticks_off()
                ax.set_xlim(low / 1.15, high * 1.15)
            ax.set_xticks(
                [low, middle, high], [f"{v:.2g}" if v < 100 else f"{v:.0f}" for v in (low, middle, high)]
            )
        ax.plot(x, [s for _, s in points], "o", ms=5, color=ACCENT, alpha=0.75)
        if name in found.params:
            best = found.params[name]
            at = choices.index(str(_plain(best))) if space["choices"] else best
            ax.axvline(at, color=GOOD, lw=1.4)
        ax.spines[["right", "top"]].set_visible(False)
        ax.set_xlabel(name)
        ax.text(0, 1.03, "score ↑", transform=ax.transAxes, color=MUTED, fontsize=11.5)
        return inline(figure, key, f"Score over {name}")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def render_tuned(found: Tuned) -> str:
    """The page of a record.

    Raises
    ------
    MissingExtra: jinja2 or matplotlib is not installed.
    """
    order = sorted(found.space, key=lambda n: (-found.importance.get(n, 0.0), n))
    scatters: list[tuple[str, str, str]] = []
    for turn, name in enumerate(order):
        if len(scatters) < SCATTERED and (drawn := _scatter(found, name, f"p{turn}")):
            share = found.importance.get(name)
            scatters.append(
                (name, "" if share is None else f" Its share of the importance: {share:.0%}.", drawn)
            )
    protocol = found.protocol
    facts = {
        "data": f"{protocol['data']['users']:,} users x {protocol['data']['items']:,} items, "
        f"{protocol['data']['rows']:,} biased rows",
        "judged by": protocol["judged_by"],
        "splits": f"{len(protocol['splits'])} for every trial, {len(protocol['further'])} more for the finalists",
        "test rows": "none looked at",
        "study": found.study + (f" in {found.storage}" if found.storage else ", kept nowhere"),
        "versions": ", ".join(f"{k} {v}" for k, v in found.environment["versions"].items()),
    }
    rows = [
        {
            "number": t.number,
            "score": number(t.score),
            "splits": len(t.scores),
            "params": params_of(t.params),
            "state": t.failed[:160] if t.state == "failed" else WORDS[t.state],
            "seconds": f"{t.seconds:.1f}",
        }
        for t in ranked(found)
    ]
    space = [
        (
            name,
            ", ".join(str(c) for c in s["choices"])
            if s["choices"]
            else f"{s['low']:g} to {s['high']:g}{', logarithmic' if s['log'] else ''}{', whole' if s['whole'] else ''}",
            NONE if name not in found.importance else f"{found.importance[name]:.0%}",
            _value(found.params[name]) if name in found.params else "as it is",
        )
        for name, s in ((name, found.space[name]) for name in order)
    ]
    return rendered(
        "tune.html",
        title="A search for parameters",
        over=f"tune · {found.method} · {found.dataset}",
        finding=found.answer[0],
        answer=found.answer[1:],
        course=_course(found),
        scatters=scatters,
        command=found.command,
        rows=rows,
        space=space,
        facts=facts,
    )


def write_tuned(found: Tuned, path: str | Path, pictures: str | Path | None = None) -> Path:
    """Write the page, and its figures as files where `pictures` names a folder; gives the page's path.

    Raises
    ------
    MissingExtra: jinja2 or matplotlib is not installed.  FileError: a file cannot be written.
    """
    return write_page(lambda: render_tuned(found), path, pictures)
