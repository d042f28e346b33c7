"""The API reference: which public names stand on which page. Their text is the docstrings, when the site is built.

Every name of `deconrec.__all__` and of the `__all__` of its public modules stands on a page (tests/test_docs.py).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

Names = tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """A page of the reference.

    Attributes
    ----------
    title, says: heading, and the sentences under it.
    names: public names with a dot for each module, as "Dataset" or "simulate.pairs".
    members: whether methods and properties of classes are listed.
    """

    title: str
    says: str
    names: Names
    members: bool = True


OBJECTS = {
    "data": Page(
        "Data",
        "A `Dataset` holds a biased log, perhaps a randomised one, perhaps features; `load` finds one by name, file or "
        "specification. In guides: [Your data](../../guides/your-data.md), [Impressions](../../guides/impressions.md).",
        (
            *("load", "Dataset", "Log", "Task", "Truth", "describe", "PairsSplit", "UsersSplit"),
            *(
                "data.dataset.Features",
                "data.impressions.Impressions",
                "data.convert.convert",
                "data.fetch.fetch",
            ),
        ),
    ),
    "estimators": Page(
        "Estimators",
        "What every method can do. A method of your own is a `PairEstimator` or a `RowEstimator`: "
        "[Writing a method](../../guides/writing-a-method.md).",
        ("make", "Estimator", "Tags", "PairEstimator", "RowEstimator", "load_model", "check_estimator"),
    ),
    "methods": Page(
        "Methods as classes",
        "The parameters of each; meaning, range and equations stand on its [page](../../methods/index.md). All of them "
        "have what [Estimator](estimators.md) has.",
        (),
        members=False,
    ),
    "nuisances": Page(
        "Propensities and exposure models",
        "What a method fits first. Parameters: [their page](../propensities.md).",
        (
            *(
                "LogisticMF",
                "NaiveBayes",
                "Popularity",
                "Known",
                "VAEExposure",
                "PoissonExposure",
                "SVDExposure",
            ),
            *("exposure.KnownConfounder", "exposure.predictive_check", "exposure.PredictiveCheck"),
        ),
    ),
    "questions": Page(
        "Questions to a log",
        "Each is a command too: [Commands](../commands.md).",
        (
            *("compare", "tune", "diagnose", "evaluate", "sensitivity", "value", "reproduce", "write_report"),
            *(
                "diagnostics.Diagnosis",
                "diagnostics.Verdict",
                "diagnostics.Advice",
                "diagnostics.Confounding",
            ),
            *(f"experiments.results.{name}" for name in ("Result", "Run", "Summary", "Test", "Reproduction")),
            *(f"experiments.results.{name}" for name in ("Evaluation", "Estimated", "Value", "Sensitivity")),
            *(f"experiments.results.{name}" for name in ("Tuned", "TunedTrial")),
        ),
    ),
    "put-to-work": Page(
        "Put to work",
        "Answers in batches, as scikit-learn estimators, and from logs of served lists. In guides: "
        "[Models](../../guides/models.md), [Serving](../../guides/serving.md).",
        (
            *("batch.recommend_to", "batch.predict_to", "batch.Columns", "batch.Written"),
            *("adapters.sklearn.RatingClassifier", "adapters.sklearn.RatingRegressor"),
            *("serving.served.served_log", "serving.served.read_lists", "serving.served.Served"),
        ),
    ),
    "effects": Page(
        "Effects",
        "What exposing one item does to outcomes, and what the answer rests on: [Effects](../../guides/effects.md).",
        (
            *("effects.estimate", "effects.of_model", "effects.choose", "effects.Effects", "effects.Verdict"),
            *(
                "effects.SweepPoint",
                "effects.LogisticFactors",
                "effects.variance_theorem",
                "effects.VarianceTheorem",
            ),
        ),
    ),
    "simulate": Page(
        "Simulators",
        "Worlds whose truth is known. Each gives `(Dataset, Truth)`, and no `fit` accepts a truth.",
        (
            *("simulate.pairs", "simulate.impressions", "simulate.deep_deconf", "simulate.kuairec_semi"),
            *(
                "simulate.causal",
                "simulate.ml_causal",
                "simulate.vg_causal",
                "simulate.effects",
                "simulate.randomise",
            ),
        ),
    ),
    "checks": Page(
        "Checks of a method",
        "The contract of a method as functions that run.",
        ("checks.CheckReport", "checks.Outcome", "checks.CheckFailed", "checks.NotApplicable"),
    ),
}
MODULES = {  # pages of whole modules: every public class and function that is written there
    "evaluation": Page(
        "Metrics and statistics",
        "Functions of arrays; they load no torch.",
        (
            *(
                "evaluation.ranking",
                "evaluation.rating",
                "evaluation.calibration",
                "evaluation.beyond_accuracy",
            ),
            *("evaluation.offpolicy", "evaluation.bounds", "evaluation.overlap", "evaluation.statistics"),
        ),
    ),
    "errors": Page(
        "Errors and warnings", "All of them derive from `Error` or `DeconrecWarning`.", ("errors",)
    ),
}

EXAMPLE = """\
>>> import deconrec as dc
>>> data = dc.load("sim-pairs:n_users=60+n_items=30")
>>> model = dc.make("mf:dim=4+epochs=2").fit(data)
>>> model.recommend(data.users.values[:1], k=3).columns
['user_id', 'item_id', 'rank', 'score']"""


def classes_of_methods() -> Names:
    """The public names that are methods, in the order of `METHODS`."""
    from deconrec.methods import METHODS

    return tuple(cls.__name__ for cls in METHODS.values())


def names_of(key: str) -> Names:
    """The names on a page of objects."""
    return classes_of_methods() if key == "methods" else OBJECTS[key].names


def find(name: str) -> Any:
    """A public object by its dotted name."""
    found: Any = import_module("deconrec")
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            found = import_module(f"{found.__name__}.{part}")
    return found


def directive(name: str, members: bool) -> str:
    """What asks Sphinx for the docstring of an object."""
    kind = "class" if inspect.isclass(found := find(name)) else "function"
    if kind == "class" and issubclass(found, BaseException):
        kind, members = "exception", False
    lines = [f".. auto{kind}:: deconrec.{name}"]
    lines += ["   :members:"] if members and kind == "class" else []
    return "\n".join(lines)


def written_in(module: str) -> Iterator[str]:
    """The public classes and functions of a module, in the order of its text."""
    found = find(module)
    own = [
        (inspect.getsourcelines(value)[1], name)
        for name, value in vars(found).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == f"deconrec.{module}"
        and not name.startswith("_")
    ]
    return (f"{module}.{name}" for _, name in sorted(own))


def page_of(notice: str, page: Page, parts: list[tuple[str, list[str]]]) -> str:
    """The page's text; `parts` are (heading, directives)."""
    out = [notice, f"# {page.title}", page.says]
    for heading, asked in parts:
        out += [f"## {heading}"] if heading else []
        out += ["```{eval-rst}\n" + "\n\n".join(asked) + "\n```"]
    return "\n\n".join(out) + "\n"


