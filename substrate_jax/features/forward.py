"""Encoders on the devices: compiled once, loaded in their turn, fed one batch ahead.

An encoder's forward pass is compiled for one mesh, one preprocessing and one number of rows, with
its weights as arguments, and kept as long as the encoder lives. Weights stay on the host until
`loaded` places a copy on every device; they leave with its context.

With a budget of M bytes per device, encoders are loaded together as long as

    sum_e (weights_e + batches_e) + max_e scratch_e <= M

over those loaded: batches_e are the pixels and features of `IN_FLIGHT` batches, and scratch_e the
working memory that XLA reports, of one encoder at a time because they run one after another.

While the devices compute a batch, the host collects the one before and decodes the ones after.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float, Shaped

from substrate_jax.data.modality import row_bytes
from substrate_jax.features.pixels import Batch, Pixels
from substrate_jax.features.plan import Missing, Plan
from substrate_jax.features.protocol import Extractor
from substrate_jax.mesh import DATA_AXIS, EVERYWHERE, ROWS

IN_FLIGHT = 2  # batches on the devices

# Encoder -> {(mesh, preprocess, rows): compiled forward pass}: the next source compiles nothing.
_COMPILED: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


class DeviceBytes(NamedTuple):
    """What an encoder takes of each device: parameters, batches in flight, working memory."""

    weights: int
    batches: int
    scratch: int


def forward_pass(encoder: Extractor, mesh: Mesh) -> tuple[Any, Any]:
    """The jitted `(state, pixels) -> features`, rows split over the mesh; and the state on the host

    The pixels are as `spec.preprocess` prepares them.
    """
    function, state = encoder.functional()
    finish = encoder.spec.preprocess.finish

    def forward(state, pixels: Shaped[Array, "n ..."]) -> Float[Array, "n d"]:
        return function(state, finish(pixels)).astype(jnp.float32)

    split, copied = NamedSharding(mesh, ROWS), NamedSharding(mesh, EVERYWHERE)
    return jax.jit(forward, in_shardings=(copied, split), out_shardings=split), state


def program(encoder: Extractor, mesh: Mesh, rows: int) -> tuple[jax.stages.Compiled, Any]:
    """The compiled forward pass of an encoder on so many rows, and its state on the host.

    Raises:
      ValueError: the encoder's output is not [rows, width].
    """
    spec = encoder.spec
    preprocess = spec.preprocess
    jitted, state = forward_pass(encoder, mesh)
    kept = _COMPILED.setdefault(encoder, {})
    if (mesh, preprocess, rows) not in kept:
        prepared = jax.ShapeDtypeStruct((rows, *preprocess.shape), preprocess.dtype)
        lowered = jitted.lower(state, prepared)
        expected, given = (rows, spec.width), jax.tree.leaves(lowered.out_info)[0].shape
        if given != expected:
            raise ValueError(
                f"encoder {spec.name} gives {list(given)} for {rows} images; "
                f"its spec says {list(expected)}"
            )
        kept[mesh, preprocess, rows] = lowered.compile()
    return kept[mesh, preprocess, rows], state


def device_bytes(plan: Plan, name: str) -> DeviceBytes:
    """What an encoder takes of each device; compiles it."""
    encoder = plan.encoders[name]
    compiled, state = program(encoder, plan.mesh, plan.batch_rows)
    analysis = compiled.memory_analysis()
    row = row_bytes(encoder.spec.preprocess) + 4 * encoder.spec.width  # pixels, features
    return DeviceBytes(
        weights=sum(leaf.nbytes for leaf in jax.tree.leaves(state)),
        batches=IN_FLIGHT * (plan.batch_rows // plan.mesh.shape[DATA_AXIS]) * row,
        scratch=analysis.temp_size_in_bytes if analysis else 0,
    )


def device_groups(plan: Plan, names: Iterable[str], device_memory: int | None) -> list[list[str]]:
    """Encoders to load together, in order, so that each group fits the budget.

    Args:
      plan: of the call.
      names: encoders to load.
      device_memory: bytes of each device; None loads all at once and compiles none.

    Raises:
      ValueError: an encoder that alone exceeds the budget.
    """
    if device_memory is None:
        return [list(names)]
    groups, held, working = [[]], 0, 0
    for name in names:
        weights, batches, scratch = device_bytes(plan, name)
        if weights + batches + scratch > device_memory:
            raise ValueError(
                f"encoder {name} needs {weights / 2**20:.0f} MiB of parameters and "
                f"{(batches + scratch) / 2**20:.0f} MiB to run {plan.batch_rows} images, above "
                f"device_memory={device_memory / 2**20:.0f} MiB; lower batch_size or "
                "raise device_memory"
            )
        if groups[-1] and held + weights + batches + max(working, scratch) > device_memory:
            groups.append([])
            held, working = 0, 0
        groups[-1].append(name)
        held, working = held + weights + batches, max(working, scratch)
    return groups


@contextlib.contextmanager
def loaded(plan: Plan, name: str) -> Iterator[Callable[[Array], Array]]:
    """An encoder as a function pixels -> features, with its weights on the devices meanwhile."""
    compiled, state = program(plan.encoders[name], plan.mesh, plan.batch_rows)
    placed = [jax.device_put(state, NamedSharding(plan.mesh, EVERYWHERE))]
    try:
        yield lambda pixels: compiled(placed[0], pixels)
    finally:
        placed.clear()  # whoever still holds the function holds no weights


def run_batches(
    plan: Plan,
    missing: Missing,
    functions: Mapping[str, Callable[[Array], Array]],
    pixels: Iterable[Pixels],
) -> Iterator[tuple[Batch, dict[str, Array]]]:
    """Run a group of encoders over decoded batches.

    Args:
      plan: of the call.
      missing: encoders that each chunk lacks; the others are not run on it.
      functions: of the group, see `loaded`.
      pixels: the batches.

    Yields:
      Each batch and its features on the devices, once the next batch has been handed to them, so
      that they never wait for the host. Drop the features before asking for more.
    """
    split = NamedSharding(plan.mesh, ROWS)
    in_flight = None
    for batch, arrays, _ in pixels:
        keys = {
            name: plan.encoders[name].spec.preprocess.pixels
            for name in functions
            if name in missing[batch.chunk]
        }
        placed = {key: jax.device_put(arrays[key], split) for key in set(keys.values())}
        results = {name: functions[name](placed[key]) for name, key in keys.items()}
        if in_flight:
            yield in_flight
        in_flight = (batch, results)
    if in_flight:
        yield in_flight
