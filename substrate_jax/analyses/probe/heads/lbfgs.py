"""L-BFGS for many smooth convex problems at once, in one loop.

Each pass of the loop tries one step of every problem and takes it where the value falls enough
(Armijo's condition, 1e-4, with the rounding of the value allowed for); elsewhere the step is made
smaller by the minimum of the parabola through what is known. So a search for a step holds up no
other problem, and one program serves all.

Cost: passes x (value and gradient of all problems + 4 history x parameters).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from substrate_jax.kernels.arithmetic import divide

HISTORY = 10
_ENOUGH = 1e-4  # of the decrease that the slope promises


class Minimum(NamedTuple):
    """Where the loop stopped.

    Attributes:
        point: [P, K].
        value: [P].
        gradient: [P, K].
        solved: [P] whether the largest gradient is within the tolerance.
        passes: of the loop.
    """

    point: Float[Array, "P K"]
    value: Float[Array, " P"]
    gradient: Float[Array, "P K"]
    solved: Bool[Array, " P"]
    passes: Array


class _State(NamedTuple):
    point: Array
    value: Array
    gradient: Array
    direction: Array
    step: Array
    moves: Array  # [history, P, K], the oldest first
    changes: Array
    curvature: Array  # [history, P] of move . change, 0 where there is none
    passes: Array


def minimize(
    function: Callable,
    start: Float[Array, "P K"],
    *,
    first_step: Float[Array, " P"],
    tolerance: Float[Array, " P"],
    passes: int | Int[Array, ""],
) -> Minimum:
    """Minimize P convex functions; to be called within a compiled program.

    Args:
        function: [P, K] -> values [P] and gradients [P, K].
        start: where from.
        first_step: along the negative gradient, one over a bound of its Lipschitz constant, say.
        tolerance: of the largest gradient, in absolute value.
        passes: at most.

    Returns:
        The last point that was taken of each problem.

    Example:
        >>> def bowls(x):  # (x - 3)^2 and 5 (x - 3)^2
        ...     scale = jnp.array([1.0, 5.0])
        ...     return scale * jnp.sum((x - 3) ** 2, axis=1), 2 * scale[:, None] * (x - 3)
        >>> found = minimize(bowls, jnp.zeros((2, 1)), first_step=jnp.full(2, 0.1),
        ...                  tolerance=jnp.full(2, 1e-3), passes=50)
        >>> found.point.round(2).tolist(), found.solved.tolist()
        ([[3.0], [3.0]], [True, True])
    """
    value, gradient = function(start)
    empty = jnp.zeros((HISTORY, *start.shape), start.dtype)
    state = _State(
        start,
        value,
        gradient,
        -gradient * first_step[:, None],
        jnp.ones_like(value),
        empty,
        empty,
        jnp.zeros((HISTORY, start.shape[0]), start.dtype),
        jnp.zeros((), jnp.int32),
    )

    def unsolved(state: _State):
        return jnp.max(jnp.abs(state.gradient), axis=1) > tolerance

    def proceed(state: _State):
        # A step that has shrunk to nothing finds no lower value: rounding is all that is left.
        return (state.passes < passes) & jnp.any(unsolved(state) & (state.step > 1e-12))

    def body(state: _State):
        trial = state.point + state.step[:, None] * state.direction
        value, gradient = function(trial)
        slope = _dot(state.gradient, state.direction)
        rounding = 8 * jnp.finfo(value.dtype).eps * jnp.abs(state.value)
        rise = value - state.value
        taken = (rise <= _ENOUGH * state.step * slope + rounding) & unsolved(state)
        move, change = trial - state.point, gradient - state.gradient
        curvature = _dot(move, change)
        least = jnp.finfo(value.dtype).eps * _dot(change, change)
        kept = taken & (curvature > least * state.step)

        def remember(history, new):
            where = kept.reshape(1, -1, *(1,) * (history.ndim - 2))
            return jnp.where(where, jnp.concatenate([history[1:], new[None]]), history)

        moves, changes = remember(state.moves, move), remember(state.changes, change)
        curvatures = remember(state.curvature, curvature)
        direction = _direction(gradient, moves, changes, curvatures, first_step)
        # The parabola with this value and slope here and that value there.
        lowest = -slope * state.step**2 / (2 * (rise - slope * state.step))
        shorter = jnp.clip(lowest, 0.1 * state.step, 0.5 * state.step)
        shorter = jnp.where(jnp.isfinite(shorter), shorter, 0.1 * state.step)

        def choose(new, old):
            return jnp.where(taken.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

        return _State(
            choose(trial, state.point),
            choose(value, state.value),
            choose(gradient, state.gradient),
            choose(direction, state.direction),
            jnp.where(taken, 1, jnp.where(unsolved(state), shorter, state.step)),
            moves,
            changes,
            curvatures,
            state.passes + 1,
        )

    last = jax.lax.while_loop(proceed, body, state)
    return Minimum(last.point, last.value, last.gradient, ~unsolved(last), last.passes)


def _dot(a, b):
    return jnp.sum(a * b, axis=-1)


def _direction(gradient, moves, changes, curvature, first_step):
    """Minus the inverse Hessian that the history implies, times the gradient."""
    inverse = divide(jnp.ones_like(curvature), curvature)

    def backward(vector, pair):
        move, change, weight = pair
        share = weight * _dot(move, vector)
        return vector - share[:, None] * change, share

    def forward(vector, pair):
        move, change, weight, share = pair
        other = weight * _dot(change, vector)
        return vector + (share - other)[:, None] * move, None

    pairs = moves, changes, inverse
    vector, shares = jax.lax.scan(backward, gradient, pairs, reverse=True)
    scale = divide(curvature[-1], _dot(changes[-1], changes[-1]))
    scale = jnp.where(curvature[-1] > 0, scale, first_step)
    vector, _ = jax.lax.scan(forward, vector * scale[:, None], (*pairs, shares))
    return -vector
