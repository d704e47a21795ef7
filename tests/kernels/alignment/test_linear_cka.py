"""Linear CKA in both spaces against textbook Gram formulas in float64."""

import functools
import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from jax.test_util import check_grads

from substrate_jax.kernels import cka, pairwise_hsic
from substrate_jax.kernels import pairwise_cka as eager_pairwise_cka
from substrate_jax.kernels.alignment import row_pairs
from substrate_jax.kernels.reference import statistics as reference
from tests import helpers
from tests.kernels.alignment.encoders import (
    DEBIASED,
    SPACE,
    bound,
    finalize,
    pairwise_cka,
    sample,
    streamed,
)


@DEBIASED
@SPACE
@pytest.mark.parametrize("n", [4, 9, 40, 130])
@pytest.mark.parametrize("ratio", [0.0, 100.0, 1e4])
def test_matches_textbook_grams(n, space, debiased, ratio):
    blocks = sample(n, ratio=ratio)
    got = pairwise_cka([jnp.asarray(b) for b in blocks], space=space, debiased=debiased)
    want = reference.pairwise_cka(blocks, debiased)
    np.testing.assert_allclose(got, want, atol=bound(blocks, debiased))


def test_hsic_holds_the_sums_it_promises():
    blocks = sample()
    hsic = pairwise_hsic([jnp.asarray(b) for b in blocks])
    grams = [reference.gram(b) for b in blocks]
    units = np.outer(hsic.scale**2, hsic.scale**2)
    inner = [[np.sum(k * m) for m in grams] for k in grams]
    diagonal = [[np.diag(k) @ np.diag(m) for m in grams] for k in grams]
    debiased = [[40 * 37 * reference.hsic_unbiased(k, m) for m in grams] for k in grams]
    assert helpers.relative_error(hsic.inner * units, inner) < bound(blocks)
    assert helpers.relative_error(hsic.diagonal * units, diagonal) < bound(blocks)
    assert helpers.relative_error(hsic.debiased() * units, debiased) < bound(blocks, True)
    assert helpers.relative_error(hsic.scale**2, [np.trace(k) for k in grams]) < bound(blocks)
    np.testing.assert_allclose(hsic.trace, 1, rtol=bound(blocks))


@DEBIASED
@SPACE
def test_every_transform_gives_the_same_cka_of_uneven_rows(space, debiased):
    blocks = sample(37, ratio=10)
    padded = [np.concatenate([b, np.full((3, b.shape[1]), np.nan, np.float32)]) for b in blocks]
    mask = np.arange(40) < 37
    want = reference.pairwise_cka(blocks, debiased)

    def compute(blocks, mask, axis_name):
        return pairwise_cka(blocks, debiased=debiased, space=space, mask=mask, axis_name=axis_name)

    for name, call in helpers.transforms().items():
        got = call(compute, (padded, mask))
        np.testing.assert_allclose(got, want, atol=bound(blocks, debiased), err_msg=name)


@DEBIASED
@SPACE
def test_invariances(space, debiased):
    x, y = sample(30, (5, 8))
    rng = np.random.default_rng(1)
    order = rng.permutation(30)
    rotated = (x @ helpers.random_orthogonal(rng, 5)).astype(np.float32)

    def value(x, y):
        return pairwise_cka([x, y], space=space, debiased=debiased)[0, 1]

    want = value(x, y)
    for changed in ((rotated, y), (1e-12 * x, y), (-1e15 * x + 1, y), (x[order], y[order])):
        got = value(*(jnp.asarray(c, jnp.float32) for c in changed))
        np.testing.assert_allclose(got, want, atol=2 * bound([x, y], debiased))
    assert abs(value(x[order], y) - want) > 100 * bound([x, y], debiased)
    np.testing.assert_allclose(value(y, x), want, atol=bound([x, y], debiased))


@DEBIASED
@SPACE
def test_constant_encoder_is_zero_with_zero_gradient(space, debiased):
    x, y = sample(10, (3, 4))
    constant = jnp.full((10, 2), 0.1)

    def values(blocks):
        return pairwise_cka(blocks, space=space, debiased=debiased)

    got = values([x, constant, y])
    np.testing.assert_array_equal(got[1], 0)
    np.testing.assert_array_equal(got[:, 1], 0)
    np.testing.assert_allclose(got[0, 2], values([x, y])[0, 1], atol=bound([x, y], debiased))
    gradients = jax.jit(jax.grad(lambda b: jnp.sum(values(b))))(
        [jnp.asarray(x), constant, jnp.asarray(y)]
    )
    assert all(np.isfinite(g).all() for g in gradients)
    np.testing.assert_array_equal(gradients[1], 0)
    state = finalize(streamed([x, np.asarray(constant), y], (3, 7)), debiased=debiased)
    np.testing.assert_array_equal(state[1], 0)


