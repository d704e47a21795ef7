"""What the checks say, and that values are read where they lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax.kernels import check_finite
from substrate_jax.kernels.validate import all_rows, check_blocks


@pytest.mark.parametrize("place", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_check_finite_names_block_and_rows(place, dtype):
    rng = np.random.default_rng(0)
    good, bad = rng.normal(size=(2, 9000, 600)).astype(dtype)  # more than one chunk in float32
    bad[[3, 8, 8990], [0, 5, 599]] = [np.nan, np.inf, -np.inf]
    check_finite([place(good), place(good[:0])])
    with pytest.raises(ValueError, match=r"^b holds NaN or inf in 3 of 9000 rows \(3, 8, 8990\):"):
        check_finite([place(good), place(bad)], ["a", "b"])
    bad[10:20] = np.nan
    message = r"^blocks\[1\] holds NaN or inf in 13 of 9000 rows \(3, 8, 10, 11, 12, \.\.\.\):"
    with pytest.raises(ValueError, match=message) as error:
        check_finite([place(good), place(bad)])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "non-empty sequence"),
        (jnp.ones((3, 2)), "give one .* array an encoder"),
        ([[[1.0], [2.0]]], r"blocks\[0\] must be an array, got list"),
        ([jnp.ones(3)], r"blocks\[0\] must be \[rows, features\]"),
        ([jnp.ones((3, 2), jnp.int32)], "must be real floating-point, got int32"),
        ([jnp.ones((3, 2), jnp.complex64)], "must be real floating-point, got complex64"),
        ([jnp.ones((3, 0))], "has no features"),
        ([jnp.ones((3, 2)), jnp.ones((4, 2))], r"blocks have \[3, 4\] rows: align"),
    ],
)
def test_blocks_are_refused_in_one_line(blocks, message):
    with pytest.raises(ValueError, match=message) as error:
        check_blocks(blocks)
    assert "\n" not in str(error.value)


def test_axis_name_outside_a_map_is_named():
    with pytest.raises(
        ValueError, match="axis_name='rows' is not a mapped axis here: call this in"
    ):
        jax.jit(lambda x: x * all_rows(3, "rows"))(jnp.ones(2))
    assert all_rows(3, None) == 3
