"""The public data sets: on small files of the published form, and on the real ones where they are."""

from __future__ import annotations

import gzip
import json

import numpy as np
import polars as pl
import pytest

from deconrec.data.sources import amazon, coat, kuairec, locate, movielens, yahoo_r3
from deconrec.errors import DataError, MissingData, ParameterError


def put(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("latin-1"))


def rows(data, log):
    return sorted(data.frame(log).rows())


# ------------------------------------------------------------------ where the files are
RELEASE = locate.Release("toy", "toy", (("a.txt",), ("b.txt", "b.csv")), "Ask the authors.")


def test_the_root_that_was_given_comes_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("DECONREC_DATA", str(tmp_path / "named"))
    assert locate.roots(tmp_path) == [tmp_path]
    named, cache = locate.roots()
    assert named == tmp_path / "named"
    assert cache.name == "deconrec"
    monkeypatch.delenv("DECONREC_DATA")
    assert locate.roots() == [cache]


def test_the_first_root_with_all_files_wins(tmp_path, monkeypatch):
    named, cache = tmp_path / "named", tmp_path / "cache"
    monkeypatch.setattr(locate, "roots", lambda root: [named, cache])
    put(named / "toy", {"a.txt": ""})
    put(cache / "toy", {"a.txt": "", "b.csv": ""})
    assert locate.locate(RELEASE) == [cache / "toy" / "a.txt", cache / "toy" / "b.csv"]
    put(named / "toy", {"b.csv": "", "b.txt": ""})
    assert locate.locate(RELEASE) == [named / "toy" / "a.txt", named / "toy" / "b.txt"]


def test_missing_files_are_told_with_every_place(tmp_path, monkeypatch):
    named, cache = tmp_path / "named", tmp_path / "cache"
    monkeypatch.setattr(locate, "roots", lambda root: [named, cache])
    put(named / "toy", {"a.txt": "", "else.txt": ""})
    with pytest.raises(MissingData) as caught:
        locate.locate(RELEASE)
    said = str(caught.value)
    for words in (
        "'toy' needs 'a.txt', 'b.txt' or 'b.csv' in a folder 'toy'",
        f"'{named / 'toy'}' (holds a.txt, else.txt; lacks b.txt)",
        f"'{cache / 'toy'}' (no such folder)",
        "DECONREC_DATA",
        "Ask the authors.",
    ):
        assert words in said


LOADERS = {
    "coat": coat.load,
    "movielens-1m": movielens.load_1m,
    "movielens-100k": movielens.load_100k,
    "kuairec": kuairec.load,
    "kuairec labels": kuairec.full_matrix,
    "kuairec exposure": kuairec.exposure_counts,
    "yahoo-r3": yahoo_r3.load,
    "amazon-video-games": amazon.load,
}


@pytest.mark.parametrize("name", LOADERS)
def test_every_loader_says_where_it_looked(name, tmp_path):
    with pytest.raises(MissingData, match=rf"'{name.split()[0]}' needs .*no such folder") as caught:
        LOADERS[name](tmp_path)
    assert str(tmp_path) in str(caught.value)


# ------------------------------------------------------------------ coat
COAT = {
    "train.ascii": "5 0 1 \r\n0 2 0 \r\n",
    "test.ascii": "1 0 0\r\n0 0 4\r\n",
    "user_item_features/user_features.ascii": "0 1\r\n1 0\r\n",
    "user_item_features/user_features_map.txt": "sex:men\nsex:women",
    "user_item_features/item_features.ascii": "1\r\n0\r\n1\r\n",
    "user_item_features/item_features_map.txt": "color:red",
}


def test_coat(tmp_path):
    put(tmp_path / "coat", COAT)
    data = coat.load(tmp_path, check_counts=False)
    assert rows(data, data.biased) == [(0, 0, 5.0), (0, 2, 1.0), (1, 1, 2.0)]
    assert rows(data, data.unbiased) == [(0, 0, 1.0), (1, 2, 4.0)]
    assert data.user_features.names == ("sex:men", "sex:women")
    assert data.item_features.values.ravel().tolist() == [1, 0, 1]
    assert (data.task.binarize, data.task.rating_range, data.task.protocol) == (4, (1, 5), "pairs")


