"""docs/concepts.svg: what is seen of all pairs and why it misleads, and the five concepts that a fit is made of."""

from __future__ import annotations

from html import escape

INK, MUTED, RULE, PAPER = "#1a2129", "#55606c", "#b9c0c4", "#fcfcfa"
WARM, ACCENT, SOFT = "#9c5016", "#0c5c74", "#f3f4f1"
WIDTH, HEIGHT = 500, 696
# A row a user; o: in the biased log, r: in the randomised log, b: in both.
GRID = ("oo.o..r...", "o.oo...o.r", ".o.o.ro...", "oo..o..o..", "..rooo.o..", "oo.o...r..")
CELL, LEFT, TOP = 26, 76, 232


def concepts() -> str:
    """The figure as text."""
    parts = [*causes(), *populations(), *machine()]
    style = "font-family:system-ui,-apple-system,'Segoe UI',Roboto,Arial,sans-serif"
    title = (
        "Hidden causes move exposure and outcome; the biased log O, the randomised log R and all pairs D; a data set "
        "is sampled into batches, steps move nets, an estimator holds it together."
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" style="{style}">\n'
        f"<title>{escape(title)}</title>\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0 0 8 4 0 8z" fill="{MUTED}"/></marker></defs>'
    )
    return "\n".join([head, box(0, 0, WIDTH, HEIGHT, PAPER, "none", 0), *parts, "</svg>"]) + "\n"


def causes() -> list[str]:
    """Measured and hidden causes of exposure and outcome."""
    return [
        words(20, 32, "Why a log misleads", 17, bold=True),
        node(20, 52, 190, "x  measured causes", ACCENT),
        node(20, 126, 190, "h  hidden causes", WARM, dashed=True),
        node(320, 52, 160, "o  exposure", INK),
        node(320, 126, 160, "r  outcome", INK),
        arrow(212, 68, 316, 68),
        arrow(212, 74, 316, 134),
        arrow(212, 136, 316, 78, WARM),
        arrow(212, 144, 316, 144, WARM),
        words(20, 188, "Weights by p(o | x) undo the blue paths, never the brown ones.", 14.5, MUTED),
    ]


def populations() -> list[str]:
    """Users x items, and what is seen of them."""
    out = [
        words(20, TOP - 10, "items", 14.5, MUTED, shift=LEFT - 20),
        words(20, TOP + 84, "users", 14.5, MUTED),
    ]
    colours = {".": SOFT, "o": WARM, "r": ACCENT}
    for row, line in enumerate(GRID):
        for column, mark in enumerate(line):
            out.append(
                box(
                    LEFT + CELL * column,
                    TOP + CELL * row,
                    CELL - 3,
                    CELL - 3,
                    colours[mark],
                    RULE if mark == "." else "none",
                    3,
                )
            )
    x = LEFT + CELL * len(GRID[0]) + 14
    legend = (
        (WARM, "O biased log", "shown and rated"),
        (ACCENT, "R randomised", "chosen by chance"),
        (SOFT, "D all pairs", "what is wanted"),
    )
    for k, (colour, name, says) in enumerate(legend):
        y = TOP + 8 + 50 * k
        out += [box(x, y, 16, 16, colour, RULE if colour == SOFT else "none", 3)]
        out += [words(x + 22, y + 13, name, 13.5, bold=True), words(x + 22, y + 30, says, 12.5, MUTED)]
    return out


def machine() -> list[str]:
    """The five concepts of a fit."""
    top = 432
    out = [
        words(20, top, "Five concepts carry every method", 17, bold=True),
        box(12, top + 18, WIDTH - 24, 226, SOFT, RULE, 10),
        words(30, top + 46, "Estimator", 15, ACCENT, bold=True),
        words(128, top + 46, "parameters, nets(), program()", 14, MUTED),
    ]
    rows = (
        ("Dataset", "both logs, features", "Batch of Pairs", "samples of O, D, R"),
        ("Nets", "prediction, imputation, …", "Step, Phase", "a loss and what it moves"),
    )
    for k, (left, under, right, below) in enumerate(rows):
        y = top + 64 + 76 * k
        for x, name, says in ((30, left, under), (274, right, below)):
            out += [box(x, y, 196, 52, PAPER, INK, 6), words(x + 12, y + 22, name, 15, bold=True)]
            out.append(words(x + 12, y + 42, says, 13.5, MUTED))
    out += [
        arrow(228, top + 90, 271, top + 90),
        arrow(372, top + 117, 372, top + 137),
        arrow(272, top + 166, 229, top + 166),
        words(30, top + 226, "then predict, score, recommend, save, in your own ids", 14.5, MUTED),
    ]
    return out


def words(
    x: float, y: float, text: str, size: float, colour: str = INK, *, bold: bool = False, shift: float = 0
) -> str:
    """A line of text."""
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x + shift:g}" y="{y:g}" font-size="{size:g}" fill="{colour}"{weight}>{escape(text)}</text>'


def box(x: float, y: float, width: float, height: float, fill: str, line: str, round_: float) -> str:
    """A rectangle."""
    size = f'width="{width:g}" height="{height:g}" rx="{round_:g}"'
    return f'<rect x="{x:g}" y="{y:g}" {size} fill="{fill}" stroke="{line}"/>'


def node(x: float, y: float, width: float, text: str, colour: str, *, dashed: bool = False) -> str:
    """A named box of the graph."""
    dash = ' stroke-width="1.6" stroke-dasharray="5 4"' if dashed else ' stroke-width="1.6"'
    frame = box(x, y, width, 34, PAPER, colour, 17).replace("/>", f"{dash}/>")
    return frame + words(x + 16, y + 22, text, 15, colour, bold=True)


def arrow(x: float, y: float, to_x: float, to_y: float, colour: str = MUTED) -> str:
    """A line with a tip."""
    colour = ACCENT if colour == MUTED and y < 100 else colour
    return (
        f'<line x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}" stroke="{colour}" stroke-width="1.6" '
        'marker-end="url(#tip)"/>'
    )
