"""Methods of one's own, by the import path of their class."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import deconrec as dc
from deconrec.errors import ParameterError, UnknownName
from deconrec.methods import make, name_of

SMALL = "sim-pairs:n_users=60+n_items=30+exposure_rate=0.3+unbiased_share=0.2"
MODULE = '''
import deconrec as dc

class Plain(dc.MF):
    """MF by another name."""

class Number:
    pass

answer = 42
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of one's own, where the command runs."""
    (tmp_path / "my_methods.py").write_text(MODULE)
    (tmp_path / "broken_methods.py").write_text("import no_such_module_anywhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    yield tmp_path
    sys.modules.pop("my_methods", None)


def test_a_path_makes_the_method(folder: Path) -> None:
    model = make("my_methods.Plain:dim=3+epochs=2")
    assert type(model).__name__ == "Plain"
    assert model.get_params()["dim"] == 3
    assert sys.path[-1] == str(folder)
    with pytest.raises(UnknownName, match="parameter"):
        make("my_methods.Plain:dims=3")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("no_such_module.Plain", "'no_such_module', which cannot be imported"),
        ("broken_methods.Plain", "No module named 'no_such_module_anywhere'"),
        ("my_methods.Missing", "has nothing of that name"),
        ("my_methods.Number", "must be a class that derives from"),
        ("my_methods.answer", "has 42"),
    ],
)
def test_a_path_to_no_method_is_refused(folder: Path, path: str, why: str) -> None:
    with pytest.raises(ParameterError, match=why):
        make(path)


def test_names_of_classes() -> None:
    assert name_of("ips:dim=4") == "ips:dim=4"
    assert name_of(dc.IPS) == "ips"
    with pytest.raises(ParameterError, match="or a class"):
        name_of(dc.IPS())  # type: ignore[arg-type]

    class Inside(dc.MF):
        pass

    with pytest.raises(ParameterError, match="stands inside a function"):
        name_of(Inside)


def test_in_a_comparison_it_is_what_it_says(folder: Path) -> None:
    """The same numbers as the method that it renames; in this process and on the command line with two others."""
    result = dc.compare(SMALL, ["mf:epochs=2", "my_methods.Plain:epochs=2"], seeds=2, metrics=["auc"])
    same = {m: [r.metrics["auc"] for r in result.runs if r.method == m] for m in result.methods}
    assert same["mf:epochs=2"] == same["my_methods.Plain:epochs=2"]
    command = [Path(sys.executable).parent / "deconrec", "compare", SMALL, "--seeds", "2", "--workers", "2"]
    done = subprocess.run(
        [*command, "--methods", "mf:epochs=2,my_methods.Plain:epochs=2", "--json", "out.json", "-q"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "my_methods.Plain" in (folder / "out.json").read_text()
