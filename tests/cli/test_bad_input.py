"""What bad input gets from the command line: inputs, each with the sentence that refuses it or what comes out.

A refusal is exit code 2, one line on standard error, word for word as it stands here, and nothing written.
"""

from __future__ import annotations

import gzip
import io
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from deconrec.cli import main
from deconrec.data.dataset import Dataset
from deconrec.errors import DataError, ParameterError
from deconrec.methods.mf import MF
from deconrec.saving import load_model

Content = str | bytes | Path | None  # text; bytes; where a link leads; a folder
HEAD = "user_id,item_id,rating\n"
LOG = f"{HEAD}ann,a,1\nann,b,0\nbob,a,0\nbob,c,1\ncy,b,1\n"
INTER = "user_id:token\titem_id:token\trating:float\n"
SHOWN = "user_id,item_id,click,conversion,hour\n"
READ = "data convert log.csv --out out.csv"
TOML = "data convert data.toml --out out.csv"
PREDICT = "predict model pairs.csv --out out.csv"
MODEL = Path("a saved model")

# Parts of many sentences.
NO_CSV = "log.csv: the biased log: 'log.csv' cannot be read as CSV:"
NO_PARQUET = "log.parquet: the biased log: 'log.parquet' cannot be read as Parquet:"
NO_FILE = "the biased log must be a CSV, Parquet or RecBole (.inter, .user, .item) file;"
UNRATED = (
    "An unrated pair has no row: drop these rows, or have it done with unrated='drop' (--unrated drop, or [log] "
    "unrated in a data file)."
)
NAME_YOURS = (
    "Name yours with columns={'user': ..., 'item': ..., 'rating': ...}, a [columns] table of the data file, or --user, "
    "--item and --rating of `deconrec data convert`."
)


def log(rows: str | bytes, name: str = "log.csv") -> dict[str, Content]:
    """A log of these rows, the header before them."""
    return {name: HEAD + rows if isinstance(rows, str) else HEAD.encode() + rows}


def parquet(**columns: Any) -> bytes:
    """A Parquet file in memory."""
    out = io.BytesIO()
    pl.DataFrame(columns).write_parquet(out)
    return out.getvalue()


def data_file(text: str, **tables: Content) -> dict[str, Content]:
    """A data file of the log by name, with more of it; tables are CSV files by their stem."""
    beside = {f"{name}.csv": content for name, content in tables.items()}
    return {"data.toml": f'[biased]\npath = "log.csv"\n{text}', "log.csv": LOG} | beside


def features(table: str) -> dict[str, Content]:
    """The log with a table of users."""
    return data_file('[features]\nusers = "users.csv"\n', users=table)


def impressions(rows: str, more: str = "") -> dict[str, Content]:
    """A log of impressions with the context `hour`."""
    text = f'[impressions]\npath = "shown.csv"\ncontext = ["hour"]\n{more}'
    return {"data.toml": text, "shown.csv": SHOWN + rows}


def asked(pairs: str) -> dict[str, Content]:
    """A saved model, and pairs to be predicted."""
    return {"model": MODEL, "pairs.csv": pairs}


PLAIN = parquet(user_id=["a", "b"], item_id=[1, 2], rating=[1.0, 0.0])


def packed(rows: str, damage: slice = slice(None), put: bytes = b"") -> bytes:
    """A log as gzip; the bytes of `damage` are all that is kept, with others after them."""
    return gzip.compress((HEAD + rows).encode())[damage] + put


def refused(name: str, files: Mapping[str, Content], command: str | list[str], says: str) -> Any:
    return pytest.param(files, command, 2, f"deconrec: {says}\n", (), id=name)


def answered(name: str, files: Mapping[str, Content], command: str | list[str], out: str, *notes: str) -> Any:
    return pytest.param(files, command, 0, out, notes, id=name)


def make_model(folder: Path) -> None:
    table = pl.read_csv(LOG.encode(), schema_overrides={"rating": pl.Float64})
    MF(dim=2, epochs=1).fit(Dataset.from_frames(table, rating_range=(0, 1), binarize=0.5)).save(folder)


def lay(files: Mapping[str, Content], model: Path) -> None:
    """The files of a case, in the working directory."""
    for name, content in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is MODEL:
            shutil.copytree(model, path)
        elif isinstance(content, Path):
            path.symlink_to(content)
        elif content is None:
            path.mkdir()
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)


