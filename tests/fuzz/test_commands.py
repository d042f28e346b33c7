"""Arguments of commands, changed at random: exit code 0 or 2, and never a traceback."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import warnings
from pathlib import Path

import polars as pl
import pytest

from deconrec.cli import main
from deconrec.data.dataset import Dataset
from deconrec.methods.mf import MF
from fuzz.bounds import each
from fuzz.mutate import changed, changed_text
from fuzz.test_files import CSV, INTER, PAIRS, PARQUET, SHOWN, USERS

# Commands that end soon whatever their options; what they read and write lies in the working directory.
LINES = (
    "data describe log.csv --user user_id --timestamp timestamp --duplicates last --unrated drop --json out.json",
    "data describe data.toml --json - --quiet",
    "data convert log.inter --out out --to inter --binarize 1 --rating-range 0 1 --users users.csv --protocol users",
    "data convert log.parquet --out out.csv --overwrite --relevant 1 --name shop --unbiased log.csv --seed 3",
    "data convert log.csv --delimiter , --item item_id --rating rating --test log.csv --out out.inter --overwrite",
    "data split data.toml --out out --protocol pairs --split time --seed 1 --json out.json",
    "data split log.csv --out out --protocol users",
    "data list --json -",
    "methods --json -",
    "info model --json -",
    "info",
    "predict model log.csv --out out.csv --history log.csv --user user_id --item item_id --rating rating",
    "predict model log.parquet --out out.parquet --features users.csv --delimiter ,",
    "recommend model --out out.csv --users users.csv --k 3 --include-seen --history log.csv",
    "recommend model --k 2 --explore epsilon-greedy --epsilon 0.2 --temperature 0.1 --seed 4",
    "recommend model --k 2 --explore plackett-luce --temperature 0.1 --users users.csv --out out.parquet",
    "report out.json --out out.html --pictures out",
    "evaluate model log.csv --estimator snips --propensity popularity --metrics auc,mse --seed 1 --json -",
    "sensitivity model log.csv --gammas 1,2 --metrics mse --propensity popularity --k 2 --json -",
    "simulate sim-pairs --set n_users=20 --set n_items=12 --out out --seed 2",
    "fit popularity log.csv --out out --json out.json --seed 1",
    "served model --out out.csv --outcomes log.csv --unrated drop",
)
# No separator of paths among them, so that nothing is written elsewhere, and no number that is a size of much work.
ODD = (
    *(
        "",
        " ",
        "-",
        "--",
        "---",
        "-1",
        "0",
        "1",
        "2",
        "0.5",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "abc",
        "model",
        "log.csv",
    ),
    *(
        "data.toml",
        "log.inter",
        "log.parquet",
        "users.csv",
        "out",
        "out.csv",
        "none.csv",
        ".",
        "a" * 300,
        "Zoë",
        "\0",
        "\n",
    ),
    *(
        "--out",
        "--json",
        "--k",
        "--seed",
        "--quiet",
        "--help",
        "--nothing",
        "-q",
        ",",
        ",,",
        "=",
        ":",
        "mf",
        "mf:",
        "a=b",
    ),
    *(
        "auc",
        "ndcg@0",
        "ndcg@x",
        "known",
        "popularity:floor=0",
        "sim-pairs:",
        "coat",
        "\udc80",
        "[",
        "{}",
        "'",
        '"',
        "*",
    ),
)


def arguments(rng: random.Random) -> list[str]:
    """A command's arguments; now and then as they stand, mostly with a value or two changed, sometimes in disorder."""
    words = rng.choice(LINES).split()
    values = [k for k, word in enumerate(words) if k > 1 and not word.startswith("--")]
    kind = rng.randrange(8)
    if kind < 5 and values:
        for at in rng.sample(values, min(len(values), rng.randrange(3))):
            words[at] = rng.choice(ODD) if kind < 3 else changed_text(words[at], rng, ODD).replace("/", "")
    elif kind < 7:
        at = rng.randrange(1, len(words)) if len(words) > 1 else 0
        words[at : at + rng.randrange(2)] = rng.sample(ODD, rng.randrange(3))
    else:
        words[1:] = rng.sample(words[1:], len(words) - 1)
    return words


def lay(folder: Path, model: Path, rng: random.Random) -> None:
    """The files that commands read, one of them changed now and then."""
    for name, text in (("log.csv", CSV), ("random.csv", CSV), ("users.csv", USERS), ("shown.csv", SHOWN)):
        (folder / name).write_text(text)
    (folder / "log.inter").write_text(INTER)
    (folder / "log.parquet").write_bytes(PARQUET)
    (folder / "data.toml").write_text(PAIRS)
    (folder / "model").symlink_to(model)
    if rng.random() < 0.2:
        (folder / "log.csv").write_bytes(changed(CSV, rng))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = Dataset.from_frames(pl.read_csv(CSV.encode())[::2], rating_range=(0, 1), binarize=0.5)
    return MF(dim=2, epochs=1).fit(data).save(tmp_path_factory.mktemp("saved") / "model")


@pytest.mark.parametrize("cases", [60, pytest.param(12_000, marks=pytest.mark.slow)])
def test_any_arguments_end_in_0_or_2(
    cases: int, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def case(rng: random.Random) -> bool:
        folder = tmp_path / "work"
        folder.mkdir()
        os.chdir(folder)
        try:
            lay(folder, model, rng)
            words = arguments(rng)
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                code = main(words)
            assert code in (0, 2), (code, words, err.getvalue()[-2000:])
            assert "Traceback" not in err.getvalue(), words
            assert code == 0 or err.getvalue().strip(), words
            return code == 0
        except BaseException as error:
            error.add_note(f"arguments: {words!r}")
            raise
        finally:
            os.chdir(tmp_path)
            shutil.rmtree(folder)

    monkeypatch.chdir(tmp_path)
    each(cases, case)
