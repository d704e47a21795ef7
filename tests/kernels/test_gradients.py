"""Gradients are what docs/embedding.md says: against finite differences in x64, and finite."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax import kernels
from tests.helpers import long

ROWS = 14
PAGE = Path(__file__).parents[2] / "docs" / "embedding.md"


def encoders(widths=(3, 5, 4), n=ROWS):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(n, 3))
    return [shared @ rng.normal(size=(3, d)) + 0.5 * rng.normal(size=(n, d)) for d in widths]


def streamed(blocks):
    state = kernels.StreamingCka.init([x.shape[1] for x in blocks], blocks[0].dtype)
    for rows in (slice(0, 5), slice(5, ROWS)):
        state = state.update([x[rows] for x in blocks])
    return state.finalize()


def basis(width, seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(width, 2)))[0]


def domains(function):
    """PCKA of the first encoder and one of the same width."""

    def value(blocks):
        x = blocks[0]
        other = np.random.default_rng(2).normal(size=x.shape)
        return function(x, basis(x.shape[1], 1), other, basis(x.shape[1], 2))

    return value


def every_pcka(x, a, y, b):
    return kernels.pairwise_pcka([x, y], [a, b])


def square(blocks):
    return blocks[0][: blocks[0].shape[1]]


def rbf_with(widths):
    """RBF CKA with the median distances given."""

    def kernel(x, width):
        squares = jnp.sum((x[:, None] - x[None]) ** 2, axis=2)
        k = jnp.exp(-squares / (2 * width**2))
        return k - k.mean(0)[None] - k.mean(1)[:, None] + k.mean()

    def value(blocks):
        grams = jnp.stack([kernel(x, w) for x, w in zip(blocks, widths, strict=True)])
        inner = jnp.einsum("iab,jab->ij", grams, grams)
        norm = jnp.sqrt(jnp.diagonal(inner))
        return inner / (norm[:, None] * norm[None])

    return value


def hsic_with(scale):
    def value(blocks):
        grams = jnp.stack([c @ c.T for c in (x - x.mean(0)[None] for x in blocks)])
        return jnp.einsum("iab,jab->ij", grams, grams) / (scale[:, None] * scale[None]) ** 2

    return value


def score_with(tau):
    return lambda blocks: jnp.maximum((kernels.pairwise_cka(blocks) - tau) / (1 - tau), 0)


def calibrated(blocks):
    return kernels.calibrate_cka(blocks, skewness="gamma")


def components(blocks):
    """The first two of the exact method and their variances, in one array."""
    found = kernels.pca(blocks[0], 2, method="exact")
    return jnp.concatenate([found.components, found.explained_variance[None]])


partial = functools.partial
# Of the kernels in docs/embedding.md: functions of the blocks, and for "held" the function whose
# differences count, made of the blocks at hand.
FUNCTIONS = {
    "cka": [lambda b: kernels.cka(*b[:2])],
    "pairwise_cka": [kernels.pairwise_cka, partial(kernels.pairwise_cka, debiased=True)],
    "StreamingCka": [streamed],
    "pcka": [domains(kernels.pcka)],
    "pairwise_pcka": [domains(every_pcka)],
    "pairwise_hsic": [lambda b: kernels.pairwise_hsic(b).inner],
    "pairwise_procrustes": [
        kernels.pairwise_procrustes,
        partial(kernels.pairwise_procrustes, angle=True),
        partial(kernels.pairwise_procrustes, reflections=False),
    ],
    "procrustes_disparity": [lambda b: kernels.procrustes_disparity(*b[:2])],
    "pairwise_svcca": [partial(kernels.pairwise_svcca, variance=0.9)],
    "pairwise_pwcca": [partial(kernels.pairwise_pwcca, variance=0.9)],
    "pairwise_gulp": [
        kernels.pairwise_gulp,
        partial(kernels.pairwise_gulp, ridge=0.1, distance=True),
    ],
    "eigenspace_overlap": [
        kernels.eigenspace_overlap,
        partial(kernels.eigenspace_overlap, center=False),
    ],
    "pairwise_rbf_cka": [kernels.pairwise_rbf_cka],
    "pairwise_distance_correlation": [
        kernels.pairwise_distance_correlation,
        partial(kernels.pairwise_distance_correlation, debiased=True),
    ],
    "pairwise_cknna": [partial(kernels.pairwise_cknna, k=4)],
    "pairwise_rsa": [kernels.pairwise_rsa],
    "crossvalidated_rsa": [
        lambda b: kernels.crossvalidated_rsa([[x, x + np.eye(ROWS, x.shape[1])] for x in b])
    ],
    "mutual_knn": [lambda b: kernels.mutual_knn(b, (3,)).recall],
    "cycle_knn": [partial(kernels.cycle_knn, k=3)],
    "neighborhood_jaccard": [partial(kernels.neighborhood_jaccard, k=3)],
    "second_order_cosine": [partial(kernels.second_order_cosine, k=4)],
    "median_distance": [kernels.median_distance],
    "principal_angles": [lambda b: kernels.principal_angles(*b[:2])],
    "grassmann_similarity": [lambda b: kernels.grassmann_similarity(*b[:2])],
    "polar": [lambda b: kernels.polar(square(b))],
    "orthogonal_procrustes": [lambda b: kernels.orthogonal_procrustes(*b[:2])],
    "generalized_procrustes": [
        lambda b: kernels.generalized_procrustes(b, tolerance=1e-13, max_iterations=3000).loss
    ],
    "calibrate_cka": [lambda b: calibrated(b).score],
    "linear_predictivity": [partial(kernels.linear_predictivity, folds=3)],
    "pca": [components],
    "center": [lambda b: kernels.center(b[0])],
    "standardize": [lambda b: kernels.standardize(b[0])],
}
HELD = {
    "pairwise_hsic": lambda b: hsic_with(kernels.pairwise_hsic(b).scale),
    "pairwise_rbf_cka": lambda b: rbf_with(kernels.median_distance(b)),
    "calibrate_cka": lambda b: score_with(calibrated(b).tau),
}
ONE_WIDTH = {"procrustes_disparity", "orthogonal_procrustes", "generalized_procrustes"}
FEW_COLUMNS = {"polar", "principal_angles", "grassmann_similarity"}  # no more than rows
# Of degenerate points, those where there is no value, as the docstring says.
NO_VALUE = {
    "linear_predictivity": {"simplex"},
    "pca": {"rank one", "simplex"},  # repeated eigenvalues: NaN where rounding leaves them equal
    "procrustes_disparity": {"zero"},
    "principal_angles": {"constant", "zero", "rank one"},
    "grassmann_similarity": {"constant", "zero", "rank one"},
}


def table_of_the_page():
    """Kernel -> kind of derivative, as docs/embedding.md says."""
    rows = re.findall(r"^\| (`.*?) \| (\w+) \|", PAGE.read_text(), re.MULTILINE)
    return {name: kind for names, kind in rows for name in re.findall(r"`(\w+)`", names)}


KINDS = table_of_the_page()


def test_the_page_and_this_table_say_the_same():
    assert KINDS.keys() == FUNCTIONS.keys()
    assert set(KINDS.values()) == {"smooth", "held", "0"}
    assert {name for name, kind in KINDS.items() if kind == "held"} == HELD.keys()


def number(function):
    """A number that depends on all that the function gives, unequally."""

    def value(x, others):
        found = function([x, *others])
        weights = np.random.default_rng(9).normal(size=found.shape)
        return jnp.sum(jnp.asarray(weights, found.dtype) * found)

    return value


def degenerate(other):
    rng = np.random.default_rng(3)
    return {
        "constant": np.ones((ROWS, 4)),
        "zero": np.zeros((ROWS, 4)),
        "rank one": rng.normal(size=(ROWS, 1)) @ rng.normal(size=(1, 4)),
        "simplex": np.eye(ROWS, 4),
        "copy": np.asarray(other),
    }


ALIKE = {"cycle_knn", "neighborhood_jaccard"}  # of the lists of mutual_knn, with derivative 0
# Each kernel as it is called without options; with them, or more columns than rows, by --long.
CASES = [
    (long if columns > ROWS or option or name in ALIKE else pytest.param)(
        name, option, (columns, second, third)
    )
    for columns, second, third in ((4, 4, 4), (20, 5, 30))
    for name, functions in FUNCTIONS.items()
    for option in range(len(functions))
    if columns < ROWS or name not in ONE_WIDTH | FEW_COLUMNS
]


@pytest.mark.parametrize(("name", "option", "widths"), CASES)
def test_each_kernel_has_the_derivative_of_the_page(name, option, widths):
    function = FUNCTIONS[name][option]
    with jax.enable_x64(True):
        both = jax.jit(jax.value_and_grad(number(function)))
        x, *others = encoders(widths)
        found = np.asarray(both(x, others)[1])
        if KINDS[name] == "0":
            np.testing.assert_array_equal(found, 0)
        else:
            # One program gives values and gradients, but for what is held fixed in the latter.
            held = name in HELD and jax.jit(number(HELD[name]([x, *others])))
            value = held or (lambda *arrays: both(*arrays)[0])
            step = 1e-6 * np.random.default_rng(1).normal(size=x.shape)
            change = float(value(x + step, others) - value(x - step, others)) / 2
            np.testing.assert_allclose(np.sum(found * step), change, rtol=1e-4, atol=1e-12)
        for point, features in degenerate(others[0]).items() if widths[0] < ROWS else ():
            found = np.asarray(both(features, others)[1])
            if point not in NO_VALUE.get(name, ()):
                assert np.isfinite(found).all(), point


def test_angles_of_equal_and_orthogonal_spaces_have_finite_gradients():
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 3)))[0].astype(np.float32)
    for other in (basis[:, :2], basis @ np.float32([[1], [2], [3]]), basis[::-1].copy()):
        gradient = jax.grad(lambda a, b: jnp.sum(kernels.principal_angles(a, b)))(basis, other)
        assert np.isfinite(gradient).all()
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        a, b, step = rng.normal(size=(6, 2)), rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
        for value in (kernels.grassmann_similarity, lambda a, b: kernels.principal_angles(a, b)[0]):
            change = float(value(a + 1e-6 * step, b) - value(a - 1e-6 * step, b)) / 2e-6
            np.testing.assert_allclose(np.sum(jax.grad(value)(a, b) * step), change, rtol=1e-6)


def test_the_loss_of_generalized_procrustes_has_its_gradient():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        shared = rng.normal(size=(9, 3))
        blocks = [shared + 0.2 * rng.normal(size=(9, 3)) for _ in range(3)]

        def loss(x):
            return kernels.generalized_procrustes([x, *blocks[1:]], tolerance=1e-13).loss

        gradient, step = jax.jit(jax.grad(loss))(blocks[0]), 1e-5 * rng.normal(size=(9, 3))
        change = float(loss(blocks[0] + step) - loss(blocks[0] - step)) / 2
        np.testing.assert_allclose(np.sum(gradient * step), change, rtol=1e-5)


def test_dissimilarities_compared_by_value_have_a_gradient():
    with jax.enable_x64(True):
        x, *others = encoders((4, 4, 4))
        step = 1e-6 * np.random.default_rng(1).normal(size=x.shape)
        for options in (
            {"comparator": "whitened_pearson"},
            {"distance": "euclidean", "comparator": "cosine"},
        ):
            function = number(partial(kernels.pairwise_rsa, **options))
            value, gradient = jax.jit(function), jax.jit(jax.grad(function))
            change = float(value(x + step, others) - value(x - step, others)) / 2
            found = gradient(x, others)
            np.testing.assert_allclose(np.sum(found * step), change, rtol=1e-4, atol=1e-12)
            for features in degenerate(others[0]).values():
                assert np.isfinite(gradient(features, others)).all()


def test_components_by_iteration_have_a_derivative_in_forward_mode():
    with jax.enable_x64(True):
        (x, *_), rng = encoders((6,)), np.random.default_rng(0)
        step = rng.normal(size=x.shape)

        def variances(x):
            found = kernels.pca(x, 2, method="subspace", tolerance=1e-12, max_iterations=200)
            return found.explained_variance

        _, found = jax.jit(lambda x, step: jax.jvp(variances, (x,), (step,)))(x, step)
        change = (variances(x + 1e-5 * step) - variances(x - 1e-5 * step)) / 2e-5
        np.testing.assert_allclose(found, change, rtol=1e-6)
        with pytest.raises(ValueError, match="Reverse-mode"):
            jax.grad(lambda x: jnp.sum(variances(x)))(x)


@pytest.mark.parametrize(
    "name", ["pairwise_cka", "StreamingCka", "pairwise_procrustes", "pairwise_svcca"]
)
def test_what_no_scale_and_no_shift_changes_has_no_derivative_along_them(name):
    with jax.enable_x64(True):
        x, *others = encoders()
        found = np.asarray(jax.jit(jax.grad(number(FUNCTIONS[name][0])))(x, others))
        assert abs(np.sum(found * x)) < 1e-8
        np.testing.assert_allclose(found.sum(0), 0, atol=1e-8)
