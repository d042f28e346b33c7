"""The report is one safe, self-contained page, whatever the result holds."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser

import pytest

from deconrec.errors import FileError, MissingExtra
from deconrec.experiments.results import Distribution
from deconrec.report.html import render, write_report
from deconrec.report.text import verdict

VOID = {"meta", "br", "wbr", "img", "input", "hr", "link"}


class Page(HTMLParser):
    """Tags that are balanced, ids that are unique, and what stands in the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.refs: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        self.ids += [found["id"]] if "id" in found else []
        for value in found.values():
            self.refs += re.findall(r"url\(#([^)]+)\)", value or "")
        self.refs += [found["href"][1:]] if "href" in found else []
        self.refs += [found["aria-labelledby"]] if "aria-labelledby" in found else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    @property
    def figures(self) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == "svg" and attrs.get("role") == "img"]


def checked(page: str) -> Page:
    """The page, after everything that holds for every report."""
    parsed = Page(page)
    assert len(set(parsed.ids)) == len(parsed.ids)
    assert set(parsed.refs) <= set(parsed.ids)
    # Nothing is loaded, and nothing is run.
    assert not re.search(r"https?:|//[a-z]|@import|@font-face", page)
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & {tag for tag, _ in parsed.tags}
    for _, attrs in parsed.tags:
        assert not [name for name in attrs if name == "src" or name.startswith("on")]
    # Every drawing is described, or hidden from those who cannot see it.
    for tag, attrs in parsed.tags:
        if tag == "svg":
            assert attrs.get("aria-label") or attrs.get("aria-hidden") == "true"
    # A stand-in colour that is left would be nearly black on either background.
    assert not re.search(r"#010[23][0-9a-f]{2}", page)
    assert "nan" not in parsed.text.lower().split()
    return parsed


def test_many_methods(fake_result):
    result = fake_result(twins=("leaked",))
    page = render(result)
    parsed = checked(page)
    for method in result.methods:
        assert method in parsed.text
    for heading in [
        "What was compared, and how",
        "Leaderboard",
        "Differences",
        "Learning curves",
        "Glossary",
    ]:
        assert heading in parsed.text
    for sentence in verdict(result).split(". "):
        assert sentence.rstrip(".") in parsed.text
    assert "366 of 4,640" in parsed.text
    assert "With the leaked pairs kept" in parsed.text
    assert "0.01 (5 runs); 0.003 (5 runs)" in parsed.text  # a parameter that differs between runs
    assert "ndcg@5/shown 40–49" in parsed.text  # users skipped
    assert "0: mf, ips" in parsed.text
    # Means, the difference of the headline metric, curves of every method, the distribution.
    assert len(parsed.figures) == 4 + 1 + len(result.methods) + 1
    assert len(page.encode()) < 500_000


def test_the_same_result_gives_the_same_bytes(fake_result):
    again = [render(fake_result(methods=["mf", "ips"], metrics=["auc"], seeds=2)) for _ in range(2)]
    assert again[0] == again[1]


def test_one_method_and_one_seed(fake_result):
    parsed = checked(render(fake_result(methods=["mf"], seeds=1)))
    assert "Only mf was run" in parsed.text
    assert "no interval can be given" in parsed.text
    assert "Differences" not in parsed.text


def test_missing_values_are_dashes(fake_result):
    result = fake_result(seeds=3, distribution=False, epochs=0)
    for row in result.summary:
        if row.metric in ("auc", "mse") or row.method == "ips":
            row.mean = row.low = row.high = None
    for test in result.tests:
        if test.metric == "ndcg@5/shown":
            test.difference = test.low = test.high = test.p = test.p_holm = test.effect_size = None
    parsed = checked(render(result))
    assert "mean ndcg@5/shown" in parsed.text  # the first metric with a value leads
    assert "not tested" in parsed.text
    assert "–" in parsed.text
    assert "Learning curves" not in parsed.text
    assert "Outcomes" not in parsed.text


def test_nothing_at_all(fake_result):
    result = fake_result(methods=[], seeds=0, distribution=False)
    result.protocol.clear()
    result.environment.clear()
    assert "nothing to compare" in checked(render(result)).text


@pytest.mark.parametrize(
    "settings",
    [
        [{"confounding": c} for c in (0, 0.5, 2)],
        [{"share": c} for c in (0.001, 0.01, 0.1)],
        [{"policy": p} for p in ("joint", "alternating", None)],
        [{"policy": p, "confounding": c, "items": 50} for p in ("joint", "x" * 60) for c in (0, 1)],
    ],
)
def test_a_sweep(fake_result, settings):
    result = fake_result(
        methods=["mf", "ips"], metrics=["auc", "mse"], twins=["truth"], settings=settings, seeds=3
    )
    parsed = checked(render(result))
    assert "Over settings of" in parsed.text
    over = [figure for figure in parsed.figures if f"over {len(settings)} settings" in figure["aria-label"]]
    assert len(over) == 4


