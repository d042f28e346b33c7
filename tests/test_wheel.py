"""The wheel: what it holds, and the quick tests against it in an environment of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Tests of what the library does; the others read the source tree, which the wheel is not.
QUICK = (
    *("data", "evaluation", "kernels", "losses", "nn", "propensity", "training", "cli/test_cli.py"),
    *(
        "serving/test_answers.py",
        "report/test_html.py",
        "test_base.py",
        "test_saving.py",
        "test_saved_versions.py",
    ),
)
NEEDED = ("pytest", "hypothesis", "httpx", "pandas", "pyarrow", "scikit-learn")  # by these tests


def run(*command: str | Path) -> str:
    done = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


@pytest.mark.slow
def test_a_wheel_in_a_clean_environment(tmp_path: Path) -> None:
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
    source = ROOT / "src"
    expected = {
        path.relative_to(source).as_posix()
        for path in (source / "deconrec").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "deconrec/py.typed" in names
    assert names - expected == {n for n in names if ".dist-info/" in n}
    assert expected <= names
    assert any(n.endswith("/LICENSE") for n in names)

    place = tmp_path / "venv"
    venv.create(place, with_pip=True)
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    constraints = ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "--quiet", "-c", constraints, f"{wheel}[all]", *NEEDED)
    where = run(python, "-c", "import deconrec; print(deconrec.__file__)")
    assert Path(where.strip()).is_relative_to(place)
    run(python, "-m", "pytest", "-x", *(f"tests/{name}" for name in QUICK))


def test_lower_bounds_are_those_that_are_tested() -> None:
    """What users install; tools of developers and of the documentation aside."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(r for e in ("torch", "report", "tune", "sklearn", "ray", "serve") for r in extras[e]),
    ]
    lowest = dict(
        re.findall(r"^([\w-]+)==([\d.]+)", (ROOT / "constraints-lowest.txt").read_text(), re.M)[::-1]
    )
    for requirement in wanted:
        name, _, version = requirement.partition(">=")
        assert lowest[name].startswith(version), requirement


@pytest.mark.parametrize("name", ["tests.yml", "slow.yml"])
def test_workflows_run_verbs_that_exist(name: str) -> None:
    text = (ROOT / ".github" / "workflows" / name).read_text()
    verbs = set(re.findall(r"\bmake ([a-z]+)", text))
    assert verbs
    assert verbs <= set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.M))
    if name == "tests.yml":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        ours = {c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r"Python :: 3\.\d+$", c)}
        for matrix in re.findall(r"python: \[(.*)\]", text):
            assert set(re.findall(r"[\d.]+", matrix)) == ours
