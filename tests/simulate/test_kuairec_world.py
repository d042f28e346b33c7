"""Semi-real KuaiRec: on a small file of the release's form, and on the real one where it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logit

import deconrec as dc
from deconrec.catalogue import open_data
from deconrec.data.sources import kuairec
from deconrec.errors import MissingData, ParameterError

USERS, ITEMS = 60, 45


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed matrix whose ids are not in order, and counts of more videos than it has."""
    rng = np.random.default_rng(1)
    folder = tmp_path_factory.mktemp("root")
    (folder / "kuairec").mkdir()
    taste = rng.normal(size=(USERS, 2)) @ rng.normal(size=(2, ITEMS))
    labels = taste + rng.normal(size=(USERS, ITEMS)) > 1
    np.savez(
        folder / "kuairec" / "small_matrix_label_gt2.npz",
        label_packed=np.packbits(labels, axis=1),
        shape=labels.shape,
        user_ids=rng.permutation(USERS) * 3,
        item_ids=rng.permutation(ITEMS) * 2 + 1,
    )
    counts = {str(i): int(c) for i, c in enumerate(rng.integers(1, 4_000, 2 * ITEMS + 5))}
    (folder / "kuairec" / "item_cnt_train.json").write_text(json.dumps(counts))
    return folder


def world(root: Path, seed: int = 0, **settings):
    return dc.simulate.kuairec_semi(
        root, seed=seed, check_counts=False, **{"exposure_rate": 0.2, "per_user": 9} | settings
    )


def test_outcomes_are_the_files(root: Path) -> None:
    full = kuairec.full_matrix(root, check_counts=False)
    data, truth = world(root)
    for u, user in enumerate(data.users.values):
        row = full.labels[full.user_ids.tolist().index(user)]
        own = [row[full.item_ids.tolist().index(item)] for item in data.items.values]
        assert truth.rating[u].tolist() == own
    for log in (data.biased, data.unbiased):
        np.testing.assert_array_equal(log.rating, truth.rating[log.user, log.item])
    assert data.outcome_scale.binary
    assert data.task.unbiased_split == (0.05, 0.05, 0.90)


def test_exposure_follows_the_formula(root: Path) -> None:
    items, counts = kuairec.exposure_counts(root, check_counts=False)
    popularity = dict(zip(items.tolist(), counts.tolist(), strict=True))
    for dial in (0.0, 1.5):
        data, truth = world(root, confounding=dial)
        z = truth.extra["pair_confounder"]
        assert z.mean() == pytest.approx(0, abs=1e-4)
        assert z.std() == pytest.approx(1, abs=1e-4)
        log_popularity = np.log([popularity[i] for i in data.items.values])
        level = logit(truth.propensity.astype(float)) - log_popularity - dial * z
        assert np.ptp(level) < 1e-3
        assert truth.propensity.mean() == pytest.approx(0.2, abs=1e-5)
        assert len(data.biased) / (USERS * ITEMS) == pytest.approx(0.2, abs=0.04)
        np.testing.assert_allclose(truth.nominal_propensity[0], truth.propensity.mean(axis=0), rtol=1e-5)
    centred = truth.rating - truth.rating.mean(axis=0)
    left, value, right = np.linalg.svd(centred, full_matrices=False)
    expected = (left[:, :8] * value[:8]) @ right[:8]
    np.testing.assert_allclose(z, (expected - expected.mean()) / expected.std(), atol=1e-4)


def test_the_dial_makes_exposure_follow_taste(root: Path) -> None:
    liked = [world(root, confounding=c)[0].biased.rating.mean() for c in (0.0, 1.0, 3.0)]
    assert liked[0] < liked[1] < liked[2]


def test_the_randomised_log_lies_outside_the_biased_one(root: Path) -> None:
    data, _ = world(root)
    assert not data.in_biased.any()
    assert (np.bincount(data.unbiased.user, minlength=USERS) == 9).all()
    assert len(np.unique(data.unbiased.key(ITEMS))) == len(data.unbiased)
    crowded, truth = world(root, exposure_rate=0.9)
    exposed = np.bincount(crowded.biased.user, minlength=USERS)
    np.testing.assert_array_equal(
        np.bincount(crowded.unbiased.user, minlength=USERS), np.minimum(9, truth.rating.shape[1] - exposed)
    )


def test_a_seed_draws_exposures_and_the_randomised_log_only(root: Path) -> None:
    (a, truth_a), (b, truth_b), (again, _) = world(root, 0), world(root, 1), world(root, 0)
    assert a.fingerprint == again.fingerprint != b.fingerprint
    np.testing.assert_array_equal(truth_a.rating, truth_b.rating)
    np.testing.assert_array_equal(truth_a.propensity, truth_b.propensity)


def test_by_name(root: Path) -> None:
    text = "kuairec-semi:confounding=2+check_counts=false+per_user=5+exposure_rate=0.2"
    opened = open_data(text, root)
    assert opened.fresh
    assert opened.same_users
    assert opened.draw(3)[0].fingerprint == world(root, 3, confounding=2, per_user=5)[0].fingerprint


def test_compare_uses_its_metrics_and_pairs_users_over_draws(root: Path) -> None:
    text = "kuairec-semi:check_counts=false+per_user=12+exposure_rate=0.2"
    result = dc.compare(text, ["mf:epochs=2", "mf-combined:epochs=2"], seeds=2, root=root)
    assert result.metrics[:2] == ["auc", "ndcg@50/shown"]
    assert "logloss/full" in result.metrics
    units = {t.metric: (t.test, t.unit) for t in result.tests}
    assert units["auc"] == ("paired t", "draw")
    assert units["ndcg@50/full"] == ("paired bootstrap", "user")
    assert "same real outcomes" in result.protocol["world"]


def test_other_files_in_the_same_place_are_read_anew(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kuairec"
    folder.mkdir()
    for file in (root / "kuairec").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    before = world(tmp_path)[0].fingerprint
    counts = json.loads((folder / "item_cnt_train.json").read_text())
    (folder / "item_cnt_train.json").write_text(json.dumps(dict.fromkeys(counts, 7)))
    assert world(tmp_path)[0].fingerprint != before


@pytest.mark.parametrize(
    "settings", [{"confounding": -1}, {"exposure_rate": 0}, {"per_user": 0}, {"seed": -1}], ids=str
)
def test_refusals(root: Path, settings: dict) -> None:
    with pytest.raises(ParameterError, match=next(iter(settings))):
        dc.simulate.kuairec_semi(root, check_counts=False, **settings)


def test_missing_files_say_what_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="deconrec data fetch kuairec"):
        dc.simulate.kuairec_semi(tmp_path)


@pytest.mark.data
def test_the_real_one(data_root: Path) -> None:
    data, truth = dc.simulate.kuairec_semi(data_root, confounding=1.0, seed=0)
    assert data.shape == (1_411, 3_327)
    assert data.density == pytest.approx(0.05, abs=0.001)
    assert len(data.unbiased) == 83 * 1_411
    assert int(truth.rating.sum()) == 217_175
    assert not data.in_biased.any()
