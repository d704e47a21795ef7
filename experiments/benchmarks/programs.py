"""What is timed, as programs: a kernel in one, or a stream in one for each batch; exact components.

A stream's programs hold one batch and the state, whatever the number of rows: their bytes show it.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from .kernel_calls import Stream, split
from .work import Size


def of_kernel(
    run: Callable[[Size, Any], dict[str, Any]], size: Size, placed
) -> tuple[Callable[[], dict], int | None]:
    """The call of a kernel as one program, and the bytes of that."""
    import jax

    program = jax.jit(functools.partial(run, size)).lower(placed).compile()
    return lambda: program(placed), program_bytes(program)


def of_stream(
    of_size: Callable[[Size], Stream], size: Size, placed
) -> tuple[Callable[[], dict], int | None]:
    """The calls of a kernel batch by batch, and the bytes of the larger of its programs."""
    import jax
    import jax.numpy as jnp

    stream = of_size(size)
    blocks, masks = split(size, placed)
    batches = [([block[i] for block in blocks], mask) for i, mask in enumerate(masks)]
    update = jax.jit(stream.update, donate_argnums=0).lower(stream.state, *batches[0]).compile()
    finish = jax.jit(stream.finish).lower(stream.state).compile()

    def call():
        state = jax.tree.map(jnp.copy, stream.state)  # it is given away
        for batch in batches:
            state = update(state, *batch)
        return finish(state)

    sizes = [program_bytes(program) for program in (update, finish)]
    known = [size for size in sizes if size is not None]
    return call, max(known) if len(known) == len(sizes) else None


def program_bytes(program) -> int | None:
    """Arguments, results and temporaries of a compiled program, as its compiler planned them."""
    planned = program.memory_analysis()
    if planned is None:
        return None
    return (
        planned.argument_size_in_bytes
        + planned.output_size_in_bytes
        + planned.temp_size_in_bytes
        - planned.alias_size_in_bytes
    )


def exact_components(size: Size, block) -> Float[np.ndarray, "d k"]:
    """Leading components in float64, from the smaller of X'X and XX'."""
    from scipy.linalg import eigh

    x = block.astype(np.float64)
    x -= x.mean(0)
    side = min(x.shape)
    gram = x @ x.T if len(x) == side else x.T @ x
    vectors = eigh(gram, subset_by_index=(side - size.k, side - 1))[1]
    return np.linalg.qr(x.T @ vectors if len(x) == side else vectors)[0]


def largest_sine(components, exact) -> float:
    """Of the angles between the spaces of two sets of orthonormal columns."""
    components = np.asarray(components, np.float64)
    beyond = components - exact @ (exact.T @ components)
    return float(np.linalg.svd(beyond, compute_uv=False).max())
