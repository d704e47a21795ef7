"""Images to features: one decode pass for all encoders, rows matched by id.

n images and E encoders f_e give E blocks

    X_e[i] = f_e(preprocess_e(image_i)) in R^{d_e},    i = 1..n,    float32

with row i of every block belonging to ids[i]. Each image file is decoded once; each distinct
resize and crop is done once from it, in threads, while the devices work on the batches before.
Batches have one constant shape, padded with blank rows that are cut off afterwards, so every image
counts exactly once and every encoder compiles once. Batches are split over the mesh's data axis
and weights copied to every device; in a run of several processes each decodes only the rows of
its own devices, and every process returns all the features.

With a store, rows are computed in its chunks: a batch never crosses a chunk's edge, so a chunk
is a function of its rows and of the batch shape alone, and a killed run that is started again
with the same batch size and mesh ends with the same bits as one that was never killed.

Cost: n decodes, n E forward passes, 4 n sum(d_e) bytes of host memory.

Not guaranteed: equal bits on another batch size, mesh or backend; they differ by rounding.
"""

import collections
import concurrent.futures
import dataclasses
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Float32, Int64, UInt8

from substrate_jax import mesh as meshes
from substrate_jax.data.decode import UnreadableImage
from substrate_jax.data.preprocess import Preprocess, normalize, resize_crop
from substrate_jax.data.sources import Source, digest
from substrate_jax.features.store import FeatureStore

_PREFETCH = 2  # batches decoded ahead of the one being computed

# Encoder -> {(mesh, preprocess): compiled forward pass}, so that the next source compiles nothing.
_COMPILED: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


class Spec(Protocol):
    """The part of an encoder's record that extraction reads."""

    name: str
    width: int
    preprocess: Preprocess


class Encoder(Protocol):
    """What `extract` asks of an encoder.

    `functional()` returns (function, state) with function(state, images) -> [n, width], a pure
    function of images float32 [n, h, w, 3], already normalised. The state is an argument, so that
    weights are no constants of the program. The function must not change during the encoder's
    life: its compiled program is kept with it, from one source to the next.
    """

    spec: Spec
    fingerprint: str
    dtype: Any

    def functional(self) -> tuple[Callable[[Any, Array], Array], Any]: ...  # noqa: D102


@dataclasses.dataclass(frozen=True, eq=False)
class Features(Mapping):
    """Features of several encoders on the same rows; a mapping from encoder name to [n, d].

    Args:
      ids: one a row, unique.
      labels: int64 [n], or None.
      arrays: encoder name -> float32 [n, d].

    Raises:
      ValueError: a block with another number of rows than there are ids.

    Example:
      >>> features = Features(("a", "b"), None, {"one": np.ones((2, 3), np.float32)})
      >>> list(features), features["one"].shape
      (['one'], (2, 3))
    """

    ids: tuple[str, ...]
    labels: Int64[np.ndarray, " n"] | None
    arrays: Mapping[str, Float32[np.ndarray, "n d"]]

    def __post_init__(self):
        blocks = (
            dict(self.arrays) if self.labels is None else {**self.arrays, "labels": self.labels}
        )
        for name, block in blocks.items():
            if len(block) != len(self.ids):
                raise ValueError(f"{name} has {len(block)} rows for {len(self.ids)} ids")

    def __getitem__(self, name: str) -> Float32[np.ndarray, "n d"]:
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def join(self, other: "Features") -> "Features":
        """The encoders of both, which must have the same rows in the same order.

        Args:
          other: features of other encoders on the same source.

        Returns:
          Features with the blocks of `self`, then those of `other`.

        Raises:
          ValueError: ids differ (the first place is named), or an encoder is in both.
        """
        for row, (mine, theirs) in enumerate(zip(self.ids, other.ids, strict=False)):
            if mine != theirs:
                raise ValueError(
                    f"row {row} is {mine!r} here and {theirs!r} there; "
                    "extract both from one source before joining"
                )
        if len(self.ids) != len(other.ids):
            longer = max(self.ids, other.ids, key=len)
            first = longer[min(len(self.ids), len(other.ids))]
            raise ValueError(
                f"{len(self.ids)} rows here and {len(other.ids)} there, {first!r} on one side "
                "only; extract both from one source before joining"
            )
        if twice := sorted(self.keys() & other.keys()):
            raise ValueError(f"encoder {twice[0]!r} is in both; drop one before joining")
        return dataclasses.replace(self, arrays={**self.arrays, **other.arrays})


class _Batch(NamedTuple):
    chunk: int
    start: int
    stop: int
    names: tuple[str, ...]  # encoders that lack this chunk
    closes: bool  # last of its chunk


