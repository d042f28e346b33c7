"""Writes the pages that are derived from the code, so that no name, default or result is typed twice.

    python docs/generate.py            write what is stale
    python docs/generate.py --check    write nothing; exit 1 and name what is stale
    python docs/generate.py --measure  run the comparisons behind tables of results again (3 minutes), then write

Whole pages are in docs/reference and docs/methods. In other pages and in README.md, what stands between
`<!-- generated: NAME -->` and `<!-- end -->` is replaced. Tables of results are drawn from docs/records/*.json, which
--measure writes.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_origin

sys.path.insert(0, str(Path(__file__).resolve().parent))

import api  # beside this file
import figure
import kept
from commands import commands_page
from comparisons import MEASURED, measure, results
from markup import DOCS, NOTICE, ROOT, code, prose, table

TEMPLATE = (
    "Idea",
    "Risk",
    "Needs",
    "Assumes",
    "Limits",
    "Deviations",
    "Paper",
)  # of a method's docstring, in order
SECTION = re.compile(
    r"^(Idea|Risk|Needs|Assumes|Limits|Deviations|Paper|Memory|Source|Note|Files)\b( \([^)]*\))?\.(?:\s+|$)"
)


# ---------------------------------------------------------------------- docstrings
def sections(doc: str) -> tuple[str, str, dict[str, tuple[str, str]]]:
    """(summary, text before the first section, {section: (its parenthesis, its lines)}) of a module's docstring."""
    lines = inspect.cleandoc(doc).splitlines()
    first = next((k for k, line in enumerate(lines) if not line.strip()), len(lines))
    summary, rest = " ".join(lines[:first]), lines[first:]
    body: list[str] = []
    found: dict[str, tuple[str, list[str]]] = {}
    current = body
    for line in rest:
        if match := SECTION.match(line):
            found[match[1]] = ((match[2] or "").strip(" ()"), [])
            current = found[match[1]][1]
            line = " " * match.end() + line[match.end() :]
        current.append(line)
    return summary, "\n".join(body).strip("\n"), {k: (p, _aligned(v)) for k, (p, v) in found.items()}


def _aligned(lines: list[str]) -> str:
    """Lines of a section with the width of its heading cut from the front of each."""
    lines = [line for line in lines if line.strip()]
    if not lines:
        return ""
    indent = [len(line) - len(line.lstrip()) for line in lines]
    deep, shallow = indent[0], min(indent)
    return "\n".join(line[deep if k >= deep else shallow :] for line, k in zip(lines, indent, strict=True))


def numbered(text: str, papers: str = "papers.md") -> list[str]:
    """The items "1. ... 2. ..." of a text; "1. to 3. as in X." is one item."""
    text, items, wanted = " ".join(text.split()), [], 1
    starts: list[tuple[int, int, str]] = []
    for match in re.finditer(r"(?:^|(?<=\s))(\d+)\. (?:to (\d+)\. )?", text):
        if int(match[1]) != wanted:
            continue
        label = match[1] if match[2] is None else f"{match[1]} to {match[2]}"
        starts.append((match.start(), match.end(), label))
        wanted = int(match[2] or match[1]) + 1
    ends = [start for start, _, _ in starts[1:]] + [len(text)]
    for (_, begin, label), end in zip(starts, ends, strict=True):
        items.append(f"- **{label}.** {prose(text[begin:end], papers)}")
    return items or [prose(text, papers)]


def described(doc: str, *, title: bool = False) -> list[str]:
    """A docstring of a propensity or exposure module as Markdown blocks."""
    summary, body, parts = sections(doc)
    out = [prose(summary)] if title else []
    if body:
        out.append(code(body))
    for name, (where, text) in parts.items():
        heading = f"**{name}**" + (f" ({prose(where)})" if where else "")
        if name == "Risk":
            out += [heading, code(text)]
        else:
            out.append(f"{heading}: {prose(text)}")
    return out


# ---------------------------------------------------------------------- parameters
def kind_of(hint: Any) -> str:
    """A type in words."""
    kinds = [k for k in get_args(hint) if k is not type(None)] if not isinstance(hint, type) else [hint]
    if get_origin(hint) is tuple:
        return f"{kind_of(get_args(hint)[0])}s"
    words = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    return " or ".join(words.get(k, "") for k in kinds).strip()


