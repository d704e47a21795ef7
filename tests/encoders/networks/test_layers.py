"""Norms, activations and small layers against float64 NumPy formulas, from tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx

from substrate_jax.encoders.networks import convolutions, layers
from tests.encoders.networks.modules import filled, quick_jit
from tests.helpers import relative_error, tolerance


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def value(variable):
    return np.asarray(variable[...], np.float64)


def layer_norm(module, x):
    centered = x - x.mean(module.axes, keepdims=True)
    normalized = centered / np.sqrt((centered**2).mean(module.axes, keepdims=True) + module.eps)
    return normalized * value(module.weight) + value(module.bias)


def batch_norm(module, x):
    """Evaluation mode."""
    normalized = (x - value(module.running_mean)) / np.sqrt(value(module.running_var) + module.eps)
    return normalized * value(module.weight) + value(module.bias)


def response_norm(module, x):
    norm = np.sqrt((x**2).sum((1, 2), keepdims=True))
    relative = norm / (norm.mean(-1, keepdims=True) + module.eps)
    return x + x * relative * value(module.weight) + value(module.bias)


NORMS = {
    "LayerNorm": (lambda: layers.LayerNorm(8), layer_norm, 8),
    "LayerNorm over images": (lambda: layers.LayerNorm(8, axes=(1, 2, 3)), layer_norm, 240),
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
    # Centering amplifies the rounding of x by |mean| / deviation.
    assert relative_error(quick_jit(lambda x: module(x))(x), want) <= tolerance(
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
    got = quick_jit(lambda x: module(x))(x)
    assert got.dtype == jnp.bfloat16
    want = formula(module, np.asarray(x, np.float64))
    # Three roundings to bfloat16 of numbers at most the largest output.
    assert relative_error(got, want) <= 3 * float(jnp.finfo(jnp.bfloat16).eps)


@pytest.mark.parametrize("name", NORMS)
def test_norms_of_a_constant_are_finite_with_finite_gradients(name):
    module = filled(NORMS[name][0])
    if name == "BatchNorm":
        module.train()
    run = quick_jit(jax.value_and_grad(lambda x: nnx.clone(module)(x).sum()))
    for constant in (0.0, 3.0):
        y, slope = run(np.full((2, 2, 2, 8), constant, np.float32))
        assert np.isfinite(y)
        assert np.isfinite(slope).all()


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
    gradient = quick_jit(jax.grad(lambda x: (nnx.clone(module)(x) * weight).sum()))(x)
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
    assert relative_error(quick_jit(lambda x: module(x))(x), want) <= tolerance(4 * 6, condition=2)


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


def test_channels_stay_innermost_on_nvidia_gpus_only():
    def lowered(platform):
        x = jax.ShapeDtypeStruct((2, 3, 3, 4), jnp.bfloat16)
        program = jax.jit(layers.channels_last).trace(x)
        return program.lower(lowering_platforms=(platform,)).as_text()

    assert "LayoutConstraint" in lowered("cuda")
    assert "LayoutConstraint" not in lowered("cpu")


def test_numpys_initializers_have_the_moments_of_jaxs():
    shape = (200, 300)
    drawn = layers.truncated_normal(np.random.default_rng(0), shape)
    want = np.asarray(layers.truncated_normal(jax.random.key(0), shape))
    assert drawn.dtype == want.dtype
    assert np.abs(drawn).max() <= 0.04
    # Five standard errors of a deviation from 60,000 numbers, in either.
    assert drawn.std() == pytest.approx(want.std(), rel=5 / np.sqrt(drawn.size))
    assert drawn.mean() == pytest.approx(0, abs=5 * 0.02 / np.sqrt(drawn.size))
