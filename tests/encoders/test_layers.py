"""Layers against XLA's convolution and float64 NumPy formulas, each from one table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from flax import nnx

from substrate_jax.encoders import convolutions, layers
from tests.encoders.modules import filled
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


def by_numpy(x, weight, stride, padding, groups=1):
    """Convolution in float64, one kernel entry at a time."""
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    size, _, channels, _ = weight.shape
    pads = [(padding, padding)] * 2
    if padding == "same":
        pads = jax.lax.padtype_to_pads(x.shape[1:3], (size, size), (stride, stride), "SAME")
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    rows, columns = ((side - size) // stride + 1 for side in x.shape[1:3])
    out = np.zeros((len(x), rows, columns, weight.shape[-1]))
    each = weight.shape[-1] // groups
    for i in range(size):
        for j in range(size):
            window = x[:, i:, j:][:, ::stride, ::stride][:, :rows, :columns]
            for g in range(groups):
                out[..., g * each : (g + 1) * each] += (
                    window[..., g * channels : (g + 1) * channels]
                    @ weight[i, j, :, g * each : (g + 1) * each]
                )
    return out


def value_and_gradients(function, x, weight):
    """The output, and the gradients of <output, fixed noise> by both arguments."""

    def run(x, weight):
        y, pull = jax.vjp(function, x, weight)
        noise = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
        return y, *pull(noise)

    return jax.jit(run)(x, weight)


def assert_same_convolution(function, x, weight, stride, padding, groups=1):
    got = value_and_gradients(function, x, weight)
    want = value_and_gradients(lambda x, w: by_xla(x, w, stride, padding, groups), x, weight)
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
    (3, 2, "same", 2, 7, 8),
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "groups", "height", "width"), CONVOLUTIONS)
def test_windows_equal_xla(kernel, stride, padding, groups, height, width):
    x = normal((2, height, width, 6))
    weight = normal((kernel, kernel, 6 // groups, 12), seed=1)
    options = (stride, padding, groups)
    assert_same_convolution(
        lambda x, w: convolutions.convolution(x, w, *options), x, weight, *options
    )


def test_large_maps_go_to_xla():
    def lowered(side, groups):
        x = jax.ShapeDtypeStruct((1, side, side, 4), jnp.float32)
        weight = jax.ShapeDtypeStruct((3, 3, 4 // groups, 4), jnp.float32)
        function = jax.jit(lambda x, w: convolutions.convolution(x, w, 1, 1, groups))
        return function.lower(x, weight).as_text()

    for groups in (1, 2):
        assert "stablehlo.convolution" not in lowered(32, groups)
        assert "stablehlo.convolution" in lowered(33, groups)


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
    got = jax.jit(lambda x: conv(x))(x)
    geometry = {"stride": 1, "padding": 0, "groups": 1}
    geometry |= {name: options[name] for name in geometry if name in options}
    want = by_numpy(x, conv.weight[...], **geometry)
    if conv.bias is not None:
        want = want + value(conv.bias)
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


def value(variable):
    return np.asarray(variable[...], np.float64)


def layer_norm(module, x):
    centred = x - x.mean(-1, keepdims=True)
    normalised = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + module.eps)
    return normalised * value(module.weight) + value(module.bias)


def batch_norm(module, x):
    """Evaluation mode."""
    normalised = (x - value(module.running_mean)) / np.sqrt(value(module.running_var) + module.eps)
    return normalised * value(module.weight) + value(module.bias)


def response_norm(module, x):
    norm = np.sqrt((x**2).sum((1, 2), keepdims=True))
    relative = norm / (norm.mean(-1, keepdims=True) + module.eps)
    return x + x * relative * value(module.weight) + value(module.bias)


NORMS = {
    "LayerNorm": (lambda: layers.LayerNorm(8), layer_norm, 8),
    "BatchNorm": (lambda: layers.BatchNorm(8), batch_norm, 1),
    "GlobalResponseNorm": (lambda: layers.GlobalResponseNorm(8), response_norm, 30),
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("offset", [0, 30])
def test_norms_are_their_formulas(name, offset):
    build, formula, length = NORMS[name]
    module = filled(build)
    x = normal((2, 6, 5, 8)) + np.float32(offset)
    want = formula(module, np.asarray(x, np.float64))
    # Centring amplifies the rounding of x by |mean| / deviation.
    assert relative_error(jax.jit(lambda x: module(x))(x), want) <= tolerance(
        length, condition=1 + offset
    )


@pytest.mark.parametrize("name", NORMS)
def test_norms_keep_bfloat16_and_compute_in_float32(name):
    build, formula, _ = NORMS[name]
    module = filled(build, jnp.bfloat16)
    # In bfloat16 the sum over 32 x 32 positions would stall, and the difference to the mean of
    # about 16 would keep 4 bits.
    x = jnp.asarray(normal((1, 32, 32, 8)) + np.float32(16), jnp.bfloat16)
    if name == "BatchNorm":
        module.running_mean[...] = jnp.full(8, 16, jnp.bfloat16)
    got = jax.jit(lambda x: module(x))(x)
    assert got.dtype == jnp.bfloat16
    want = formula(module, np.asarray(x, np.float64))
    # Three roundings to bfloat16 of numbers at most the largest output.
    assert relative_error(got, want) <= 3 * float(jnp.finfo(jnp.bfloat16).eps)


@pytest.mark.parametrize("name", NORMS)
def test_norms_of_a_constant_are_finite_with_finite_gradients(name):
    module = filled(NORMS[name][0])
    if name == "BatchNorm":
        module.train()
    for constant in (0.0, 3.0):
        x = jnp.full((2, 2, 2, 8), constant)
        y, pull = jax.vjp(lambda x: nnx.clone(module)(x), x)
        assert np.isfinite(y).all()
        assert np.isfinite(pull(jnp.ones_like(y))[0]).all()


def test_batch_norm_in_training_uses_and_follows_the_batch():
    module = filled(lambda: layers.BatchNorm(5, momentum=0.3))
    mean, variance = value(module.running_mean), value(module.running_var)
    x = normal((3, 4, 2, 5)) * 2 + np.float32(1)
    module.train()
    got = module(jnp.asarray(x))
    x = np.asarray(x, np.float64)
    batch_mean, biased, unbiased = x.mean((0, 1, 2)), x.var((0, 1, 2)), x.var((0, 1, 2), ddof=1)
    want = (x - batch_mean) / np.sqrt(biased + module.eps) * value(module.weight)
    limit = tolerance(24, condition=2)
    assert relative_error(got, want + value(module.bias)) <= limit
    assert relative_error(value(module.running_mean), 0.7 * mean + 0.3 * batch_mean) <= limit
    assert relative_error(value(module.running_var), 0.7 * variance + 0.3 * unbiased) <= limit
    module.eval()
    before = value(module.running_mean)
    assert relative_error(module(jnp.asarray(x, jnp.float32)), batch_norm(module, x)) <= limit
    np.testing.assert_array_equal(value(module.running_mean), before)


def test_batch_norm_of_one_value_keeps_the_running_variance_finite():
    module = layers.BatchNorm(3)
    module.train()
    module(jnp.ones((1, 1, 1, 3)))
    np.testing.assert_allclose(value(module.running_var), 0.9, rtol=1e-6)


def test_batch_norm_gradient_goes_through_the_statistics():
    """In training the output ignores a shift of a whole channel, so its gradient sums to 0."""
    module = filled(lambda: layers.BatchNorm(4))
    module.train()
    x, weight = jnp.asarray(normal((2, 3, 3, 4))), jnp.asarray(normal((2, 3, 3, 4), seed=1))
    gradient = jax.grad(lambda x: (nnx.clone(module)(x) * weight).sum())(x)
    assert np.abs(gradient).max() > 0.1
    assert np.abs(np.asarray(gradient).sum((0, 1, 2))).max() <= tolerance(18) * 18


def test_batch_norm_statistics_of_bfloat16_are_float32():
    module = layers.BatchNorm(4, momentum=1.0)
    module.train()
    x = jnp.asarray(normal((2, 16, 16, 4)) + np.float32(16), jnp.bfloat16)
    assert module(x).dtype == jnp.bfloat16
    exact = np.asarray(x, np.float64)
    assert module.running_mean[...].dtype == module.running_var[...].dtype == jnp.float32
    limit = tolerance(512, condition=16)
    assert relative_error(module.running_mean[...], exact.mean((0, 1, 2))) <= limit
    assert relative_error(module.running_var[...], exact.var((0, 1, 2), ddof=1)) <= limit


def test_activations():
    x = np.linspace(-9, 9, 181).astype(np.float32)
    exact = np.asarray(x, np.float64)
    normal_cdf = 0.5 * (1 + scipy.special.erf(exact / np.sqrt(2)))
    assert relative_error(layers.gelu(x), exact * normal_cdf) <= tolerance(1)
    assert relative_error(layers.quick_gelu(x), exact / (1 + np.exp(-1.702 * exact))) <= tolerance(
        1
    )
    tanh = exact * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (exact + 0.044715 * exact**3)))
    assert relative_error(layers.gelu(x), tanh) > tolerance(1)


@pytest.mark.parametrize("grn", [False, True])
def test_mlp_is_its_formula(grn):
    module = filled(lambda: layers.Mlp(4, 6, grn=grn, rngs=nnx.Rngs(0)))
    x = normal((2, 3, 3, 4))
    hidden = np.asarray(x, np.float64) @ value(module.fc1.weight) + value(module.fc1.bias)
    hidden = hidden * 0.5 * (1 + scipy.special.erf(hidden / np.sqrt(2)))
    if grn:
        hidden = response_norm(module.grn, hidden)
    want = hidden @ value(module.fc2.weight) + value(module.fc2.bias)
    assert relative_error(jax.jit(lambda x: module(x))(x), want) <= tolerance(4 * 6, condition=2)


BFLOAT16 = {
    "Linear": lambda: layers.Linear(4, 4, rngs=nnx.Rngs(0)),
    "LayerScale": lambda: layers.LayerScale(4, 0.1),
    "Mlp": lambda: layers.Mlp(4, 8, rngs=nnx.Rngs(0)),
    "Mlp with GRN": lambda: layers.Mlp(4, 8, grn=True, rngs=nnx.Rngs(0)),
    "pointwise": lambda: convolutions.Conv(4, 4, 1, bias=True, rngs=nnx.Rngs(0)),
    "depthwise": lambda: convolutions.Conv(
        4, 4, 3, padding=1, groups=4, bias=True, rngs=nnx.Rngs(0)
    ),
    "general": lambda: convolutions.Conv(4, 4, 3, padding=1, rngs=nnx.Rngs(0)),
}


@pytest.mark.parametrize("name", BFLOAT16)
def test_layers_keep_bfloat16(name):
    module = filled(BFLOAT16[name], jnp.bfloat16)
    gradient = jax.eval_shape(
        jax.grad(lambda x: module(x).astype(jnp.float32).sum()),
        jnp.ones((1, 4, 4, 4), jnp.bfloat16),
    )
    assert gradient.dtype == jnp.bfloat16
    out = jax.eval_shape(lambda x: module(x), jnp.ones((1, 4, 4, 4), jnp.bfloat16))
    assert out.dtype == jnp.bfloat16