def range_of(field: dataclasses.Field[Any], hint: Any) -> str:
    """The allowed values of a parameter."""
    if "options" in field.metadata:
        return ", ".join(f"`{name}`" for name in field.metadata["options"])
    rules = field.metadata.get("rules")
    if rules is None:
        return ""
    if rules["choices"] is not None:
        return ", ".join(f"`{choice}`" for choice in rules["choices"])
    signs = (("low", "≥"), ("above", ">"), ("high", "≤"), ("below", "<"))
    bounds = " and ".join(f"{sign} {rules[key]:g}" for key, sign in signs if rules[key] is not None)
    listed = ", separated by commas" if get_origin(hint) is tuple else ""
    return f"{kind_of(hint)} {bounds}{listed}".strip()


def search_of(field: dataclasses.Field[Any]) -> str:
    """Where tuning looks."""
    search = field.metadata.get("search")
    if search is None:
        return ""
    if search.choices:
        return ", ".join(f"`{choice}`" for choice in search.choices)
    return f"{search.low:g} to {search.high:g}{', log' if search.log else ''}"


def default_of(field: dataclasses.Field[Any]) -> str:
    """A parameter's default as the command line would have it."""
    if "options" in field.metadata:
        made = field.default_factory()  # type: ignore[misc]  # a nuisance has one
        return next(
            f"`{name}`" for name, cls in field.metadata["options"].items() if cls in (made, type(made))
        )
    value = field.default
    if isinstance(value, tuple):
        return f"`{','.join(map(str, value))}`"
    return f"`{str(value).lower() if value is None or isinstance(value, bool) else value}`"


def parameters(cls: type, nuisances: str = "propensities.md") -> str:
    """The table of a class's parameters; `nuisances` is the link to the page of what is fitted first."""
    from deconrec.methods import METHODS

    hints = cls._hints()  # type: ignore[attr-defined]  # of Parameterised, which the tables are for
    rows = []
    for field in dataclasses.fields(cls):
        doc = prose(field.metadata.get("doc", ""))
        if "options" in field.metadata:
            inner = [f"[its page]({name}.md)" for name in field.metadata["options"] if name in METHODS]
            doc += f": see {', '.join(inner) or f'[its page]({nuisances})'}"
        rows.append(
            [f"`{field.name}`", default_of(field), range_of(field, hints[field.name]), doc, search_of(field)]
        )
    return table(["parameter", "default", "values", "meaning", "tuned over"], rows)


# ---------------------------------------------------------------------- pages
def yes(flag: bool) -> str:
    """A tag in a table."""
    return "yes" if flag else ""


def method_table(methods: str = "", papers: str = "../reference/papers.md") -> str:
    """Every method and alias; `methods` is what the links to method pages begin with, `papers` the papers page."""
    from deconrec.methods import ALIASES, METHODS, make

    rows = []
    for name in [*METHODS, *ALIASES]:
        model = make(name)
        tags, key = model.tags, ALIASES.get(name, name).partition(":")[0]
        paper = type(model).paper
        rows.append(
            [
                f"[`{name}`]({methods}{key}.md)" + (f" = `{ALIASES[name]}`" if name in ALIASES else ""),
                type(model).title,
                f"[{paper}]({papers}#{paper.lower()})",
                yes(tags.needs_unbiased),
                yes(tags.uses_features),
                {"pairs": "pairs", "rows": "users", "both": "both"}[tags.shape],
            ]
        )
    return table(
        ["name", "method", "paper", "needs a randomised log", "uses features", "made for protocol"], rows
    )


def sentence(text: str) -> str:
    """The text with a capital letter at its start."""
    return text[:1].upper() + text[1:]


def docstring(cls: type) -> dict[str, tuple[str, str]]:
    """The sections of the docstring of a method's file."""
    return sections(sys.modules[cls.__module__].__doc__ or "")[2]


