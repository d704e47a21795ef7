"""Measures under orders, against float64; and the least effect, against draws."""

import numpy as np
import pytest

from substrate_jax.analyses.crossmodal.measure import Options, measure_pairs
from substrate_jax.analyses.crossmodal.orders import sample_orders
from substrate_jax.analyses.crossmodal.pairs import Pairs
from substrate_jax.analyses.crossmodal.planting import plant
from substrate_jax.analyses.crossmodal.sampled import filled_up, sample
from substrate_jax.kernels.reference import statistics
from substrate_jax.mesh import make_mesh
from tests.helpers import tolerance

N, K = 24, 4


def oracle(x, y, order):
    """CKA, debiased CKA and recall of x with the rows of y in an order."""
    x, y = (np.asarray(a, np.float64) for a in (x, y[order]))
    grams = [(a - a.mean(0)) @ (a - a.mean(0)).T for a in (x, y)]

    def hsic(a, b):
        return (a * b).sum()

    def unbiased(a, b):  # Song et al. 2012, eq. 5
        a, b = (gram - np.diag(np.diag(gram)) for gram in (a, b))
        n = len(a)
        crossed = a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 * a.sum(0) @ b.sum(0) / (n - 2)
        return (a * b).sum() + crossed

    def ratio(f):
        return f(*grams) / np.sqrt(f(grams[0], grams[0]) * f(grams[1], grams[1]))

    return ratio(hsic), ratio(unbiased), statistics.mutual_knn(x, y, K)


@pytest.fixture(scope="module")
def blocks():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 5))
    wide = x @ rng.normal(size=(5, 300)) + rng.normal(size=(N, 300)) + 3
    constant = np.full((N, 2), 7.0)
    near = x[:, :2] + 0.5 * rng.normal(size=(N, 2))
    return [np.asarray(a, np.float32) for a in (x, wide)], [
        np.asarray(a, np.float32) for a in (near, wide[:, :200], constant)
    ]


@pytest.mark.parametrize("devices", [1, 8])
def test_every_order_gives_what_float64_does(blocks, devices):
    left, right = blocks
    rng = np.random.default_rng(1)
    orders = np.stack([np.arange(N), *(rng.permutation(N) for _ in range(4))])
    pairs = [(0, 0), (1, 1), (0, 1), (1, 0)]  # narrow, wide, and in between
    filled = [filled_up(side, N, 300) for side in (left, right)]
    found = sample(*filled, pairs, orders, K, make_mesh(f"data={devices}"))
    for number, (i, j) in enumerate(pairs):
        for draw, order in enumerate(orders):
            want = oracle(left[i], right[j], order)
            got = [value[draw, number] for value in found]
            # Debiasing subtracts a part of <K, K> n / (n - 2) as large as what it leaves, or more.
            np.testing.assert_allclose(got, want, atol=8 * tolerance(N * N))


def test_the_number_of_devices_changes_no_digit(blocks):
    left, right = (filled_up(side, N, 300) for side in blocks)
    orders = np.stack([np.random.default_rng(i).permutation(N) for i in range(11)])
    found = [
        sample(left, right, [(0, 0), (1, 1)], orders, K, make_mesh(f"data={d}")) for d in (1, 8)
    ]
    for one, other in zip(*found, strict=True):
        assert one.tobytes() == other.tobytes()


def test_a_constant_block_agrees_with_nothing(blocks):
    left, right = (filled_up(side, N, 300) for side in blocks)
    found = sample(left, right, [(0, 2)], np.arange(N)[None], K, make_mesh("data=1"))
    assert [value.tolist() for value in found] == [[[0.0]]] * 3


@pytest.fixture(scope="module")
def classed():
    """Two sides that tell four classes apart, arranged without regard to each other."""
    rng = np.random.default_rng(5)
    classes = np.repeat(np.arange(4), 10)
    x, y = ((rng.normal(size=(4, 6)) * 2)[classes] + rng.normal(size=(40, 6)) for _ in range(2))
    rows = np.arange(40)
    pairs = Pairs(rows, rows, classes, tuple("abcd"), True)
    blocks = [a.astype(np.float32) for a in (x, y)]
    options = Options(neighbors=5, permutations=199, resamples=20)
    orders = sample_orders(pairs, 199)
    found = measure_pairs([blocks[0]], [blocks[1]], [(0, 0)], orders, options, make_mesh("data=2"))
    return blocks, found[0]


