"""Downloads the data sets whose licence allows it, checks what came, and says what to bring for the others.

Trust. An archive is compared with the checksum that its publisher gives beside it (GroupLens: a .md5 file;
Zenodo: the record's description), fetched over https in the same run. That finds a broken transfer, not a
publisher who was broken into; so the SHA-256 of what arrived is written to fetched.json in the data's folder,
to be compared between machines and over time, and the loaders check the published counts.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from deconrec.data.sources import amazon, coat, kuairec, movielens, yahoo_r3
from deconrec.data.sources.locate import Release, roots
from deconrec.data.writing import replaced_folder, write_file
from deconrec.errors import DataError, FileError, MissingData, ParameterError, UnknownName

RECORD = "fetched.json"
_BLOCK = 1 << 20
_SMALL = 1 << 20  # bytes that a checksum document may have

Opener = Callable[[str], AbstractContextManager[IO[bytes]]]


@dataclass(frozen=True)
class Source:
    """A data set that may be downloaded.

    Attributes
    ----------
    release: its folder and files.
    url: the zip archive.
    checksum_url: where its publisher gives its MD5: a checksum file, or a Zenodo record.
    size: most bytes that the archive may have.
    unpacked: most bytes that its wanted files may have.
    keep: files taken out of the archive, by their last name.
    licence: what the user accepts, in the licence's own terms.
    citation: what the licence asks to be cited.
    """

    release: Release
    url: str
    checksum_url: str
    size: int
    unpacked: int
    keep: tuple[str, ...]
    licence: str
    citation: str

    @property
    def archive(self) -> str:
        """The archive's file name."""
        return PurePosixPath(urlsplit(self.url).path).name


_MOVIELENS = (
    "MovieLens: research use; cite it; do not imply endorsement by the University of Minnesota or GroupLens; "
    "do not redistribute without permission; no commercial use without permission (README of the archive)."
)
_HARPER = (
    "F. M. Harper and J. A. Konstan. 2015. The MovieLens Datasets: History and Context. ACM TiiS 5, 4, 19. "
    "doi:10.1145/2827872"
)
_GROUPLENS = "https://files.grouplens.org/datasets/movielens"
_ZENODO = "https://zenodo.org"

SOURCES = {
    "movielens-1m": Source(
        release=movielens.RELEASE_1M,
        url=f"{_GROUPLENS}/ml-1m.zip",
        checksum_url=f"{_GROUPLENS}/ml-1m.zip.md5",
        size=50 << 20,
        unpacked=200 << 20,
        keep=("ratings.dat", "users.dat", "movies.dat", "README"),
        licence=_MOVIELENS,
        citation=_HARPER,
    ),
    "movielens-100k": Source(
        release=movielens.RELEASE_100K,
        url=f"{_GROUPLENS}/ml-100k.zip",
        checksum_url=f"{_GROUPLENS}/ml-100k.zip.md5",
        size=50 << 20,
        unpacked=200 << 20,
        keep=("u.data", "u.user", "u.item", "README"),
        licence=_MOVIELENS,
        citation=_HARPER,
    ),
    "kuairec": Source(
        release=kuairec.RELEASE,
        url=f"{_ZENODO}/records/18164998/files/KuaiRec.zip",
        checksum_url=f"{_ZENODO}/api/records/18164998",
        size=2 << 30,
        unpacked=8 << 30,
        keep=("big_matrix.csv", "small_matrix.csv"),
        licence="KuaiRec: CC BY-SA 4.0 (attribution, share alike; creativecommons.org/licenses/by-sa/4.0).",
        citation="C. Gao et al. 2022. KuaiRec: A Fully-Observed Dataset and Insights for Evaluating "
        "Recommender Systems. CIKM '22. doi:10.1145/3511808.3557220",
    ),
}
BRING = {r.name: r for r in (coat.RELEASE, yahoo_r3.RELEASE, amazon.RELEASE)}


def fetch(
    name: str,
    root: str | Path | None = None,
    accept_licence: bool = False,
    *,
    say: Callable[[str], None] = print,
    opener: Opener | None = None,
) -> Path:
    """Downloads a data set into its folder of the data root and returns that folder.

    Parameters
    ----------
    name: catalogue name.
    root: where its folder goes; default $DECONREC_DATA, then the user's cache.
    accept_licence: the user has read and accepts the licence, which is told through `say` either way.
    say: gets each line for the user.
    opener: opens an address as a context manager of a byte stream; default https only, redirects too.

    Raises
    ------
    UnknownName: no such data set.  MissingData: it may not be downloaded; says what to bring, and where to.
    ParameterError: the licence was not accepted.  DataError: what arrived is not what was published.
    FileError: the network or the disk failed, or the folder holds a user's own files.
    """
    if name in BRING:
        release = BRING[name]
        raise MissingData(
            f"'{name}' may not be downloaded by deconrec (its licence does not allow it, or does not say): "
            f"bring {release.wanted()} and put them in '{roots(root)[0] / release.folder}'. {release.how}"
        )
    if name not in SOURCES:
        raise UnknownName("data set to fetch", name, [*SOURCES, *BRING])
    source = SOURCES[name]
    say(source.licence)
    say(f"Cite: {source.citation}")
    if not accept_licence:
        raise ParameterError(
            f"'accept_licence' must be true to fetch '{name}' (--accept-licence); read the licence first."
        )
    target = roots(root)[0] / source.release.folder
    # A user's own copy is refused before anything is downloaded.
    with replaced_folder(target, RECORD) as fresh:
        with TemporaryDirectory(dir=fresh.parent, prefix=f"{target.name}.tmp-") as scratch:
            archive = Path(scratch) / source.archive
            record = _download(source, archive, opener or https_opener, say)
            _unpack(source, archive, fresh)
        write_file(fresh / RECORD, json.dumps(record, indent=2) + "\n")
    say(f"'{name}' is in '{target}'.")
    return target


