"""Principal angles, Grassmann similarity and PCKA."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from substrate_jax.kernels import grassmann_similarity, pairwise_pcka, pcka, principal_angles
from substrate_jax.kernels.reference import statistics as reference
from tests.helpers import random_orthogonal, relative_error, tolerance, transforms

D = 12


def basis(seed, k, d=D):
    return np.random.default_rng(seed).normal(size=(d, k)).astype(np.float32)


def domain(seed, n, k=3, d=D):
    """Features with a decaying spectrum of their own, and an orthonormal basis."""
    rng = np.random.default_rng(seed)
    scale = np.exp(-0.4 * np.arange(d))
    x = rng.normal(size=(n, d)) * scale @ random_orthogonal(rng, d) + rng.normal(size=d)
    return x.astype(np.float32), np.linalg.qr(rng.normal(size=(d, k)))[0].astype(np.float32)


def condition(*bases):
    return max(np.linalg.cond(b) for b in bases)


@pytest.mark.parametrize(("p", "q"), [(3, 3), (2, 5), (5, 2), (1, 1), (12, 4)])
def test_angles_match_scipy(p, q):
    a, b = basis(0, p), basis(1, q)
    got = np.asarray(principal_angles(jnp.asarray(a), jnp.asarray(b)))
    want = scipy.linalg.subspace_angles(a.astype(np.float64), b.astype(np.float64))[::-1]
    assert got.shape == (min(p, q),)
    assert np.abs(got - want).max() < tolerance(D, condition=condition(a, b))


def test_small_and_large_angles_are_accurate():
    want = np.array([0.0, 1e-6, 1e-3, 0.5, 1.2, np.pi / 2])
    k, rng = len(want), np.random.default_rng(2)
    turn = random_orthogonal(rng, D)
    a = turn[:, :k]
    b = turn[:, :k] * np.cos(want) + turn[:, k : 2 * k] * np.sin(want)
    b = b @ random_orthogonal(rng, k)
    got = principal_angles(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))
    # arccos in float32 could not tell 1e-6 from 3e-4.
    assert np.abs(np.asarray(got) - want).max() < tolerance(1)


def test_similarity_is_the_mean_squared_cosine():
    a, b = basis(0, 3), basis(1, 5)
    limit = tolerance(D, condition=condition(a, b))
    got = grassmann_similarity(jnp.asarray(a), jnp.asarray(b))
    assert abs(got - np.mean(reference.principal_cosines(a, b) ** 2)) < limit
    angles = principal_angles(jnp.asarray(a), jnp.asarray(b))
    assert abs(got - jnp.mean(jnp.cos(angles) ** 2)) < limit


def test_angles_depend_on_the_span_alone():
    a, b, mix = basis(0, 3), basis(1, 4), basis(2, 3, d=3)
    want = principal_angles(jnp.asarray(a), jnp.asarray(b))
    mixed = a @ mix
    limit = tolerance(D, condition=condition(mixed, b))
    assert np.abs(principal_angles(jnp.asarray(mixed), jnp.asarray(b)) - want).max() < limit
    assert np.abs(principal_angles(jnp.asarray(b), jnp.asarray(a)) - want).max() < limit
    turn = random_orthogonal(np.random.default_rng(3), D)
    turned = [jnp.asarray(turn @ x, jnp.float32) for x in (a, b)]
    assert np.abs(principal_angles(*turned) - want).max() < limit


def test_similarity_gradient_matches_differences_of_the_oracle():
    a, b = basis(0, 3), basis(1, 3)
    da = basis(2, 3).astype(np.float64)

    def oracle(x):
        return np.mean(reference.principal_cosines(x, b) ** 2)

    step = 1e-5
    want = (oracle(a + step * da) - oracle(a - step * da)) / (2 * step)
    slope = jax.grad(grassmann_similarity)(jnp.asarray(a), jnp.asarray(b))
    scale = np.linalg.norm(slope) * np.linalg.norm(da)
    assert abs(np.vdot(slope, da) - want) < tolerance(D, condition=condition(a, b) ** 2) * scale


def test_vmap_equals_a_loop():
    a, b = (np.stack([basis(s + o, 3) for s in range(4)]) for o in (0, 10))
    got = jax.vmap(grassmann_similarity)(jnp.asarray(a), jnp.asarray(b))
    want = [np.mean(reference.principal_cosines(x, y) ** 2) for x, y in zip(a, b, strict=True)]
    assert relative_error(got, want) < tolerance(D, condition=condition(*a, *b))


@pytest.mark.parametrize(("n_a", "n_b"), [(30, 30), (30, 7), (3, 9)])
def test_pcka_matches_oracle(n_a, n_b):
    a, b = domain(0, n_a), domain(1, n_b, k=4)
    got = pcka(*map(jnp.asarray, a), *map(jnp.asarray, b))
    assert abs(got - reference.pcka(*a, *b)) < tolerance(n_a * D, condition=4)


def test_pcka_invariances():
    (x, p), (y, q) = domain(0, 30), domain(1, 20)
    rng = np.random.default_rng(4)
    call = lambda *args: float(pcka(*(jnp.asarray(a, jnp.float32) for a in args)))  # noqa: E731
    base = call(x, p, y, q)
    limit = tolerance(30 * D, condition=4)
    assert abs(call(y, q, x, p) - base) < limit
    assert abs(call(x, p @ random_orthogonal(rng, 3), y, -q) - base) < limit
    assert abs(call(5 * x, p, y[::-1], 3 * q) - base) < limit
    assert abs(call(x, p, y, p) - 1) < limit
    assert base < 0.99


def test_pairwise_equals_every_pair():
    xs, bases = zip(
        *(domain(s, n, k) for s, n, k in ((0, 30, 3), (1, 7, 4), (2, 16, 2))), strict=True
    )
    got = np.asarray(pairwise_pcka([jnp.asarray(x) for x in xs], [jnp.asarray(b) for b in bases]))
    want = [[reference.pcka(xs[i], bases[i], xs[j], bases[j]) for j in range(3)] for i in range(3)]
    assert np.abs(got - want).max() < tolerance(30 * D, condition=4)
    assert (got == got.T).all()
    one = pairwise_pcka([jnp.asarray(xs[0])], [jnp.asarray(bases[0])])
    assert one.shape == (1, 1)
    assert abs(one[0, 0] - 1) < tolerance(30)


def test_constant_domain_has_no_nan():
    (x, p), (y, q) = domain(0, 8), domain(1, 8)
    values = pairwise_pcka(
        [jnp.ones_like(jnp.asarray(x)), jnp.asarray(y)], [jnp.asarray(p), jnp.asarray(q)]
    )
    assert np.isfinite(values).all()


def test_pcka_gradient_matches_differences_of_the_oracle():
    (x, p), (y, q) = domain(0, 20), domain(1, 20)
    dp = basis(5, 3).astype(np.float64)
    step = 1e-5
    want = (reference.pcka(x, p + step * dp, y, q) - reference.pcka(x, p - step * dp, y, q)) / (
        2 * step
    )
    slope = jax.grad(pcka, argnums=1)(*map(jnp.asarray, (x, p, y, q)))
    scale = np.linalg.norm(slope) * np.linalg.norm(dp)
    assert abs(np.vdot(slope, dp) - want) < tolerance(20 * D, condition=4) * scale


def both(x_a, x_b, mask_a, mask_b, basis_a, basis_b, axis_name):
    pair = pcka(x_a, basis_a, x_b, basis_b, mask_a=mask_a, mask_b=mask_b, axis_name=axis_name)
    every = pairwise_pcka(
        [x_a, x_b], [basis_a, basis_b], masks=[mask_a, mask_b], axis_name=axis_name
    )
    return {"pair": pair, "every": every}


@pytest.mark.parametrize("transform", transforms())
def test_same_numbers_under_every_transform_with_padding(transform):
    (x, p), (y, q) = domain(0, 29), domain(1, 14)
    want = reference.pcka(x, p, y, q)
    padded, masks = [], []
    for a, rows in ((x, 32), (y, 16)):
        filler = np.full((rows - len(a), D), np.nan, np.float32)
        padded.append(jnp.asarray(np.concatenate([a, filler])))
        masks.append(jnp.arange(rows) < len(a))
    got = transforms()[transform](both, [*padded, *masks], jnp.asarray(p), jnp.asarray(q))
    limit = tolerance(29 * D, condition=4)
    assert abs(got["pair"] - want) < limit
    assert np.abs(got["every"] - np.array([[1, want], [want, 1]])).max() < limit


def test_traced_once_for_one_shape():
    traces = []

    @jax.jit
    def compare(xs, bases):
        traces.append(None)
        return pairwise_pcka(xs, bases)

    for seed in range(3):
        (x, p), (y, q) = domain(seed, 9), domain(seed + 1, 5)
        compare([jnp.asarray(x), jnp.asarray(y)], [jnp.asarray(p), jnp.asarray(q)])
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(principal_angles, jnp.ones((3, 4)), jnp.ones((3, 1))), r"k <= d, got \(3, 4\)"),
        (partial(principal_angles, jnp.ones((3, 1)), jnp.ones((4, 1))), "3 and 4 rows"),
        (partial(grassmann_similarity, jnp.ones(3), jnp.ones((3, 1))), r"a must be .*\(3,\)"),
        (partial(pairwise_pcka, [jnp.ones((3, 2))], []), "bases must be a non-empty sequence"),
        (
            partial(pcka, jnp.ones((3, 2)), jnp.ones((2, 1)), jnp.ones((3, 4)), jnp.ones((4, 1))),
            "domain 1 has features",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