def test_coat_that_is_not_the_published_one(tmp_path):
    put(tmp_path / "coat", COAT)
    with pytest.raises(DataError, match=r"must have 290 users as published; found 2.*check_counts=False"):
        coat.load(tmp_path)
    put(tmp_path / "coat", COAT | {"test.ascii": "1 0\n"})
    with pytest.raises(DataError, match="one shape"):
        coat.load(tmp_path, check_counts=False)
    put(tmp_path / "coat", COAT | {"user_item_features/item_features_map.txt": "a\nb"})
    with pytest.raises(DataError, match="3 rows and the 2 columns"):
        coat.load(tmp_path, check_counts=False)
    put(tmp_path / "coat", COAT | {"train.ascii": "1 x"})
    with pytest.raises(DataError, match=r"train\.ascii' must be the published file"):
        coat.load(tmp_path, check_counts=False)


@pytest.mark.data
def test_the_real_coat(data_root):
    data = coat.load(data_root)
    assert data.shape == (290, 300)
    assert (len(data.biased), len(data.unbiased)) == (6_960, 4_640)
    assert np.bincount(data.biased.rating.astype(int)).tolist() == [0, 1901, 1437, 1717, 1275, 630]
    assert np.bincount(data.unbiased.rating.astype(int)).tolist() == [0, 1879, 899, 1002, 641, 219]
    assert int(data.in_biased.sum()) == 366
    assert (data.user_features.values.shape, data.item_features.values.shape) == ((290, 14), (300, 33))
    assert data.user_features.names[:2] == ("gender:men", "gender:women")
    # Every user belongs to one of each group of columns.
    assert (data.user_features.values.sum(axis=1) == 4).all()


@pytest.mark.data
def test_the_real_coat_is_the_same_as_its_triples(data_root):
    data = coat.load(data_root)
    for log, name in ((data.biased, "user.txt"), (data.unbiased, "random.txt")):
        triples = pl.read_csv(data_root / "coat" / name, has_header=False).rows()
        assert rows(data, log) == sorted(triples)


# ------------------------------------------------------------------ MovieLens
ML_1M = {
    "ratings.dat": "1::10::5::100\n2::10::3::200\n2::30::1::300\n",
    "users.dat": "1::F::1::10::48067\n2::M::56::0::70072\n",
    "movies.dat": "10::Caf\xe9 (1990)::Drama|War\n20::Unseen (1991)::Drama\n30::Toy (1995)::Children's\n",
}
ML_USERS = ("gender=F", "gender=M", "age=56+", "age=under 18", "occupation=K-12 student", "occupation=other")


def test_movielens_1m(tmp_path):
    put(tmp_path / "ml-1m", ML_1M)
    data = movielens.load_1m(tmp_path, check_counts=False)
    assert rows(data, data.biased) == [(1, 10, 5.0, 100), (2, 10, 3.0, 200), (2, 30, 1.0, 300)]
    assert data.user_features.names == ML_USERS
    assert data.user_features.values.tolist() == [[1, 0, 0, 1, 1, 0], [0, 1, 1, 0, 0, 1]]
    assert data.item_features.names == ("genre=Children's", "genre=Drama", "genre=War")
    assert data.item_features.values.tolist() == [[0, 1, 1], [1, 0, 0]]
    assert "1 movies without a rating were left out." in data.notes
    assert (data.task.relevant, data.task.binarize, data.task.protocol) == (5, None, "users")


def test_movielens_1m_without_timestamps(tmp_path):
    put(tmp_path / "ml-1m", ML_1M)
    (tmp_path / "ml-1m" / "ratings.dat").unlink()
    with pytest.raises(MissingData, match=r"'ratings\.dat' or 'ratings_notime\.csv\.gz'"):
        movielens.load_1m(tmp_path)
    put(tmp_path / "ml-1m", {"ratings_notime.csv.gz": gzip.compress(b"user,item,rating\n1,10,5\n2,30,1\n")})
    data = movielens.load_1m(tmp_path, check_counts=False)
    assert rows(data, data.biased) == [(1, 10, 5.0), (2, 30, 1.0)]
    assert data.biased.timestamp is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ratings.dat", "1::10::five::100\n"),
        ("users.dat", "1::F::1\n"),
        ("users.dat", "1::F::1::21::0\n"),
        ("movies.dat", "x::A::Drama\n"),
    ],
)
def test_movielens_1m_that_is_broken(name, content, tmp_path):
    put(tmp_path / "ml-1m", ML_1M | {name: content})
    with pytest.raises(DataError, match=rf"{name}' must be the published file"):
        movielens.load_1m(tmp_path, check_counts=False)


