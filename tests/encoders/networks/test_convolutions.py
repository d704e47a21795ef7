"""Convolutions in every form against XLA's and float64 NumPy, from tables of their geometries."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from substrate_jax.encoders.networks import convolutions
from substrate_jax.mesh import make_mesh
from tests.encoders.networks import oracles
from tests.encoders.networks.modules import filled, quick_jit
from tests.helpers import relative_error, tolerance


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def by_xla(x, weight, stride, padding, groups=1):
    return jax.lax.conv_general_dilated(
        x,
        weight,
        (stride, stride),
        "SAME" if padding == "same" else [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def by_numpy(x, weight, *geometry):
    return oracles.convolution(x, np.transpose(weight, (3, 2, 0, 1)), *geometry)


def value_and_gradients(function, x, weight):
    """The output, and the gradients of <output, fixed noise> by both arguments."""

    def run(x, weight):
        y, pull = jax.vjp(function, x, weight)
        noise = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
        return y, *pull(noise)

    return run(x, weight)


def assert_same_convolution(function, x, weight, stride, padding, groups=1):
    def by_both(x, weight):
        xla = partial(by_xla, stride=stride, padding=padding, groups=groups)
        return [value_and_gradients(form, x, weight) for form in (function, xla)]

    got, want = quick_jit(by_both)(x, weight)
    size, _, channels, outputs = weight.shape
    lengths = {
        "output": size**2 * channels,
        "x": size**2 * outputs // groups,
        "weight": want[0].size // outputs,
    }
    for (name, length), ours, theirs in zip(lengths.items(), got, want, strict=True):
        assert ours.shape == theirs.shape, name
        assert relative_error(ours, theirs) <= tolerance(length), name
    oracle = by_numpy(x, weight, stride, padding, groups)
    assert relative_error(got[0], oracle) <= tolerance(lengths["output"])


# kernel, stride, padding, groups, height, width; six channels in
CONVOLUTIONS = [
    (1, 1, 0, 1, 4, 5),
    (1, 2, 1, 1, 5, 4),
    (2, 1, 1, 1, 5, 5),
    (2, 2, 0, 1, 7, 6),
    (3, 1, 1, 1, 6, 5),
    (3, 2, 1, 1, 7, 8),
    (3, 2, "same", 1, 7, 8),
    (5, 2, "same", 1, 5, 6),
    (3, 1, 1, 3, 6, 5),
    (3, 2, 1, 3, 6, 5),
    (3, 2, "same", 2, 7, 8),
    (2, 1, 1, 6, 5, 4),
    (1, 2, 0, 2, 4, 5),
    (5, 3, 2, 2, 8, 7),
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "groups", "height", "width"), CONVOLUTIONS)
def test_convolution_equals_xla(kernel, stride, padding, groups, height, width):
    x = normal((3, height, width, 6))  # 3 images do not divide over the devices
    weight = normal((kernel, kernel, 6 // groups, 12), seed=1)
    options = (stride, padding, groups)
    assert_same_convolution(
        lambda x, w: convolutions.convolution(x, w, *options), x, weight, *options
    )


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_joined_groups_equal_xla(groups):
    x, weight = normal((2, 6, 5, 6)), normal((3, 3, 6 // groups, 12), seed=1)
    form = partial(convolutions.joined_groups, stride=2, padding=1, groups=groups)
    assert_same_convolution(form, x, weight, 2, 1, groups)


def test_nvidia_gpus_join_groups_of_few_channels():
    def groups_of(channels):
        shapes = ((1, 8, 8, channels), (3, 3, 4, channels))
        arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        form = partial(convolutions.convolution, stride=1, padding=1, groups=channels // 4)
        text = jax.jit(form).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
        return int(re.search(r"feature_group_count = (\d+)", text)[1])

    assert [groups_of(channels) for channels in (1024, 1028)] == [1, 257]


def test_large_maps_without_groups_go_to_xla():
    def lowered(side, groups):
        x = jax.ShapeDtypeStruct((1, side, side, 4), jnp.float32)
        weight = jax.ShapeDtypeStruct((3, 3, 4 // groups, 4), jnp.float32)
        function = jax.jit(lambda x, w: convolutions.convolution(x, w, 1, 1, groups))
        return function.lower(x, weight).as_text()

    assert "stablehlo.convolution" not in lowered(32, 1)
    assert "stablehlo.convolution" in lowered(33, 1)
    assert "stablehlo.convolution" not in lowered(33, 2)


# kernel, stride, padding, height, width
DEPTHWISE = [
    (1, 1, 0, 3, 4),
    (2, 1, 1, 4, 3),
    (3, 1, 0, 5, 4),
    (3, 1, 1, 5, 4),
    (3, 1, 2, 3, 4),
    (7, 1, 3, 4, 5),
    (3, 2, 1, 5, 6),
    (3, 1, "same", 5, 4),
    (5, 2, "same", 7, 6),
    (2, 1, "same", 4, 3),
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "height", "width"), DEPTHWISE)
def test_depthwise_equals_grouped_xla(kernel, stride, padding, height, width):
    x = normal((3, height, width, 5))
    weight = normal((kernel, kernel, 1, 5), seed=1)
    assert_same_convolution(
        lambda x, w: convolutions.depthwise(x, w, padding, stride), x, weight, stride, padding, 5
    )


@pytest.mark.parametrize("groups", [2, 6])
def test_a_sharded_batch_stays_on_its_devices(groups):
    mesh = make_mesh()
    rows, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (["data"], []))
    x, weight = normal((2 * mesh.size, 5, 4, 6)), normal((3, 3, 6 // groups, 6), seed=1)
    xla = partial(by_xla, stride=1, padding=1, groups=groups)
    form = partial(convolutions.convolution, stride=1, padding=1, groups=groups)
    if groups == 6:
        form = partial(convolutions.depthwise, padding=1)

    def run(function, x, weight):
        y, pull = jax.vjp(function, x, weight)
        return y, *pull(jnp.cos(y))

    arguments = jax.device_put(x, rows), jax.device_put(weight, everywhere)
    program = quick_jit(partial(run, form)).lower(*arguments).compile()
    assert "all-gather" not in program.as_text()
    got, want = program(*arguments), quick_jit(partial(run, xla))(x, weight)
    lengths = 9 * 3, 9 * 3, len(x) * 20
    for ours, theirs, length in zip(got, want, lengths, strict=True):
        assert relative_error(ours, theirs) <= tolerance(length)
    y, dx, _ = got
    assert all(map_.sharding.is_equivalent_to(rows, map_.ndim) for map_ in (y, dx))


def test_grouped_bfloat16_is_rounded_once():
    x, weight = (
        jnp.asarray(normal(shape), jnp.bfloat16) for shape in ((3, 6, 5, 32), (3, 3, 16, 32))
    )
    got = quick_jit(lambda x, w: convolutions.convolution(x, w, 1, 1, 2))(x, weight)
    assert got.dtype == jnp.bfloat16
    want = by_numpy(x.astype(jnp.float32), weight.astype(jnp.float32), 1, 1, 2)
    # Half the spacing of numbers; the nine terms added in bfloat16 would be off by twice that.
    assert relative_error(got, want) <= float(jnp.finfo(jnp.bfloat16).eps) / 2


@pytest.mark.parametrize(
    ("height", "width", "size"), [(8, 8, 4), (9, 11, 4), (5, 4, 2), (3, 3, 1), (2, 9, 3)]
)
def test_patchify_then_product_is_a_strided_convolution(height, width, size):
    x, weight = normal((2, height, width, 3)), normal((size, size, 3, 4), seed=1)
    got = convolutions.patchify(x, size) @ weight.reshape(-1, 4)
    want = by_numpy(x, weight, size, 0)
    assert got.shape == want.shape == (2, height // size, width // size, 4)
    if want.size:
        assert relative_error(got, want) <= tolerance(3 * size**2)


# options of Conv(in, out, kernel), input height and width
DISPATCH = {
    "pointwise": ((4, 6, 1), {}, 5, 4),
    "pointwise strided": ((4, 6, 1), {"stride": 2}, 5, 4),
    "pointwise padded": ((4, 6, 1), {"padding": 1, "bias": True}, 5, 4),
    "patches": ((3, 6, 2), {"stride": 2, "bias": True}, 7, 6),
    "patches padded": ((3, 6, 2), {"stride": 2, "padding": 1}, 6, 6),
    "depthwise": ((4, 4, 3), {"padding": 1, "groups": 4, "bias": True}, 5, 4),
    "depthwise strided": ((4, 4, 3), {"padding": 1, "groups": 4, "stride": 2}, 5, 4),
    "depthwise multiplied": ((3, 6, 3), {"padding": 1, "groups": 3}, 5, 4),
    "grouped": ((4, 6, 3), {"padding": 1, "groups": 2}, 5, 4),
    "pointwise same": ((4, 6, 1), {"padding": "same", "stride": 2}, 5, 4),
    "patches same": ((3, 6, 2), {"padding": "same", "stride": 2}, 7, 6),
    "depthwise same": ((4, 4, 5), {"padding": "same", "groups": 4, "stride": 2}, 6, 7),
    "one channel": ((1, 4, 3), {"padding": 1}, 5, 4),
    "general": ((3, 6, 3), {"padding": 1, "stride": 2, "bias": True, "std": 0.02}, 7, 6),
    "general large": ((2, 3, 3), {"padding": 1}, 33, 5),
}


@pytest.mark.parametrize("case", DISPATCH)
def test_every_path_of_conv_is_the_convolution(case):
    sizes, options, height, width = DISPATCH[case]
    conv = filled(lambda: convolutions.Conv(*sizes, **options, rngs=nnx.Rngs(0)))
    x = normal((2, height, width, sizes[0]))
    got = quick_jit(lambda x: conv(x))(x)
    geometry = {"stride": 1, "padding": 0, "groups": 1}
    geometry |= {name: options[name] for name in geometry if name in options}
    want = by_numpy(x, conv.weight[...], *geometry.values())
    if conv.bias is not None:
        want = want + np.asarray(conv.bias[...], np.float64)
    assert got.shape == want.shape
    assert relative_error(got, want) <= tolerance(conv.weight[...].size // sizes[1] + 1)
    gradient = jax.eval_shape(jax.grad(lambda x: conv(x).sum()), x)
    assert gradient.shape == x.shape


def test_fresh_convolutions_are_spread_as_asked():
    rngs = nnx.Rngs(0)
    he = np.asarray(convolutions.Conv(16, 64, 3, rngs=rngs).weight[...])
    narrow = np.asarray(convolutions.Conv(16, 64, 3, std=0.02, rngs=rngs).weight[...])
    # The deviation of a sample of N is off by 1 / sqrt(2 N), here 0.7 %; four of those.
    np.testing.assert_allclose(he.std(), np.sqrt(2 / (9 * 64)), rtol=0.03)
    np.testing.assert_allclose(narrow.std(), 0.02 * scipy.stats.truncnorm(-2, 2).std(), rtol=0.03)
    assert np.abs(narrow).max() <= 0.04


def test_rounding_of_channels_loses_at_most_a_tenth():
    for channels in range(1, 400):
        rounded = convolutions.round_channels(channels)
        assert rounded % 8 == 0
        assert rounded >= 0.9 * channels
        assert rounded - channels < 8