def objects_page(key: str, notice: str) -> str:
    """A page of objects."""
    page = OBJECTS[key]
    return page_of(notice, page, [("", [directive(name, page.members) for name in names_of(key)])])


def modules_page(key: str, notice: str) -> str:
    """A page of modules."""
    page = MODULES[key]
    parts = []
    for module in page.names:
        heading = "" if len(page.names) == 1 else f"`deconrec.{module}`"
        parts.append((heading, [directive(name, page.members) for name in written_in(module)]))
    return page_of(notice, page, parts)


def index(notice: str) -> str:
    """The first page of the reference."""
    pages = OBJECTS | MODULES
    out = [
        notice,
        "# Python API",
        "What `import deconrec as dc` gives, from the docstrings. Ids are raw (yours) going in and coming out; arrays "
        "state their shape; learned state ends in `_`. Names that are not here are not public and may change.",
        "```pycon\n" + EXAMPLE + "\n```",
        "\n".join(f"- [{page.title}]({key}.md): {names_in_short(key)}" for key, page in pages.items()),
        "```{toctree}\n:hidden:\n\n" + "\n".join(pages) + "\n```",
    ]
    return "\n\n".join(out) + "\n"


def names_in_short(key: str) -> str:
    """The names of a page, for the first page."""
    names = [name.rpartition(".")[2] for name in (names_of(key) if key in OBJECTS else MODULES[key].names)]
    return ", ".join(f"`{name}`" for name in names)


def pages(notice: str) -> dict[str, Callable[[], str]]:
    """What makes each page, by its path in the repository."""
    out: dict[str, Callable[[], str]] = {"docs/reference/api/index.md": partial(index, notice)}
    out |= {f"docs/reference/api/{key}.md": partial(objects_page, key, notice) for key in OBJECTS}
    return out | {f"docs/reference/api/{key}.md": partial(modules_page, key, notice) for key in MODULES}
