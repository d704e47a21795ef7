"""Every public kernel with few rows, halves, arrays of NumPy, and what is no array."""

import functools

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax import kernels
from tests.kernels.stress import cells
from tests.kernels.stress.checks import check_refusal, compiled, stressed, wrong
from tests.kernels.stress.table import CASES, FEW

NAMES = pytest.mark.parametrize("name", list(CASES))


@pytest.mark.parametrize("name", FEW)
def test_few_rows_are_refused_or_right(name):
    """Values of the fewest rows that are taken: every number of rows is a program of its own."""
    taken = []
    sliced = bool(CASES[name].takes - {"3-D"})  # rows that the case itself takes out
    for rows in cells.COUNTS[1:] if sliced else cells.COUNTS:
        blocks = [x[:rows] for x in stressed(name, "generic")]
        trace = functools.partial(jax.eval_shape, CASES[name].run, blocks)
        if not check_refusal(name, f"{rows} rows", trace):
            taken += [blocks] if rows else []  # no rows are an empty batch, and have no value
    for blocks in taken[:1]:
        found = wrong(name, blocks, compiled(name))
        assert not found, f"{name}, {len(blocks[0])} rows: {found}"


@NAMES
def test_what_is_no_block_is_refused_by_name(name):
    case, (x, y) = CASES[name], stressed(name, "generic")
    call = case.call or case.run
    for kind, make in cells.NO_BLOCKS.items():
        if kind not in case.takes:
            refused = check_refusal(name, kind, lambda m=make: call([m(x), y]))
            assert refused, f"{name}, {kind}"
    for kind, make in cells.NO_SEQUENCES.items() if case.sequence else ():
        refused = check_refusal(name, kind, lambda m=make: call(m([x, y])))
        assert refused, f"{name}, {kind}"


# What moves entries, and computes nothing.
MOVES = {"broadcast_in_dim", "concatenate", "dynamic_slice", "gather", "pad", "reshape", "slice"}
MOVES |= {"squeeze", "stop_gradient", "optimization_barrier", "transpose", "copy", "select_n"}
MOVES |= {"jit", "pjit"}


def computed_in(dtype, jaxpr):
    """The operations of a program on numbers of a dtype that are no mere moves or conversions."""
    for equation in jaxpr.eqns:
        parts = list(jax.extend.core.jaxprs_in_params(equation.params))
        for part in parts:
            yield from computed_in(dtype, part)
        name = equation.primitive.name
        takes = any(getattr(x.aval, "dtype", None) == dtype for x in equation.invars)
        if takes and not parts and name not in MOVES | {"convert_element_type"}:
            yield name


@NAMES
@pytest.mark.parametrize("dtype", cells.HALVES)
def test_halves_are_upcast_before_anything_is_computed(name, dtype):
    """So that they have the result of the same values in float32."""
    if CASES[name].takes >= cells.NO_BLOCKS.keys():
        return  # the features are the caller's own affair
    blocks = [jnp.asarray(x) for x in stressed(name, dtype)]
    traced = jax.make_jaxpr(CASES[name].run)(blocks)
    assert not set(computed_in(cells.HALVES[dtype], traced.jaxpr))
    dtypes = {x.dtype for x in jax.tree.leaves(jax.eval_shape(CASES[name].run, blocks))}
    assert not dtypes & {np.dtype(half) for half in cells.HALVES.values()}


@NAMES
def test_arrays_of_numpy_do(name):
    case, blocks = CASES[name], stressed(name, "generic")
    shapes = [
        jax.eval_shape(case.run, make(blocks)) for make in (list, lambda b: [*map(jnp.asarray, b)])
    ]
    assert jax.tree.leaves(shapes[0]) == jax.tree.leaves(shapes[1])


def test_check_finite_refuses_what_is_not_and_what_is_no_array():
    for cell in cells.VALUES:
        blocks = cells.blocks(cell)
        if "nan" in cell or "inf" in cell:
            with pytest.raises(
                ValueError, match=r"blocks\[0\] holds NaN or inf in 1 of 24 rows \(7\)"
            ):
                kernels.check_finite(blocks)
        else:
            kernels.check_finite(blocks)
    x, y = cells.blocks("generic")
    for kind in ("object", "1-D", "3-D", "nested lists", "dict", "generator", "masked", "None"):
        with pytest.raises(ValueError, match=r"blocks\[0\] must"):
            kernels.check_finite([cells.NO_BLOCKS[kind](x), y])
    for make in cells.NO_SEQUENCES.values():
        with pytest.raises(ValueError, match="blocks must be a non-empty sequence"):
            kernels.check_finite(make([x, y]))