def method_page(key: str) -> str:
    """docs/methods/<key>.md."""
    from deconrec.methods import ALIASES, METHODS
    from deconrec.references import PAPERS

    cls, papers = METHODS[key], "../reference/papers.md"
    summary, _, parts = sections(sys.modules[cls.__module__].__doc__ or "")
    tags = cls().tags
    traits = [f"Outcome: {tags.outcome}"]
    traits += ["reads the rating behind a binarised outcome"] if tags.uses_rating else []
    traits.append("folds new users in from a history" if tags.fold_in else "no fold-in of new users")
    names = [f"`{key}`, class `deconrec.{cls.__name__}`"]
    names += [f"`{name}` is `{spec}`" for name, spec in ALIASES.items() if spec.partition(":")[0] == key]
    out = [
        NOTICE,
        f"# {cls.title} (`{key}`)",
        f"{sentence(prose(summary.partition(': ')[2], papers))} {'; '.join(names)}. {'; '.join(traits)}. "
        "[All methods](index.md).",
    ]
    for name in TEMPLATE:
        where, text = parts.get(name, ("", ""))
        out.append(f"## {name}")
        if name == "Risk":
            out += [f"As in {prose(where, papers)}."] if where else []
            out += [code(text), *in_code(cls, text)]
        elif name == "Deviations":
            out.append("\n".join(numbered(text, papers)))
        elif name == "Paper":
            paper = PAPERS[cls.paper]
            out += [
                prose(text, papers),
                f"{paper.authors}. *{paper.title}.* {paper.venue}, {paper.year}.",
            ]
        else:
            out.append(sentence(prose(text, papers)) if name in ("Needs", "Assumes") else prose(text, papers))
    for name in parts.keys() - set(TEMPLATE):
        out += [f"## {name}", prose(parts[name][1], papers)]
    out += [
        "## Parameters",
        f"Set by `{key}:name=value+name=value` on the command line and in `deconrec.make`, or by "
        f"`dc.{cls.__name__}(name=value)`. Tuning looks in the last column.",
        parameters(cls, "../reference/propensities.md"),
    ]
    return "\n\n".join(out) + "\n"


# ---------------------------------------------------------------------- equations and their code
def in_code(cls: type, risk: str) -> list[str]:
    """The functions that compute a method's risk, each under its equations, then what they call and the program."""
    own = {name: f for name, f in vars(cls).items() if inspect.isfunction(f)}
    chosen = [
        name
        for name, f in own.items()
        if re.search(r"\b(Terms|Tensor)\b", str(_returns(f))) or _moves_nets(f)
    ]
    chosen = chosen or [
        name for name in ("_marks", "_counts", "_fit", "_learn", "_scores", "_outcome") if name in own
    ]
    order = ("nets", "program")
    out = [
        "### In code",
        "Each function stands under its own lines of the risk, where it has some. `self.d`, `expect` and `average` are "
        "explained in [the index](index.md#reading-the-code).",
    ]
    for name in chosen:
        equations = equations_of(name, own[name].__doc__ or "", risk)
        out += [code(equations)] if equations else []
        out.append(code(source(own[name]), "python"))
    called = list(calls([own[name] for name in (*chosen, *(n for n in order if n in own))]))
    if called:
        of_class = {f: f"# {f.__qualname__}\n" if "." in f.__qualname__ else "" for f in called}
        out += ["What they call:", *(code(of_class[f] + source(f), "python") for f in called)]
    schedule = [code(source(own[name]), "python") for name in order if name in own]
    return [*out, *(["Which networks there are, and which loss moves which:", *schedule] if schedule else [])]


def _returns(function: Any) -> Any:
    return function.__annotations__.get("return", "")


def _moves_nets(function: Any) -> bool:
    """Whether it changes nets in place, between steps."""
    return "Nets" in map(str, function.__annotations__.values()) and str(_returns(function)) == "None"


def source(function: Any) -> str:
    """A function's source, without the indent of its class."""
    return textwrap.dedent(inspect.getsource(function))


def equations_of(function: str, doc: str, risk: str) -> str:
    """The lines of a risk that define a symbol L_... which a loss's docstring names, or that begin with its name.

    A continuation goes with its first line.
    """
    wanted = [function, *re.findall(r"L_[A-Za-z&]+", doc)]
    kept: list[str] = []
    taking = False
    for line in risk.splitlines():
        name = re.match(r"(L_[A-Za-z&]+)\s*=|(\w+)  +\(1/", line.strip())
        if name is not None:
            taking = (name[1] or name[2]) in wanted
        elif not line.lstrip().startswith(("=", "+")):
            taking = False
        if taking:
            kept.append(line)
    return textwrap.dedent("\n".join(kept))


CALLED = (
    "deconrec.losses.reweighted",
    "deconrec.losses.elbo",
    "deconrec.kernels.decoder",
    "deconrec.propensity",
    "deconrec.methods",
    "deconrec.nn.tables",
)


