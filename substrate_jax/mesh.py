"""Devices as a mesh, and rows spread over it.

One named axis, `DATA_AXIS`, carries rows of images, features or Gram matrices; any further axis
("model") holds copies as far as this project is concerned, unless a caller shards over it. Axes
are Auto: the compiler places collectives, and `jax.shard_map` works as written.

Rows come in any number, devices do not: `shard_rows` fills up with zeros and gives the mask that
tells rows from padding. In a run of several processes each reads only its `local_rows`.

Cost: O(n d) for the copies.

Not guaranteed: that a sum over rows adds in the same order on another number of devices; it
differs by rounding.
"""

import glob
import importlib.util
import itertools
import json
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


def shard_rows(
    block: Shaped[np.ndarray, "n ..."], mesh: Mesh
) -> tuple[Shaped[Array, "m ..."], Bool[Array, " m"]]:
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


def local_mesh(mesh: Mesh) -> Mesh:
    """The part of a mesh on this process's devices; the mesh itself in a one-process run.

    Example:
        >>> dict(local_mesh(make_mesh("data=1")).shape)
        {'data': 1}
    """
    return mesh if jax.process_count() == 1 else mesh.local_mesh


def exchange(value: PyTree) -> list[PyTree]:
    """The JSON-like values of all processes, in the order of their numbers; all must call it.

    Example:
        >>> exchange({"rows": [1, 2]})
        [{'rows': [1, 2]}]
    """
    if jax.process_count() == 1:
        return [value]
    from jax.experimental import multihost_utils

    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array([len(data)]))[:, 0]
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(data)] = data
    sent = multihost_utils.process_allgather(padded)
    return [json.loads(row[:n].tobytes()) for row, n in zip(sent, lengths, strict=True)]


def join_rows(
    block: Shaped[np.ndarray, "n ..."], starts: Sequence[int]
) -> Shaped[np.ndarray, "n ..."]:
    """The block in every process, of which process p filled rows starts[p] to starts[p+1] - 1.

    Processes beyond the end of `starts` filled none. All must call it.

    Example:
        >>> join_rows(np.ones((3, 2), np.float32), [0, 3]).shape
        (3, 2)
    """
    if jax.process_count() == 1:
        return block
    from jax.experimental import multihost_utils

    longest = max(stop - start for start, stop in itertools.pairwise(starts))
    mine = np.zeros((longest, *block.shape[1:]), block.dtype)
    me = jax.process_index()
    if me < len(starts) - 1:
        own = block[starts[me] : starts[me + 1]]
        mine[: len(own)] = own
    parts = multihost_utils.process_allgather(mine)
    pairs = enumerate(itertools.pairwise(starts))
    return np.concatenate([parts[p, : stop - start] for p, (start, stop) in pairs])


def on_tpu() -> bool:
    """Whether this host has TPUs and the library that drives them; touches no device."""
    if importlib.util.find_spec("libtpu") is None:
        return False
    return any(glob.glob(pattern) for pattern in ("/dev/accel*", "/dev/vfio/[0-9]*"))


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