def test_a_simulator_shows_the_error_against_the_truth(fake_result):
    result = fake_result(methods=["mf", "ips"], metrics=["auc", "mse"], twins=["truth"], seeds=3)
    result.distribution.truth = [0.2] * 5
    parsed = checked(render(result))
    assert "Error against the truth" in parsed.text
    labels = " ".join(figure["aria-label"] for figure in parsed.figures)
    assert "mse/truth of 2 methods" in labels
    assert "truth: 1 20 %" in labels


def test_hostile_names_are_text(fake_result):
    bad = "<script>alert('x')</script>"
    methods = [
        bad,
        '"><img src=x onerror=alert(1)>',
        '$\\frac{1$ &amp; id="y"',
        "_hidden",
        "模型 🙂",
        "a\x1b[31m",
    ]
    result = fake_result(methods=methods, metrics=["auc"], seeds=2, settings=[{bad: 1}, {bad: 2}])
    result.dataset = bad
    result.protocol["notes"] = [bad]
    result.protocol[bad] = {bad: bad}
    result.environment[bad] = bad
    for run in result.runs:
        run.params[bad] = bad
    page = render(result, title=bad, extra={bad: [bad], "rows": [{bad: bad}]})
    parsed = checked(page)
    assert "<script" not in page
    assert parsed.text.count(bad) > 10
    assert "_hidden" in parsed.text


def test_a_long_name_is_cut_in_figures_only(fake_result):
    name = "res-dr:" + "+".join(f"parameter{n}={n}" for n in range(12))
    parsed = checked(render(fake_result(methods=["mf", name], metrics=["auc"], seeds=2)))
    assert name in parsed.text
    drawn = [word for word in parsed.words if "…" in word and "parameter" in word]
    assert drawn
    assert all(len(word) < 45 for word in drawn)


def test_a_continuous_outcome_is_drawn_as_steps(fake_result):
    result = fake_result(methods=["mf"], seeds=1)
    values = [n / 40 for n in range(41)]
    result.distribution = Distribution(values=values, biased=[1 / 41] * 41)
    label = checked(render(result)).figures[-1]["aria-label"]
    assert "biased log" in label
    assert "unbiased" not in label


def test_further_sections(fake_result):
    rows = [{"method": "res-dr", "ours": 0.731, "paper": 0.751}, {"method": "mf", "ours": 0.7}]
    extra = {"Published values": rows, "Verdict": "not reached", "Empty": []}
    parsed = checked(render(fake_result(methods=["mf"], seeds=1), extra=extra))
    assert "Published values" in parsed.text
    assert "0.751" in parsed.text
    assert "not reached" in parsed.text


def test_a_large_comparison_stays_a_small_file(fake_result):
    methods = [f"method-{n}" for n in range(20)]
    result = fake_result(methods=methods, metrics=["auc", "mse"], seeds=10, twins=["leaked"], epochs=300)
    page = render(result)
    checked(page)
    assert "further rows stand in the JSON" in page
    assert len(page.encode()) < 1_500_000


def test_text_is_readable_in_both_themes(fake_result):
    """WCAG 2 AA: 4.5 to 1 for text, 3 to 1 for the marks of figures, on every background."""
    page = render(fake_result(methods=["mf"], seeds=1))
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", part))
        for part in re.findall(r":root \{(.*?)\}", page, re.S)
    )
    assert light.keys() == dark.keys()
    for theme in (light, dark):
        for name, colour in theme.items():
            if name in ("page", "surface", "best", "rule"):
                continue
            least = 3 if name.startswith("series") else 4.5
            grounds = ("page",) if name.startswith("series") else ("page", "surface", "best")
            for ground in grounds:
                assert contrast(colour, theme[ground]) >= least, (name, ground)


def contrast(a: str, b: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dim, bright = sorted([luminance(a), luminance(b)])
    return (bright + 0.05) / (dim + 0.05)


def test_the_reader_s_own_matplotlib_settings_do_not_count(fake_result):
    import matplotlib

    result = fake_result(methods=["mf"], metrics=["auc"], seeds=1)
    plain = render(result)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert render(result) == plain
        assert matplotlib.rcParams["font.size"] == 30


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_extra_is_named(fake_result, monkeypatch, package):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"the HTML report needs '{package}'.*deconrec\[report\]"):
        render(fake_result(methods=["mf"], seeds=1))


def test_write_report(fake_result, tmp_path):
    result = fake_result(methods=["mf"], metrics=["auc"], seeds=1, distribution=False)
    path = write_report(result, tmp_path / "deep" / "report.html")
    assert path == tmp_path / "deep" / "report.html"
    assert path.read_text(encoding="utf-8") == render(result)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(FileError):
        write_report(result, tmp_path)
