"""A small log on disk, and experiments on it as TOML files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import deconrec as dc
from deconrec.data.files import write_tables

SPEC = """# deconrec reproduce {name} --json out.json
title = "A small table"
says = "Three methods on a made-up log."
dataset = "{data}"
seeds = 3
metrics = ["auc", "ndcg@3/shown", "auc/leaked"]
methods = ["mf", "mf-combined", "ips:epochs=2"]
set = {{ epochs = 3, 'propensity.epochs' = 2 }}
{more}
[tolerance]
auc = 0.01

[paper]
where = "Table 0"
twins = ["leaked"]

[[paper.tables]]
metrics = ["auc"]
values = {{ mf = [0.2], mf-combined = [0.6] }}

[[claims]]
says = "more data are better"
metric = "auc"
a = "mf-combined"
b = ["mf"]

[quick]
seeds = 2
trials = 2
methods = ["mf"]
set = {{ epochs = 1 }}
"""


@pytest.fixture(scope="session")
def data_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data.toml of 60 users x 30 items with a randomised log of 30 % of the pairs."""
    data, _ = dc.simulate.pairs(n_users=60, n_items=30, exposure_rate=0.2, unbiased_share=0.3, seed=1)
    folder = tmp_path_factory.mktemp("data")
    write_tables(data, folder)
    return folder / "data.toml"


@pytest.fixture
def spec_file(tmp_path: Path, data_file: Path) -> Callable[..., Path]:
    """Writes an experiment: further lines before its tables, and other text in place of what it has."""

    def write(more: str = "", replace: tuple[tuple[str, str], ...] = (), data: str = "") -> Path:
        path = tmp_path / "small.toml"
        text = SPEC.format(name="small", data=data or data_file.as_posix(), more=more)
        for old, new in replace:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
        return path

    return write