def calls(functions: Iterable[Any]) -> Iterator[Any]:
    """The functions of risks and weights that functions call, directly or not; of a table, its `forward`."""
    seen, waiting = set(), list(functions)
    started = len(waiting)
    while waiting:
        function = waiting.pop(0)
        if function in seen:
            continue
        seen.add(function)
        if started <= 0:
            yield function
        started -= 1
        for node in ast.walk(ast.parse(source(function))):
            found = _resolved(node, function.__globals__)
            if inspect.isclass(found) and found.__module__ == "deconrec.nn.tables":
                found = found.forward  # type: ignore[attr-defined]  # a table is a torch module
            if inspect.isfunction(found) and found.__module__.startswith(CALLED):
                waiting.append(found)


def _resolved(node: ast.AST, names: dict[str, Any]) -> Any:
    """What a name, or a name in a module, stands for; None for everything else."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module = names.get(node.value.id)
        return getattr(module, node.attr, None) if inspect.ismodule(module) else None
    return None


# ---------------------------------------------------------------------- the index of methods
# Phrases that the Assumes lines are written in: what each one means, and what it costs where it does not hold.
ASSUMPTIONS = {
    "no hidden confounding": "Whatever moves both exposure and outcome is known once the ids (or the features that are "
    "named) are. No data of one log can show it; a randomised log can: compare with `mf-combined` and read "
    "`mse` on randomised rows. Where it fails, weights, imputations and products are biased, and more data do "
    "not help.",
    "bounded hidden confounding": "There may be hidden confounders, but they move the odds of exposure by a factor "
    "of at most Gamma (`uncertainty`), which is yours to say. Look at several values; report which.",
    "every pair could have been exposed": "Positivity: a true propensity above 0 for every pair. Pairs that the "
    "system never shows are extrapolated to, whatever the method. The [OVERLAP](../diagnostics.md#overlap) warning "
    "sees small propensities (in `vsr-vae`: weights that rest on few users), not absent ones.",
    "the propensity is right": "Not only good at telling exposed pairs from others: its values are used as "
    "numbers. Known ones (`Known`) are best; a floor makes them wrong on purpose, to spare variance.",
    "the imputation is right": "Outcomes that were imputed are those that would have been seen.",
    "propensity or imputation right": "Double robustness: one of the two suffices. It is no help against a cause "
    "that spoils both.",
    "exposure and outcome share factors": "What predicts exposure helps to predict the outcome. Where the two have "
    "nothing in common, sharing gets in the way: `shared=false`.",
    "representative randomised rows": "The randomised log was drawn at random from the pairs that you will ask for. A "
    "test on a few chosen users or items, or one shown only to the willing, is not that. Few rows are allowed; their "
    "noise then is the method's.",
    "some weighting of the biased log": "There are weights, of the method's own form, under which the biased log "
    "teaches what the randomised rows show, and these are enough to find them.",
    "what randomised rows teach carries over": "Labels, factors or item sides learned from a few randomised rows "
    "are worth having on all pairs.",
    "exposure tells of taste": "People are shown, or choose, what they like. Where a system shows what it is paid to "
    "show, affinity is not outcome.",
    "no assumption is made": "A yardstick: the others are measured by it.",
    "no confounder of a single item": "Each hidden cause moves the exposure of several items, so that a factor "
    "model of exposures can see it.",
}
LEARNS = {  # a network's name, or that of a model that is fitted first: what it is
    "propensity": "A propensity",
    "imputation": "Imputed labels of pairs without an outcome",
    "propensity_residual": "Corrections of a propensity or of an imputation",
    "imputation_residual": "Corrections of a propensity or of an imputation",
    "observed_weight": "Weights and labels judged by randomised rows",
    "space_weight": "Weights and labels judged by randomised rows",
    "benchmark": "A model to be beaten, fitted first",
    "teacher": "A teacher of the randomised log, fitted first",
    "other": "A second item side, of the randomised log",
    "exposure": "A model of whole exposure rows, fitted first",
    "affinity": "Affinities of exposure, fitted first",
    "ratio": "Weights of users, from classifiers of their features and exposures",
    "deconfounder": "",  # a branch that is off by default
    "prediction": "",
    "outcome": "",
}


@cache
def learned(key: str) -> tuple[str, ...]:
    """What a method learns besides its prediction, in the words of LEARNS: asked of a fitted one."""
    from deconrec.checks import cheap
    from deconrec.checks.bench import quiet
    from deconrec.checks.fixtures import confounded
    from deconrec.methods import METHODS

    with quiet():
        model = cheap(METHODS[key]).fit(confounded()[0])
    names = [*getattr(model, "nets_", {})]
    names += [f.name for f in dataclasses.fields(model) if "options" in f.metadata]
    return tuple(dict.fromkeys(LEARNS[name] for name in names if LEARNS[name])) or ("The prediction alone",)


def assumed(key: str) -> list[str]:
    """The phrases of ASSUMPTIONS that a method's Assumes line holds."""
    from deconrec.methods import METHODS

    text = " ".join(docstring(METHODS[key]).get("Assumes", ("", ""))[1].split())
    return [phrase for phrase in ASSUMPTIONS if phrase in text]


