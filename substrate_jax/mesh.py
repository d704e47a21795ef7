"""Devices as a mesh, and rows spread over it.

One named axis, `DATA_AXIS`, carries rows of images, features or Gram matrices; any further axis
("model") holds copies as far as this project is concerned, unless a caller shards over it. Axes
are Auto: the compiler places collectives, and `jax.shard_map` works as written.

Rows come in any number, devices do not: `pad_rows` fills up with zeros and gives the mask that
tells rows from padding. In a run of several processes each process decodes only `local_rows` and
`place_rows` joins them into one global array.

Cost: O(n d) for the copies.

Not guaranteed: that a sum over rows adds in the same order on another number of devices; it
differs by rounding.
"""

import math
import re
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Int64, PyTree, Shaped

DATA_AXIS = "data"


def make_mesh(spec: str | None = None, devices: Sequence[jax.Device] | None = None) -> Mesh:
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
    pairs = [re.fullmatch(r"\s*([A-Za-z_]\w*)\s*=\s*(\d+)\s*", part) for part in spec.split(",")]
    if not all(pairs):
        raise ValueError(f"mesh={spec!r}: write axis=size,..., for instance data={len(devices)}")
    names = tuple(pair[1] for pair in pairs)
    sizes = tuple(int(pair[2]) for pair in pairs)
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


def pad_rows(
    array: Shaped[np.ndarray, "n ..."], multiple: int
) -> tuple[Shaped[np.ndarray, "m ..."], Bool[np.ndarray, " m"]]:
    """Append rows of zeros until the number of rows divides by `multiple`.

    Args:
      array: [n, ...], any dtype.
      multiple: at least 1; the size of the data axis, or a batch.

    Returns:
      The padded array [m, ...] with m = multiple * ceil(n / multiple), and a mask [m], true for
      the n rows given.

    Raises:
      ValueError: `multiple` is not positive.

    Example:
      >>> padded, mask = pad_rows(np.ones((3, 2), np.float32), 4)
      >>> padded.shape, mask.tolist()
      ((4, 2), [True, True, True, False])
    """
    if multiple < 1:
        raise ValueError(f"multiple={multiple}: give at least 1")
    array = np.asarray(array)
    extra = -len(array) % multiple
    padding = np.zeros((extra, *array.shape[1:]), array.dtype)
    return np.concatenate([array, padding]), np.arange(len(array) + extra) < len(array)


def _rows_sharding(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


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
            f"n={n} rows do not divide over {mesh.shape[DATA_AXIS]} devices; use pad_rows"
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


def gather_rows(array: Shaped[Array, "n ..."]) -> Shaped[np.ndarray, "n ..."]:
    """The whole of a global array on the host of every process.

    Example:
      >>> gather_rows(place_rows(np.ones((2, 5), np.float32), make_mesh("data=1"), 2)).shape
      (2, 5)
    """
    if array.is_fully_addressable:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(array, tiled=True)


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """A copy of every array of `tree` on every device of the mesh; equal in all processes.

    Example:
      >>> replicate({"w": np.ones(3)}, make_mesh("data=1"))["w"].sharding.is_fully_replicated
      True
    """
    sharding = NamedSharding(mesh, PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(
            sharding, np.asarray(leaf), np.shape(leaf)
        ),
        tree,
    )


def broadcast(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """The first process's array in every process, bit for bit; all give the same shape and dtype.

    Example:
      >>> broadcast(np.array([1.0, 2.0], np.float32)).tolist()
      [1.0, 2.0]
    """
    array = np.ascontiguousarray(array)
    if jax.process_count() == 1:
        return array
    from jax.experimental import multihost_utils

    # The transport adds zeros; as unsigned bytes that keeps -0.0 and NaN payloads.
    sent = multihost_utils.broadcast_one_to_all(np.frombuffer(array.tobytes(), np.uint8))
    return np.frombuffer(np.asarray(sent).tobytes(), array.dtype).reshape(array.shape)


def initialize_distributed(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Join a run of several processes; call before anything touches a device.

    Args:
      coordinator: "host:port" of process 0; None does nothing, "auto" asks the cluster (Cloud
        TPU, Slurm, MPI) for all three.
      num_processes: how many there are in all.
      process_id: this one's number, 0 to num_processes - 1.

    Raises:
      ValueError: an incomplete or inconsistent triple.

    Example:
      >>> initialize_distributed()  # one process: nothing to join
    """
    if coordinator is None:
        if num_processes is not None or process_id is not None:
            raise ValueError(
                f"coordinator=None with num_processes={num_processes}, process_id={process_id}; "
                "give host:port of process 0"
            )
        return
    if coordinator == "auto":
        jax.distributed.initialize()
        return
    if not re.fullmatch(r"\S+:\d+", coordinator):
        raise ValueError(f"coordinator={coordinator!r}: give host:port of process 0, or auto")
    if num_processes is None or process_id is None or not 0 <= process_id < num_processes:
        raise ValueError(
            f"num_processes={num_processes}, process_id={process_id}: give both, "
            "with 0 <= process_id < num_processes"
        )
    jax.distributed.initialize(coordinator, num_processes, process_id)
