"""The documentation is true: generated pages are fresh, names exist, links lead somewhere, and code on pages runs."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import doctest
import importlib.util
import inspect
import io
import re
import shlex
import sys
import textwrap
import types
from collections.abc import Iterator
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from deconrec.methods import ALIASES, METHODS
from deconrec.torch_estimator import TorchEstimator

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "deconrec"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = [ROOT / "README.md", ROOT / "docs" / "quickstart.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
FENCE = re.compile(
    r"(?P<skip><!-- not run: [^\n]+ -->\n+)?^```(?P<kind>[\w{}-]*)\n(?P<body>.*?)^```", re.M | re.S
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def script(name: str) -> Any:
    """docs/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(f"{name}_docs", ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate() -> Any:
    """docs/generate.py as a module."""
    return script("generate")


def section(page: str, heading: str) -> str:
    """The text of a reference page under the anchor `heading`, up to the next anchor."""
    text = (ROOT / "docs" / "reference" / page).read_text()
    parts = re.split(r'^<a id="([^"]+)"></a>$', text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[heading]


# ---------------------------------------------------------------------- generated pages
def test_generated_pages_are_fresh(generate: Any) -> None:
    stale = sorted(generate.stale())
    assert not stale, f"run `make docs`: {stale}"


def test_records_are_of_the_commands_that_stand_there(generate: Any) -> None:
    import json

    comparisons = script("comparisons")
    for name in comparisons.MEASURED:
        record = json.loads((comparisons.RECORDS / f"{name}.json").read_text())
        assert record["command"] == comparisons.command_of(name), "run `python docs/generate.py --measure`"


def test_a_generated_block_is_replaced_whole(generate: Any) -> None:
    """An empty block must not swallow what follows, up to the end of the next one."""
    text = "a\n<!-- generated: x -->\n<!-- end -->\nkept\n<!-- generated: y -->\nold\n<!-- end -->\n"
    assert [(m[2], m[3]) for m in generate.BLOCK.finditer(text)] == [("x", ""), ("y", "old\n")]


def test_deviations_are_listed_one_by_one(generate: Any) -> None:
    text = "1. to 3. as in Other. 4. Two\n   lines, 0.5. 5. Last one."
    expected = ["- **1 to 3.** as in Other.", "- **4.** Two lines, 0.5.", "- **5.** Last one."]
    assert generate.numbered(text) == expected


def test_a_docstring_falls_into_its_sections(generate: Any) -> None:
    doc = "Name: what.\n\nIdea. One\ntwo.\n\nRisk (Eq. 1).  a = b\n               c = d\n    e   error\n\nNeeds.  x."
    summary, body, parts = generate.sections(doc)
    assert (summary, body) == ("Name: what.", "")
    assert parts["Idea"] == ("", "One\ntwo.")
    assert parts["Risk"] == ("Eq. 1", "a = b\nc = d\ne   error")
    assert parts["Needs"] == ("", "x.")


# ---------------------------------------------------------------------- everything is documented
@pytest.mark.parametrize("key", METHODS)
def test_every_method_says_what_the_template_asks(generate: Any, key: str) -> None:
    """Every section, in order and with text, in the file's docstring; and an assumption that the index knows."""
    said = generate.docstring(METHODS[key])
    assert [name for name in said if name in generate.TEMPLATE] == list(generate.TEMPLATE)
    assert all(text.strip() for _, text in said.values())
    assert generate.assumed(key), f"name an assumption in the words of ASSUMPTIONS (docs/generate.py): {key}"


@pytest.mark.parametrize("key", METHODS)
def test_every_method_has_its_page(generate: Any, key: str) -> None:
    cls = METHODS[key]
    text = (ROOT / "docs" / "methods" / f"{key}.md").read_text()
    assert re.findall(r"^## (\w+)$", text, re.M)[: len(generate.TEMPLATE)] == list(generate.TEMPLATE)
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.M))
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # every method is a dataclass
        assert field.metadata.get("doc"), f"{key}: {field.name} has no meaning"
        _, values, meaning, tuned = re.split(r" (?<!\\)\| ?", rows[field.name])
        assert values or isinstance(field.default, str), f"{key}: {field.name} has no range"
        assert meaning
        assert bool(tuned) == (field.metadata.get("search") is not None)


@pytest.mark.parametrize("key", METHODS)
def test_every_loss_stands_on_the_page(key: str) -> None:
    """Every function of the class that gives terms of a risk, and nothing of it typed by hand."""
    text = (ROOT / "docs" / "methods" / f"{key}.md").read_text()
    losses = [
        f for f in vars(METHODS[key]).values() if getattr(f, "__annotations__", {}).get("return") == "Terms"
    ]
    assert losses or not issubclass(METHODS[key], TorchEstimator), f"{key} has no loss"
    for loss in losses:
        assert textwrap.dedent(inspect.getsource(loss)) in text, loss.__name__
    assert re.search(r"^```python\n(@\w+\n|def |class )", text, re.M)


