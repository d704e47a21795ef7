"""What the checks say, and that values are read where they lie."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax import kernels
from substrate_jax.kernels import check_finite
from substrate_jax.kernels.validate import CHUNK_BYTES, check_blocks, compute_dtype


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


class OnDisk:
    """An array [n, d] that is read by slices; notes the bytes of each."""

    def __init__(self, array):
        self.array, self.read = array, []
        self.dtype, self.shape = array.dtype, array.shape

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        self.read.append(self.array[rows].nbytes)
        return self.array[rows]

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("read as a whole")


def test_rows_kept_elsewhere_are_read_in_slices():
    block = np.zeros((9000, 600), np.float32)
    block[8999, 3] = np.inf
    kept = OnDisk(block)
    with pytest.raises(ValueError, match=r"in 1 of 9000 rows \(8999\)"):
        check_finite([kept])
    assert sum(kept.read) == block.nbytes
    assert max(kept.read) <= CHUNK_BYTES < block.nbytes


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "non-empty sequence"),
        (jnp.ones((3, 2)), "give one .* array per encoder"),
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


X = jnp.ones((12, 3))
BLOCKS = [X, X + 1]
KEY = jax.random.key(0)
# What each public function with an axis is called with.
CALLS = {
    "StreamingCka.update": (kernels.StreamingCka.init([3, 3]), BLOCKS),
    "StreamingMoments.update": (kernels.StreamingMoments.init(3), X),
    "StreamingPca.init": (3, 1),
    "StreamingPca.update": (kernels.StreamingPca.init(3, 1), X),
    "StreamingPca.merge": (kernels.StreamingPca.init(3, 1),) * 2,
    "StreamingPca.finalize": (kernels.StreamingPca.init(3, 1),),
    "StreamingPca.refine": (kernels.StreamingPca.init(3, 1),),
    "bootstrap": ("cka", BLOCKS, KEY),
    "calibrate_mutual_knn": (BLOCKS, (2,)),
    "center": (X,),
    "cka": (X, X),
    "mutual_knn": (BLOCKS, (2,)),
    "nearest_neighbors": (X, 2),
    "orthogonal_procrustes": (X, X),
    "pairwise_measure": ("cka", BLOCKS),
    "pairwise_pcka": (BLOCKS, [jnp.eye(3)] * 2),
    "pca": (X, 1),
    "pcka": (X, jnp.eye(3), X, jnp.eye(3)),
    "permutation_null": (BLOCKS, KEY),
    "procrustes_disparity": (X, X),
    "resampled": ("cka", BLOCKS, KEY),
    "sample_null": (lambda order: order[0], KEY, 3, 12),
    "standardize": (X,),
}
ELSEWHERE = {"StreamingCka.shardings"}  # there the axis is that of a mesh at hand


def functions_with_axes():
    """Public functions and methods with an option for a mapped axis, and the option."""
    functions = {name: getattr(kernels, name) for name in kernels.__all__}
    for name, thing in list(functions.items()):
        if inspect.isclass(thing):
            methods = inspect.getmembers(thing, callable)
            functions |= {f"{name}.{key}": f for key, f in methods if not key.startswith("_")}
    for name, function in functions.items():
        if not callable(function) or inspect.isclass(function) or name in ELSEWHERE:
            continue
        for option in ("axis_name", "feature_axis_name"):
            if option in inspect.signature(function).parameters:
                yield pytest.param(name, function, option, id=f"{name}-{option}")
    yield pytest.param("bootstrap", kernels.bootstrap, "axis_name", id="bootstrap-axis_name")


@pytest.mark.parametrize(("name", "function", "option"), list(functions_with_axes()))
def test_an_axis_outside_a_map_is_named_by_all(name, function, option):
    arguments = CALLS.get(name, (BLOCKS,))
    message = "'rows' is not a mapped axis here: call this inside jax.shard_map over it, or leave"
    with pytest.raises(ValueError, match=message) as error:
        jax.eval_shape(lambda: function(*arguments, **{option: "rows"}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda blocks, mask: kernels.nearest_neighbors(blocks[0], 2, mask=mask),
        lambda blocks, mask: kernels.mutual_knn(blocks, (2,), mask=mask).recall,
        lambda blocks, mask: kernels.pairwise_cknna(blocks, k=2, mask=mask),
        lambda blocks, mask: kernels.cycle_knn(blocks, k=2, mask=mask),
        lambda blocks, mask: kernels.pairwise_rbf_cka(blocks, mask=mask),
    ],
)
def test_arrays_of_numpy_do_for_those_of_jax(call):
    """Uncompiled, and in float64, which is computed in float32 unless x64 is on."""
    rng = np.random.default_rng(0)
    blocks = [rng.normal(size=(12, d)) for d in (3, 4)]
    got = call(blocks, np.arange(12) < 9)
    assert got.dtype in (jnp.float32, jnp.int32)
    assert np.isfinite(got).all()


def test_the_dtype_of_float64_is_that_which_jax_has():
    assert compute_dtype(np.ones(2)) == jnp.float32
    assert compute_dtype(np.ones(2, jnp.bfloat16)) == jnp.float32
    with jax.enable_x64(True):
        assert compute_dtype(np.ones(2)) == jnp.float64
