"""Experiments as files: those of the package, and what is refused."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from deconrec.catalogue import open_parameters
from deconrec.errors import FileError, UnknownName
from deconrec.experiments.metrics import Metric
from deconrec.experiments.runs import prepared
from deconrec.experiments.search import has_parameter
from deconrec.experiments.spec import SearchPart, expand, load_spec, spec_names
from deconrec.experiments.world_spec import WorldSpec

WORLDS = [name for name in spec_names() if isinstance(load_spec(name)[1], WorldSpec)]
NAMES = [name for name in spec_names() if name not in WORLDS]


def test_the_papers_tables_and_figures_are_there() -> None:
    wanted = [
        "table1-coat",
        "table1-kuairec",
        "table1-yahoo",
        "table2",
        "table3",
        "table4",
        "figure2",
        "figure3",
    ]
    assert {f"res-dr/{name}" for name in wanted} <= set(NAMES)
    wanted = ["table2-simulated", "table2-ml", "table2-vg", "table3", "table3-ml", "table3-vg"]
    assert {f"deep-deconf/{name}" for name in wanted} <= set(NAMES)
    assert {f"deep-deconf/{name}" for name in ("table1", "figure6", "figure8", "figure9")} <= set(WORLDS)


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_is_whole(name: str) -> None:
    called, spec = load_spec(name)
    assert called == name
    first = (
        resources.files("deconrec.experiments").joinpath("specs", f"{name}.toml").read_text().splitlines()[0]
    )
    assert first.startswith(f"# deconrec reproduce {name} ")
    assert first.endswith(".json")
    for one in (spec, spec.quicker()):
        assert spec.protocol == "users" or {"mf", "mf-uniform", "mf-combined"} <= set(one.methods)
        assert one.settings
        reached = set()
        for method in one.methods:
            model = prepared(method)
            reached |= {n for n in one.dials if has_parameter(model, n)}
            prepared(method, {n: v for n, v in one.set.items() if has_parameter(model, n)})
        assert {n for n, kind in one.dials.items() if kind == "parameter"} <= reached
        for metric in [*one.metrics, *one.picture]:
            assert str(Metric.parse(metric)) == metric
            assert metric in one.metrics
    assert spec.seeds >= 10
    # A study at the defaults tunes nothing; a table of a paper does.
    assert spec.search.trials >= 10 or name.startswith("studies/")
    assert spec.quicker().seeds <= 2
    for metric in spec.metrics:
        assert spec.tolerance_of(metric) == spec.tolerance_of(metric.removesuffix("/leaked"))


@pytest.mark.parametrize("name", WORLDS)
def test_every_description_of_worlds_is_whole(name: str) -> None:
    called, spec = load_spec(name)
    assert called == name
    assert isinstance(spec, WorldSpec)
    path = resources.files("deconrec.experiments").joinpath("specs", f"{name}.toml")
    first = path.read_text().splitlines()[0]
    assert first.startswith(f"# deconrec reproduce {name} ")
    assert first.endswith(".json")
    assert spec.seeds >= 10
    assert spec.quicker().seeds <= 2
    assert spec.quicker().draws < spec.draws
    for dial in {dial for setting in spec.settings for dial in setting}:
        # No world is left out of a sweep by its own text.
        assert all(dial in open_parameters(world) for world in spec.worlds)
    assert all(claim.against for claim in spec.claims)


def test_table_3_and_4_agree_with_table_1_where_they_repeat_it() -> None:
    """The heading of the paper's Table 3 has two columns swapped: what repeats Table 1 shows which."""
    first = load_spec("res-dr/table1-coat")[1].paper.tables[0].values
    for name in ("res-dr/table3", "res-dr/table4"):
        other = load_spec(name)[1].paper.tables[0].values
        shared = set(first) & set(other)
        assert {"escm2-dr", "res-dr:agreement=loss"} <= shared
        assert all(first[m] == other[m] for m in shared)


def test_settings_are_products_that_follow_each_other() -> None:
    assert expand([]) == [{}]
    blocks = [{"a": [1, 2], "b": ["x", "y"]}, {"a": [2], "b": ["y"]}, {"a": [3], "b": ["x"]}]
    assert expand(blocks) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
        {"a": 3, "b": "x"},
    ]


REFUSED = [
    ((('title = "A small table"', 'titel = "A small table"'),), "titel|title"),
    ((("auc = 0.01", ""),), "tolerance"),
    ((("mf = [0.2]", "mf = [0.2, 0.3]"),), "1 values"),
    ((('a = "mf-combined"', 'a = "res-dr"'),), "none of the methods"),
    ((('where = "Table 0"', "where = 0"),), "paper.where"),
    ((("# deconrec reproduce", "# something else"),), "begin with its command"),
    ((("seeds = 3", "seeds = 0"),), "seeds"),
    ((("auc = 0.01", "auc = -0.01"),), "tolerance"),
    ((('methods = ["mf", ', 'methods = ["mf", "mf", '),), "stands once"),
    ((("seeds = 3", "sweep = [{ gamma = [1] }]\nseeds = 3"),), "gamma"),
    ((("seeds = 3", "seeds = "),), "TOML"),
]


@pytest.mark.parametrize(("replace", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_refusals(spec_file, replace, says: str) -> None:
    with pytest.raises(FileError, match=says):
        load_spec(spec_file(replace=replace))


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="res-dr/table1-coat"):
        load_spec("res-dr/table1-coats")
    with pytest.raises(FileError, match="TOML"):
        load_spec(tmp_path / "nothing.toml")


def test_parameters_left_out_of_a_search() -> None:
    part = SearchPart(leave=["dim", "kd-feature:teacher.dim", "ips:propensity.dim"])
    assert part.left("kd-feature:mode=alter") == {"dim", "teacher.dim"}
    assert part.left("mf") == {"dim"}


def test_quick_keeps_only_the_claims_that_it_can_test(spec_file) -> None:
    spec = load_spec(spec_file())[1]
    quick = spec.quicker()
    assert (quick.seeds, quick.search.trials, quick.methods, quick.claims) == (2, 2, ["mf"], [])
    assert quick.set == {"epochs": 1, "propensity.epochs": 2}
    assert len(spec.claims) == 1


def test_methods_at_some_settings_alone() -> None:
    spec = load_spec("deep-deconf/table3")[1]
    places = [s["feature_noise"] for s in spec.settings if "deep-deconf:features=false" in spec.methods_at(s)]
    assert places == [0.1, 0.1]
    assert spec.quicker().methods_at({"feature_noise": 0.9}) == ["deep-deconf"]