def test_equations_stand_above_their_code(generate: Any) -> None:
    risk = "L_A   = x\n      = y\nL_B&C = z\ne   error"
    assert generate.equations_of("a", "Beta L_A, held fixed.", risk) == "L_A   = x\n      = y"
    assert generate.equations_of("b", "L_B&C.", risk) == "L_B&C = z"
    assert generate.equations_of("e", "(1/|O|) sum_O e.", risk) == ""
    both = "biased   (1/|O|) sum_O e\nuniform  (1/|R|) sum_R e"
    assert generate.equations_of("uniform", "(1/|R|) sum_R e.", both) == "uniform  (1/|R|) sum_R e"
    text = (ROOT / "docs" / "methods" / "res-dr.md").read_text()
    assert re.search(r"L_B&U .*\n```\n\n```python\ndef agree\(", text)


def test_every_assumption_is_made_by_a_method(generate: Any) -> None:
    made = {phrase for key in METHODS for phrase in generate.assumed(key)}
    assert made == set(generate.ASSUMPTIONS)


def test_the_index_of_methods_names_all() -> None:
    text = (ROOT / "docs" / "methods" / "index.md").read_text()
    parts = dict(zip(*[iter(re.split(r"^## (.+)$", text, flags=re.M)[1:])] * 2, strict=True))
    for name in ("By what it needs", "By what it learns", "By what it assumes"):
        missing = [key for key in METHODS if f"[`{key}`]({key}.md)" not in parts[name]]
        assert not missing, f"{name}: {missing}"
    for name, spec in ALIASES.items():
        assert f"[`{name}`]({spec.partition(':')[0]}.md) = `{spec}`" in text


def test_every_nuisance_and_its_parameters_are_documented() -> None:
    from deconrec.exposure import EXPOSURE_MODELS
    from deconrec.propensity import PROPENSITIES

    for key, cls in {**PROPENSITIES, **EXPOSURE_MODELS}.items():
        text = section("propensities.md", key)
        missing = [f.name for f in dataclasses.fields(cls) if f"| `{f.name}` |" not in text]
        assert not missing, f"{key}: {missing}"


def test_every_command_and_option_is_documented(generate: Any) -> None:
    names = []
    for name, command in script("commands").commands():
        names.append(name)
        text = section("commands.md", name.replace(" ", "-"))
        options = [
            o for p in command.params for o in p.opts if o.startswith("-") and o not in ("-h", "--help")
        ]
        missing = [o for o in options if not re.search(rf"(?<![\w-]){re.escape(o)}(?![\w-])", text)]
        assert not missing, f"{name}: {missing}"
        assert command.help, f"{name} has no help"
    assert {"compare", "fit", "recommend", "predict", "simulate", "data describe"} <= set(names)


def test_every_catalogue_name_is_documented() -> None:
    from deconrec.catalogue import CATALOGUE

    for name in CATALOGUE:
        assert section("data.md", name).strip()


# ---------------------------------------------------------------------- papers, warnings
def docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def test_every_citation_resolves() -> None:
    from deconrec.references import PAPERS

    cited = {
        (name_of(path), key)
        for path in SOURCE.rglob("*.py")
        for text in docstrings(path)
        for key in re.findall(r"\[([A-Z][A-Za-z]+\d{4}[a-z]?)\]", text)
    }
    cited |= {(key, cls.paper) for key, cls in METHODS.items()}
    assert len(cited) > len(METHODS)
    assert not sorted((where, key) for where, key in cited if key not in PAPERS)


def test_every_warning_has_a_code_that_is_explained() -> None:
    headings = re.findall(r"^## ([A-Z_]+)$", (ROOT / "docs" / "diagnostics.md").read_text(), re.M)
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
                code = re.search(r"\[([A-Z_]{3,})\]", ast.unparse(node.args[0]))
                assert code, f"{name_of(path)}:{node.lineno}: a warning without a [CODE]"
                found.add(code[1])
    assert found == set(headings)


@pytest.mark.parametrize(
    ("where", "page"), [("diagnostics", "diagnostics.md"), ("effects", "guides/effects.md")]
)
def test_every_verdict_has_a_code_that_is_explained(where: str, page: str) -> None:
    """The codes that are given, and no others, are headings of the page; none is put together while running."""
    found = set()
    for path in (SOURCE / where).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Verdict":
                code = node.args[0] if node.args else None
                assert isinstance(code, ast.Constant), (
                    f"{name_of(path)}:{node.lineno}: write the code as a text"
                )
                found.add(code.value)
    assert found
    assert found == set(re.findall(r"^### ([A-Z_]+)$", (ROOT / "docs" / page).read_text(), re.M))