def test_movielens_100k(tmp_path):
    flags = "|".join("1" if k in (0, 18) else "0" for k in range(19))
    files = {
        "u.data": "1\t7\t4\t100\n2\t7\t5\t200\n",
        "u.user": "1|24|M|technician|85711\n2|17|F|other|94043\n",
        "u.item": f"7|Am\xe9lie (2001)|01-Jan-2001||http://x|{flags}\n",
    }
    put(tmp_path / "ml-100k", files)
    data = movielens.load_100k(tmp_path, check_counts=False)
    assert rows(data, data.biased) == [(1, 7, 4.0, 100), (2, 7, 5.0, 200)]
    assert dict(zip(data.item_features.names, data.item_features.values[0], strict=True)) == {
        f"genre={name}": float(name in ("unknown", "Western")) for name in movielens._GENRES_100K
    }
    assert "age=18-24" in data.user_features.names
    assert "occupation=technician" in data.user_features.names
    with pytest.raises(DataError, match="100,000 ratings as published; found 2"):
        movielens.load_100k(tmp_path)


@pytest.mark.data
def test_the_real_movielens_1m(data_root):
    data = movielens.load_1m(data_root)
    assert data.shape == (6_040, 3_706)
    assert np.bincount(data.biased.rating.astype(int))[1:].tolist() == [56174, 107557, 261197, 348971, 226310]
    assert data.item_features.values.shape == (3_706, 18)
    assert not data.item_features.missing.any()
    assert (data.user_features.values.sum(axis=1) == 3).all()


# ------------------------------------------------------------------ KuaiRec
HEADER = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"


def watched(*triples):
    """Rows of the release; the fourth value is the timestamp, none where it is left out."""
    lines = []
    for user, video, ratio, *stamp in triples:
        lines.append(f"{user},{video},1,1,2020-07-05 00:08:23,20200705,{stamp[0] if stamp else ''},{ratio}\n")
    return HEADER + "".join(lines)


BIG = watched((1, 5, 1.0, 20.5), (1, 5, 4.0, 10.5), (2, 6, 0.5, 30.5))
SMALL = watched((1, 6, 2.0), (1, 7, 3.5), (3, 6, 0.1), (3, 7, 2.5))


def test_kuairec(tmp_path):
    put(tmp_path / "kuairec", {"big_matrix.csv": BIG, "small_matrix.csv": SMALL})
    data = kuairec.load(tmp_path, check_counts=False)
    assert rows(data, data.biased) == [(1, 5, 2.5, 20), (2, 6, 0.5, 30)]
    assert rows(data, data.unbiased) == [(1, 6, 2.0), (1, 7, 3.5), (3, 6, pytest.approx(0.1)), (3, 7, 2.5)]
    assert sorted(data.outcome(data.unbiased).tolist()) == [0, 1, 1, 1]
    assert "1 repeated pairs of the biased log were merged (duplicates = 'mean')." in data.notes
    last = kuairec.load(tmp_path, duplicates="last", check_counts=False)
    assert rows(last, last.biased) == [(1, 5, 1.0, 20), (2, 6, 0.5, 30)]
    with pytest.raises(DataError, match=r"12,530,806 big_matrix\.csv rows as published; found 3"):
        kuairec.load(tmp_path)
    with pytest.raises(ParameterError, match="'full' or 'random'"):
        kuairec.load(tmp_path, unbiased="some")


def test_kuairec_with_the_random_file_and_gaps_in_time(tmp_path):
    big = watched((1, 5, 1.0, 20.5), (2, 6, 0.5))
    put(tmp_path / "kuairec", {"big_matrix.csv": big, "random.txt": "1,6,2.5\n2,5,0.1\n"})
    data = kuairec.load(tmp_path, unbiased="random", check_counts=False)
    assert rows(data, data.biased) == [(1, 5, 1.0), (2, 6, 0.5)]
    assert rows(data, data.unbiased) == [(1, 6, 2.5), (2, 5, pytest.approx(0.1))]
    assert "not uniform over videos" in data.notes[-1]


def test_kuairec_of_other_columns(tmp_path):
    put(tmp_path / "kuairec", {"big_matrix.csv": "a,b\n1,2\n", "small_matrix.csv": SMALL})
    with pytest.raises(DataError, match=r"big_matrix\.csv' must be the published file"):
        kuairec.load(tmp_path)