def methods_index() -> str:
    """docs/methods/index.md."""
    from deconrec.losses import elementwise
    from deconrec.methods import ALIASES, METHODS, make
    from deconrec.pairs import Pairs
    from deconrec.torch_estimator import PairEstimator

    def linked(names: Iterable[str]) -> str:
        pages = {name: ALIASES.get(name, name).partition(":")[0] for name in names}
        return ", ".join(f"[`{name}`]({page}.md)" for name, page in pages.items())

    every = {name: make(name) for name in [*METHODS, *ALIASES]}
    fields = {key: {f.name for f in dataclasses.fields(cls)} for key, cls in METHODS.items()}
    needs = [
        ("The biased log alone", [n for n, m in every.items() if not m.tags.uses_unbiased]),
        (
            "The biased log; a randomised one is used where there is some",
            [n for n, m in every.items() if m.tags.uses_unbiased and not m.tags.needs_unbiased],
        ),
        (
            "A randomised log (`mf-uniform` learns from it alone)",
            [n for n, m in every.items() if m.tags.needs_unbiased],
        ),
        (
            "A propensity, which may be known (`known`) or need a randomised log (`naive-bayes`)",
            [key for key, names in fields.items() if names & {"propensity", "benchmark"}],
        ),
        ("Features are used where there are some", [n for n, m in every.items() if m.tags.uses_features]),
        (
            "Features are used with `backbone=fm`",
            [key for key, names in fields.items() if "backbone" in names],
        ),
        (
            "Whole user rows (made for the users protocol)",
            [n for n, m in every.items() if m.tags.shape != "pairs"],
        ),
    ]
    out = [
        NOTICE,
        "# Methods",
        "A method is written `name` or `name:param=value+param=value`, on the command line and in `deconrec.make`. "
        "Whether one needs a randomised log follows from its parameters; the tables show the defaults. Each name leads "
        "to a page made from the method's own file: idea, equations with the code that computes them, needs, "
        "assumptions, limits (each one is a test), where it departs from its paper, and parameters. Which to try "
        "first: [Choosing a method](../guides/choosing-a-method.md).",
        method_table(),
        "## By what it needs",
        table(["needs", "methods"], [[what, linked(names)] for what, names in needs]),
        "## By what it learns",
        "Besides the prediction:",
    ]
    learns: dict[str, list[str]] = {}
    for key in METHODS:
        for what in learned(key):
            learns.setdefault(what, []).append(key)
    out += [
        table(["learns", "methods"], [[what, linked(names)] for what, names in learns.items()]),
        "## By what it assumes",
        "No method is right without assumptions, and the biased log cannot test the ones that matter. Each "
        "assumption, what it means, and the methods whose page names it:",
    ]
    rows = []
    for phrase, means in ASSUMPTIONS.items():
        names = [key for key in METHODS if phrase in assumed(key)]
        rows.append([f"**{phrase}**", means, linked(names)])
    out += [table(["assumption", "meaning", "methods"], rows), "In each method's own words:"]
    papers = "../reference/papers.md"
    words = [
        [linked([key]), prose(docstring(cls).get("Assumes", ("", ""))[1], papers)]
        for key, cls in METHODS.items()
    ]
    out += [
        table(["method", "assumes"], words),
        "## Reading the code",
        "Equations and code use the same names. O are the pairs of the biased log, R those of the randomised log, "
        "D all pairs. `b.observed`, `b.unbiased` and `b.space` are samples of them; `o.expect(x)` is (1/|D|) times the "
        "sum of x over the population, `o.average(x)` its mean. A loss gives named terms; a `Step` says which "
        "networks their sum moves, and nothing else moves.",
        *(
            code(source(f), "python")
            for f in (
                Pairs.expect,
                Pairs.average,
                PairEstimator.d,
                elementwise.error,
                elementwise.cross_entropy,
                elementwise.squared,
                elementwise.product_error,
                elementwise.product_cross_entropy,
            )
        ),
    ]
    out.append("```{toctree}\n:hidden:\n\n" + "\n".join(METHODS) + "\n```")
    return "\n\n".join(out) + "\n"


