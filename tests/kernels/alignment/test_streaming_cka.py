"""Streaming CKA against one-shot sums and textbook Gram formulas in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax.kernels import StreamingCka, pairwise_hsic
from substrate_jax.kernels.reference import statistics as reference
from tests import helpers
from tests.kernels.alignment.encoders import (
    DEBIASED,
    WIDTHS,
    bound,
    finalize,
    sample,
    streamed,
    update,
)


@DEBIASED
@pytest.mark.parametrize("ratio", [0.0, 100.0])
@pytest.mark.parametrize("sizes", [(40,), (7, 13, 20), (1,) * 40])
def test_streaming_matches_textbook_grams(sizes, debiased, ratio):
    blocks = sample(ratio=ratio)
    got = finalize(streamed(blocks, sizes), debiased=debiased)
    want = reference.pairwise_cka(blocks, debiased)
    # Each join moves the fourth-order sum by terms of its own size: one more rounding a batch.
    tolerance = bound(blocks, debiased) * (1 + np.log2(len(sizes)))
    np.testing.assert_allclose(got, want, atol=tolerance)


def test_streaming_gives_the_sums_of_one_shot():
    blocks = sample(ratio=100)
    state = streamed(blocks, (11, 29)).hsic()
    one_shot = pairwise_hsic([jnp.asarray(b) for b in blocks])
    for name in ("inner", "diagonal", "trace", "scale", "count"):
        error = helpers.relative_error(getattr(state, name), getattr(one_shot, name))
        assert error < bound(blocks), name


@pytest.mark.parametrize("ratio", [0.0, 100.0])
def test_merge_is_associative_and_commutative(ratio):
    blocks = sample(ratio=ratio)
    a, b, c = (streamed([x[i:j] for x in blocks], (j - i,)) for i, j in ((0, 5), (5, 18), (18, 40)))
    want = {debiased: reference.pairwise_cka(blocks, debiased) for debiased in (False, True)}
    for state in (a.merge(b).merge(c), a.merge(b.merge(c)), c.merge(b).merge(a)):
        for debiased, value in want.items():
            got = finalize(state, debiased=debiased)
            np.testing.assert_allclose(got, value, atol=3 * bound(blocks, debiased))
    empty = StreamingCka.init(WIDTHS)
    for state in (a.merge(empty), empty.merge(a)):
        jax.tree.map(np.testing.assert_array_equal, state, a)


def test_average_of_batches_would_fail():
    blocks = sample()
    batches = [[b[i : i + 8] for b in blocks] for i in range(0, 40, 8)]
    average = np.mean([reference.pairwise_cka(batch) for batch in batches], axis=0)
    assert np.abs(average - reference.pairwise_cka(blocks)).max() > 100 * bound(blocks)


def test_every_transform_gives_the_same_streamed_cka():
    blocks = sample(37, ratio=10)
    padded = [np.concatenate([b, np.full((3, b.shape[1]), np.nan, np.float32)]) for b in blocks]
    mask = np.arange(40) < 37
    want = reference.pairwise_cka([np.tile(b, (2, 1)) for b in blocks], True)

    def compute(blocks, mask, axis_name):
        state = StreamingCka.init(WIDTHS).update(blocks, mask, axis_name)
        return state.update(blocks, mask, axis_name).finalize(debiased=True)

    for name, call in helpers.transforms().items():
        got = call(compute, (padded, mask))
        np.testing.assert_allclose(got, want, atol=2 * bound(blocks, True), err_msg=name)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: StreamingCka.init([2]).update([jnp.ones((3, 4))]), r"widths \(2,\)"),
        (
            lambda: StreamingCka.init([1, 2]).merge(StreamingCka.init([2, 1])),
            r"\(1, 2\) and \(2, 1\) do",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("debiased", [False, True])
def test_streaming_at_any_scale_is_one_shot(debiased):
    """One encoder each: huge, tiny, as it is, growing by 10^15 between batches, and constant."""
    base = sample(widths=(3,) * 5)
    factors = np.repeat([1e-15, 1.0], 20)[:, None]
    blocks = [base[0] * 1e20, base[1] * 1e-25, base[2], base[3] * factors, 0 * base[4]]
    blocks = [x.astype(np.float32) for x in blocks]
    want = np.asarray(reference.pairwise_cka([np.float64(x) for x in blocks[:4]], debiased))
    tolerance = bound(blocks[:4], debiased)
    for sizes in ((40,), (20, 20), (1, 6, 13, 20)):
        got = finalize(streamed(blocks, sizes), debiased=debiased)
        np.testing.assert_allclose(got[:4, :4], want, atol=tolerance)
        np.testing.assert_array_equal(got[4], 0)
    parts = [streamed([x[rows] for x in blocks], (20,)) for rows in (slice(20), slice(20, 40))]
    for first, second in (parts, parts[::-1]):
        got = finalize(first.merge(second), debiased=debiased)
        np.testing.assert_allclose(got[:4, :4], want, atol=tolerance)


def test_an_empty_batch_changes_nothing_and_widths_are_checked():
    state = streamed(sample(), (40,))
    again = update(state, [np.zeros((0, d), np.float32) for d in WIDTHS])
    jax.tree.map(np.testing.assert_array_equal, again, state)
    for widths in ([], [3, 0]):
        with pytest.raises(ValueError, match="widths must be at least 1, got 0"):
            StreamingCka.init(widths)
