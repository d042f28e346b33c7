"""The ladder of docs/architecture.md: an import may only go down; on one rung, only inside one folder."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "deconrec"

LADDER: dict[str, float] = {
    "__main__": 9,
    "cli": 8,
    "report": 7,
    "batch": 7,
    "serving": 7,
    "experiments": 6,
    "adapters": 5,
    "checks": 5,
    "diagnostics": 5,
    "effects": 5,
    "catalogue": 5,
    "methods": 4,
    "simulate": 4,
    "propensity": 3,
    "exposure": 3,
    "base": 2,
    "parameters": 2,
    "folding": 2,
    "saving": 2,
    "torch_estimator": 2,
    "factor_estimator": 2,
    "training": 1,
    "kernels": 1,
    "data": 0,
    "evaluation": 0,
    "nn": 0,
    "losses": 0,
    "errors": -1,
    "random": -1,
    "references": -1,
    "pairs": -1,
    "records": -1,
    "threads": -1,
}

# One rung, several files that make one concept together.
SAME_CONCEPT = {
    ("base", "parameters"),
    ("base", "saving"),
    ("base", "folding"),
    ("folding", "base"),
    ("saving", "base"),
    ("torch_estimator", "base"),
    ("factor_estimator", "base"),
    ("factor_estimator", "parameters"),
    ("torch_estimator", "parameters"),
    ("training", "data"),
}

# An edge upwards, each with its reason.
EXCEPTIONS = {
    ("saving", "methods"): "a saved model names its class, which is looked up among the methods",
    ("saving", ""): "the version stands in the package",
    ("base", "effects"): "a fitted model answers for its effects, which are computed from any model",
}


def imports(path: Path) -> list[tuple[str, int]]:
    """(part of deconrec that is imported, line) of a file, at any depth, TYPE_CHECKING too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names = [f"{node.module}.{a.name}" for a in node.names]
        found += [
            (n.split(".")[1] if "." in n else "", node.lineno) for n in names if n.split(".")[0] == "deconrec"
        ]
    return found


def part_of(path: Path) -> str:
    """The rung's name of a file."""
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


FILES = sorted(p for p in SOURCE.rglob("*.py") if p != SOURCE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_down(path: Path) -> None:
    part = part_of(path)
    assert part in LADDER, f"{path.name} stands on no rung of the ladder: {sorted(LADDER)}"
    for target, line in imports(path):
        if target == part or (part, target) in EXCEPTIONS or (part, target) in SAME_CONCEPT:
            continue
        if target == "__version__":
            continue
        rungs = "\n".join(f"{rung:>3g}  {name}" for name, rung in LADDER.items())
        assert target in LADDER, f"{path}:{line} imports deconrec.{target}, which stands on no rung"
        assert LADDER[target] < LADDER[part], (
            f"{path}:{line}: {part} ({LADDER[part]:g}) imports {target} ({LADDER[target]:g}); imports go down "
            f"only\n{rungs}"
        )


def test_report_reads_records_only() -> None:
    for path in (SOURCE / "report").rglob("*.py"):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("deconrec.experiments"):
                assert node.module == "deconrec.experiments.results", (
                    f"{path}:{node.lineno} imports {node.module}"
                )


def test_data_and_evaluation_import_no_torch() -> None:
    fits = SOURCE / "simulate" / "decoders.py"  # the worlds that learn their decoders from real data
    for folder in ("data", "evaluation", "simulate"):
        for path in set((SOURCE / folder).rglob("*.py")) - {fits}:
            for node in ast.walk(ast.parse(path.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not any(n.split(".")[0] == "torch" for n in names), f"{path} imports torch"


def test_no_pickle() -> None:
    banned = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for path in FILES:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not banned & {n.split(".")[0] for n in names}, f"{path} imports a pickling module"
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "torch.save"):
                raise AssertionError(f"{path}:{node.lineno} uses {ast.unparse(node.func)}")
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
                safe = [
                    k for k in node.keywords if k.arg == "allow_pickle" and ast.unparse(k.value) == "False"
                ]
                assert safe, f"{path}:{node.lineno}: np.load without allow_pickle=False"


def test_nothing_is_evaluated() -> None:
    """No text becomes code, nothing unsafe is read, and no shell is started; a check evaluates a method's own repr."""
    banned = {
        "eval",
        "exec",
        "compile",
        "os.system",
        "os.popen",
        "yaml.load",
        "yaml.unsafe_load",
        "__import__",
    }
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if (path.parent.name, path.name, name) == ("checks", "parameters.py", "eval"):
                continue
            assert name not in banned, f"{path}:{node.lineno} calls {name}"
            shell = [k for k in node.keywords if k.arg == "shell" and ast.unparse(k.value) != "False"]
            assert not shell, f"{path}:{node.lineno} starts a shell"


def test_no_import_cycles() -> None:
    """Between parts of one rung that are allowed to know each other, module-level imports must not go both ways."""
    edges: dict[str, set[str]] = {}
    for path in FILES:
        top = ast.parse(path.read_text()).body
        for node in top:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("deconrec."):
                edges.setdefault(part_of(path), set()).add(node.module.split(".")[1])
    for part, targets in edges.items():
        for target in targets - {part}:
            assert part not in edges.get(target, set()), f"{part} and {target} import each other"


def test_import_is_light() -> None:
    code = (
        "import deconrec, sys; print([m for m in ('torch', 'polars', 'scipy', 'numpy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_help_loads_no_torch() -> None:
    code = (
        "import sys\nfrom deconrec.cli import main\n"
        "code = main(['--help'])\n"
        "heavy = [n for n in ('torch', 'polars', 'scipy', 'pandas', 'matplotlib') if n in sys.modules]\n"
        "print('HEAVY', heavy, code)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY [] 0" in out.stdout