def nuisances_page() -> str:
    """docs/reference/propensities.md."""
    from deconrec.exposure import EXPOSURE_MODELS
    from deconrec.propensity import PROPENSITIES

    out = [
        NOTICE,
        "# Propensities and exposure models",
        "Models that a method fits first. On the command line `--set propensity=naive-bayes "
        "--set propensity.floor=0.05`; in Python `dc.IPS(propensity=dc.NaiveBayes(floor=0.05))`. Every propensity is "
        "floored in one place, and what the floor did is kept as `overlap_` (see "
        "[OVERLAP](../diagnostics.md#overlap)).",
    ]
    for title, options in (("Propensities", PROPENSITIES), ("Exposure models", EXPOSURE_MODELS)):
        out.append(f"## {title}")
        for key, cls in options.items():
            needs = " Needs a randomised log." if getattr(cls, "needs_unbiased", False) else ""
            out += [f'<a id="{key}"></a>', f"### `{key}`", f"Class `{cls.__name__}`.{needs}"]
            out += [*described(sys.modules[cls.__module__].__doc__ or "", title=True), parameters(cls)]
    return "\n\n".join(out) + "\n"


def papers_page() -> str:
    """docs/reference/papers.md."""
    from deconrec.methods import METHODS
    from deconrec.references import PAPERS

    out = [
        NOTICE,
        "# Papers",
        "What docstrings cite by key. “Paper 1” is [Zhu2024](#zhu2024), “paper 2” [Li2023](#li2023).",
    ]
    rows = []
    for key, paper in PAPERS.items():
        used = [f"[`{name}`](../methods/{name}.md)" for name, cls in METHODS.items() if cls.paper == key]
        text = f"{paper.authors}. {paper.title}. {paper.venue}, {paper.year}."
        rows.append([f'<a id="{key.lower()}"></a>{key}', text, ", ".join(used)])
    return "\n\n".join([*out, table(["key", "publication", "method"], rows)]) + "\n"


def data_page() -> str:
    """docs/reference/data.md."""
    from deconrec.catalogue import CATALOGUE
    from deconrec.data.fetch import BRING, SOURCES

    rows = [[f"[`{name}`](#{name})", entry.kind, entry.says] for name, entry in CATALOGUE.items()]
    out = [
        NOTICE,
        "# Data by name",
        "Names that `compare`, `fit`, `data describe` and `dc.load` take in place of a "
        "[data file](../guides/your-data.md). A name takes parameters as a method does: "
        "`sim-pairs:confounding=2+n_users=500`. Files are looked for under `--root`, then `DECONREC_DATA`, then the "
        "user's cache; nothing is bundled, because each data set has its own licence. A simulator draws a fresh world "
        "for each seed.",
        table(["name", "kind", "what it is"], rows),
    ]
    for name, entry in CATALOGUE.items():
        function = getattr(import_module(f"deconrec.{entry.module}"), entry.function)
        out += [f'<a id="{name}"></a>', f"## `{name}`"]
        if name in SOURCES:
            source = SOURCES[name]
            out.append(
                f"`deconrec data fetch {name} --accept-licence` downloads it. {source.licence} {source.citation}"
            )
        elif name in BRING:
            out.append(f"Not downloaded. Folder `{BRING[name].folder}/`: {prose(BRING[name].how)}")
        module = sys.modules[function.__module__].__doc__ or ""
        out.append(code(inspect.cleandoc(module)))
        settings = [
            [f"`{p.name}`", f"`{p.default}`"]
            for p in inspect.signature(function).parameters.values()
            if p.kind is inspect.Parameter.KEYWORD_ONLY
        ]
        if settings:
            _, _, text = inspect.cleandoc(function.__doc__ or "").partition("Parameters\n----------\n")
            text = re.split(r"\n\n(?:Raises|Returns)\n-+\n", text)[0]
            out += [table(["parameter", "default"], settings), code(text)]
    return "\n\n".join(out) + "\n"