def test_the_table_of_codes_names_all(generate: Any) -> None:
    """What stands in the table is what any part of the library says in capitals with a meaning of its own."""
    text = (ROOT / "docs" / "diagnostics.md").read_text()
    listed = set(re.findall(r"^\| `([A-Z_]+)` \|", text, re.M))
    headed = set(re.findall(r"^#{2,3} ([A-Z_]+)$", text, re.M))
    assert listed == set(generate.codes())
    assert headed <= listed


def test_every_test_on_the_page_of_bad_input_exists() -> None:
    page = (ROOT / "docs" / "guides" / "bad-input.md").read_text()
    file = re.search(r"`(tests/\S+\.py)`", page)
    assert file is not None
    shown = set(re.findall(r"`(test_\w+)`", page))
    there = set(re.findall(r"^def (test_\w+)", (ROOT / file[1]).read_text(), re.M))
    assert shown == there, f"on one side only: {shown ^ there}"


def test_every_test_on_the_page_of_promises_exists() -> None:
    page = (ROOT / "docs" / "promises.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and line != "| promise | test |"]
    assert len(rows) > 40
    for row in rows:
        named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", row.split("|")[2])
        assert named, f"no test defends: {row}"
        for path, name in named:
            assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.M), f"{path} has no {name}"


# ---------------------------------------------------------------------- links
def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = FENCE.sub("", page.read_text())
    return {slug(h) for h in re.findall(r"^#+ (.+)$", text, re.M)} | set(
        re.findall(r'<a id="([^"]+)">', text)
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text()))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        assert goal.exists(), f"{name_of(page)} links to {target}"
        assert not anchor or anchor in anchors(goal), f"{name_of(page)} links to {target}: no such anchor"


def found_by(page: Path) -> set[Path]:
    """The pages that the lists for the sidebar on a page find, by name or by pattern."""
    entries = [
        line
        for block in FENCE.finditer(page.read_text())
        if block["kind"] == "{toctree}"
        for line in block["body"].splitlines()
        if line and not line.startswith(":")
    ]
    return {found.resolve() for entry in entries for found in page.parent.glob(f"{entry}.md")}


def test_the_sidebar_finds_every_page() -> None:
    """From the first page on, through the lists of pages; as Sphinx does, which calls a page outside them an error."""
    reached, waiting = set(), {(ROOT / "docs" / "index.md").resolve()}
    while waiting:
        page = waiting.pop()
        reached.add(page)
        waiting |= found_by(page) - reached
    pages = [
        *PAGES[1:],
        *(ROOT / "experiments").rglob("*.md"),
        ROOT / "CHANGELOG.md",
        ROOT / "CONTRIBUTING.md",
    ]
    missing = [name_of(p) for p in pages if p.resolve() not in reached and not p.name.endswith(".quick.md")]
    assert not missing, f"in no list of docs/index.md or of a page that it leads to: {missing}"


def test_the_indexes_link_every_page() -> None:
    """The first page leads to every other by a link or a list, but for those to which their own index leads."""
    indexes = [ROOT / "docs" / "index.md", *sorted((ROOT / "docs").rglob("*/index.md"))]
    linked = {
        (index.parent / t.partition("#")[0]).resolve()
        for index in indexes
        for t in re.findall(r"\]\(([^)\s]+)\)", index.read_text())
    } | found_by(indexes[0])
    missing = [name_of(p) for p in PAGES[1:] if p != indexes[0] and p.resolve() not in linked]
    assert not missing
    stray = {p.stem for p in (ROOT / "docs" / "methods").glob("*.md")} - {*METHODS, "index"}
    assert not stray, f"pages of methods that are gone: {stray}"


# ---------------------------------------------------------------------- Python API
def test_every_public_name_is_on_a_page_of_the_api(generate: Any) -> None:
    import deconrec as dc

    pages = "".join(p.read_text() for p in (ROOT / "docs" / "reference" / "api").glob("*.md"))
    shown = set(re.findall(r"^\.\. auto\w+:: deconrec\.([\w.]+)$", pages, re.M))
    plain = {"METHODS", "__version__", *dc._MODULES}  # data, and rooms whose names are listed below
    assert {name for name in dc.__all__ if name not in plain} <= shown
    for module in ("simulate", "effects", "exposure", "diagnostics", "checks"):
        found = import_module(f"deconrec.{module}")
        names = {
            n for n in found.__all__ if inspect.isclass(getattr(found, n)) or callable(getattr(found, n))
        }
        missing = {n for n in names if f"{module}.{n}" not in shown and n not in shown}
        assert not missing, f"deconrec.{module}: {missing}"
    errors = import_module("deconrec.errors")
    own = {n for n, v in vars(errors).items() if inspect.isclass(v) and v.__module__ == errors.__name__}
    assert {f"errors.{n}" for n in own} <= shown