def test_constant_up_to_rounding_is_constant():
    x = sample(10, (3,))[0]
    noisy = np.full((10, 2), 0.1, np.float32)
    noisy[::2] = np.nextafter(np.float32(0.1), np.float32(1))
    assert float(cka(x, noisy)) == 0
    assert float(streamed([x, noisy], (4, 6)).finalize()[0, 1]) == 0


def test_one_feature_far_from_zero_does_not_hide_the_others():
    x, y = sample(30, (63, 5))
    far = (2e6 + 4 * np.arange(30, dtype=np.float32) % 7)[:, None]
    got = pairwise_cka([np.concatenate([x, far], axis=1), y])
    want = reference.pairwise_cka([np.concatenate([x, far], axis=1), y])
    np.testing.assert_allclose(got, want, atol=bound([x, y]))


@SPACE
def test_three_rows_and_fewer(space):
    x, y = sample(3, (2, 5))
    want = reference.pairwise_cka([x, y])
    np.testing.assert_allclose(pairwise_cka([x, y], space=space), want, atol=bound([x, y]))
    np.testing.assert_array_equal(pairwise_cka([x[:1], y[:1]], space=space), 0)
    with pytest.raises(ValueError, match="debiased CKA needs at least 4 rows, got 3"):
        pairwise_cka([x, y], space=space, debiased=True)
    mask = jnp.arange(6) < 3
    doubled = [jnp.concatenate([b, b]) for b in (x, y)]
    assert np.isnan(pairwise_cka(doubled, space=space, debiased=True, mask=mask)).all()


def test_one_encoder_and_duplicate_rows():
    x = sample(12, (4,))[0]
    np.testing.assert_allclose(pairwise_cka([x]), [[1]], rtol=bound([x]))
    x, y = (np.repeat(b, 3, axis=0) for b in sample(5, (4, 6)))
    for debiased in (False, True):
        got = pairwise_cka([x, y], debiased=debiased)
        want = reference.pairwise_cka([x, y], debiased)
        np.testing.assert_allclose(got, want, atol=bound([x, y], debiased))


def test_debiased_of_independent_encoders_is_centered_and_not_clamped():
    keys = jax.random.split(jax.random.key(0), 200)
    pairs = jax.vmap(lambda key: jax.random.normal(key, (2, 20, 6)))(keys)
    values = jax.jit(jax.vmap(lambda pair: cka(pair[0], pair[1], debiased=True)))(pairs)
    assert values.min() < 0
    # The null has mean 0 and variance 2 / (n (n-3)): five standard errors of 200 draws.
    assert abs(values.mean()) < 5 * np.sqrt(2 / (20 * 17) / 200)


def test_bfloat16_is_upcast():
    blocks = [b.astype(jnp.bfloat16) for b in sample(ratio=2)]
    got = pairwise_cka([jnp.asarray(b) for b in blocks])
    assert got.dtype == jnp.float32
    wide = [b.astype(np.float64) for b in blocks]
    np.testing.assert_allclose(got, reference.pairwise_cka(wide), atol=bound(wide))


@DEBIASED
@SPACE
def test_float64_stays_float64(space, debiased):
    blocks = sample(ratio=100, dtype=np.float64)
    with jax.enable_x64(True):
        got = pairwise_cka([jnp.asarray(b) for b in blocks], space=space, debiased=debiased)
        stream = finalize(streamed(blocks, (15, 25), dtype=jnp.float64), debiased=debiased)
    want = reference.pairwise_cka(blocks, debiased)
    tolerance = bound(blocks, debiased, jnp.float64)
    np.testing.assert_allclose(got, want, atol=tolerance)
    np.testing.assert_allclose(stream, want, atol=tolerance)


def test_long_sums_keep_their_digits():
    rng = np.random.default_rng(0)
    blocks = [rng.exponential(size=(600, d)).astype(np.float32) for d in (900, 1000)]
    want = reference.pairwise_cka(blocks)
    for space in ("feature", "gram"):
        got = pairwise_cka([jnp.asarray(b) for b in blocks], space=space)
        np.testing.assert_allclose(got, want, atol=helpers.tolerance(1000))


@SPACE
def test_gradient_matches_finite_differences(space):
    blocks = [jnp.asarray(b) for b in sample(6, (2, 3))]
    with jax.enable_x64(True):
        blocks = [b.astype(jnp.float64) for b in blocks]
        for debiased in (False, True):

            def loss(*blocks, debiased=debiased):
                return pairwise_cka(blocks, space=space, debiased=debiased)[0, 1]

            check_grads(loss, blocks, order=1, modes=["rev"])