# ---------------------------------------------------------------------- codes
def codes() -> dict[str, set[str]]:
    """Every code that something prints, with what gives it: warnings, and verdicts of `diagnose` and of `effects`."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "src" / "deconrec").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if name == "warnings.warn" and (
                code := re.search(r"\[([A-Z_]{3,})\]", ast.unparse(node.args[0]))
            ):
                found.setdefault(code[1], set()).add("a warning")
            if name == "Verdict" and node.args and isinstance(node.args[0], ast.Constant):
                room = path.relative_to(ROOT / "src" / "deconrec").parts[0]
                found.setdefault(node.args[0].value, set()).add(
                    f"`{room.replace('diagnostics', 'diagnose')}`"
                )
    return found


def codes_table() -> str:
    """Every code with what gives it and where it is explained."""
    rows = []
    for name, givers in codes().items():
        pages = [("here", "diagnostics.md")] if givers - {"`effects`"} else []
        pages += [("effects", "guides/effects.md")] if "`effects`" in givers else []
        links = ", ".join(f"[{called}]({page}#{name.lower()})" for called, page in pages)
        rows.append([f"`{name}`", ", ".join(sorted(givers)), links])
    return table(["code", "given by", "explained"], rows)


# ---------------------------------------------------------------------- what there is
PAGES: dict[str, Callable[[], str]] = {
    "docs/methods/index.md": methods_index,
    "docs/reference/propensities.md": nuisances_page,
    "docs/reference/commands.md": commands_page,
    "docs/reference/papers.md": papers_page,
    "docs/reference/data.md": data_page,
    "docs/concepts.svg": figure.concepts,
}


def pages() -> dict[str, Callable[[], str]]:
    """What makes each generated page, by its path in the repository."""
    from deconrec.methods import METHODS

    methods = {f"docs/methods/{key}.md": partial(method_page, key) for key in METHODS}
    return PAGES | methods | api.pages(NOTICE)


BLOCK = re.compile(r"(<!-- generated: ([a-z-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def block(name: str, page: Path) -> str:
    """The content of a generated block on a page."""
    if name == "methods":
        up = "docs/" if page.parent == ROOT else "" if page.parent == DOCS else "../"
        return method_table(f"{up}methods/", f"{up}reference/papers.md")
    if name == "experiments":
        return kept.experiments(page)
    if name == "codes":
        return codes_table()
    if name == "headline":
        return kept.headline()
    if name == "gap-on-coat":
        return kept.gap_on_coat()
    if name == "speed":
        return kept.speed()
    if name == "confounding-levels":
        return kept.confounding_levels()
    if name in kept.FAMILY_TABLES:
        return kept.families(kept.FAMILY_TABLES[name])
    kind, _, record = name.partition("-")
    if kind in ("results", "table") and record in MEASURED:
        return results(record, command=kind == "results")
    raise SystemExit(
        f"{page.relative_to(ROOT)} asks for a block '{name}', which docs/generate.py does not know."
    )


def render() -> dict[str, str]:
    """Every generated page, and every page with generated blocks, as it should be, by its path in the repository."""
    out = {path: make() for path, make in pages().items()}
    for page in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]:
        path = page.relative_to(ROOT).as_posix()
        text = page.read_text(encoding="utf-8")
        if path not in out and BLOCK.search(text):
            out[path] = BLOCK.sub(lambda m, page=page: f"{m[1]}{block(m[2], page)}\n{m[4]}", text)
    return out


def stale() -> dict[str, str]:
    """The pages whose file differs from what the code says now."""

    def current(path: str) -> str | None:
        return (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).is_file() else None

    return {path: text for path, text in render().items() if current(path) != text}


def main() -> int:
    """The command line above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 and name stale pages")
    parser.add_argument(
        "--measure", nargs="*", choices=list(MEASURED), metavar="NAME", help="run comparisons again"
    )
    arguments = parser.parse_args()
    if arguments.measure is not None:
        for name in arguments.measure or MEASURED:
            print(f"measuring {name}", file=sys.stderr)
            measure(name)
    changed = stale()
    for path, text in changed.items():
        print(f"{'stale: ' if arguments.check else 'wrote '}{path}")
        if not arguments.check:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(text, encoding="utf-8")
    if arguments.check and changed:
        print("run `make docs`", file=sys.stderr)
    return int(arguments.check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
