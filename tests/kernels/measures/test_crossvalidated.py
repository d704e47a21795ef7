"""Cross-validated RSA against sums over pairs of measurements, and of nothing but noise."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax.kernels import crossvalidated_rsa, pairwise_rsa
from substrate_jax.kernels.measures.comparators import BY_VALUE
from substrate_jax.kernels.reference import measures as reference
from tests import helpers

ROWS = 12
PLAIN = {"distance": "squared_euclidean", "comparator": "cosine"}


def measured(rows=ROWS, seed=0, noise=0.7, counts=(3, 2, 4)):
    """Three encoders of one configuration, measured a few times."""
    rng = np.random.default_rng(seed)
    shared, found = rng.normal(size=(rows, 4)), []
    for width, count in zip((5, 3, 6), counts, strict=True):
        x = shared @ rng.normal(size=(4, width)) + 2
        repeats = [x + noise * rng.normal(size=x.shape) for _ in range(count)]
        found.append([repeat.astype(np.float32) for repeat in repeats])
    return found


def oracle(repeats):
    """Products of differences from every two measurements, in float64."""
    first, second = np.triu_indices(len(repeats[0]), 1)
    apart = [np.float64(x)[first] - np.float64(x)[second] for x in repeats]
    return np.mean([(a * b).sum(1) for a, b in itertools.permutations(apart, 2)], axis=0)


@pytest.mark.parametrize("comparator", BY_VALUE)
def test_values_are_those_of_the_oracle_on_one_device_and_eight(comparator):
    repeats = measured()
    want = [
        [reference.compared(oracle(a), oracle(b), comparator) for b in repeats] for a in repeats
    ]
    # What is left of squares of differences, from which as much is subtracted.
    limit = helpers.tolerance(66 + 6 * 4, condition=4)
    np.testing.assert_allclose(crossvalidated_rsa(repeats, comparator=comparator), want, atol=limit)

    def run(repeats, mask, axis_name):
        options = {"comparator": comparator, "mask": mask, "axis_name": axis_name}
        return crossvalidated_rsa(repeats, **options)

    nothing = [[np.full((4, x.shape[1]), np.nan, "f4") for x in of] for of in repeats]
    padded = jax.tree.map(lambda *parts: jnp.concatenate(parts), repeats, nothing)
    got = helpers.transforms()["shard_map"](run, (padded, jnp.arange(ROWS + 4) < ROWS))
    np.testing.assert_allclose(got, want, atol=limit)


def test_measurements_without_error_have_the_distances_of_one():
    blocks = [of[0] for of in measured()]
    got = crossvalidated_rsa([[x, x, x] for x in blocks])
    np.testing.assert_allclose(got, pairwise_rsa(blocks, **PLAIN), atol=helpers.tolerance(66 + 18))


@pytest.mark.parametrize("comparator", ["cosine", "pearson"])
def test_noise_is_left_out_where_means_are_full_of_it(comparator):
    """Of two encoders that measure nothing, worse on the same rows.

    With the sign of one of two measurements all distances change theirs: the mean is exactly 0.
    """
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        spread = np.linspace(0.2, 2, 16)[:, None]
        noise = (spread * rng.normal(size=(2, 2, 16, 6))).astype(np.float32)
        means, options = list(noise.mean(1)), PLAIN | {"comparator": comparator}
        both = [list(of) for of in noise]
        found.append(
            [
                crossvalidated_rsa(both, comparator=comparator)[0, 1],
                pairwise_rsa(means, **options)[0, 1],
            ]
        )
    value, plain = np.array(found).T
    error, its_error = (values.std(ddof=1) / np.sqrt(40) for values in (value, plain))
    assert abs(value.mean()) < 3 * error
    assert plain.mean() > 10 * its_error


def test_what_has_no_value():
    x, y, z = measured()
    constant = [np.full((ROWS, 2), 0.1, np.float32)] * 2
    spoiled = [z[0], np.where(np.arange(6) == 2, np.nan, z[1]).astype(np.float32)]
    got = np.asarray(crossvalidated_rsa([x, y, constant, spoiled]))
    np.testing.assert_array_equal(got[2, :3], 0)
    assert np.isnan(got[3]).all()
    assert np.isfinite(got[:3, :3]).all()


@pytest.mark.parametrize("factor", [1e-25, 1e20])
def test_scale_and_a_common_offset_change_nothing(factor):
    repeats = [[np.round(4 * x) for x in of] for of in measured()]
    want = crossvalidated_rsa(repeats)
    moved = [[(x + 2.0**15) * np.float32(factor) for x in of] for of in repeats]
    limit = helpers.tolerance(66 + 24, condition=4)
    np.testing.assert_allclose(crossvalidated_rsa(moved), want, atol=limit)


BAD = {
    "one measurement": (lambda x, y: [x, y[:1]], r"repeats\[1\] must hold at least 2 .* got 1"),
    "no sequence": (lambda x, y: [x, y[0]], r"repeats\[1\] must be a non-empty sequence"),
    "other rows": (lambda x, y: [x, [z[:5] for z in y]], r"repeats have \[12, 5\] rows"),
    "other shapes": (lambda x, y: [[x[0], x[1][:, :2]], y], r"repeats\[0\] must have one shape"),
    "whole numbers": (
        lambda x, y: [[x[0], x[1].astype(int)], y],
        r"repeats\[0\]\[1\] must be real",
    ),
    "few rows": (lambda x, y: [[z[:2] for z in x]], "RSA needs at least 3 rows, got 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    change, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        crossvalidated_rsa(change(*measured()[:2]))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=re.escape("comparator must be one of pearson, cosine")):
        crossvalidated_rsa(measured(), comparator="spearman")
