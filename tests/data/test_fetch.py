"""Downloads, from a server on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

import pytest

from deconrec.data import fetch as fetching
from deconrec.data.fetch import BRING, RECORD, SOURCES, fetch, https_opener
from deconrec.errors import DataError, FileError, MissingData, ParameterError, UnknownName

FILES = {"ml-1m/ratings.dat": b"1::1::5::9\n", "ml-1m/users.dat": b"u", "ml-1m/movies.dat": b"m"}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder and an opener that serves it in place of the publisher's host."""
    folder = tmp_path_factory.mktemp("site")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    port = server.server_address[1]

    def opener(url):
        assert url.startswith("https://")
        return urlopen(f"http://127.0.0.1:{port}/{url.split('/')[-1]}", timeout=5)

    yield folder, opener
    server.shutdown()
    server.server_close()
    thread.join()


def archive(files):
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in files.items():
            out.writestr(name, content)
    return raw.getvalue()


def publish(folder, content, md5=None):
    (folder / "ml-1m.zip").write_bytes(content)
    (folder / "ml-1m.zip.md5").write_text(f"MD5 (ml-1m.zip) = {md5 or hashlib.md5(content).hexdigest()}\n")


def listed(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def get(site, root, **options):
    said = []
    place = fetch("movielens-1m", root, True, say=said.append, opener=site[1], **options)
    return place, said


def test_what_is_fetched(site, tmp_path):
    content = archive(
        FILES | {"ml-1m/README": b"r", "ml-1m/other.txt": b"o", "__MACOSX/ml-1m/._users.dat": b"x"}
    )
    publish(site[0], content)
    place, said = get(site, tmp_path)
    assert place == tmp_path / "ml-1m"
    assert listed(place) == ["README", RECORD, "movies.dat", "ratings.dat", "users.dat"]
    assert (place / "ratings.dat").read_bytes() == FILES["ml-1m/ratings.dat"]
    assert [p.name for p in tmp_path.iterdir()] == ["ml-1m"]
    record = json.loads((place / RECORD).read_text())
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert record["bytes"] == len(content)
    assert record["url"] == SOURCES["movielens-1m"].url
    assert "no commercial use" in said[0]
    assert said[1].startswith("Cite: F. M. Harper")
    # Fetched again, the folder is replaced; a user's own copy is not.
    get(site, tmp_path)
    (place / RECORD).unlink()
    with pytest.raises(FileError, match="left alone"):
        get(site, tmp_path)


def test_the_licence_comes_first(tmp_path):
    def opener(url):
        raise AssertionError("nothing may be opened")

    said = []
    with pytest.raises(ParameterError, match="accept_licence"):
        fetch("kuairec", tmp_path, say=said.append, opener=opener)
    assert "CC BY-SA 4.0" in said[0]
    assert list(tmp_path.iterdir()) == []


def test_the_root_defaults_to_the_environment(site, tmp_path, monkeypatch):
    publish(site[0], archive(FILES))
    monkeypatch.setenv("DECONREC_DATA", str(tmp_path / "named"))
    place, _ = get(site, None)
    assert place == tmp_path / "named" / "ml-1m"


@pytest.mark.parametrize("name", BRING)
def test_what_must_be_brought(name, tmp_path):
    with pytest.raises(MissingData, match="bring ") as caught:
        fetch(name, tmp_path, True)
    assert BRING[name].files[0][0] in str(caught.value)
    assert str(tmp_path / BRING[name].folder) in str(caught.value)


def test_an_unknown_name(tmp_path):
    with pytest.raises(UnknownName, match="did you mean 'movielens-1m'"):
        fetch("movielens1m", tmp_path, True)


@pytest.mark.parametrize(
    ("content", "md5", "says"),
    [
        (archive(FILES), "0" * 32, "must have the MD5 00000000"),
        (archive(FILES), "none", "got 0 checksums"),
        (archive(FILES), f"{'0' * 32} {'1' * 32}", "got 2 checksums"),
        (b"not a zip", None, "must be a zip archive"),
        (archive(FILES | {"../users.dat": b""}), None, r"it names '\.\./users\.dat'"),
        (archive(FILES | {"/etc/users.dat": b""}), None, "files inside itself"),
        (archive(FILES | {"a\\..\\..\\b": b""}), None, "files inside itself"),
        (archive(FILES | {"C:/b": b""}), None, "files inside itself"),
        (archive(FILES | {"copy/users.dat": b""}), None, "each file once"),
        (archive({"ml-1m/ratings.dat": b""}), None, r"must hold users\.dat, movies\.dat"),
    ],
)
def test_what_is_not_as_published_is_not_kept(site, tmp_path, content, md5, says):
    publish(site[0], content, md5)
    with pytest.raises(DataError, match=says):
        get(site, tmp_path)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    ("limit", "says"), [("size", "at most 100 bytes"), ("unpacked", "unpack to at most 100")]
)
def test_too_much_is_not_kept(site, tmp_path, monkeypatch, limit, says):
    monkeypatch.setitem(SOURCES, "movielens-1m", replace(SOURCES["movielens-1m"], **{limit: 100}))
    publish(site[0], archive(FILES | {"ml-1m/ratings.dat": b"0" * 100_000}))
    with pytest.raises(DataError, match=says):
        get(site, tmp_path)
    assert list(tmp_path.rglob("*")) == []


def test_a_network_that_fails(site, tmp_path):
    publish(site[0], archive(FILES))
    (site[0] / "ml-1m.zip").unlink()
    with pytest.raises(FileError, match=r"cannot be fetched.*404"):
        get(site, tmp_path)
    assert list(tmp_path.rglob("*")) == []


def test_the_checksum_in_a_zenodo_record(site, tmp_path):
    content = archive({"KuaiRec/data/big_matrix.csv": b"b", "KuaiRec/data/small_matrix.csv": b"s"})
    md5 = hashlib.md5(content).hexdigest()
    files = [
        {"key": "other.csv", "checksum": f"md5:{'1' * 32}"},
        {"key": "KuaiRec.zip", "checksum": f"md5:{md5}"},
    ]
    (site[0] / "KuaiRec.zip").write_bytes(content)
    (site[0] / SOURCES["kuairec"].checksum_url.split("/")[-1]).write_text(json.dumps({"files": files}))
    place = fetch("kuairec", tmp_path, True, say=lambda line: None, opener=site[1])
    assert listed(place) == ["big_matrix.csv", RECORD, "small_matrix.csv"]


@pytest.mark.parametrize("url", ["http://example.org/a.zip", "file:///etc/passwd", "ftp://example.org/a"])
def test_https_alone_is_opened_and_followed(url):
    with pytest.raises(FileError, match="https only"):
        https_opener(url)
    request = Request("https://example.org/a.zip")
    with pytest.raises(FileError, match="https only"):
        fetching._HttpsOnly().redirect_request(request, None, 302, "", {}, url)
    followed = fetching._HttpsOnly().redirect_request(request, None, 302, "", {}, "https://example.org/b.zip")
    assert followed.full_url == "https://example.org/b.zip"


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_is_https_and_keeps_what_its_loader_needs(name):
    source = SOURCES[name]
    assert source.url.startswith("https://")
    assert source.checksum_url.startswith("https://")
    assert source.archive.endswith(".zip")
    assert all(any(file in source.keep for file in names) for names in source.release.files)
    assert source.release.name == name
