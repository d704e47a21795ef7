"""Devices as a mesh, and rows spread over it.

One named axis, `DATA_AXIS`, carries rows of images, features or Gram matrices; any further axis
("model") holds copies as far as this project is concerned, unless a caller shards over it. Axes
are Auto: the compiler places collectives, and `jax.shard_map` works as written.

Rows come in any number, devices do not: `shard_rows` fills up with zeros and gives the mask that
tells rows from padding, `shard_blocks` does so for several blocks of the same rows. `over_rows`
compiles a function of one device's rows for all devices. In a run of several processes each reads
only its `local_rows`.

Cost: O(n d) for the copies.

Not guaranteed: that a sum over rows adds in the same order on another number of devices; it
differs by rounding.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int64, PyTree, Shaped

DATA_AXIS = "data"
# How arrays lie on a mesh: rows split over the data axis, columns split over it, or all everywhere.
ROWS = PartitionSpec(DATA_AXIS)
COLUMNS = PartitionSpec(None, DATA_AXIS)
EVERYWHERE = PartitionSpec()


@runtime_checkable
class RowBlock(Protocol):
    """Rows [n, ...] to ask for: an array, or what reads them, such as `features.StoredRows`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """n and what a row is."""
        ...

    @property
    def dtype(self) -> Any:
        """Of the numbers."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def __getitem__(self, rows: Any, /) -> Any:
        """An array of the rows of a slice, or of row numbers."""
        ...


def make_mesh(
    spec: str | None = None,
    devices: Sequence[jax.Device] | None = None,  # pyright: ignore[reportInvalidTypeForm]
) -> Mesh:
    """A mesh of the given axis sizes, all axes Auto.

    Args:
      spec: "data=8" or "data=4,model=2"; None puts every device on the data axis. A product
        below the number of devices takes the first ones.
      devices: devices to use; None means all of all processes.

    Returns:
      A mesh with an axis named DATA_AXIS.

    Raises:
      ValueError: a malformed spec, no data axis, or more devices asked for than there are.

    Example:
      >>> dict(make_mesh("data=1").shape)
      {'data': 1}
    """
    devices = list(jax.devices() if devices is None else devices)
    if spec is None:
        spec = f"{DATA_AXIS}={len(devices)}"
    parts = spec.split(",")
    matches = [re.fullmatch(r"\s*([A-Za-z_]\w*)\s*=\s*(\d+)\s*", part) for part in parts]
    pairs = [match.groups() for match in matches if match]
    if len(pairs) < len(parts):
        raise ValueError(f"mesh={spec!r}: write axis=size,..., for instance data={len(devices)}")
    names = tuple(name for name, _ in pairs)
    sizes = tuple(int(size) for _, size in pairs)
    if DATA_AXIS not in names or len(set(names)) < len(names):
        raise ValueError(f"mesh={spec!r}: name the axis {DATA_AXIS!r} once, and no axis twice")
    if not 1 <= math.prod(sizes) <= len(devices):
        raise ValueError(
            f"mesh={spec!r} needs {math.prod(sizes)} devices and there are {len(devices)}; "
            f"give sizes whose product is 1 to {len(devices)}"
        )
    used = devices[: math.prod(sizes)]
    idle = {device.process_index for device in devices} - {d.process_index for d in used}
    if idle:
        raise ValueError(
            f"mesh={spec!r} leaves processes {sorted(idle)} without a device of the "
            f"{len(devices)}; give sizes whose product is {len(devices)}"
        )
    return jax.make_mesh(sizes, names, axis_types=(AxisType.Auto,) * len(names), devices=used)


def _rows_sharding(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, ROWS)


def local_rows(mesh: Mesh, n: int) -> Int64[np.ndarray, " m"]:
    """Which of n global rows this process holds, ascending; all of them in a one-process run.

    Args:
      mesh: from `make_mesh`.
      n: number of global rows; must divide by the data axis.

    Returns:
      int64 [m], row numbers in 0 .. n - 1.

    Raises:
      ValueError: n does not divide by the data axis.

    Example:
      >>> local_rows(make_mesh("data=1"), 3).tolist()
      [0, 1, 2]
    """
    if n % mesh.shape[DATA_AXIS]:
        raise ValueError(
            f"n={n} rows do not divide over {mesh.shape[DATA_AXIS]} devices; use shard_rows"
        )
    indices = _rows_sharding(mesh).addressable_devices_indices_map((n,)).values()
    return np.unique(np.concatenate([np.arange(n)[index] for index in indices]))


def place_rows(rows: Shaped[np.ndarray, "m ..."], mesh: Mesh, n: int) -> Shaped[Array, "n ..."]:
    """One global array of n rows, split over the data axis, from each process's own rows.

    Args:
      rows: [m, ...], the rows that `local_rows(mesh, n)` lists, in that order.
      mesh: from `make_mesh`.
      n: number of global rows; must divide by the data axis.

    Returns:
      A global array [n, ...] with its rows split over DATA_AXIS.

    Raises:
      ValueError: the wrong number of rows, or n does not divide by the data axis.

    Example:
      >>> place_rows(np.ones((2, 5), np.float32), make_mesh("data=1"), 2).shape
      (2, 5)
    """
    expected = len(local_rows(mesh, n))
    if len(rows) != expected:
        raise ValueError(f"rows has {len(rows)} rows; this process holds {expected} of n={n}")
    return jax.make_array_from_process_local_data(
        _rows_sharding(mesh), np.asarray(rows), (n, *rows.shape[1:])
    )


def shard_rows(block: RowBlock, mesh: Mesh) -> tuple[Shaped[Array, "m ..."], Bool[Array, " m"]]:
    """A block as a global array with its rows split over the data axis, padded and masked.

    Args:
      block: [n, ...]; only the rows of this process's devices are read, by `block[rows]`.
      mesh: from `make_mesh`.

    Returns:
      The rows [m, ...], m the next multiple of the data axis, zeros at the end; and a mask [m],
      true for the n rows given, split likewise.

    Example:
      >>> rows, mask = shard_rows(np.ones((3, 2), np.float32), make_mesh("data=1"))
      >>> rows.shape, mask.tolist()
      ((3, 2), [True, True, True])
    """
    n, axis = len(block), mesh.shape[DATA_AXIS]
    padded = n + -n % axis
    mine = local_rows(mesh, padded)
    rows = np.zeros((len(mine), *block.shape[1:]), block.dtype)
    rows[mine < n] = block[mine[mine < n]]
    return place_rows(rows, mesh, padded), place_rows(mine < n, mesh, padded)


def shard_blocks(
    blocks: Iterable[RowBlock], mesh: Mesh
) -> tuple[list[Shaped[Array, "m _"]], Bool[Array, " m"]]:
    """Blocks of the same rows as `shard_rows` gives them, with the one mask of all.

    Args:
      blocks: [n, d] each, widths may differ.
      mesh: from `make_mesh`.

    Returns:
      The blocks, padded and split over the data axis; and a mask [m], true for the n rows given.

    Raises:
      ValueError: no block, or blocks with different numbers of rows.

    Example:
      >>> blocks = [np.ones((3, 2), np.float32), np.ones((3, 5), np.float32)]
      >>> placed, mask = shard_blocks(blocks, make_mesh("data=1"))
      >>> [block.shape for block in placed], mask.tolist()
      ([(3, 2), (3, 5)], [True, True, True])
    """
    blocks = list(blocks)
    rows = [len(block) for block in blocks]
    if len(set(rows)) != 1:
        raise ValueError(f"blocks have {rows} rows: give at least one, all with the same rows")
    placed = [shard_rows(block, mesh) for block in blocks]
    return [block for block, _ in placed], placed[0][1]


def over_rows(
    function: Callable, mesh: Mesh, in_specs: PyTree, out_specs: PyTree = EVERYWHERE
) -> Callable:
    """A function of one device's shards as a compiled function of whole arrays.

    Args:
      function: sees its own shard of each argument, and reduces over `DATA_AXIS` by collectives
        where a result is the same on every device.
      mesh: from `make_mesh`.
      in_specs: of the arguments, one each or one for all: `ROWS`, `COLUMNS` or `EVERYWHERE`.
      out_specs: of the results, likewise.

    Example:
      >>> mesh = make_mesh("data=1")
      >>> total = over_rows(lambda x: jax.lax.psum(x.sum(0), DATA_AXIS), mesh, ROWS)
      >>> total(np.ones((4, 2), np.float32)).tolist()
      [4.0, 4.0]
    """
    # jax's own SVD for TPUs fails jax's check of what differs between devices (0.10.2); on CPU,
    # where every program is tested, the check stays.
    checked = mesh.devices.flat[0].platform != "tpu"
    mapped = jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=checked
    )
    return jax.jit(mapped)


def after(first: Float[Array, "..."], mask: Bool[Array, " m"]) -> Bool[Array, " m"]:
    """The mask of rows, known only when `first` is.

    Processes must meet in one order, and on CPU XLA keeps none between what communicates in a loop
    and what does outside of it; a barrier is gone before the program is scheduled.

    Example:
      >>> after(jax.numpy.full(2, np.nan), jax.numpy.array([True, False])).tolist()
      [True, False]
    """
    number = jax.numpy.sum(first)
    integer = jax.numpy.dtype(f"int{8 * number.dtype.itemsize}")
    bits = jax.lax.bitcast_convert_type(number, integer)
    return mask & ((bits | 1) != 0)  # always true, which XLA does not see


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """A copy of every array of `tree` on every device of the mesh; equal in all processes.

    Example:
      >>> replicate({"w": np.ones(3)}, make_mesh("data=1"))["w"].sharding.is_fully_replicated
      True
    """
    sharding = NamedSharding(mesh, EVERYWHERE)
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(
            sharding, np.asarray(leaf), np.shape(leaf)
        ),
        tree,
    )


def local_mesh(mesh: Mesh) -> Mesh:
    """The part of a mesh on this process's devices; the mesh itself in a one-process run.

    Example:
        >>> dict(local_mesh(make_mesh("data=1")).shape)
        {'data': 1}
    """
    return mesh if jax.process_count() == 1 else mesh.local_mesh