ROWS = [
    # ------------------------------------------------------------------ ratings
    refused(
        "a rating of NaN",
        log("ann,a,1\nbob,b,NaN\n"),
        READ,
        "log.csv: the biased log's ratings must be finite numbers; 1 of 2 are null, NaN or infinite "
        f"(first: user 'bob', item 'b'). {UNRATED}",
    ),
    refused(
        "a rating of inf",
        log("ann,a,1\nbob,b,inf\n"),
        READ,
        "log.csv: the biased log's ratings must be finite numbers; 1 of 2 are null, NaN or infinite "
        f"(first: user 'bob', item 'b'). {UNRATED}",
    ),
    refused(
        "a rating of -inf",
        log("ann,a,-inf\nbob,b,1\n"),
        READ,
        "log.csv: the biased log's ratings must be finite numbers; 1 of 2 are null, NaN or infinite "
        f"(first: user 'ann', item 'a'). {UNRATED}",
    ),
    refused(
        "a rating beyond 32 bits",
        log("ann,a,1e39\nbob,b,1\n"),
        READ,
        "log.csv: the biased log's ratings must be finite numbers; 1 of 2 are null, NaN or infinite "
        f"(first: user 'ann', item 'a'). {UNRATED}",
    ),
    refused(
        "an empty rating",
        log("ann,a,1\nbob,b,\n"),
        READ,
        "log.csv: the biased log's ratings must be finite numbers; 1 of 2 are null, NaN or infinite "
        f"(first: user 'bob', item 'b'). {UNRATED}",
    ),
    answered(
        "an empty rating, left out",
        log("ann,a,1\nbob,b,\n"),
        f"{READ} --unrated drop",
        "user_id,item_id,rating\nann,a,1.0\n",
        "1 rows of the biased log without a rating were left out (unrated = 'drop').",
    ),
    refused(
        "a word among ratings",
        log("ann,a,1\nbob,b,good\n"),
        READ,
        "log.csv: the biased log's 'rating' must hold numbers; got String (first: 'good'). Correct the "
        "rows, or name the column that holds the ratings.",
    ),
    refused(
        "a decimal comma",
        log("ann,a,1\nbob,b,1,5\n"),
        READ,
        f"{NO_CSV} line 3 has 4 fields, and the header has 3 fields (user_id, item_id, rating). A "
        "field that holds the delimiter or a line's end must stand in double quotes; a wrong delimiter "
        "looks like this too.",
    ),
    answered(
        "true and false",
        log("ann,a,true\nbob,b,false\n"),
        READ,
        "user_id,item_id,rating\nann,a,1.0\nbob,b,0.0\n",
    ),
    refused(
        "true beside numbers",
        log("ann,a,1\nbob,b,true\n"),
        READ,
        "log.csv: the biased log's 'rating' must hold numbers; got String (first: 'true'). Correct the "
        "rows, or name the column that holds the ratings.",
    ),
    answered(
        "ratings that are all the same",
        log("".join(f"u{k},a,1\n" for k in range(10))),
        "data convert log.csv --out out",
        "",
        "[ONE_OUTCOME] Every rating of the biased log is 1: ratings alone cannot tell pairs apart. Of "
        "clicks or purchases alone, give what was shown and not taken as 0 (or a log of impressions), "
        "or rank by exposures: protocol 'users', with methods such as popularity, ease, wmf.",
    ),
    refused(
        "a rating out of range",
        log("ann,a,1\nbob,b,6\n"),
        f"{READ} --rating-range 1 5",
        "log.csv: the biased log's ratings must lie in [1, 5]; 1 of 2 do not (first: 6 of user 'bob', "
        "item 'b'). Correct the rows or `rating_range`.",
    ),
    refused(
        "a range the wrong way round",
        log("ann,a,1\nbob,b,0\n"),
        f"{READ} --rating-range 5 1",
        "'rating_range' must be [low, high] with low < high; got (5.0, 1.0).",
    ),
    refused(
        "binarize above the range",
        log("ann,a,1\nbob,b,0\n"),
        f"{READ} --rating-range 0 1 --binarize 4",
        "'binarize' of the task must lie above 0 and at most at 1, the ends of `rating_range`; got 4, "
        "which makes every rating 0.",
    ),
    refused(
        "binarize at the lower end",
        log("ann,a,1\nbob,b,0\n"),
        f"{READ} --rating-range 0 1 --binarize 0",
        "'binarize' of the task must lie above 0 and at most at 1, the ends of `rating_range`; got 0, "
        "which makes every rating 1.",
    ),
    refused(
        "binarize NaN",
        log("ann,a,1\nbob,b,0\n"),
        f"{READ} --binarize nan",
        "'binarize' of the task must be a finite rating or None; got nan.",
    ),
    # ------------------------------------------------------------------ ids
    answered(
        "ids beyond 64 bits",
        log("99999999999999999999,1,1\n7,2,0\n"),
        READ,
        "user_id,item_id,rating\n99999999999999999999,1,1.0\n7,2,0.0\n",
    ),
    answered("negative ids", log("-1,-7,1\n-2,5,0\n"), READ, "user_id,item_id,rating\n-1,-7,1.0\n-2,5,0.0\n"),
    answered(
        "text that looks like numbers",
        log("007,a,1\n7,a,0\n"),
        READ,
        "user_id,item_id,rating\n007,a,1.0\n7,a,0.0\n",
    ),
    answered(
        "whole numbers written as decimals",
        log("7.0,a,1\n8.0,a,0\n"),
        READ,
        "user_id,item_id,rating\n7,a,1.0\n8,a,0.0\n",
    ),
    answered(
        "an id of spaces", log(" ,a,1\nbob,b,0\n"), READ, "user_id,item_id,rating\n ,a,1.0\nbob,b,0.0\n"
    ),
    refused(
        "an empty id",
        log(",a,1\nbob,b,0\n"),
        READ,
        "log.csv: the biased log's user ids must not be empty; 1 of 2 are null. Drop or fill these rows.",
    ),
    refused(
        "an empty id in quotes",
        log('"",a,1\nbob,b,0\n'),
        READ,
        "log.csv: the biased log's user ids must not be empty; 1 of 2 are null. Drop or fill these rows.",
    ),
    answered(
        "a NUL in an id",
        log("an\0n,a,1\nbob,b,0\n"),
        READ,
        "user_id,item_id,rating\nan\x00n,a,1.0\nbob,b,0.0\n",
    ),
    answered("one user", log("ann,a,1\nann,b,0\n"), READ, "user_id,item_id,rating\nann,a,1.0\nann,b,0.0\n"),
    answered("one item", log("ann,a,1\nbob,a,0\n"), READ, "user_id,item_id,rating\nann,a,1.0\nbob,a,0.0\n"),
    answered("one row", log("ann,a,1\n"), READ, "user_id,item_id,rating\nann,a,1.0\n"),
    refused(
        "one row cannot be split",
        log("ann,a,1\n"),
        "data split log.csv --out out",
        "without unbiased data the biased log is cut into training, hold-out and test, which needs at "
        "least three rows; got 1.",
    ),
    refused(
        "fractions as ids",
        {"log.parquet": parquet(user_id=[1.5, 2.0], item_id=[1, 2], rating=[1.0, 0.0])},
        "data convert log.parquet --out out.csv",
        "log.parquet: the biased log's user ids must be strings or whole numbers; got Float64 with NaN "
        "or fractions.",
    ),
    refused(
        "floats whose neighbours fall together",
        {"log.parquet": parquet(user_id=[1e17, 2.0], item_id=[1, 2], rating=[1.0, 0.0])},
        "data convert log.parquet --out out.csv",
        "log.parquet: the biased log's user ids must be exact; got Float64 beyond "
        "9,007,199,254,740,992, where neighbouring ids fall together. Give them as integers or strings.",
    ),
    refused(
        "dates as ids",
        {"log.parquet": parquet(user_id=pl.Series([1, 2]).cast(pl.Date), item_id=[1, 2], rating=[1.0, 0.0])},
        "data convert log.parquet --out out.csv",
        "log.parquet: the biased log's user ids must be strings or whole numbers; got Date.",
    ),
    # ------------------------------------------------------------------ pairs in several rows
    refused(
        "a repeated pair",
        log("ann,a,1\nann,a,0\nbob,b,1\n"),
        READ,
        "log.csv: the biased log must hold a (user, item) pair once; 1 of 3 rows repeat one (first: "
        "user 'ann', item 'a'). Say what a repetition means: duplicates='last' or 'mean'.",
    ),
    answered(
        "a repeated pair, the last",
        log("ann,a,1\nann,a,0\nbob,b,1\n"),
        f"{READ} --duplicates last",
        "user_id,item_id,rating\nann,a,0.0\nbob,b,1.0\n",
        "1 repeated pairs of the biased log were merged (duplicates = 'last').",
    ),
    answered(
        "a repeated pair, the mean",
        log("ann,a,1\nann,a,0\nbob,b,1\n"),
        f"{READ} --duplicates mean",
        "user_id,item_id,rating\nann,a,0.5\nbob,b,1.0\n",
        "1 repeated pairs of the biased log were merged (duplicates = 'mean').",
    ),
    refused(
        "a repeated pair, no such rule",
        log("ann,a,1\nann,a,0\nbob,b,1\n"),
        f"{READ} --duplicates first",
        "'duplicates' must be 'error', 'last' or 'mean'; got 'first'.",
    ),
    answered(
        "a pair in both logs",
        data_file('[unbiased]\npath = "random.csv"\n', random=f"{HEAD}ann,a,1\nann,c,0\n"),
        TOML,
        "user_id,item_id,rating\nann,a,1.0\nann,b,0.0\nbob,a,0.0\nbob,c,1.0\ncy,b,1.0\n",
        "1 pairs of the unbiased log (50.0%) stand in the biased log too: dropped from U, V and test "
        "by every split; metrics named '/leaked' keep them in the test.",
    ),
    answered(
        "a randomised log without rows",
        data_file('[unbiased]\npath = "random.csv"\n', random=HEAD),
        TOML,
        "user_id,item_id,rating\nann,a,1.0\nann,b,0.0\nbob,a,0.0\nbob,c,1.0\ncy,b,1.0\n",
    ),
    # ------------------------------------------------------------------ text
    refused(
        "an empty file",
        {"log.csv": ""},
        READ,
        f"{NO_CSV} the file is empty. A header and at least one row were expected.",
    ),
    refused(
        "a byte order mark alone",
        {"log.csv": b"\xef\xbb\xbf"},
        READ,
        f"{NO_CSV} the file is empty. A header and at least one row were expected.",
    ),
    refused(
        "a header alone",
        {"log.csv": HEAD},
        READ,
        "log.csv: the biased log must have at least one row; got none.",
    ),
    refused(
        "an empty first line",
        {"log.csv": "\n" + LOG},
        READ,
        f"{NO_CSV} its first line is empty, and a header was expected.",
    ),
    refused(
        "an empty line between rows",
        log("ann,a,1\n\nbob,b,0\n"),
        READ,
        "log.csv: the biased log's user ids must not be empty; 1 of 3 are null. Drop or fill these rows.",
    ),
    answered(
        "a byte order mark",
        {"log.csv": b"\xef\xbb\xbf" + HEAD.encode() + b"ann,a,1\nbob,b,0\n"},
        READ,
        "user_id,item_id,rating\nann,a,1.0\nbob,b,0.0\n",
    ),
    answered(
        "lines that end in CR LF",
        {"log.csv": (HEAD + "ann,a,1\nbob,b,0\n").replace("\n", "\r\n")},
        READ,
        "user_id,item_id,rating\nann,a,1.0\nbob,b,0.0\n",
    ),
    refused(
        "lines that end in CR",
        {"log.csv": (HEAD + "ann,a,1\nbob,b,0\n").replace("\n", "\r")},
        READ,
        f"{NO_CSV} its lines end in a lone carriage return. Save it with line feeds.",
    ),
    refused(
        "semicolons",
        {"log.csv": LOG.replace(",", ";")},
        READ,
        "log.csv: the biased log needs the columns 'user_id', 'item_id' and 'rating'; 'user_id', "
        "'item_id', 'rating' not among ['user_id;item_id;rating']. The fields seem to be separated by "
        "a semicolon: say so with --delimiter ';' where a command has that option, [log] delimiter = "
        "\";\" in a data file, delimiter=';' in Python.",
    ),
    answered(
        "semicolons, said so",
        {"log.csv": "user_id;item_id;rating\nann;a;1\nbob;b;0\n"},
        [*READ.split(), "--delimiter", ";"],
        "user_id,item_id,rating\nann,a,1.0\nbob,b,0.0\n",
    ),
    refused(
        "commas where tabs were said",
        {"log.csv": LOG},
        [*READ.split(), "--delimiter", "\t"],
        "log.csv: the biased log needs the columns 'user_id', 'item_id' and 'rating'; 'user_id', "
        "'item_id', 'rating' not among ['user_id,item_id,rating']. The fields seem to be separated by "
        "a comma: say so with --delimiter ',' where a command has that option, [log] delimiter = \",\" "
        "in a data file, delimiter=',' in Python.",
    ),
    refused(
        "a delimiter of two characters",
        {"log.csv": LOG},
        [*READ.split(), "--delimiter", "::"],
        "'delimiter' must be one ASCII character, and no double quote or line's end; got '::'. A tab "
        "is $'\\t' in a shell, \"\\t\" in a data file.",
    ),
    refused(
        "a delimiter of none",
        {"log.csv": LOG},
        [*READ.split(), "--delimiter", ""],
        "'delimiter' must be one ASCII character, and no double quote or line's end; got ''. A tab is "
        "$'\\t' in a shell, \"\\t\" in a data file.",
    ),
    refused(
        "a double quote as the delimiter",
        {"log.csv": LOG},
        [*READ.split(), "--delimiter", '"'],
        "'delimiter' must be one ASCII character, and no double quote or line's end; got '\"'. A "
        "tab is $'\\t' in a shell, \"\\t\" in a data file.",
    ),
    refused(
        "a field of ten megabytes",
        log("x" * 10_000_000 + ",a,1\nbob,b,\n"),
        READ,
        "log.csv: the biased log's ratings must be finite numbers; 1 of 2 are null, NaN or infinite "
        f"(first: user 'bob', item 'b'). {UNRATED}",
    ),
    refused(
        "a header of ten megabytes",
        {"log.csv": "x" * 10_000_000},
        READ,
        f"{NO_CSV} its header is longer than 4,194,304 bytes. A line of names was expected, and a "
        "double quote in it must close.",
    ),
    refused(
        "a quote that never closes",
        log('ann,a,1\n"bob,b,0\ncy,c,1\n'),
        READ,
        f"{NO_CSV} line 3 holds a double quote that never closes. Close it; one that is part of a text "
        "is doubled, and the text stands in double quotes.",
    ),
    refused(
        "a quote that never closes, in the header",
        {"log.csv": f'"{LOG}'},
        READ,
        f"{NO_CSV} line 1 holds a double quote that never closes. Close it; one that is part of a text "
        "is doubled, and the text stands in double quotes.",
    ),
    refused(
        "a quote inside a field",
        log('an"n,a,1\nbob,b,0\n'),
        READ,
        f"{NO_CSV} line 2 holds a double quote that never closes. Close it; one that is part of a text "
        "is doubled, and the text stands in double quotes.",
    ),
    answered(
        "a doubled quote inside quotes",
        log('"an""n",a,1\nbob,b,0\n'),
        READ,
        'user_id,item_id,rating\n"an""n",a,1.0\nbob,b,0.0\n',
    ),
    refused(
        "a field too many",
        log("ann,a,1\nbob,b,0,9\n"),
        READ,
        f"{NO_CSV} line 3 has 4 fields, and the header has 3 fields (user_id, item_id, rating). A "
        "field that holds the delimiter or a line's end must stand in double quotes; a wrong delimiter "
        "looks like this too.",
    ),
    refused(
        "a field too few",
        log("ann,a,1\nbob,b\n"),
        READ,
        "log.csv: the biased log's ratings must be finite numbers; 1 of 2 are null, NaN or infinite "
        f"(first: user 'bob', item 'b'). {UNRATED}",
    ),
    refused(
        "Latin-1",
        log("Zoë,a,1\n".encode("latin-1")),
        READ,
        f"{NO_CSV} it is not UTF-8 (perhaps Latin-1 or Windows-1252). Save it as UTF-8.",
    ),
    refused(
        "UTF-16",
        {"log.csv": LOG.encode("utf-16")},
        READ,
        f"{NO_CSV} it is UTF-16, and UTF-8 was expected. Save it as UTF-8.",
    ),
    refused("zeros", {"log.csv": bytes(64)}, READ, f"{NO_CSV} its header holds NUL bytes: it is no text."),
    refused(
        "a zip archive",
        {"log.csv": b"PK\x03\x04" + bytes(64)},
        READ,
        f"{NO_CSV} it is a zip archive or a workbook. Unpack it, or save the sheet as CSV.",
    ),
    refused(
        "Parquet named .csv",
        {"log.csv": PLAIN},
        READ,
        f"{NO_CSV} it is a Parquet file. Let its name end in .parquet.",
    ),
    answered(
        "no gzip, though its name says so",
        log("ann,a,1\nbob,b,0\n", "log.csv.gz"),
        "data convert log.csv.gz --out out.csv",
        "user_id,item_id,rating\nann,a,1.0\nbob,b,0.0\n",
    ),
    answered(
        "gzip, though its name does not say so",
        {"log.csv": packed("ann,a,1\nbob,b,0\n")},
        READ,
        "user_id,item_id,rating\nann,a,1.0\nbob,b,0.0\n",
    ),
    refused(
        "gzip that is cut off",
        {"log.csv.gz": packed("ann,a,1\nbob,b,0\n", slice(30))},
        "data convert log.csv.gz --out out.csv",
        "log.csv.gz: the biased log: 'log.csv.gz' cannot be read as CSV: the gzip file is cut off or "
        "damaged (Compressed file ended before the end-of-stream marker was reached). Pack or fetch it "
        "again.",
    ),
    refused(
        "gzip with a wrong sum",
        {"log.csv.gz": packed("ann,a,1\n", slice(-8), bytes(8))},
        "data convert log.csv.gz --out out.csv",
        "log.csv.gz: the biased log: 'log.csv.gz' cannot be read as CSV: the gzip file is cut off or "
        "damaged (CRC check failed 0x0 != 0x5f409328). Pack or fetch it again.",
    ),
    refused(
        "gzip of nothing",
        {"log.csv.gz": gzip.compress(b"")},
        "data convert log.csv.gz --out out.csv",
        "log.csv.gz: the biased log: 'log.csv.gz' cannot be read as CSV: the file is empty. A header "
        "and at least one row were expected.",
    ),
    # ------------------------------------------------------------------ columns
    refused(
        "no ratings",
        {"log.csv": "user_id,item_id\nann,a\n"},
        READ,
        "log.csv: the biased log needs the columns 'user_id', 'item_id' and 'rating'; 'rating' not "
        f"among ['user_id', 'item_id']. {NAME_YOURS} A log of clicks or purchases alone has no "
        "ratings: write what was shown and not taken as 0 and the rest as 1, or give a column of ones "
        "and rank by exposures (protocol 'users').",
    ),
    refused(
        "capitals",
        {"log.csv": "User_ID,Item_ID,Rating\nann,a,1\n"},
        READ,
        "log.csv: the biased log needs the columns 'user_id', 'item_id' and 'rating'; 'user_id' (did "
        "you mean 'User_ID'?), 'item_id' (did you mean 'Item_ID'?), 'rating' (did you mean 'Rating'?) "
        f"not among ['User_ID', 'Item_ID', 'Rating']. {NAME_YOURS}",
    ),
    refused(
        "a column twice",
        {"log.csv": "user_id,item_id,rating,rating\nann,a,1,2\n"},
        READ,
        "log.csv: the biased log: the header of 'log.csv' must name each column once; got 'rating' "
        "twice. Rename one of them.",
    ),
    refused(
        "one column in two roles",
        {"log.csv": LOG},
        f"{READ} --user item_id",
        "each role must have a column of its own; 'item_id' was named as the user and as the item.",
    ),
    refused(
        "timestamps that are not there",
        {"log.csv": LOG},
        f"{READ} --timestamp when",
        "log.csv: the column 'when' was named as the timestamp, but no log has it.",
    ),
    refused(
        "empty timestamps",
        {"log.csv": "user_id,item_id,rating,timestamp\nann,a,1,\nbob,b,0,\n"},
        READ,
        "log.csv: the biased log's timestamps must not be empty; 2 of 2 are. Fill or drop these rows, "
        "or name no such column.",
    ),
    refused(
        "one empty timestamp",
        {"log.csv": "user_id,item_id,rating,timestamp\nann,a,1,5\nbob,b,0,\n"},
        READ,
        "log.csv: the biased log's timestamps must not be empty; 1 of 2 are. Fill or drop these rows, "
        "or name no such column.",
    ),
    refused(
        "a timestamp that is no time",
        {"log.csv": "user_id,item_id,rating,timestamp\nann,a,1,yesterday\n"},
        READ,
        "log.csv: the biased log's timestamps must be numbers of 64 bits or ISO dates; 1 of 1 are "
        "neither (first: 'yesterday'). Correct the rows, or name another column as the timestamp.",
    ),
    refused(
        "an infinite timestamp",
        {"log.csv": "user_id,item_id,rating,timestamp\nann,a,1,1e99\nbob,b,0,5\n"},
        READ,
        "log.csv: the biased log's timestamps must be numbers of 64 bits or ISO dates; 1 of 2 are "
        "neither (first: 1e+99). Correct the rows, or name another column as the timestamp.",
    ),
    refused(
        "a split by time without times",
        {"log.csv": LOG},
        "data split log.csv --split time --out out",
        "a split by time needs timestamps, but the log has none; name their column or split by record.",
    ),
    refused(
        "a propensity of 0",
        {"log.csv": "user_id,item_id,rating,propensity\nann,a,1,0\nbob,b,0,0.5\n"},
        READ,
        "log.csv: the biased log's 'propensity' must be propensities in (0, 1]; 1 of 2 are not (first: "
        "0.0). Correct the rows, or name another column as the propensity in [columns].",
    ),
    refused(
        "a propensity that is a word",
        {"log.csv": "user_id,item_id,rating,propensity\nann,a,1,often\n"},
        READ,
        "log.csv: the biased log's 'propensity' must be propensities in (0, 1]; 1 of 1 are not (first: "
        "'often'). Correct the rows, or name another column as the propensity in [columns].",
    ),
    # ------------------------------------------------------------------ Parquet
    refused(
        "Parquet that is cut off",
        {"log.parquet": PLAIN[:-20]},
        "data convert log.parquet --out out.csv",
        f"{NO_PARQUET} it does not end as Parquet does (with PAR1): it is cut off. Write it again.",
    ),
    refused(
        "Parquet that is empty",
        {"log.parquet": ""},
        "data convert log.parquet --out out.csv",
        f"{NO_PARQUET} the file is empty.",
    ),
    refused(
        "CSV named .parquet",
        {"log.parquet": LOG},
        "data convert log.parquet --out out.csv",
        f"{NO_PARQUET} it does not begin as Parquet does (with PAR1): it is another kind of file.",
    ),
    refused(
        "Parquet in gzip",
        {"log.parquet.gz": gzip.compress(PLAIN)},
        "data convert log.parquet.gz --out out.csv",
        "log.parquet.gz: the biased log: 'log.parquet.gz' must not be packed: Parquet is compressed "
        "itself. Unpack it.",
    ),
    refused(
        "lists as ids",
        {"log.parquet": parquet(user_id=[["a"], ["b"]], item_id=[1, 2], rating=[1.0, 0.0])},
        "data convert log.parquet --out out.csv",
        "log.parquet: the biased log's user ids must be strings or whole numbers; got List(String).",
    ),
    refused(
        "lists as ratings",
        {"log.parquet": parquet(user_id=["a", "b"], item_id=[1, 2], rating=[[1], [0]])},
        "data convert log.parquet --out out.csv",
        "log.parquet: the biased log's 'rating' must hold numbers; got List(Int64) (first: [1]). "
        "Correct the rows, or name the column that holds the ratings.",
    ),
    refused(
        "structures as timestamps",
        {"log.parquet": parquet(user_id=["a"], item_id=[1], rating=[1], timestamp=[{"at": 1}])},
        "data convert log.parquet --out out.csv",
        "log.parquet: the biased log's timestamps must be numbers or dates; got Struct({'at': Int64}).",
    ),
    refused(
        "lists as propensities",
        {"log.parquet": parquet(user_id=["a"], item_id=[1], rating=[1], propensity=[[1]])},
        "data convert log.parquet --out out.csv",
        "log.parquet: the biased log's 'propensity' must be propensities in (0, 1]; got List(Int64). "
        "Name another column as the propensity in [columns].",
    ),
    refused(
        "Parquet without rows",
        {"log.parquet": parquet(user_id=[], item_id=[], rating=[])},
        "data convert log.parquet --out out.csv",
        "log.parquet: the biased log must have at least one row; got none.",
    ),
    # ------------------------------------------------------------------ RecBole's files
    refused(
        ".inter without types",
        {"log.inter": "user_id\titem_id\trating\na\tb\t1\n"},
        "data convert log.inter --out out.csv",
        "log.inter: the biased log: the header of 'log.inter' must give each column as name:type "
        "(types: token, token_seq, float, float_seq), separated by tabs; got 'user_id'.",
    ),
    refused(
        ".inter with an unknown type",
        {"log.inter": INTER.replace("float", "int") + "a\tb\t1\n"},
        "data convert log.inter --out out.csv",
        "log.inter: the biased log: the header of 'log.inter' gives 'rating' the type 'int'; known: "
        "token, token_seq, float, float_seq.",
    ),
    refused(
        ".inter with commas",
        {"log.inter": INTER.replace("\t", ",") + "a,b,1\n"},
        "data convert log.inter --out out.csv",
        "log.inter: the biased log: the header of 'log.inter' must give each column as name:type "
        "(types: token, token_seq, float, float_seq), separated by tabs; got "
        "'user_id:token,item_id:token,rating:float'.",
    ),
    refused(
        ".inter with a word as a float",
        {"log.inter": INTER + "a\tb\tgood\n"},
        "data convert log.inter --out out.csv",
        "log.inter: the biased log: line 2 of 'log.inter': 'rating' is declared float and must be a "
        "number; got 'good'. Correct it, or declare rating:token.",
    ),
    refused(
        ".inter with a field too few",
        {"log.inter": INTER + "a\tb\t1\nc\td\n"},
        "data convert log.inter --out out.csv",
        "log.inter: the biased log: line 3 of 'log.inter' must have 3 fields separated by tabs "
        "(user_id, item_id, rating); got 2. Correct or drop the line.",
    ),
    refused(
        ".inter in Latin-1",
        {"log.inter": (INTER + "Zoë\tb\t1\n").encode("latin-1")},
        "data convert log.inter --out out.csv",
        "log.inter: the biased log: line 2 of 'log.inter' must be UTF-8; invalid continuation byte.",
    ),
    refused(
        ".inter of a header",
        {"log.inter": INTER},
        "data convert log.inter --out out.csv",
        "log.inter: the biased log must have at least one row; got none.",
    ),
    refused(
        ".inter of nothing",
        {"log.inter": ""},
        "data convert log.inter --out out.csv",
        "log.inter: the biased log: 'log.inter' must begin with a header of name:type; the file is empty.",
    ),
    # ------------------------------------------------------------------ features
    refused(
        "an id twice among features",
        features("user_id,age\nann,3\nann,4\n"),
        TOML,
        "data.toml: the users table must hold an id once; 'ann' is repeated.",
    ),
    refused(
        "features of other ids",
        features("user_id,age\nzed,3\nyan,4\n"),
        TOML,
        "data.toml: the users table must hold ids of the logs; none of its 2 (first: 'zed', in "
        "'user_id') is among their 3 (first: 'ann'). Give both the same ids, in the table's first "
        "column.",
    ),
    refused(
        "features of nobody",
        features("user_id,age\n"),
        TOML,
        "data.toml: the users table's features must hold a value; all of ['age'] are empty.",
    ),
    refused(
        "features that are all empty",
        features("user_id,age\nann,\nbob,\n"),
        TOML,
        "data.toml: the users table's features must hold a value; all of ['age'] are empty.",
    ),
    answered(
        "one feature that is all empty",
        features("user_id,age,city\nann,,x\nbob,,y\ncy,,x\n"),
        TOML,
        "user_id,item_id,rating\nann,a,1.0\nann,b,0.0\nbob,a,0.0\nbob,c,1.0\ncy,b,1.0\n",
    ),
    answered(
        "an infinite feature",
        features("user_id,age\nann,inf\nbob,3\ncy,5\n"),
        TOML,
        "user_id,item_id,rating\nann,a,1.0\nann,b,0.0\nbob,a,0.0\nbob,c,1.0\ncy,b,1.0\n",
        "1 users have no features: the column means are used.",
    ),
    refused(
        "an empty id among features",
        features("user_id,age\nann,3\n,4\n"),
        TOML,
        "data.toml: the users table's user ids must not be empty; 1 of 2 are null. Drop or fill these rows.",
    ),
    refused(
        "a feature of 300 words",
        features("user_id,name\n" + "".join(f"{u},n{k}\n" for k, u in enumerate(["ann", *range(300)]))),
        TOML,
        "data.toml: the users table's feature 'name' must have at most 200 categories; got 301. Group "
        "them, or drop the column.",
    ),
    refused(
        "features that are not there",
        data_file('[features]\nusers = "users.csv"\n'),
        TOML,
        "data.toml: the users table must be a CSV, Parquet or RecBole (.inter, .user, .item) file; "
        "'users.csv': there is no such file. Check the path.",
    ),
    # ------------------------------------------------------------------ the data file
    refused(
        "TOML with a bracket open",
        {"data.toml": "[biased\n"},
        TOML,
        "data.toml: a data file must be TOML in UTF-8; Expected ']' at the end of a table declaration "
        "(at line 1, column 8).",
    ),
    refused(
        "TOML in Latin-1",
        {"data.toml": 'name = "x"\n# Zoë\n'.encode("latin-1")},
        TOML,
        "data.toml: a data file must be TOML in UTF-8; line 2 is not UTF-8 (perhaps Latin-1 or "
        "Windows-1252). Save it as UTF-8.",
    ),
    refused(
        "TOML that is empty",
        {"data.toml": ""},
        TOML,
        'data.toml: a [biased] table with its path is required ([biased] path = "log.csv"), or a table '
        "of [impressions]; got nothing.",
    ),
    refused(
        "TOML that nests",
        {"data.toml": "a = " + "[" * 5000},
        TOML,
        "data.toml: a data file must be TOML in UTF-8; its brackets nest too deeply.",
    ),
    refused(
        "TOML of two megabytes",
        {"data.toml": "#" * 2_000_000},
        TOML,
        "data.toml: a data file must be TOML of at most 1,048,576 bytes; it is longer.",
    ),
    refused(
        "a number of 5,000 digits",
        data_file(f"[task]\nbinarize = {'9' * 5000}\n"),
        TOML,
        "data.toml: a data file must be TOML in UTF-8; a number in it has thousands of digits.",
    ),
    refused(
        "a number of 400 digits",
        data_file(f"[task]\nbinarize = {'9' * 400}\n"),
        TOML,
        "data.toml: 'task.binarize' must be a rating (a number); got "
        "99999999999999999999999999999999999999999999999999999999999999999999999999999....",
    ),
    refused(
        "an unknown key",
        data_file('[log]\ndelimeter = ";"\n'),
        TOML,
        "data.toml: there is no key 'delimeter' in [log]; did you mean 'delimiter'?",
    ),
    refused(
        "an unknown table",
        data_file("[logs]\n"),
        TOML,
        "data.toml: there is no key 'logs' in the data file; did you mean 'log'?",
    ),
    refused(
        "a key of another kind",
        {"data.toml": "[biased]\npath = 3\n"},
        TOML,
        "data.toml: 'biased.path' must be the path of a CSV, Parquet or RecBole file; got 3.",
    ),
    refused(
        "a table that is a text",
        {"data.toml": 'biased = "log.csv"\n'},
        TOML,
        "data.toml: 'biased' must be a table, [biased]; got 'log.csv'.",
    ),
    refused(
        "no biased log",
        {"data.toml": '[unbiased]\npath = "log.csv"\n', "log.csv": LOG},
        TOML,
        'data.toml: a [biased] table with its path is required ([biased] path = "log.csv"), or a table '
        "of [impressions]; got 'unbiased'.",
    ),
    refused(
        "a log that is not there",
        {"data.toml": '[biased]\npath = "lag.csv"\n'},
        TOML,
        f"data.toml: {NO_FILE} 'lag.csv': there is no such file. Check the path.",
    ),
    refused(
        "a log that is a folder",
        {"data.toml": '[biased]\npath = "."\n'},
        TOML,
        f"data.toml: {NO_FILE} '.': it is a folder. Check the path.",
    ),
    refused(
        "a path of 5,000 letters",
        {"data.toml": f'[biased]\npath = "{"a" * 5000}"\n'},
        TOML,
        f"data.toml: {NO_FILE} "
        "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...: it cannot "
        "be opened (File name too long). Check the path.",
    ),
    refused(
        "shares that are more than all",
        data_file("[task]\nunbiased_split = [0.5, 0.5, 0.5]\n"),
        TOML,
        "data.toml: 'unbiased_split' must be three shares >= 0 with a sum in (0, 1]; got (0.5, 0.5, 0.5).",
    ),
    refused(
        "an infinite range",
        data_file("[log]\nrating_range = [0, inf]\n"),
        TOML,
        "data.toml: 'log.rating_range' must be [low, high], two numbers; got inf.",
    ),
    refused(
        "a delimiter of two bytes",
        data_file('[log]\ndelimiter = "é"\n'),
        TOML,
        "data.toml: 'delimiter' must be one ASCII character, and no double quote or line's end; got "
        "'é'. A tab is $'\\t' in a shell, \"\\t\" in a data file.",
    ),
    # ------------------------------------------------------------------ impressions
    answered(
        "impressions",
        impressions("ann,a,1,1,3\nann,b,0,,4\nbob,a,1,0,3\n"),
        TOML,
        "user_id,item_id,click,conversion,hour\nann,a,1,1,3\nbob,a,1,0,3\n",
        "2 values of 'hour' are rare and share embeddings with values that come later.",
    ),
    refused(
        "a conversion without a click",
        impressions("ann,a,1,1,3\nann,b,0,1,4\n"),
        TOML,
        "data.toml: the impressions log has 1 conversions without a click (first: row 1); a conversion "
        "follows a click. Correct the rows, or join view-through conversions to no click as 0.",
    ),
    refused(
        "a click of 2",
        impressions("ann,a,2,1,3\nann,b,0,0,4\n"),
        TOML,
        "data.toml: the impressions log's 'click' must be 0 or 1 in every row; got 2.",
    ),
    refused(
        "a click that is a word",
        impressions("ann,a,yes,1,3\nann,b,no,0,4\n"),
        TOML,
        "data.toml: the impressions log's 'click' must be 0 or 1 in every row; got 'yes'.",
    ),
    refused(
        "an empty click",
        impressions("ann,a,,1,3\nann,b,0,0,4\n"),
        TOML,
        "data.toml: the impressions log's 'click' must be 0 or 1 in every row; 1 of 2 are empty.",
    ),
    refused(
        "nothing was clicked",
        impressions("ann,a,0,0,3\nann,b,0,0,4\n"),
        TOML,
        "data.toml: the impressions log must have clicked rows; none of 2 is. Conversions are learned "
        "from clicks: check the column `click`.",
    ),
    refused(
        "everything was clicked",
        impressions("ann,a,1,0,3\nann,b,1,1,4\n"),
        TOML,
        "data.toml: the impressions log must have rows without a click; all 2 are clicked, so that the "
        "entire space is what was observed. Give the impressions that were not clicked too, or a "
        "[biased] table of ratings.",
    ),
    refused(
        "a conversion that is not known",
        impressions("ann,a,1,,3\nann,b,0,0,4\n"),
        TOML,
        "data.toml: the impressions log's 'conversion' must be 0 or 1 where clicked; 1 clicked rows "
        "are empty. Drop clicks whose conversion is not known yet.",
    ),
    refused(
        "a context that is empty",
        impressions("ann,a,1,1,\nann,b,0,0,\n"),
        TOML,
        "data.toml: the impressions log: the context column 'hour' must hold a value; all of its rows "
        "are empty. Leave it out.",
    ),
    refused(
        "a weight that is negative",
        impressions("ann,a,1,1,3\nann,b,0,0,-4\n")
        | {"data.toml": '[impressions]\npath = "shown.csv"\nweight = "hour"\n'},
        TOML,
        "data.toml: the impressions log's 'hour' must be a positive number in every row; 1 of 2 are "
        "not (first: row 1). Drop a row that is to weigh nothing.",
    ),
    refused(
        "impressions and a biased log",
        impressions("ann,a,1,1,3\n", '[biased]\npath = "log.csv"\n'),
        TOML,
        "data.toml: give [biased] or [impressions], not both: the clicks are the biased log.",
    ),
    refused(
        "impressions that are a folder",
        {"data.toml": '[impressions]\npath = "x.parquet"\n', "x.parquet": None},
        TOML,
        "data.toml: the impressions log must be a CSV, Parquet or RecBole (.inter, .user, .item) file; "
        "'x.parquet': it is a folder. Check the path.",
    ),
    # ------------------------------------------------------------------ paths
    refused(
        "nothing there",
        {},
        READ,
        "there is no data set 'log.csv': no such file or folder, and no name of the catalogue "
        "(deconrec data list). Check the path.",
    ),
    refused(
        "no log by its ending",
        {"log.xls": "x"},
        "data convert log.xls --out out.csv",
        "'log.xls' must be a data file (TOML), a folder with data.toml or RecBole's files, or a log "
        "(.csv, .parquet, .inter); its ending is '.xls'.",
    ),
    refused(
        "a folder without data",
        {"log": None},
        "data convert log --out out.csv",
        "the folder 'log' must hold data.toml or one .inter file; found none.",
    ),
    refused(
        "a file that cannot be read",
        {"log.csv": Path("/proc/self/mem")},
        READ,
        f"{NO_CSV} Input/output error.",
    ),
    refused(
        "a device",
        {"log.csv": Path("/dev/zero")},
        READ,
        f"{NO_FILE} 'log.csv': it is no regular file, but a pipe, a socket or a device. Check the path.",
    ),
    refused(
        "a link to itself",
        {"log.csv": Path("log.csv")},
        READ,
        "there is no data set 'log.csv': no such file or folder, and no name of the catalogue "
        "(deconrec data list). Check the path.",
    ),
    refused(
        "an output that is the input",
        {"log.csv": LOG},
        "data convert log.csv --out log.csv --overwrite",
        "'log.csv' is what is converted, and must not be written over. Give another name.",
    ),
    refused(
        "an output that exists",
        {"log.csv": LOG, "out.csv": "precious"},
        READ,
        "'out.csv' exists and must not be overwritten. Give another name, or allow it: --overwrite.",
    ),
    refused(
        "an output whose folder is a file",
        {"log.csv": LOG},
        "data convert log.csv --out log.csv/out.csv",
        "'log.csv/out.csv' cannot be written: what should be its folder is a file.",
    ),
    refused(
        "an output folder whose folder is a file",
        {"log.csv": LOG},
        "data convert log.csv --out log.csv/out",
        "'log.csv/out' cannot be written: what should be its folder is a file.",
    ),
    refused(
        "an output folder with other files",
        {"log.csv": LOG, "out/mine.txt": "precious"},
        "data convert log.csv --out out",
        "'out' must be a new or empty folder, or an earlier output (with the file '.deconrec'); it "
        "holds other files, which are left alone. Give another folder.",
    ),
    refused(
        "JSON to a folder",
        {"log.csv": LOG, "out": None},
        "data describe log.csv --quiet --json out",
        "'out' must be a file to be written; it is a folder. Give another name.",
    ),
    # ------------------------------------------------------------------ saved models
    refused(
        "an output of no known ending",
        asked("user_id,item_id\nann,a\n"),
        "predict model pairs.csv --out out",
        "'out' must end in .parquet or .csv.",
    ),
    refused(
        "pairs without items",
        asked("user_id\nann\n"),
        PREDICT,
        "the pairs need the columns user_id, item_id; 'item_id' not among ['user_id']. Say which "
        "columns hold the ids (--user, --item), and rename those of the context.",
    ),
    refused(
        "pairs with semicolons",
        asked("user_id;item_id\nann;a\n"),
        PREDICT,
        "the pairs need the columns user_id, item_id; 'user_id', 'item_id' not among "
        "['user_id;item_id']. The fields seem to be separated by a semicolon: say so with --delimiter "
        "';' where a command has that option, [log] delimiter = \";\" in a data file, delimiter=';' "
        "in Python.",
    ),
    refused(
        "pairs with a gap",
        asked("user_id,item_id\nann,\n"),
        PREDICT,
        "item ids must not be empty; 1 of 1 are null. Drop or fill these rows.",
    ),
    answered("no pairs", asked("user_id,item_id\n"), PREDICT, "user_id,item_id,score,source\n"),
    refused(
        "pairs of an empty file",
        asked(""),
        PREDICT,
        "the pairs: 'pairs.csv' cannot be read as CSV: the file is empty. A header and at least one "
        "row were expected.",
    ),
    refused(
        "an output that is the pairs",
        asked("user_id,item_id\nann,a\n"),
        "predict model pairs.csv --out pairs.csv",
        "'pairs.csv' is read by this command, and must not be written over. Give another name.",
    ),
    refused(
        "an output in no folder",
        asked("user_id,item_id\nann,a\n"),
        "predict model pairs.csv --out nowhere/out.csv",
        "'nowhere/out.csv' cannot be written: its folder does not exist, or it is a folder itself.",
    ),
    refused(
        "a history without ratings",
        asked("user_id,item_id\nann,a\n"),
        f"{PREDICT} --history pairs.csv",
        "the history log needs the columns 'user_id', 'item_id' and 'rating'; 'rating' not among "
        f"['user_id', 'item_id']. {NAME_YOURS} A log of clicks or purchases alone has no ratings: "
        "write what was shown and not taken as 0 and the rest as 1, or give a column of ones and rank "
        "by exposures (protocol 'users').",
    ),
    refused(
        "features that a model does not read",
        asked("user_id,item_id\nann,a\n") | {"users.csv": "user_id,age\nann,3\n"},
        f"{PREDICT} --features users.csv",
        "MF reads no user features (with its present parameters, or on its training data); give a history.",
    ),
    answered(
        "nobody to recommend to",
        asked("user_id\n"),
        "recommend model --users pairs.csv --out out.csv",
        "user_id,item_id,rank,score\n",
    ),
    refused(
        "users under another name",
        asked("who\nann\n"),
        "recommend model --users pairs.csv --out out.csv",
        "the users need the column user_id; got ['who']. Say which holds the ids (--user).",
    ),
    refused(
        "a share of 2",
        asked("user_id\n"),
        "recommend model --explore epsilon-greedy --epsilon 2 --out out.csv",
        "'epsilon' must be a number in (0, 1] (0 never explores: items have no propensity); got 2.0.",
    ),
    refused(
        "a policy that is none",
        asked("user_id\n"),
        "recommend model --explore greedy --out out.csv",
        "'explore' must be 'epsilon-greedy', 'plackett-luce' or 'posterior'; got 'greedy'.",
    ),
    refused(
        "a model that is a file",
        {"model": "x", "pairs.csv": "user_id,item_id\n"},
        PREDICT,
        "'model' is no saved model: it has no model.json. Make one with model.save(path).",
    ),
    refused(
        "a model that is an empty folder",
        {"model": None, "pairs.csv": "user_id,item_id\n"},
        PREDICT,
        "'model' is no saved model: it has no model.json. Make one with model.save(path).",
    ),
    refused(
        "a model that is not there",
        {},
        "info model",
        "'model' is no saved model: it has no model.json. Make one with model.save(path).",
    ),
    refused(
        "a model of another kind of JSON",
        {"model/model.json": "[]"},
        "info model",
        "the saved model 'model' is damaged: ValueError: model.json must hold a JSON object",
    ),
    refused(
        "an unknown method",
        {"log.csv": LOG},
        "fit mff log.csv --out out",
        "there is no method 'mff'; did you mean 'mf'?",
    ),
    refused(
        "a parameter below its range",
        {"log.csv": LOG},
        "fit mf log.csv --set dim=0 --out out",
        "'dim' of MF must be a whole number >= 1; got 0.",
    ),
    refused(
        "an unknown simulator",
        {},
        "simulate sim-pears --out out",
        "there is no simulator 'sim-pears'; did you mean 'sim-pairs'?",
    ),
    refused(
        "a report of a log",
        {"log.csv": LOG},
        "report log.csv --out out.html",
        "'log.csv' must be what `deconrec compare` or `reproduce` writes with --json; Invalid JSON: "
        "expected value at line 1 column 1.",
    ),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    make_model(folder)
    return folder


@pytest.mark.parametrize(("files", "command", "code", "out", "notes"), ROWS)
def test_each_input(
    files: Mapping[str, Content],
    command: str | list[str],
    code: int,
    out: str,
    notes: tuple[str, ...],
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    lay(files, model)
    before = sorted(tmp_path.rglob("*"))
    got = main(command.split() if isinstance(command, str) else command)
    said = capsys.readouterr()
    if code:
        assert said.err == out
        assert said.out == ""
        assert sorted(tmp_path.rglob("*")) == before
    else:
        assert (Path("out.csv").read_text() if Path("out.csv").exists() else said.out) == out, said.err
        assert [line[6:] for line in said.err.splitlines() if line.startswith("note: ")] == list(notes)
    assert got == code


# ---------------------------------------------------------------------- what needs more than a row
@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("recommend model --k 0", "--k"),
        ("recommend model --k two", "--k"),
        ("data split log.csv --out out --seed -1", "--seed"),
        ("data convert log.csv", "--out"),
        ("predict model", "PAIRS"),
        ("data describe log.csv --nothing 3", "--nothing"),
        ("describe log.csv", "describe"),
    ],
)
def test_usage(command: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The words are those of the parser of options: one of them is at fault, and is named."""
    assert main(command.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("Usage: ")
    assert option in said.splitlines()[-1]


@pytest.mark.parametrize("k", [0, -1, 1.5, "two", None])
def test_a_list_of_no_items(k: Any, model: Path) -> None:
    with pytest.raises(ParameterError, match=r"'k' of recommend must be a whole number >= 1; got"):
        load_model(model).recommend(["ann"], k=k)


CHILD = """
import resource, sys
from pathlib import Path
from deconrec.cli import main

Path("small.csv").write_text("user_id,item_id,rating\\nann,a,1\\nbob,b,0\\n")
main(["data", "describe", "small.csv", "-q"])  # loads the code that the work needs
now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + int(sys.argv[1]), now + int(sys.argv[1])))
sys.exit(main(sys.argv[2:]))
"""
RATIO = (
    "it unpacks to more than 200 times its bytes, which is no table's way. Unpack it yourself if it is meant."
)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        (HEAD.encode() + b"ann,a,1\n" * (1 << 17), "log.csv.gz", RATIO),
        (HEAD.encode() + b"x" * (1 << 20), "log.csv.gz", RATIO),
        (b"x" * (1 << 20), "log.csv.gz", "its header is longer than 4,194,304 bytes"),
        (b'"' + b"x,y\n" * (1 << 18), "log.csv.gz", "its header is longer than 4,194,304 bytes"),
        (INTER.encode() + b"ann\ta\t1\n" * (1 << 17), "log.inter.gz", RATIO),
        (INTER.encode() + b"x" * (1 << 20), "log.inter.gz", RATIO),
        (b"user_id,age\n" + b"ann,1\n" * (1 << 17), "users.csv.gz", RATIO),
    ],
    ids=["rows", "a line", "a header", "an open quote", "inter", "a line of inter", "features"],
)
def test_what_unpacks_to_two_gigabytes(content: bytes, name: str, says: str, tmp_path: Path) -> None:
    """Two gigabytes in a few megabytes are refused within the memory of a few blocks."""
    # Members of gzip may follow each other: one is packed, and written many times.
    body = gzip.compress(content[-(1 << 20) :] * 32)
    (tmp_path / name).write_bytes(gzip.compress(content) + body * 64)
    assert (tmp_path / name).stat().st_size < 12_000_000
    command = ["data", "describe", name]
    if name.startswith("users"):
        (tmp_path / "log.csv").write_text(LOG)
        command = ["data", "convert", "log.csv", "--users", name, "--out", "out"]
    room = 600_000_000
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(room), *command],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        env={
            "POLARS_MAX_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "1",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
    )
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_category_that_the_model_never_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is answered, and so are a gap and a number that is none; a column that is missing is not."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(0).randrange
    rows = []
    for k in range(60):
        click, bought, hour, price = draw(2), draw(2), draw(3), draw(9)
        rows.append(f"u{k % 6},i{draw(5)},{click},{click * bought},h{hour},{price}\n")
    Path("shown.csv").write_text("user_id,item_id,click,conversion,hour,price\n" + "".join(rows))
    Path("data.toml").write_text('[impressions]\npath = "shown.csv"\ncontext = ["hour", "price"]\n')
    fit = "fit esmm data.toml --set epochs=1 --set dim=2 --out model -q"
    assert main(fit.split()) == 0
    Path("pairs.csv").write_text("user_id,item_id,hour,price\nu1,i1,h9,3\nzed,i1,,inf\nu1,new,h1,\n")
    capsys.readouterr()
    assert main(PREDICT.split()) == 0, capsys.readouterr().err
    table = pl.read_csv("out.csv")
    assert len(table) == 3
    assert all(
        table[name].is_between(0, 1).all() for name in table.columns if table[name].dtype == pl.Float64
    )
    Path("pairs.csv").write_text("user_id,item_id,hour\nu1,i1,h9\n")
    capsys.readouterr()
    assert main(PREDICT.split()) == 2
    assert "'price' not among ['user_id', 'item_id', 'hour']" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "header"), [("log.csv", HEAD), ("log.inter", INTER)])
def test_a_line_of_80_megabytes(name: str, header: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(header + "x" * 80_000_000)
    with pytest.raises(DataError, match="line 2 is longer than 67,108,864 bytes"):
        Dataset.from_frames(tmp_path / name)


def test_features_are_read_from_the_very_file_that_is_named(tmp_path: Path) -> None:
    """A bracket in a name is no pattern."""
    (tmp_path / "log.csv").write_text(LOG)
    for name, age in (("users[1].csv", 3), ("users1.csv", 4)):
        (tmp_path / name).write_text(f"user_id,age\nann,{age}\nbob,{age}\ncy,{age}\n")
    data = Dataset.from_frames(tmp_path / "log.csv", users=tmp_path / "users[1].csv")
    assert data.user_features is not None
    assert set(data.user_features.values.ravel()) == {3.0}


def test_messages_stay_short(tmp_path: Path) -> None:
    """However long a name or however many columns."""
    for header in ("x" * 1_000_000, ",".join(f"column{k}" for k in range(100_000))):
        (tmp_path / "log.csv").write_text(header + "\n")
        with pytest.raises(DataError) as caught:
            Dataset.from_frames(tmp_path / "log.csv")
        assert len(str(caught.value)) < 1000
