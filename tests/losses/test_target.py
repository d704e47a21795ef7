"""The target kept by image id: its rows, its norm over the data set, its file, what it refuses."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

import substrate_jax as sj
from substrate_jax import kernels
from substrate_jax.kernels.reference.statistics import gram, hsic_unbiased
from substrate_jax.mesh import DATA_AXIS, make_mesh
from tests.helpers import tolerance

NAMES = tuple(f"image-{i}.png" for i in range(30))


def scores(n=30, k=3):
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, k)) * [3, 2, 1][:k] + 7).astype(np.float32)


@pytest.fixture(scope="module")
def target():
    return sj.SubstrateTarget.from_scores(scores(), NAMES)


def test_rows_are_found_by_id_in_the_order_asked_for(target):
    wanted = [NAMES[i] for i in (7, 0, 29)]
    found = target.rows(wanted)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, [7, 0, 29])
    np.testing.assert_array_equal(target.scores[target.rows(NAMES)], scores())
    numbered = sj.SubstrateTarget.from_scores(scores(), np.arange(30))
    np.testing.assert_array_equal(numbered.rows(np.array([3, 1])), [3, 1])
    assert target.rows([]).shape == (0,)


def test_norm_and_variance_are_those_of_the_covariance(target):
    x = scores().astype(np.float64)
    np.testing.assert_allclose(
        target.norm**2, hsic_unbiased(gram(x), gram(x)), rtol=tolerance(30 * 30)
    )
    np.testing.assert_allclose(target.variance, np.trace(np.cov(x.T)), rtol=tolerance(30 * 30))
    np.testing.assert_allclose(target.scale, np.sqrt(np.trace(np.cov(x.T)) / 3), rtol=1e-5)
    np.testing.assert_allclose(target.dimensions, target.variance**2 / target.norm**2)


@pytest.mark.parametrize("unit", [1e-12, 1e12])
def test_norms_hold_at_any_scale(target, unit):
    scaled = sj.SubstrateTarget.from_scores(np.float32(unit) * scores(), NAMES)
    np.testing.assert_allclose(scaled.norm, target.norm * unit**2, rtol=1e-5)
    np.testing.assert_allclose(scaled.variance, target.variance * unit**2, rtol=1e-5)
    weight = float(jax.jit(scaled.weight)(scaled.scores[:8]))
    np.testing.assert_allclose(weight, float(jax.jit(target.weight)(scores()[:8])), rtol=1e-4)


def test_the_square_of_the_weight_is_one_on_average_over_all_batches():
    """Exactly, as the mean is over all sets of five of eight images."""
    whole = sj.SubstrateTarget.from_scores(scores(8), NAMES[:8])
    weight = jax.jit(whole.weight)
    found = [
        float(weight(whole.scores[list(each)])) ** 2 for each in itertools.combinations(range(8), 5)
    ]
    assert np.std(found) > 0.1
    # Debiasing leaves part of the sums: their ratio amplifies rounding.
    np.testing.assert_allclose(np.mean(found), 1, rtol=tolerance(64, condition=10))


def test_the_weight_of_a_batch_over_devices_is_that_of_its_rows(target):
    rows = jax.sharding.PartitionSpec(DATA_AXIS)
    mask = np.arange(24) < 21

    def local(part, mask):
        return target.weight(part, mask=mask, axis_name=DATA_AXIS)

    mesh = make_mesh("data=8")
    mapped = jax.shard_map(
        local, mesh=mesh, in_specs=(rows, rows), out_specs=jax.sharding.PartitionSpec()
    )
    found = float(jax.jit(mapped)(target.scores[:24], mask))
    x = scores()[:21].astype(np.float64)
    want = np.sqrt(hsic_unbiased(gram(x), gram(x))) / target.norm
    np.testing.assert_allclose(found, want, rtol=tolerance(24 * 24))
    assert float(target.weight(np.ones((5, 3), np.float32))) == 0


AVERAGED = {"labels": (16, (0.19, 0.23, 0.24)), "tails": (32, (0.97, 0.81, 0.98))}


@pytest.mark.parametrize("kind", list(AVERAGED))
def test_weighing_is_nearer_to_all_images_with_labels_and_farther_with_heavy_tails(kind):
    """The numbers of the module: mean CKA of batches, weighted, and of all images."""
    rows, numbers = AVERAGED[kind]
    rng = np.random.default_rng(0)
    if kind == "labels":
        labels = rng.integers(100, size=4000)
        target = np.eye(100)[labels]
        features = rng.normal(size=(100, 64))[labels] + 1.5 * rng.normal(size=(4000, 64))
    else:
        target = rng.standard_t(3, size=(4000, 8)) / np.arange(1, 9)
        features = np.hstack([target @ rng.normal(size=(8, 32)), rng.normal(size=(4000, 32))])
    features = features.astype(np.float32)
    whole = sj.SubstrateTarget.from_scores(target, range(4000))

    def of_batch(places):
        x, y = jnp.asarray(features)[places], jnp.asarray(whole.scores)[places]
        # Not defined is nothing to compare, as in the loss.
        return jnp.nan_to_num(kernels.cka(x, y, debiased=True)), whole.weight(y)

    drawn = np.stack([rng.choice(4000, rows, replace=False) for _ in range(300)])
    values, weights = (np.asarray(part) for part in jax.lax.map(of_batch, drawn))
    of_all = float(kernels.cka(features, whole.scores, debiased=True))
    found = values.mean(), (values * weights).mean(), of_all
    error = np.std([values, values * weights, 0 * values], axis=1) / np.sqrt(300)
    assert (np.abs(np.subtract(found, numbers)) <= 4 * error + 0.005).all()
    nearer = abs(found[1] - found[2]) < abs(found[0] - found[2])
    assert nearer == (kind == "labels")


def test_a_substrate_gives_its_scores_in_the_order_of_the_ids(monkeypatch):
    rng = np.random.default_rng(1)
    blocks = {"one": rng.normal(size=(30, 4)).astype(np.float32)}
    blocks["two"] = (blocks["one"] ** 2).astype(np.float32)
    features = sj.Features(NAMES, None, blocks)
    substrate = sj.Substrate.fit(features, k=2)
    want = np.asarray(substrate.transform(features))
    monkeypatch.setattr("substrate_jax.losses.target._ROWS", 15)  # two parts of one shape
    found = sj.SubstrateTarget.from_substrate(substrate, features)
    assert found.ids == NAMES
    np.testing.assert_allclose(found.scores, want, atol=tolerance(8) * np.abs(want).max())
    with pytest.raises(ValueError, match="this substrate was fitted on"):
        sj.SubstrateTarget.from_substrate(substrate, sj.Features(NAMES, None, {"one": scores()}))


def test_a_file_gives_back_the_same_bits(target, tmp_path):
    path = tmp_path / "target.safetensors"
    target.save(path)
    found = sj.SubstrateTarget.load(path)
    assert (found.ids, found.norm, found.variance) == (target.ids, target.norm, target.variance)
    np.testing.assert_array_equal(found.scores, target.scores)
    with safe_open(path, framework="numpy") as file:
        assert list(file.keys()) == ["scores"]
    first = path.read_bytes()
    found.save(path)
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]


def test_any_file_of_one_block_is_a_target_and_no_other(target, tmp_path):
    block = {"pca": scores()}
    sj.Features(NAMES, None, block).write(tmp_path / "one.npz")
    assert sj.SubstrateTarget.load(tmp_path / "one.npz").norm == target.norm
    sj.Features(NAMES, None, block | {"other": scores()}).write(tmp_path / "two.npz")
    with pytest.raises(ValueError, match=r"holds 2 blocks \(pca, other\)"):
        sj.SubstrateTarget.load(tmp_path / "two.npz")
    with pytest.raises(ValueError, match=r"give a path that ends in \.safetensors"):
        target.save(tmp_path / "target.pkl")
    with pytest.raises(ValueError, match=re.escape("absent.safetensors")):
        sj.SubstrateTarget.load(tmp_path / "absent.safetensors")


X = scores()
WRONG = {
    "missing ids": (
        lambda target: target.rows([*NAMES[:2], *(f"new-{i}" for i in range(12))]),
        "the target lacks 12 of the 14 rows of the training set: new-0, .*new-9 and 2 more; it has",
    ),
    "ids asked for twice": (
        lambda target: target.rows(["image-1.png", "image-2.png", "image-1.png"]),
        "the training set has 1 of its ids more than once: image-1.png; give every image once",
    ),
    "ids twice": (
        lambda _: sj.SubstrateTarget.from_scores(X[:4], ["a", "b", "a", "b"]),
        "the target has 2 of its ids more than once: a, b",
    ),
    "fractions as ids": (
        lambda _: sj.SubstrateTarget.from_scores(X[:4], np.arange(4) / 2),
        "the target: ids are float64",
    ),
    "fewer ids": (
        lambda _: sj.SubstrateTarget.from_scores(X, NAMES[:-1]),
        "scores have 30 rows for 29 ids",
    ),
    "few images": (
        lambda _: sj.SubstrateTarget.from_scores(X[:3], NAMES[:3]),
        "scores of 3 images: give those of 4 or more",
    ),
    "NaN": (
        lambda _: sj.SubstrateTarget.from_scores(np.where(X[5] == X, np.nan, X), NAMES),
        r"scores: NaN, infinity .* in 1 of 30 rows: image-5.png",
    ),
    "a vector": (
        lambda _: sj.SubstrateTarget.from_scores(X[:, 0], NAMES),
        r"scores is \[30\]; give \[rows, features\]",
    ),
    "constant": (
        lambda _: sj.SubstrateTarget.from_scores(np.full((30, 2), 0.1), NAMES),
        "scores are the same for all 30 images",
    ),
    "no class twice": (
        lambda _: sj.SubstrateTarget.from_scores(np.eye(30), NAMES),
        "all 30 images are equally far apart",
    ),
    "a batch of 3": (lambda target: target.check_batch(3), "batches of 3 rows: give 4 to 30"),
    "a batch above all": (lambda target: target.check_batch(31), "batches of 31 rows: give 4 to"),
}


@pytest.mark.parametrize("case", list(WRONG))
def test_what_cannot_be_a_target_is_refused_in_one_line(case, target):
    call, message = WRONG[case]
    with pytest.raises(ValueError, match=message) as caught:
        call(target)
    assert "\n" not in str(caught.value)


def test_batches_are_refused_where_most_tell_nothing_and_not_for_having_fewer_rows_than_scores():
    pairs = sj.SubstrateTarget.from_scores(np.eye(40)[np.arange(80) // 2], range(80))
    with pytest.raises(ValueError, match=r"batches of 4 rows: in \d+ of 100 .* target of k=40"):
        pairs.check_batch(4)
    share = pairs.check_batch(20)
    # No class twice among 20 of 80: that of each next row has one other image among those left.
    chance = np.prod([(80 - 2 * i) / (80 - i) for i in range(20)])
    assert abs(share - chance) <= 5 * np.sqrt(chance / 100)
    wide = np.random.default_rng(2).normal(size=(80, 40))
    assert sj.SubstrateTarget.from_scores(wide, range(80)).check_batch(20) == 0