def extract(
    encoders: Sequence[Encoder],
    source: Source,
    *,
    mesh: Mesh | None = None,
    store: FeatureStore | str | os.PathLike | None = None,
    batch_size: int = 64,
    skip_bad: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Features of every image of a source under every encoder, in one pass over the images.

    Args:
      encoders: see `Encoder`; names must differ.
      source: the images.
      mesh: from `make_mesh`; None means all devices on the data axis.
      store: where to keep and look up features; a path makes a `FeatureStore`.
      batch_size: images at once over all devices, rounded up to a multiple of the data axis;
        at most the source's length and the store's `chunk_rows`.
      skip_bad: leave out images that cannot be read, for every encoder alike.
      progress: called with (rows done, rows in all), on the way and at the end.

    Returns:
      Features with float32 [n, d] per encoder, in the source's order; n is smaller than the
      source only by images skipped.

    Raises:
      ValueError: images that cannot be read (all are counted, the first named) without
        `skip_bad`; features that are NaN or infinite; two encoders of one name; an encoder whose
        output is not [n, width].
    """
    by_name = {encoder.spec.name: encoder for encoder in encoders}
    if not by_name or len(by_name) < len(encoders):
        names = [encoder.spec.name for encoder in encoders]
        raise ValueError(f"encoders={names}: give at least one, and none twice")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: give at least 1")
    if store is not None and not isinstance(store, FeatureStore):
        store = FeatureStore(store)
    mesh = meshes.make_mesh() if mesh is None else mesh
    n = len(source)
    axis = mesh.shape[meshes.DATA_AXIS]
    step = min(batch_size, n, store.chunk_rows if store else n)
    shape = -(-step // axis) * axis
    chunk_rows = store.chunk_rows if store else step

    arrays = {name: np.zeros((n, e.spec.width), np.float32) for name, e in by_name.items()}
    keys = _keys(by_name, source, store) if store else {}
    missing = _restore(arrays, keys, store, n, chunk_rows)
    bad = np.any([np.isnan(block).all(axis=1) for block in arrays.values()], axis=0)
    batches = list(_plan(missing, n, chunk_rows, step))
    needed = {name for batch in batches for name in batch.names}
    programs = {name: _program(by_name[name], mesh) for name in by_name if name in needed}
    reasons: dict[int, str] = {}

    def collect(batch: _Batch, results: dict[str, Array]) -> None:
        rows = slice(batch.start, batch.stop)
        for name, result in results.items():
            values = meshes.gather_rows(result)[: batch.stop - batch.start]
            wrong = ~np.isfinite(values).all(axis=1) & ~bad[rows]
            if wrong.any():
                first = ", ".join(
                    source.ids[batch.start + row] for row in np.flatnonzero(wrong)[:3]
                )
                raise ValueError(
                    f"encoder {name} gives NaN or infinity in {wrong.sum()} of rows {batch.start} "
                    f"to {batch.stop - 1} of {source.name}, first {first}; "
                    "check its weights, or use a wider dtype"
                )
            arrays[name][rows] = np.where(bad[rows, None], np.float32("nan"), values)
            if store and batch.closes and jax.process_index() == 0:
                begin = batch.chunk * chunk_rows
                store.write(keys[name], batch.chunk, arrays[name][begin : batch.stop])
        if progress:
            progress(batch.stop, n)

    in_flight = None
    for batch, pixels, unread in _decode(batches, by_name, source, mesh, shape):
        for row, reason in unread.items():
            reasons.setdefault(row, reason)
        bad[batch.start : batch.stop] |= _shared_mask(unread, batch, mesh, shape)
        if bad.any() and not skip_bad:
            continue  # the run has failed; read on only to count
        placed = {key: meshes.place_rows(rows, mesh, shape) for key, rows in pixels.items()}
        results = {
            name: programs[name](placed[by_name[name].spec.preprocess.pixels])
            for name in batch.names
        }
        if in_flight:  # one batch behind, so that the devices never wait for the host
            collect(*in_flight)
        in_flight = (batch, results)
    if in_flight:
        collect(*in_flight)
    if bad.all() or (bad.any() and not skip_bad):
        rows = np.flatnonzero(bad)
        first = ", ".join(reasons.get(int(row), source.ids[row]) for row in rows[:3])
        mend = "no image is left" if skip_bad else "mend or remove them, or pass --skip_bad"
        raise ValueError(
            f"{len(rows)} of {n} images of {source.name} cannot be read, first {first}; {mend}"
        )
    if progress:
        progress(n, n)
    keep = np.flatnonzero(~bad)
    return Features(
        ids=tuple(source.ids[row] for row in keep),
        labels=None if source.labels is None else source.labels[keep],
        arrays={name: block[keep] for name, block in arrays.items()} if bad.any() else arrays,
    )


def _keys(encoders: Mapping[str, Encoder], source: Source, store: FeatureStore) -> dict[str, str]:
    """Store key of each encoder on this source; the first process describes them on disk."""
    keys = {}
    for name, encoder in encoders.items():
        determinants = {
            "encoder": name,
            "encoder_fingerprint": encoder.fingerprint,
            "width": encoder.spec.width,
            "dtype": jnp.dtype(encoder.dtype).name,
            "preprocess": dataclasses.asdict(encoder.spec.preprocess),
            "source_fingerprint": source.fingerprint,
            "ids": digest(*source.ids),
            "rows": len(source),
        }
        keys[name] = store.key(determinants)
        if jax.process_index() == 0:
            store.describe(determinants)
    return keys


def _restore(arrays, keys, store, n: int, chunk_rows: int) -> dict[int, tuple[str, ...]]:
    """Fill `arrays` with the chunks in the store; chunk -> encoders that lack it."""
    chunks = -(-n // chunk_rows)
    found = np.zeros((chunks, len(arrays)), bool)
    for column, name in enumerate(keys if jax.process_index() == 0 else ()):
        for chunk in range(chunks):
            rows = arrays[name][chunk * chunk_rows : (chunk + 1) * chunk_rows]
            values = store.read(keys[name], chunk, *rows.shape)
            if values is not None:
                rows[:] = values
                found[chunk, column] = True
    if keys:
        # Only the first process need see the store's file system.
        found = meshes.broadcast(found)
        for column, name in enumerate(keys):
            if found[:, column].any():
                arrays[name][:] = meshes.broadcast(arrays[name])
    return {
        chunk: tuple(name for name, there in zip(arrays, found[chunk], strict=True) if not there)
        for chunk in range(chunks)
    }


def _plan(missing: Mapping[int, tuple], n: int, chunk_rows: int, step: int) -> Iterator[_Batch]:
    for chunk, names in missing.items():
        end = min((chunk + 1) * chunk_rows, n)
        for start in range(chunk * chunk_rows, end if names else 0, step):
            stop = min(start + step, end)
            yield _Batch(chunk, start, stop, names, stop == end)


def _program(encoder: Encoder, mesh: Mesh) -> Callable[[Array], Array]:
    """Pixels -> features on the mesh, with the weights copied to its devices once."""
    function, state = encoder.functional()
    spec = encoder.spec
    kept = _COMPILED.setdefault(encoder, {})
    if (mesh, spec.preprocess) not in kept:
        preprocess = spec.preprocess

        def forward(state, pixels: UInt8[Array, "n h w 3"]) -> Float[Array, "n d"]:
            return function(state, normalize(pixels, preprocess)).astype(jnp.float32)

        rows = NamedSharding(mesh, PartitionSpec(meshes.DATA_AXIS))
        kept[mesh, preprocess] = jax.jit(forward, out_shardings=rows)
    compiled, state = kept[mesh, spec.preprocess], meshes.replicate(state, mesh)

    def run(pixels: UInt8[Array, "n h w 3"]) -> Float[Array, "n d"]:
        features = compiled(state, pixels)
        expected = (len(pixels), spec.width)
        if features.shape != expected:
            raise ValueError(
                f"encoder {spec.name} gives {list(features.shape)} for {len(pixels)} images; "
                f"its spec says {list(expected)}"
            )
        return features

    return run


def _decode(batches: Sequence[_Batch], encoders, source: Source, mesh: Mesh, shape: int):
    """Yield (batch, pixels by resize, reasons by unreadable row), decoded ahead in threads.

    `pixels` holds the rows of this process's devices, in the order of `local_rows`.
    """
    offsets = meshes.local_rows(mesh, shape)
    workers = min(32, (os.cpu_count() or 1) + 2)
    pool = concurrent.futures.ThreadPoolExecutor(workers, "decode")

    def submit(batch: _Batch):
        specs = {
            encoders[name].spec.preprocess.pixels: encoders[name].spec.preprocess
            for name in batch.names
        }
        pixels = {key: np.zeros((len(offsets), key[0], key[0], 3), np.uint8) for key in specs}

        def decode(local: int, row: int) -> str | None:
            try:
                image = source[row].image
                for key, spec in specs.items():
                    pixels[key][local] = resize_crop(image, spec)
            except UnreadableImage as error:
                return str(error)
            return None

        rows = [(local, batch.start + int(offset)) for local, offset in enumerate(offsets)]
        jobs = {row: pool.submit(decode, i, row) for i, row in rows if row < batch.stop}
        return batch, pixels, jobs

    try:
        ahead = collections.deque()
        for batch in [*batches, *[None] * _PREFETCH]:
            if batch is not None:
                ahead.append(submit(batch))
            if len(ahead) > _PREFETCH or (batch is None and ahead):
                ready, pixels, jobs = ahead.popleft()
                answers = {row: job.result() for row, job in jobs.items()}
                yield ready, pixels, {row: a for row, a in answers.items() if a is not None}
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _shared_mask(unread: Mapping[int, str], batch: _Batch, mesh: Mesh, shape: int) -> np.ndarray:
    """Which rows of a batch could not be read, by whichever process tried; bool [rows]."""
    mask = np.zeros(shape, bool)
    mask[[row - batch.start for row in unread]] = True
    if jax.process_count() > 1:
        mine = mask[meshes.local_rows(mesh, shape)]
        mask = meshes.gather_rows(meshes.place_rows(mine, mesh, shape))
    return mask[: batch.stop - batch.start]
