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
    "crossvalidated_rsa": ([BLOCKS, BLOCKS],),
    "calibrate_measure": ("cka", BLOCKS),
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
    "split_half_ceiling": ("cka", BLOCKS, KEY),
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


class Frame:
    """What pandas and torch look like from here: a shape, and no dtype that NumPy knows."""

    shape, dtype, dtypes = (12, 3), "torch.float32", ("float32",)

    def __bool__(self):
        raise ValueError("The truth value of a Frame is ambiguous.")


GOOD = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
MASKED = np.ma.masked_greater(GOOD, 1)
# What stands for one block, and what is said of it.
NO_BLOCKS = {
    "masked": (MASKED, "must not be a numpy.ma array, got MaskedArray"),
    "flat": (GOOD[:, 0], "must be .*rows, features"),
    "cube": (GOOD[None], "must be .*rows, features"),
    "nested lists": (GOOD.tolist(), "must be an array.*, got list"),
    "frame": (Frame(), "must be an array.*, got Frame"),
    "matrix": (GOOD.view(np.matrix), "must be an array, got matrix"),
    "swapped": (GOOD.astype(GOOD.dtype.newbyteorder()), r"byte order of this machine, got [<>]f4"),
    "integers": (GOOD.astype(int), "must be real floating-point, got int64"),
    "text": (GOOD.astype(str), "must be real floating-point, got <U"),
    "objects": (GOOD.astype(object), "must be real floating-point, got object"),
    "long double": (GOOD.astype(np.longdouble), "must be real floating-point, got float128"),
    "no rows": (GOOD[:0], ""),
}
# Functions of one block, given as all that they take.
OF_ONE_BLOCK = {
    **{name: measure.compute for name, measure in kernels.MEASURES.items()},
    "pairwise_hsic": kernels.pairwise_hsic,
    "median_distance": kernels.median_distance,
    "calibrate_cka": kernels.calibrate_cka,
    "calibrate_mutual_knn": lambda blocks: kernels.calibrate_mutual_knn(blocks, (2,)),
    "permutation_null": lambda blocks: kernels.permutation_null(blocks, KEY),
    "bootstrap": lambda blocks: kernels.bootstrap("cka", blocks, KEY),
    "calibrate_measure": lambda blocks: kernels.calibrate_measure("cka", blocks, key=KEY),
    "split_half_ceiling": lambda blocks: kernels.split_half_ceiling("cka", blocks, KEY),
    "generalized_procrustes": kernels.generalized_procrustes,
    "orthogonal_procrustes": lambda blocks: kernels.orthogonal_procrustes(*blocks, *blocks),
    "procrustes_disparity": lambda blocks: kernels.procrustes_disparity(*blocks, *blocks),
    "cka pair": lambda blocks: kernels.cka(*blocks, *blocks),
    "pcka": lambda blocks: kernels.pcka(*blocks, jnp.eye(3), *blocks, jnp.eye(3)),
    "pairwise_pcka": lambda blocks: kernels.pairwise_pcka(
        blocks, [jnp.eye(3)] * (len(blocks) if isinstance(blocks, list) else 2)
    ),
    "crossvalidated_rsa": lambda blocks: kernels.crossvalidated_rsa([[x, x] for x in blocks]),
    "pca": lambda blocks: kernels.pca(*blocks, 1),
    "nearest_neighbors": lambda blocks: kernels.nearest_neighbors(*blocks, 1),
    "principal_angles": lambda blocks: kernels.principal_angles(*blocks, *blocks),
    "grassmann_similarity": lambda blocks: kernels.grassmann_similarity(*blocks, *blocks),
    "center": lambda blocks: kernels.center(*blocks),
    "standardize": lambda blocks: kernels.standardize(*blocks),
    "StreamingCka": kernels.StreamingCka.init([3]).update,
    "StreamingPca": lambda blocks: kernels.StreamingPca.init(3, 1).update(*blocks),
    "StreamingMoments": lambda blocks: kernels.StreamingMoments.init(3).update(*blocks),
    "check_finite": kernels.check_finite,
    "unit_matching": kernels.unit_matching,
}
EMPTY_IS_FINE = {"center", "standardize", "check_finite"}  # and a batch may be empty


@pytest.mark.parametrize("name", sorted(OF_ONE_BLOCK))
def test_what_is_no_block_is_refused_in_one_line_by_all(name):
    for kind, (block, message) in NO_BLOCKS.items():
        if kind == "no rows" and (name in EMPTY_IS_FINE or name.startswith("Streaming")):
            OF_ONE_BLOCK[name]([block])
            continue
        if name == "check_finite" and kind in ("swapped", "integers", "long double", "matrix"):
            OF_ONE_BLOCK[name]([block])
            continue
        if name == "check_finite" and kind in ("text", "objects"):
            message = "must be an array of numbers"
        with pytest.raises(ValueError, match=None if kind == "no rows" else message) as error:
            OF_ONE_BLOCK[name]([block])
        assert "\n" not in str(error.value), kind


@pytest.mark.parametrize("name", ["cka", "rsa", "StreamingCka", "check_finite", "pairwise_pcka"])
def test_what_is_no_sequence_of_blocks_is_refused_in_one_line(name):
    features = {"a": GOOD, "b": GOOD}
    for blocks in (
        features,
        features.values(),
        (x for x in features.values()),
        np.stack([GOOD, GOOD]),
        jnp.stack([GOOD, GOOD]),
        "ab",
        Frame(),
        (),
    ):
        message = r"must be a non-empty sequence of matrices, got .*: give .* as in list\("
        with pytest.raises(ValueError, match=message) as error:
            OF_ONE_BLOCK[name](blocks)
        assert "\n" not in str(error.value)


def test_masks_and_strata_are_arrays_of_their_kind():
    mask = np.arange(12) < 9
    wrong = [mask.tolist(), mask.astype(int), mask[:5], np.ma.array(mask), Frame(), "yes"]
    for value in wrong:
        for function in (kernels.pairwise_cka, kernels.pairwise_rsa, kernels.mutual_knn):
            options = {"ks": (2,)} if function is kernels.mutual_knn else {}
            with pytest.raises(ValueError, match=r"^mask must") as error:
                function([GOOD], mask=value, **options)
            assert "\n" not in str(error.value)
    labels = np.arange(12) % 3
    for value in (labels.astype(str), labels.tolist(), labels / 2, labels[:5], np.ma.array(labels)):
        with pytest.raises(ValueError, match=r"^strata must") as error:
            kernels.permutation_null([GOOD], KEY, strata=value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: kernels.family_p_values(x, jnp.ones(3)),
        lambda x: kernels.family_p_values(jnp.ones(3), x),
        kernels.max_null,
        kernels.benjamini_hochberg,
        lambda x: kernels.tail_from_moments(x, jnp.ones(()), jnp.ones(())),
        kernels.polar,
    ],
)
def test_masks_of_numpy_are_not_dropped(call):
    with pytest.raises(ValueError, match=r"must not be a numpy\.ma array"):
        call(MASKED)


def test_rows_on_disk_are_taken_mapped_and_else_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must be an array, got OnDisk: use np\.asarray"):
        kernels.center(OnDisk(GOOD))
    np.save(tmp_path / "rows.npy", GOOD)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    np.testing.assert_array_equal(kernels.center(mapped), kernels.center(GOOD))
