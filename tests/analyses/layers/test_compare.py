"""Layers against layers: oracles on taps taken by hand, invariances, plans, and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax.analyses.layers import compare as comparison
from substrate_jax.analyses.layers import grams
from substrate_jax.analyses.layers.compare import compare_layers
from substrate_jax.analyses.layers.rows import choose_layers, plan_layers, pooled
from substrate_jax.data.domains import open_source
from substrate_jax.data.sources import take
from substrate_jax.encoders import encoder_spec, load_encoder
from substrate_jax.encoders.encoder import list_taps
from substrate_jax.features import FeatureStore
from substrate_jax.kernels.reference import statistics as reference
from substrate_jax.mesh import make_mesh
from tests.helpers import tolerance

N = 45  # divides neither over 8 devices nor over batches of 16
RESNET, VIT = "mini_resnet50", "mini_vit_base"
# Early layers of the ResNet only: the compiler drops the rest of it.
LAYERS = ("stem", "layer1", "patch_embed", "blocks.[03]")
# Longest sums: n^2 entries of a Gram matrix whose products have n d terms.
LIMIT = 10 * tolerance(N * N)


@pytest.fixture(scope="module")
def source():
    return take(open_source("sample:photographs"), N, 0)


@pytest.fixture(scope="module")
def encoders():
    return {name: load_encoder(name) for name in (RESNET, VIT)}


@pytest.fixture(scope="module")
def rows(encoders, source):
    """Pool -> [layers of the ResNet, of the ViT] in float64, taken without the code under test."""
    names = {
        RESNET: ["stem", "layer1"],
        VIT: ["patch_embed", "blocks.0", "blocks.3"],
    }
    found = {"mean": [], "flatten": []}
    for name, layers in names.items():
        encoder = encoders[name]
        images = encoder.preprocess([source[i].image for i in range(N)])
        taps = encoder.taps(images, layers)
        values = [np.asarray(taps[layer], np.float64) for layer in layers]
        found["flatten"].append([value.reshape(N, -1) for value in values])
        found["mean"].append(
            [value.reshape(N, -1, value.shape[-1]).mean(axis=1) for value in values]
        )
    return found


@pytest.fixture(scope="module")
def compared(encoders, source):
    """Pool -> the comparison of both encoders, on 8 devices."""
    options = {"layers": LAYERS, "batch_size": 16, "permutations": 60}
    return {
        pool: compare_layers(list(encoders.values()), source, pool=pool, **options)
        for pool in ("mean", "flatten")
    }


@pytest.mark.parametrize("pool", ["mean", "flatten"])
def test_numbers_are_those_of_the_oracle(compared, rows, pool):
    got, (left, right) = compared[pool], rows[pool]
    assert list(got.rows.layers) == ["stem", "layer1"]
    assert list(got.columns.layers) == ["patch_embed", "blocks.0", "blocks.3"]
    for key, debiased in (("cka", False), ("cka_debiased", True)):
        want = reference.pairwise_cka(left + right, debiased)[: len(left), -len(right) :]
        np.testing.assert_allclose(getattr(got, key), want, atol=LIMIT)


def test_calibration_is_that_of_permuted_rows(compared, rows):
    got, (left, right) = compared["mean"], rows["mean"]
    rng = np.random.default_rng(0)
    stack = [reference.gram(x) for x in left + right]
    stack = np.stack([g / np.linalg.norm(g) for g in stack])
    one, other = stack[: len(left)], stack[-len(right) :]
    null = []
    for _ in range(2000):
        order = rng.permutation(N)
        permuted = other[:, order][:, :, order]
        null.append(one.reshape(len(one), -1) @ permuted.reshape(len(other), -1).T)
    null = np.array(null)
    calibrated = got.calibrated
    # kernels.nulls.calibration: the gamma tail is within a few percent; 2,000 draws add 4 % (three
    # deviations).
    np.testing.assert_allclose(calibrated.tau, np.quantile(null, 0.95, axis=0), rtol=0.15)
    tau, raw = calibrated.tau, got.cka
    want = np.maximum((raw - tau) / (1 - tau), 0)
    np.testing.assert_allclose(calibrated.score, want, atol=tolerance(1, condition=10))
    assert (calibrated.q_value >= calibrated.p_value).all()
    maximum = got.maximum
    assert maximum.cka == raw[maximum.row, maximum.column] == raw.max()
    # 60 draws know the 95 % quantile as well as the true 84 to 100 % (two binomial deviations).
    low, high = np.quantile(null.max(axis=(1, 2)), [0.84, 1])
    assert low < maximum.tau <= high * 1.1
    assert maximum.tau > tau.max() * 0.9  # a maximum of many is no lower than any one of them
    assert maximum.p_value == pytest.approx(1 / 61)
    assert maximum.p_family.shape == raw.shape
    assert ((maximum.p_family >= 1 / 61 - 1e-9) & (maximum.p_family <= 1)).all()


def test_pools_differ_where_there_is_something_to_pool(compared):
    assert abs(compared["mean"].cka[0, 0] - compared["flatten"].cka[0, 0]) > 0.01
    features = np.arange(6, dtype=np.float32).reshape(2, 3)
    for pool in ("mean", "flatten"):
        np.testing.assert_array_equal(pooled(jnp.asarray(features), pool), features)


def test_an_encoder_with_itself_is_symmetric_with_a_diagonal_of_one(encoders, source):
    layers = ["patch_embed", "blocks.*"]
    got = compare_layers([encoders[VIT]], source, layers=layers, batch_size=16, permutations=19)
    assert got.rows == got.columns
    for cka in (got.cka, got.cka_debiased):
        np.testing.assert_allclose(np.diag(cka), 1, atol=LIMIT)
        np.testing.assert_allclose(cka, cka.T, atol=LIMIT)
    p, q = got.calibrated.p_value, got.calibrated.q_value
    assert np.isnan(np.diag(p)).all()
    assert np.isnan(np.diag(got.maximum.p_family)).all()
    np.testing.assert_array_equal(p, p.T)
    np.testing.assert_array_equal(q, q.T)
    assert np.isfinite(q[np.triu_indices(len(q), 1)]).all()
    assert got.maximum.row < got.maximum.column


@pytest.mark.parametrize("pool", ["mean", "flatten"])
def test_neither_batch_nor_mesh_nor_passes_change_the_numbers(
    encoders, source, compared, pool, monkeypatch
):
    monkeypatch.setattr(grams, "BLOCK_BYTES", 4 * N * 100)  # a layer in many blocks
    layers = choose_layers({n: e.spec.config for n, e in encoders.items()}, LAYERS)
    whole = plan_layers(layers, N, pool=pool)
    assert (whole.space, len(whole.groups)) == ("gram", 1)
    memory = int(whole.bytes * 0.9)
    passes = len(plan_layers(layers, N, pool=pool, memory=memory).groups)
    assert passes > 1
    got = compare_layers(
        list(encoders.values()),
        source,
        layers=LAYERS,
        pool=pool,
        batch_size=45,
        permutations=60,
        mesh=make_mesh("data=1"),
        memory=memory,
    )
    assert got.passes == passes
    want = compared[pool]
    for key in ("cka", "cka_debiased"):
        np.testing.assert_allclose(getattr(got, key), getattr(want, key), atol=LIMIT)
    # Equal draws on any number of devices.
    assert got.maximum.tau == pytest.approx(want.maximum.tau, abs=LIMIT)


def test_feature_space_gives_the_numbers_of_gram_space(
    encoders, source, compared, monkeypatch, tmp_path
):
    """There each process needs the rows of its own devices alone, and reads them from the store."""
    plan, extract = comparison.plan_layers, comparison.extract
    kinds = []

    def noted(*arguments, **options):
        features = extract(*arguments, **options)
        kinds.append({type(block).__name__ for block in features.values()})
        return features

    def in_feature_space(*arguments, **options):
        found = plan(*arguments, **options)
        return type(found)(**vars(found) | {"space": "feature"})

    monkeypatch.setattr(comparison, "plan_layers", in_feature_space)
    monkeypatch.setattr(comparison, "extract", noted)
    for store in (None, FeatureStore(tmp_path, chunk_rows=20)):
        options = {"layers": LAYERS, "batch_size": 16, "store": store}
        got = compare_layers(list(encoders.values()), source, **options)
        assert got.maximum is None
        for key in ("cka", "cka_debiased"):
            np.testing.assert_allclose(
                getattr(got, key), getattr(compared["mean"], key), atol=LIMIT
            )
    assert kinds == [{"ndarray"}, {"StoredRows"}]


def test_shifted_and_constant_activations(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 30)).astype(np.float32)
    far, constant = x + np.float32(1000), np.full((12, 5), np.float32(0.1))
    mesh = make_mesh()
    built = [grams.layer_grams(block, (), mesh)[0] for block in (x, far, 3 * x, constant)]
    stack, hsic = grams.hsic_of_grams(built, mesh, len(x))
    cka = np.asarray(hsic.cka())
    # Adding 1000 rounds x itself to 1000 eps.
    np.testing.assert_allclose(cka[:3, :3], 1, atol=tolerance(144, condition=1000))
    assert (cka[3] == 0).all()
    assert np.isfinite(np.asarray(stack)).all()


def test_names_of_one_array_count_once():
    config = encoder_spec(RESNET).config
    listed = list_taps(config)
    assert listed["layer3"][1] == "layer3.1"
    assert listed["layer3.0"][1] == "layer3.0"
    chosen = choose_layers({RESNET: config}, ["all"])[RESNET]
    assert "layer3" not in chosen
    assert chosen["layer3.1"] == (4, 4, 256)
    assert list(choose_layers({RESNET: config}, [r"layer\d"])[RESNET]) == [
        f"layer{stage}" for stage in range(1, 5)
    ]
    shapes = {name: shape for name, (shape, _) in listed.items()}
    image = np.zeros((1, 32, 32, 3), np.float32)
    taps = jax.eval_shape(load_encoder(RESNET).taps, image)
    assert shapes == {name: value.shape[1:] for name, value in taps.items()}


def test_the_plan_takes_the_cheaper_space_that_fits():
    layers = {"a": {"one": (4, 10), "two": (4, 20)}, "b": {"three": (30,)}}
    assert plan_layers(layers, 10).space == "gram"
    assert plan_layers(layers, 1000).space == "feature"
    # Gram matrices of 1,000 images take 24 MB; three rows of 150 features 0.6 MB.
    assert plan_layers(layers, 1000, pool="flatten", memory=2**22).space == "feature"
    tight = plan_layers(layers, 10, pool="flatten", memory=8 * 100 * 3 + 4 * 10 * 80)
    assert tight.space == "gram"
    assert [list(group) for group in tight.groups] == [["a"], ["a"], ["b"]]
    assert tight.bytes == 8 * 100 * 3 + 4 * 10 * 80


CONFIGS = {VIT: encoder_spec(VIT).config}
BAD = {
    "no such layer": (lambda: choose_layers(CONFIGS, ["layer1"]), "'layer1' matches no.*blocks.0"),
    "no regular expression": (lambda: choose_layers(CONFIGS, ["["]), r"layers='\['.*expression"),
    "nothing of one encoder": (
        lambda: choose_layers(CONFIGS | {RESNET: encoder_spec(RESNET).config}, ["blocks.0"]),
        "leaves mini_resnet50 without.*stem",
    ),
    "three encoders": (lambda: plan_layers({k: {} for k in "abc"}, 9), "encoders='a,b,c'.*two"),
    "few images": (lambda: plan_layers({"a": {"x": (3,)}}, 3), "n=3 .*give 4"),
    "pool": (lambda: plan_layers({"a": {"x": (3,)}}, 9, pool="max"), "pool='max'.*flatten"),
    "memory": (
        lambda: plan_layers({"a": {"x": (100, 100)}}, 500, pool="flatten", memory=2**20),
        "n=500 .*pool=flatten.*memory=0.00 GiB.*fewer",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_in_one_line(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_kept_rows_are_read_again(encoders, source, tmp_path):
    layers = ["patch_embed", "blocks.0"]
    options = {"layers": layers, "batch_size": 16, "permutations": 0}
    first = compare_layers([encoders[VIT]], source, store=FeatureStore(tmp_path), **options)
    chunks = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    again = compare_layers([encoders[VIT]], source, store=FeatureStore(tmp_path), **options)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == chunks
    np.testing.assert_array_equal(first.cka, again.cka)
    other = options | {"layers": ["patch_embed", "blocks.1"]}
    compare_layers([encoders[VIT]], source, store=FeatureStore(tmp_path), **other)
    assert len(list(tmp_path.rglob("*.npy"))) == 2 * len(chunks)