def test_the_full_matrix_from_either_file(tmp_path):
    put(tmp_path / "kuairec", {"small_matrix.csv": SMALL, "big_matrix.csv": BIG})
    made = kuairec.full_matrix(tmp_path, check_counts=False)
    assert made.labels.tolist() == [[False, True], [False, True]]  # 2.0 is not > 2
    assert (made.user_ids.tolist(), made.item_ids.tolist()) == ([1, 3], [6, 7])
    items, counts = kuairec.exposure_counts(tmp_path, check_counts=False)
    assert (items.tolist(), counts.tolist()) == ([5, 6], [2, 1])
    wide = np.random.default_rng(0).random((3, 11)) < 0.5
    np.savez(
        tmp_path / "kuairec" / "small_matrix_label_gt2.npz",
        label_packed=np.packbits(wide, axis=1),
        shape=wide.shape,
        user_ids=np.arange(3),
        item_ids=np.arange(11),
    )
    put(tmp_path / "kuairec", {"item_cnt_train.json": json.dumps({"11": 4, "2": 5})})
    packed = kuairec.full_matrix(tmp_path, check_counts=False)
    np.testing.assert_array_equal(packed.labels, wide)
    assert not packed.labels.flags.writeable
    items, counts = kuairec.exposure_counts(tmp_path, check_counts=False)
    assert (items.tolist(), counts.tolist()) == ([2, 11], [5, 4])
    with pytest.raises(DataError, match="1,411 users"):
        kuairec.full_matrix(tmp_path)
    with pytest.raises(DataError, match="10,728 items"):
        kuairec.exposure_counts(tmp_path)


def test_a_packed_matrix_with_objects_or_without_sense_is_refused(tmp_path):
    path = tmp_path / "kuairec" / "small_matrix_label_gt2.npz"
    path.parent.mkdir()
    np.savez(path, label_packed=np.array([{}], dtype=object), shape=(1, 1), user_ids=[0], item_ids=[0])
    with pytest.raises(DataError, match="must be the published file"):
        kuairec.full_matrix(tmp_path)
    np.savez(path, label_packed=np.zeros((1, 1), np.uint8), shape=(2, 8), user_ids=[0], item_ids=[0])
    with pytest.raises(DataError, match="that fit"):
        kuairec.full_matrix(tmp_path)


@pytest.mark.data
def test_the_real_kuairec_is_partial(data_root):
    if (data_root / "kuairec" / "big_matrix.csv").exists():
        pytest.skip("the whole release is here")
    with pytest.raises(MissingData, match=r"holds .*random\.txt.*lacks big_matrix\.csv, small_matrix\.csv"):
        kuairec.load(data_root)


@pytest.mark.data
def test_the_real_full_matrix(data_root):
    full = kuairec.full_matrix(data_root)
    assert full.labels.shape == (1_411, 3_327)
    items, counts = kuairec.exposure_counts(data_root)
    assert (len(items), int(counts.sum())) == (10_728, 12_530_806)
    assert np.isin(full.item_ids, items).all()
    # The random pairs agree with the matrix on every row.
    random = kuairec._watched(data_root / "kuairec" / "random.txt")
    u = np.searchsorted(full.user_ids, random["user_id"])
    i = np.searchsorted(full.item_ids, random["item_id"])
    np.testing.assert_array_equal(full.labels[u, i], random["rating"] > 2)
    assert (np.bincount(u) == 83).all()


# ------------------------------------------------------------------ Yahoo! R3
def test_yahoo_r3(tmp_path):
    train, test = (f"ydata-ymusic-rating-study-v1_0-{part}.txt" for part in ("train", "test"))
    put(tmp_path / "yahoo-r3", {train: "1\t14\t5\n1\t35\t1\n2\t14\t4\n", test: "1\t93\t1\n2\t35\t4\n"})
    data = yahoo_r3.load(tmp_path, check_counts=False)
    assert rows(data, data.biased) == [(1, 14, 5.0), (1, 35, 1.0), (2, 14, 4.0)]
    assert rows(data, data.unbiased) == [(1, 93, 1.0), (2, 35, 4.0)]
    assert sorted(data.outcome(data.biased).tolist()) == [0, 1, 1]
    with pytest.raises(DataError, match="15,400 users as published; found 2"):
        yahoo_r3.load(tmp_path)
    put(tmp_path / "yahoo-r3", {test: "1 93 1\n"})
    with pytest.raises(DataError, match=r"test\.txt' must be the published file"):
        yahoo_r3.load(tmp_path)