def test_docstrings_become_valid_markup() -> None:
    """Signs are text, sections are lists, equations stay as they are."""
    restructured = script("docstrings").restructured
    shown = restructured(
        [
            "A `Dataset`s *all* |O| of user_.",
            "",
            "    a = b * c",
            "",
            "Parameters",
            "----------",
            "n, m: sizes; None = `k`,",
            "    or so.",
            "",
            "Raises",
            "------",
            "DataError: a.  FileError: b.",
        ]
    )
    text = re.sub(r"\n{2,}", "\n\n", "\n".join(shown)).strip()
    assert text == (
        "A ``Dataset``\\ s \\*all\\* \\|O\\| of user\\_.\n\n::\n\n        a = b * c\n\n**Parameters**\n\n"
        "- **n, m**: sizes; None = ``k``, or so.\n\n**Raises**\n\n- **DataError**: a.\n- **FileError**: b."
    )


# ---------------------------------------------------------------------- code on pages
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_python_on_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks run in order in one namespace; a text block right after one is what it prints."""
    namespace = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", namespace)  # dataclasses look their module up
    monkeypatch.chdir(tmp_path)
    blocks = list(FENCE.finditer(page.read_text()))
    for block, after in zip_longest(blocks, blocks[1:]):
        if block["kind"] != "python" or block["skip"]:
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block["body"], name_of(page), "exec"), namespace.__dict__)
        follows = after is not None and after["kind"] == "text" and not page_between(block, after)
        expected = after["body"] if after is not None and follows else ""
        assert printed.getvalue() == expected, f"{name_of(page)}: {block['body'][:200]}"


def page_between(block: re.Match[str], after: re.Match[str]) -> str:
    """The text between two blocks."""
    return block.string[block.end() : after.start()].strip()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_on_the_page_exist(page: Path) -> None:
    """Every `deconrec ...` line of a shell block names a command and options that there are; nothing is run."""
    from typer.main import get_command

    from deconrec.cli.main import app

    shell = "".join(m["body"] for m in FENCE.finditer(page.read_text()) if m["kind"] == "bash")
    for line in shell.replace("\\\n", " ").splitlines():
        if not line.startswith("deconrec "):
            continue
        command, words = get_command(app), shlex.split(line, comments=True)[1:]
        path = ["deconrec"]
        while hasattr(command, "commands"):
            path.append(words.pop(0))
            assert path[-1] in command.commands, f"{name_of(page)}: no command in '{line}'"
            command = command.commands[path[-1]]
        command.make_context(" ".join(path), words)  # raises a usage error that names the option


def test_data_file_on_the_page_is_read(tmp_path: Path) -> None:
    """Every key of the data files shown is known, and the full one shows every key that there is."""
    import tomllib

    from deconrec.data import files

    pages = {p: [m["body"] for m in FENCE.finditer(p.read_text()) if m["kind"] == "toml"] for p in RUN}
    specs = [tomllib.loads(body) for bodies in pages.values() for body in bodies]
    assert specs
    for spec in specs:
        files._DataFile.model_validate(spec)
    full = specs[max(range(len(specs)), key=lambda k: len(str(specs[k])))]
    assert set(full) == set(files._DataFile.model_fields)
    for name, model in files._sections().items():
        assert set(full[name]) == set(model.model_fields), name


DOCTESTED = sorted(p for p in SOURCE.rglob("*.py") if any(">>>" in text for text in docstrings(p)))


@pytest.mark.parametrize("path", DOCTESTED, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_doctests(path: Path) -> None:
    parts = ["deconrec", *path.relative_to(SOURCE).with_suffix("").parts]
    module = import_module(".".join(p for p in parts if p != "__init__"))
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


PROMPTED = [p for p in PAGES if any(">>>" in m["body"] for m in FENCE.finditer(p.read_text()))]


@pytest.mark.parametrize("page", PROMPTED, ids=name_of)
def test_prompts_on_the_page_say_what_is_so(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`>>>` in a fenced block, one session a page."""
    monkeypatch.chdir(tmp_path)
    blocks = [m for m in FENCE.finditer(page.read_text()) if ">>>" in m["body"] and not m["skip"]]
    text = "\n".join(m["body"] for m in blocks)
    found = doctest.DocTestParser().get_doctest(text, {}, name_of(page), str(page), 0)
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(found)
    assert result.attempted
    assert not result.failed