@pytest.mark.long
def test_classes_are_told_from_their_arrangement(classed):
    _, found = classed
    for measure in ("cka", "mutual_knn"):
        nulls = found[measure].nulls
        assert nulls["rows"].p_value < 0.001
        assert nulls["within"].p_value > 0.05
        assert nulls["classes"].p_value > 0.05
        assert nulls["rows"].method == "closed_form"
        assert found[measure].low < found[measure].value < found[measure].high
        # Within classes chance is nearly what is observed; over all rows far less.
        assert abs(nulls["within"].mean - found[measure].value) < 3 * nulls["within"].deviation
    debiased = found["debiased_cka"]
    assert debiased.low < debiased.value < debiased.high
    assert debiased.nulls["rows"].method == "permutation"
    assert debiased.nulls["rows"].p_value == np.float32(1 / 200)


@pytest.mark.long
def test_filling_up_changes_nothing(classed):
    (x, y), found = classed
    options = Options(neighbors=5, permutations=199, resamples=20)
    filled = measure_pairs([x], [y], [(0, 0)], {}, options, make_mesh("data=1"), shape=(50, 9))[0]
    for measure, of in filled.items():
        limit = tolerance(50 * 50)
        for value in ("value", "low", "high"):
            want = getattr(found[measure], value)
            assert getattr(of, value) == pytest.approx(want, abs=limit), (measure, value)
        if "rows" in of.nulls:
            want = found[measure].nulls["rows"]
            assert of.nulls["rows"].tau == pytest.approx(want.tau, rel=1e-3)
            assert of.nulls["rows"].least == pytest.approx(want.least, rel=1e-3)


@pytest.mark.long
def test_the_least_effect_is_what_shifts_the_null_to_be_seen(classed):
    """Of the sampled null moved to it, the share of the power lies above tau."""
    (x, y), found = classed
    orders = np.stack([np.random.default_rng(i).permutation(40) for i in range(4000)])
    drawn = sample([x], [y], [(0, 0)], orders, 5, make_mesh("data=8"))
    for measure in ("cka", "mutual_knn"):
        null, values = found[measure].nulls["rows"], getattr(drawn, measure)[:, 0]
        seen = (values - values.mean() + null.least > null.tau).mean()
        # The tail's law is an approximation, and recall has steps of 1 / 200.
        assert 0.77 < seen < 0.85
        assert null.mean == pytest.approx(values.mean(), abs=4 * values.std() / 4000**0.5)


def test_a_planted_signal_is_found_where_the_null_says():
    rng = np.random.default_rng(2)
    x, y = (rng.normal(size=(80, 4)) * [3, 2, 1, 1] for _ in range(2))
    x, y = x.astype(np.float32), y.astype(np.float32)
    options = Options(neighbors=5, permutations=19, resamples=0)
    orders = {}
    least = measure_pairs([x], [y], [(0, 0)], orders, options, make_mesh("data=1"))[0]
    kept = {"neighbors": 5, "alpha": 0.05, "power": 0.8, "draws": 64, "seed": 0}
    for measure in ("cka", "mutual_knn"):
        null = least[measure].nulls["rows"]
        found = plant(x, y, measure, null, **kept, mesh=make_mesh("data=8"))
        # Binomial: 64 draws of .05 are 10 or more once in 900 times.
        assert found.detected[0] < 10 / 64
        assert found.detected[-1] == 1
        assert found.strength[0] == 0
        assert found.value[0] < found.least < found.value[-1]
        # The null knows nothing of the spread that a signal adds.
        assert null.least < found.least < 2 * null.least
        if measure == "cka":  # 64 draws know the rate to .05, a tenth of the effect here
            assert found.least == pytest.approx(found.expected, rel=0.15)
