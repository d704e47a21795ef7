"""Kernels outside jit are one program each, kept for the next call of the same shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax import kernels
from substrate_jax.kernels.jit_over import jit_over


@pytest.fixture
def compiled():
    """The number of programs compiled so far, by a function."""
    count = 0

    def listen(event, duration, **_):
        nonlocal count
        count += event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield lambda: count
    jax.monitoring.unregister_event_duration_listener(listen)


def test_a_call_compiles_one_program_and_another_of_its_shapes_none(compiled):
    rng = np.random.default_rng(0)
    for times, programs in ((1, 1), (2, 0)):
        blocks = [rng.normal(size=(11, d)).astype(np.float32) for d in (3, 7)]
        before = compiled()
        kernels.pairwise_cka(blocks)
        assert compiled() - before == programs, times


def test_what_jit_does_not_take_is_for_the_function_to_say():
    seen = []

    @jit_over("x")
    def function(x, options=()):
        seen.append(isinstance(x, jax.core.Tracer))
        if jnp.ndim(x) != 1:
            raise ValueError(f"x must be [n], got {x.dtype}")
        return x

    function(np.ones(3), options=(1,))
    function(np.ones(3), options=[1])  # nothing to look a program up by
    assert seen == [True, False]
    with pytest.raises(ValueError, match="float64") as error:  # not as jit would have it, float32
        function(np.ones((3, 1)))
    assert not getattr(error.value, "__notes__", [])