def test_vmap_is_the_loop():
    pairs = [sample(12, (3, 4), seed=seed) for seed in range(4)]
    x, y = (np.stack(side) for side in zip(*pairs, strict=True))
    want = [cka(a, b) for a, b in pairs]
    np.testing.assert_allclose(jax.jit(jax.vmap(cka))(x, y), want, atol=bound(pairs[0]))


@pytest.mark.parametrize(("n", "space"), [(60, "gram"), (2000, "feature")])
def test_auto_takes_the_space_with_fewer_flops(n, space):
    widths = (100, 40, 60)
    blocks = [jax.ShapeDtypeStruct((n, d), jnp.float32) for d in widths]

    def flops(space):
        program = jax.make_jaxpr(functools.partial(pairwise_hsic, space=space))(blocks)
        return sum(count for count, _ in helpers.matrix_products(program.jaxpr))

    counted = {name: flops(name) for name in ("feature", "gram")}
    assert min(counted, key=counted.get) == space
    assert flops("auto") == counted[space]
    # Half of the tiles with those on the diagonal, and sums that are one part in n or D.
    for name, length, products in (("feature", 200, n), ("gram", n, 200 + 9)):
        halving = row_pairs.halve(length, 2)
        area = (halving.rows**2 + halving.rows * halving.unit) // 2
        means = 2 * 2 * n * 200  # two, of all columns
        assert 2 * products * area <= counted[name] <= 2 * (products + 3 + 9) * area + means
        assert halving.rows < length + (2 << halving.levels)


HELD = [
    helpers.long("gram", False, (96, 40), (1, 1)),
    helpers.long("gram", True, (96, 40), (1, 1)),
    helpers.long("feature", False, (96, 40), (1, 1)),
    ("gram", True, (64, 48), (2, 4)),
    ("feature", False, (64, 48), (2, 4)),
]


@pytest.mark.parametrize(("space", "cubic", "widths", "shape"), HELD)
def test_no_more_memory_is_held_than_the_message_says(space, cubic, widths, shape):
    """The bytes that a refusal asks for are enough, by the compiler's own plan."""
    rows = 1500
    blocks = [jax.ShapeDtypeStruct((rows * shape[0], d * shape[1]), jnp.float32) for d in widths]
    mesh = jax.make_mesh(
        shape,
        ("rows", "features"),
        axis_types=(AxisType.Auto,) * 2,
        devices=jax.devices()[: math.prod(shape)],
    )

    def program(memory):
        sums = functools.partial(
            pairwise_hsic,
            space=space,
            cubic=cubic,
            memory=memory,
            axis_name="rows",
            feature_axis_name="features",
        )
        specs = {"in_specs": PartitionSpec("rows", "features"), "out_specs": PartitionSpec()}
        return jax.jit(jax.shard_map(sums, mesh=mesh, **specs)).lower(blocks)

    with pytest.raises(ValueError, match=f"memory=1,000 bytes .* {space} space needs") as error:
        program(1000)
    needed = int(re.search(f"{space} space needs ([\\d,]+)", str(error.value))[1].replace(",", ""))
    with pytest.raises(ValueError, match="too few"):
        program(needed - 1)
    held = program(needed).compile().memory_analysis().temp_size_in_bytes
    assert needed / 4 < held <= needed


def test_traced_once_for_equal_shapes():
    traces = []

    @jax.jit
    def compute(blocks):
        traces.append(1)
        return eager_pairwise_cka(blocks)

    for seed in range(3):
        compute(sample(seed=seed))
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cka(jnp.ones((3, 2)), jnp.ones((4, 2))), r"\[3, 4\] rows"),
        (lambda: cka(jnp.ones(3), jnp.ones((3, 1))), r"blocks\[0\] must be"),
        (lambda: eager_pairwise_cka([jnp.ones((3, 2), jnp.int32)]), "floating-point"),
        (lambda: eager_pairwise_cka([]), "non-empty"),
        (lambda: eager_pairwise_cka(jnp.ones((2, 3, 4))), "sequence"),
        (lambda: eager_pairwise_cka([jnp.ones((3, 2))], space="dual"), "space must be one of"),
        (lambda: eager_pairwise_cka([jnp.ones((3, 2))], mask=jnp.ones(2, bool)), "mask must be"),
        (lambda: eager_pairwise_cka([jnp.ones((3, 0))]), "no features"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_pairs_agree_with_the_matrix():
    blocks = sample()
    matrix = pairwise_cka(blocks)
    np.testing.assert_array_equal(matrix, matrix.T)
    for i, j in itertools.combinations(range(3), 2):
        np.testing.assert_allclose(cka(blocks[i], blocks[j]), matrix[i, j], atol=bound(blocks))