def _download(source: Source, archive: Path, opener: Opener, say: Callable[[str], None]) -> dict[str, Any]:
    md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    try:
        expected = _published_md5(source, opener)
        say(f"Fetching {source.url}")
        with opener(source.url) as stream, archive.open("wb") as out:
            while block := stream.read(_BLOCK):
                size += len(block)
                if size > source.size:
                    raise DataError(
                        f"{source.url} must have at most {source.size:,} bytes; it has more. Not kept."
                    )
                md5.update(block)
                sha256.update(block)
                out.write(block)
    except (OSError, HTTPException) as error:
        raise FileError(f"{source.url} cannot be fetched: {error}. Try again, or bring the files.") from error
    if md5.hexdigest() != expected:
        raise DataError(
            f"{source.url} must have the MD5 {expected} that its publisher gives; got {md5.hexdigest()}. "
            "Nothing was kept; try again."
        )
    return {
        "name": source.release.name,
        "url": source.url,
        "sha256": sha256.hexdigest(),
        "md5": md5.hexdigest(),
        "bytes": size,
        "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
        "licence": source.licence,
        "citation": source.citation,
    }


def _published_md5(source: Source, opener: Opener) -> str:
    with opener(source.checksum_url) as stream:
        text = stream.read(_SMALL).decode("utf-8", errors="replace")
    try:
        document = json.loads(text)
        sums = [entry["checksum"] for entry in document["files"] if entry["key"] == source.archive]
        text = sums[0] if sums else ""
    except (json.JSONDecodeError, KeyError, TypeError):
        pass  # a plain checksum file: "MD5 (name) = sum" or "sum  name"
    found = re.findall(r"\b[0-9a-fA-F]{32}\b", text)
    if len(found) != 1:
        raise DataError(
            f"{source.checksum_url} must give the MD5 of {source.archive}; got {len(found)} checksums. Fetch "
            f"the files by hand. {source.release.how}"
        )
    return str(found[0]).lower()


def _unpack(source: Source, archive: Path, folder: Path) -> None:
    """The wanted files of a zip archive, flat in a folder.

    Raises
    ------
    DataError: no zip, a member that points out of the archive, too many bytes, or a wanted file is not there.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            left = source.unpacked
            for member in content.infolist():
                path = PurePosixPath(member.filename.replace("\\", "/"))
                if path.is_absolute() or ".." in path.parts or any(":" in part for part in path.parts):
                    raise DataError(
                        f"{source.archive} must hold files inside itself; it names '{member.filename}'. Not "
                        "unpacked."
                    )
                if member.is_dir() or path.name not in source.keep:
                    continue
                with content.open(member) as stream, (folder / path.name).open("xb") as out:
                    # The archive's own word on sizes may be false: count.
                    while block := stream.read(_BLOCK):
                        left -= len(block)
                        if left < 0:
                            raise DataError(
                                f"{source.archive} must unpack to at most {source.unpacked:,} bytes; it has "
                                "more. Not unpacked."
                            )
                        out.write(block)
    except FileExistsError as error:
        raise DataError(
            f"{source.archive} must hold each file once; got two of '{error.filename}'."
        ) from error
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        raise DataError(
            f"{source.archive} must be a zip archive; it cannot be read as one ({error})."
        ) from error
    lost = [
        names[0] for names in source.release.files if not any((folder / name).is_file() for name in names)
    ]
    if lost:
        raise DataError(f"{source.archive} must hold {', '.join(lost)}; it does not. Nothing was kept.")


class _HttpsOnly(HTTPRedirectHandler):
    """Follows a redirect to https alone."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The request to follow."""
        _check_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_https(url: str) -> None:
    if urlsplit(url).scheme != "https":
        raise FileError(f"data is fetched over https only; got '{url}'.")


def https_opener(url: str) -> AbstractContextManager[IO[bytes]]:
    """Opens an https address; redirects must be https too.

    Raises
    ------
    FileError: another scheme.
    """
    _check_https(url)
    request = Request(url, headers={"User-Agent": "deconrec"})
    stream: AbstractContextManager[IO[bytes]] = build_opener(_HttpsOnly()).open(request, timeout=60)
    return stream
