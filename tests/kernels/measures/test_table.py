"""Every measure of the table against its oracle, and what the table says of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax.kernels import MEASURES, pairwise_measure, rows_needed
from substrate_jax.kernels.measures.predictivity import PENALTIES, fold_of_rows
from substrate_jax.kernels.reference import measures as reference_measures
from substrate_jax.kernels.reference import statistics as reference
from tests import helpers
from tests.kernels.encoders import ROWS, sample

FOLD = np.asarray(fold_of_rows(ROWS, 5))
# Oracle, and how far rounding of the features moves the measure beyond that of a sum.
ORACLES = {
    "cka": (reference_measures.cka, 1),
    "debiased_cka": (functools.partial(reference_measures.cka, debiased=True), 3),
    "rbf_cka": (reference_measures.rbf_cka, 2),
    "debiased_rbf_cka": (functools.partial(reference_measures.rbf_cka, debiased=True), 6),
    # The root doubles what is small: at .3, where those of the sample lie, by less than 2.
    "distance_correlation": (reference_measures.distance_correlation, 2),
    "debiased_distance_correlation": (
        functools.partial(reference_measures.distance_correlation, debiased=True),
        6,
    ),
    "mutual_knn": (functools.partial(reference.mutual_knn, k=10), 1),
    "cknna": (functools.partial(reference_measures.cknna, k=10), 1),
    "cycle_knn": (functools.partial(reference_measures.cycle_knn, k=2), 1),
    "neighborhood_jaccard": (functools.partial(reference_measures.neighborhood_jaccard, k=10), 1),
    "second_order_cosine": (functools.partial(reference_measures.second_order_cosine, k=10), 1),
    # Singular vectors move by eps over the relative size of the least component, about 0.1.
    "svcca": (reference_measures.svcca, 10),
    "pwcca": (reference_measures.pwcca, 10),
    "gulp": (reference_measures.gulp, 10),  # 1 / sqrt(ridge)
    "eigenspace_overlap": (reference_measures.eigenspace_overlap, 10),  # as SVCCA
    "rsa": (reference_measures.rsa, 1),
    "procrustes": (reference_measures.procrustes, 1),
    # The ridge amplifies by the condition of its least penalized normal equations, 1 / 1e-4,
    # halved in digits as the error of a minimum is of second order.
    "predictivity": (
        functools.partial(reference_measures.predictivity, fold=FOLD, penalties=PENALTIES),
        100,
    ),
}
# With ten neighbors in 37 rows nearly every cycle closes.
OPTIONS = {"cycle_knn": {"k": 2}}
NAMES = pytest.mark.parametrize("name", list(MEASURES))


@functools.cache
def compiled(name):
    return jax.jit(functools.partial(pairwise_measure, name, **OPTIONS.get(name, {})))


def bound(name, n=ROWS):
    return helpers.tolerance(n + 60, condition=ORACLES[name][1])


def test_the_table_has_an_oracle_for_each():
    assert ORACLES.keys() == MEASURES.keys()


@NAMES
def test_each_measure_is_what_its_entry_says(name):
    """Oracle, symmetry, range, itself, invariances and a constant encoder, from one program."""
    entry, blocks = MEASURES[name], sample()
    rng = np.random.default_rng(1)
    wide = blocks[1]
    changes = {
        "rotation": wide @ helpers.random_orthogonal(rng, 9),
        "scale": -3 * wide,
        "shift": wide + rng.normal(size=9),
    }
    blocks += [changes[key].astype(np.float32) for key in changes] + [np.full((ROWS, 2), 0.1, "f4")]
    got = np.asarray(compiled(name)(blocks), np.float64)
    assert np.isfinite(got).all()
    assert (got <= 1 + bound(name)).all()
    assert (got >= entry.lowest - bound(name)).all()

    oracle = ORACLES[name][0]
    want = np.array([[oracle(a, b) for b in blocks[:3]] for a in blocks[:3]])
    np.testing.assert_allclose(got[:3, :3], want, atol=bound(name))
    assert 0.02 < np.abs(got[0, 1]) < 0.999  # neither end of the range, where much would agree

    assert np.array_equal(got, got.T) is entry.symmetric
    itself = np.diag(got)[:3]
    assert (np.abs(itself - 1) < bound(name)).all() == entry.one_with_itself

    for i, change in enumerate(changes, start=3):
        moved = max(np.abs(got[i, :3] - got[1, :3]).max(), np.abs(got[:3, i] - got[:3, 1]).max())
        assert (moved <= 4 * bound(name)) == (change in entry.invariances), (change, moved)

    np.testing.assert_array_equal(got[-1, :-1], 0)  # a constant encoder
    np.testing.assert_array_equal(got[:-1, -1], 0)


# Sums over shards as another measure makes them, or candidates of the ring of mutual kNN.
ALIKE = {"debiased_cka", "debiased_rbf_cka", "debiased_distance_correlation", "cknna", "cycle_knn"}
ALIKE |= {"neighborhood_jaccard", "second_order_cosine", "pwcca", "eigenspace_overlap"}
ALIKE |= {"mutual_knn"}  # in its own tests


@pytest.mark.parametrize("name", [helpers.long(n) if n in ALIKE else n for n in MEASURES])
def test_eight_devices_give_the_numbers_of_one(name):
    blocks = sample()
    padded = [
        jnp.asarray(np.concatenate([b, np.full((3, b.shape[1]), np.nan, "f4")])) for b in blocks
    ]
    mask = jnp.arange(ROWS + 3) < ROWS

    def compute(blocks, mask, axis_name):
        return pairwise_measure(
            name, blocks, mask=mask, axis_name=axis_name, **OPTIONS.get(name, {})
        )

    want = compiled(name)(blocks)
    got = helpers.transforms()["shard_map"](compute, (padded, mask))
    # Ridge regression with a penalty of 1e-4 multiplies rounding, whatever the devices.
    assert helpers.relative_error(got, want) < 1e-5 * max(1, ORACLES[name][1] / 10)


@NAMES
def test_too_few_rows_are_refused(name):
    least = rows_needed(name)
    blocks = [jnp.asarray(b[: least - 1]) for b in sample()]
    with pytest.raises(ValueError, match=rf"{least - 1}") as caught:
        pairwise_measure(name, blocks)
    assert "\n" not in str(caught.value)


BAD = {
    "unknown": ("rsb", {}, "'rsb'.*|rsa"),
    "bandwidth": ("rbf_cka", {"bandwidth": 0.0}, "bandwidth.*0.0"),
    "k": ("cknna", {"k": ROWS}, f"k .*{ROWS}"),
    "variance": ("svcca", {"variance": 1.5}, "variance.*1.5"),
    "distance": ("rsa", {"distance": "cosine"}, "distance.*'cosine'"),
    "comparator": ("rsa", {"comparator": "kendall"}, "comparator.*'kendall'"),
    "side": ("pwcca", {"side": "left"}, "side.*'left'"),
    "ridge": ("gulp", {"ridge": 0.0}, "ridge.*0.0"),
    "folds": ("predictivity", {"folds": 2}, "folds.*2"),
    "penalties": ("predictivity", {"penalties": (0.0,)}, "penalties.*0.0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_are_named(case):
    name, options, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        pairwise_measure(name, [jnp.asarray(b) for b in sample()], **options)
    assert "\n" not in str(caught.value)