# ------------------------------------------------------------------ Amazon
def review(user, item, rating, time):
    text = {"reviewerID": user, "asin": item, "overall": rating, "unixReviewTime": time, "reviewText": "a\nb"}
    return json.dumps(text) + "\n"


def test_amazon_reviews(tmp_path):
    lines = review("A1", "0001", 5.0, 10) + review("A2", "0001", 2.0, 20) + review("A1", "0001", 3.0, 30)
    put(tmp_path / "amazon_vg", {"reviews_Video_Games_5.json.gz": gzip.compress(lines.encode())})
    data = amazon.load(tmp_path, core=1, check_counts=False)
    assert rows(data, data.biased) == [("A1", "0001", 3.0, 30), ("A2", "0001", 2.0, 20)]
    assert (data.task.relevant, data.task.protocol) == (5, "users")
    with pytest.raises(DataError, match="231,780 ratings"):
        amazon.load(tmp_path)
    with pytest.raises(DataError, match="no 3-core: nothing is left of 3 ratings"):
        amazon.load(tmp_path, core=3, check_counts=False)
    with pytest.raises(ParameterError, match="'core'"):
        amazon.load(tmp_path, core=0)
    put(tmp_path / "amazon_vg", {"reviews_Video_Games_5.json.gz": gzip.compress(b'{"asin": "1"}\n')})
    with pytest.raises(DataError, match="reviewerID"):
        amazon.load(tmp_path)
    put(tmp_path / "amazon_vg", {"reviews_Video_Games_5.json.gz": gzip.compress(lines.encode())[:30]})
    with pytest.raises(DataError, match="must be the published file"):
        amazon.load(tmp_path)


def test_amazon_ratings_are_cut_to_a_core(tmp_path):
    # u3 falls with item z, then item y with u3.
    pairs = [("u1", "x"), ("u1", "w"), ("u2", "x"), ("u2", "w"), ("u3", "y"), ("u3", "z"), ("u1", "y")]
    lines = "".join(f"{u},{i},4.0,{k}\n" for k, (u, i) in enumerate(pairs))
    put(tmp_path / "amazon_vg", {"ratings_Video_Games.csv": lines})
    data = amazon.load(tmp_path, core=2)
    assert [row[:2] for row in rows(data, data.biased)] == [
        ("u1", "w"),
        ("u1", "x"),
        ("u2", "w"),
        ("u2", "x"),
    ]
    assert data.notes == ("3 of 7 ratings were left out by the 2-core.",)
    assert len(amazon.load(tmp_path, core=1).biased) == 7


@pytest.mark.data
def test_the_real_amazon_pairs_have_no_ratings(data_root):
    if any((data_root / "amazon_vg" / name).exists() for name in amazon.RELEASE.files[0]):
        pytest.skip("the ratings are here")
    with pytest.raises(MissingData, match=r"holds .*_pairs\.csv\.gz.*has no ratings"):
        amazon.load(data_root)


def test_amazon_pairs_need_no_ratings(tmp_path):
    pairs = [("u1", "x"), ("u1", "w"), ("u2", "x"), ("u2", "w"), ("u3", "y")]
    content = "u,i\n" + "".join(f"{u},{i}\n" for u, i in pairs)
    put(tmp_path / "amazon_vg", {"video_games_2014_5core_pairs.csv.gz": gzip.compress(content.encode())})
    with pytest.raises(MissingData, match="has no ratings"):
        amazon.load(tmp_path)
    with pytest.raises(DataError, match="231,780 ratings"):
        amazon.load(tmp_path, pairs=True)
    data = amazon.load(tmp_path, core=2, pairs=True, check_counts=False)
    assert rows(data, data.biased) == [(u, i, 1.0) for u, i in sorted(pairs[:4])]
    assert data.outcome_scale.binary
    assert data.notes[0].startswith("Ratings were left aside")
    # A file with ratings does too, and gives the same pairs.
    lines = "".join(f"{u},{i},4.0,{k}\n" for k, (u, i) in enumerate(pairs))
    put(tmp_path / "amazon_vg", {"ratings_Video_Games.csv": lines})
    again = amazon.load(tmp_path, core=2, pairs=True)
    assert [row[:3] for row in rows(again, again.biased)] == rows(data, data.biased)


@pytest.mark.data
def test_the_real_amazon_pairs(data_root):
    data = amazon.load(data_root, pairs=True)
    assert (data.n_users, data.n_items, len(data.biased)) == (24_303, 10_672, 231_780)
    assert amazon.load(data_root, pairs=True, core=10).shape == (2_816, 2_141)
