"""Images to features: one decode pass for all encoders, rows matched by id.

n images and E encoders f_e give E blocks

    X_e[i] = f_e(preprocess_e(image_i)) in R^{d_e},    i = 1..n,    float32

with row i of every block belonging to ids[i]. Each image file is decoded once; each distinct
resize and crop is done once from it, while the devices work on the batches before
(`features.pixels`). Batches have one constant shape, padded with blank rows that are cut off
afterwards, so every image counts exactly once and every encoder compiles once. Batches are split
over the mesh's data axis and weights copied to every device.

Rows are computed in chunks of the store: a batch never crosses a chunk's edge, so a chunk is a
function of its rows and of the batch size a device alone, and a killed run that is started again
with the same batch size and devices ends with the same bits as one that was never killed.

In a run of several processes each takes a share of the chunks, computes them on its own devices,
and writes them to the store that all processes see. First they compare what they were given: row
ids, labels, each encoder's fingerprint, options. Fingerprints of sources may differ, for that of a
folder holds its path and times, which hosts need not share; the first, the middle and the last
image must then agree, and process 0's fingerprint stands in the store's keys. At the end they tell
each other which images could not be read. What fails in one process fails in all. With
`gather=False` no process ever holds more than the few chunks it works on: the blocks returned read
rows from the store when asked.

Weights stay on the host until their turn. With `device_memory` encoders take turns in groups that
fit: parameters, working memory as XLA reports it, and two batches of pixels and features. The
pixels of as many chunks as `HOST_PIXELS` holds are kept on the host while the groups pass over
them, so images are still decoded once.

Cost: n decodes, n E forward passes, 4 n sum(d_e) bytes of host memory where gathered.

Not guaranteed: equal bits on another batch size a device or backend; they differ by rounding. That
processes whose sources have different fingerprints see the same images, beyond ids and those three.
"""

import concurrent.futures
import contextlib
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, UInt8

from substrate_jax import mesh as meshes
from substrate_jax.data.preprocess import normalize
from substrate_jax.data.sources import Source, digest
from substrate_jax.features import processes
from substrate_jax.features.features import Features, StoredRows
from substrate_jax.features.pixels import Batch, Pixels, decode_ahead
from substrate_jax.features.protocol import Extractor
from substrate_jax.features.store import CHUNKS_AHEAD, FeatureStore, written_behind
from substrate_jax.processes import join_rows

HOST_PIXELS = 2**30  # bytes of decoded images kept for several passes of encoders
IN_FLIGHT = 2  # batches on the devices

# Encoder -> {(mesh, preprocess, batch): compiled forward pass}: the next source compiles nothing.
_COMPILED: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def finite_rows(values: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
    """Whether all values of a row are finite.

    Example:
        >>> finite_rows(np.array([[1, np.nan], [3e38, 3e38]], np.float32)).tolist()
        [False, True]
    """
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(values.sum(axis=1))  # a tenth of the memory of looking at each value
    doubtful = np.flatnonzero(~finite)
    finite[doubtful] = np.isfinite(values[doubtful]).all(axis=1)
    return finite


def extract(
    encoders: Sequence[Extractor],
    source: Source,
    *,
    mesh: Mesh | None = None,
    store: FeatureStore | str | os.PathLike | None = None,
    batch_size: int = 64,
    skip_bad: bool = False,
    workers: int = 0,
    device_memory: int | None = None,
    gather: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Features of every image of a source under every encoder, in one pass over the images.

    Args:
      encoders: see `Extractor`; names must differ.
      source: the images.
      mesh: from `make_mesh`; None means all devices on the data axis.
      store: where to keep and look up features; a path makes a `FeatureStore`. In a run of
        several processes, a folder that all of them see.
      batch_size: images at once over all devices, rounded up to a multiple of the data axis;
        at most the source's length and the store's `chunk_rows`.
      skip_bad: leave out images that cannot be read, for every encoder alike.
      workers: processes that decode; 0 decodes in threads of this one.
      device_memory: bytes of each device that encoders and their batches may take; None loads all
        encoders at once.
      gather: hold all features in the memory of every process; otherwise the blocks returned are
        `StoredRows`, which needs a store.
      progress: called with (rows done, rows in all) of this process, on the way and at the end.

    Returns:
      Features with float32 [n, d] per encoder, in the source's order; n is smaller than the
      source only by images skipped.

    Raises:
      ValueError: images that cannot be read (all are counted, the first named) without
        `skip_bad`; features that are NaN or infinite; two encoders of one name; an encoder whose
        output is not [n, width] or that alone exceeds `device_memory`; `gather=False` without a
        store; processes that were given different images, encoders or options.

    Example:
      >>> from substrate_jax.data import open_source
      >>> from substrate_jax.encoders import load_encoder
      >>> vit = load_encoder("mini_vit_base")
      >>> features = extract([vit], open_source("sample:texture:16"))
      >>> features["mini_vit_base"].shape == (16, vit.spec.width)
      True
    """
    options = (mesh, store, batch_size, gather, skip_bad)
    run, failure = processes.attempt(_Run, encoders, source, *options)
    given = processes.exchange(run and run.given, failure)
    run.agree(given)
    found = processes.attempt(run.work, workers, device_memory, progress)
    said = [pair for pairs in processes.exchange(*found) for pair in pairs]
    reasons = {row: why for row, why in said if why is not None}
    bad = np.unique(np.array([row for row, _ in said], int))
    if len(bad) == len(source) or (len(bad) and not skip_bad):
        first = ", ".join(reasons.get(row, source.ids[row]) for row in bad[:3])
        mend = "no image is left" if skip_bad else "mend or remove them, or pass --skip_bad"
        raise ValueError(
            f"{len(bad)} of {len(source)} images of {source.name} cannot be read, first {first}; "
            f"{mend}"
        )
    return run.features(np.setdiff1d(np.arange(len(source)), bad))


class _Run:
    """One call of `extract`: this process's share of the chunks, and what is known of them."""

    def __init__(self, encoders, source, mesh, store, batch_size, gather, skip_bad):
        by_name = {encoder.spec.name: encoder for encoder in encoders}
        if not by_name or len(by_name) < len(encoders):
            names = [encoder.spec.name for encoder in encoders]
            raise ValueError(f"encoders={names}: give at least one, and none twice")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: give at least 1")
        if store is None and not gather:
            raise ValueError("gather=False needs a store to read rows from; give store=FOLDER")
        if store is not None and not isinstance(store, FeatureStore):
            store = FeatureStore(store)
        mesh = mesh or meshes.make_mesh()
        n, axis = len(source), mesh.shape[meshes.DATA_AXIS]
        self.encoders, self.source, self.store = by_name, source, store
        self.gather, self.skip_bad = gather, skip_bad
        step = min(batch_size, n, store.chunk_rows if store else n)
        self.mesh = meshes.local_mesh(mesh)
        self.device_rows = -(-step // axis)  # of a batch, on one device
        self.batch_rows = self.device_rows * self.mesh.shape[meshes.DATA_AXIS]
        self.chunk_rows = store.chunk_rows if store else self.batch_rows
        chunks, count = -(-n // self.chunk_rows), jax.process_count()
        share, me = -(-chunks // count), jax.process_index()
        self.shares = [range(p * share, min((p + 1) * share, chunks)) for p in range(count)]
        self.chunks = self.shares[me]
        self.missing = {chunk: set(by_name) for chunk in self.chunks}
        self.bad = np.zeros(n, bool)
        self.reasons: dict[int, str] = {}
        self.keys: dict[str, str] = {}
        # Whole blocks if gathered, else those of the chunks being computed.
        self.arrays = {
            name: np.zeros((n if gather else 0, encoder.spec.width), np.float32)
            for name, encoder in by_name.items()
        }
        self.open: dict[tuple[int, str], np.ndarray] = {}
        ids = digest(*source.ids)
        self.determinants = {
            name: processes.determinants(encoder, source, ids) for name, encoder in by_name.items()
        }
        options = [self.batch_rows, self.chunk_rows, gather, skip_bad, store is not None]
        self.given = processes.given(self.determinants, source, ids, options)

    def agree(self, given: Sequence[Mapping[str, Any]]) -> None:
        """Check that all processes were given the same, and take the first one's fingerprint."""
        processes.check_equal([{**one, "source_fingerprint": None} for one in given])
        fingerprint = given[0]["source_fingerprint"]
        if any(one["source_fingerprint"] != fingerprint for one in given):
            seen = processes.attempt(processes.some_images, self.source)
            processes.check_equal(processes.exchange(*seen))
        for known in self.determinants.values():
            known["source_fingerprint"] = fingerprint

    def work(self, workers, device_memory, progress) -> list[tuple[int, str | None]]:
        """This process's share; rows that cannot be read, and why where it is known."""
        if self.store:
            self.restore()
        self.compute(workers, device_memory, progress)
        return [(int(row), self.reasons.get(int(row))) for row in np.flatnonzero(self.bad)]

    def rows(self, chunk: int) -> slice:
        """The rows of a chunk."""
        return slice(chunk * self.chunk_rows, min((chunk + 1) * self.chunk_rows, len(self.source)))

    def restore(self) -> None:
        """Take this process's chunks from the store, where they are there."""
        for name, known in self.determinants.items():
            self.keys[name] = self.store.key(known)
            self.store.describe(known)

        def read(place: tuple[str, int]):
            (name, chunk), rows = place, self.rows(place[1])
            width = self.encoders[name].spec.width
            return self.store.read(self.keys[name], chunk, rows.stop - rows.start, width)

        places = [(name, chunk) for name in self.keys for chunk in self.chunks]
        with concurrent.futures.ThreadPoolExecutor(CHUNKS_AHEAD, "store") as pool:
            for start in range(0, len(places), CHUNKS_AHEAD):
                some = places[start : start + CHUNKS_AHEAD]
                for (name, chunk), values in zip(some, pool.map(read, some), strict=True):
                    if values is not None:
                        rows = self.rows(chunk)
                        self.missing[chunk].discard(name)
                        self.bad[rows] |= np.isnan(values).all(axis=1)
                        if self.gather:
                            self.arrays[name][rows] = values

    def compute(self, workers, device_memory, progress) -> None:
        """Compute what is missing of this process's chunks."""
        needed = [name for name in self.encoders if any(name in m for m in self.missing.values())]
        groups = self.groups(needed, device_memory)
        done = 0
        total = sum(self.rows(chunk).stop - self.rows(chunk).start for chunk in self.chunks)
        for chunks in self.spans(groups):
            pixels: Iterable[Pixels] = decode_ahead(
                list(self.batches(chunks)), self.source, self.batch_rows, workers
            )
            if len(groups) > 1:
                pixels = list(pixels)
            for group in groups:
                with contextlib.ExitStack() as held:
                    write = held.enter_context(written_behind(self.store))
                    programs = {name: self.load(name, held) for name in group}
                    for batch in self.forward(pixels, programs, write):
                        done += batch.stop - batch.start
                        if progress:
                            progress(min(done // len(groups), total), total)
        if progress:
            progress(total, total)

    def groups(self, names: Sequence[str], device_memory: int | None) -> list[list[str]]:
        """Encoders to load together, in order, so that each group fits the budget."""
        if device_memory is None:
            return [list(names)]
        groups, held, working = [[]], 0, 0
        for name in names:
            weights, batches, scratch = self.needs(name)
            if weights + batches + scratch > device_memory:
                raise ValueError(
                    f"encoder {name} needs {weights / 2**20:.0f} MiB of parameters and "
                    f"{(batches + scratch) / 2**20:.0f} MiB to run {self.batch_rows} images, above "
                    f"device_memory={device_memory / 2**20:.0f} MiB; lower the batch size or "
                    "raise the budget"
                )
            # Encoders run one after another, so working memory is that of the greediest.
            if groups[-1] and held + weights + batches + max(working, scratch) > device_memory:
                groups.append([])
                held, working = 0, 0
            groups[-1].append(name)
            held, working = held + weights + batches, max(working, scratch)
        return groups

    def needs(self, name: str) -> tuple[int, int, int]:
        """Bytes of a device for an encoder's parameters, its batches, and working memory."""
        compiled, state = self.program(name)
        spec, analysis = self.encoders[name].spec, compiled.memory_analysis()
        row = 3 * spec.preprocess.size**2 + 4 * spec.width  # pixels of uint8 and features
        return (
            sum(leaf.nbytes for leaf in jax.tree.leaves(state)),
            IN_FLIGHT * self.device_rows * row,
            analysis.temp_size_in_bytes if analysis else 0,
        )

    def spans(self, groups: Sequence[Sequence[str]]) -> Iterator[list[int]]:
        """Runs of missing chunks: all at once, or as many as have their pixels kept in memory."""
        chunks = [chunk for chunk in self.chunks if self.missing[chunk]]
        if len(groups) < 2:
            return iter([chunks] if chunks else [])
        resizes = {e.spec.preprocess.pixels: e.spec.preprocess for e in self.encoders.values()}
        row = sum(3 * spec.size**2 for spec in resizes.values())
        size = max(1, HOST_PIXELS // (row * self.chunk_rows))
        return (chunks[start : start + size] for start in range(0, len(chunks), size))

    def batches(self, chunks: Iterable[int]) -> Iterator[Batch]:
        """What to decode of these chunks, for all encoders that lack them."""
        for chunk in chunks:
            specs = [self.encoders[name].spec for name in self.missing[chunk]]
            resizes = {spec.preprocess.pixels: spec.preprocess for spec in specs}
            rows = self.rows(chunk)
            for start in range(rows.start, rows.stop, self.batch_rows):
                yield Batch(
                    chunk, start, min(start + self.batch_rows, rows.stop), tuple(resizes.values())
                )

    def program(self, name: str) -> tuple[Callable, Any]:
        """The compiled forward pass of an encoder on this process's devices, and its state."""
        encoder = self.encoders[name]
        preprocess, rows = encoder.spec.preprocess, self.batch_rows
        function, state = encoder.functional()
        kept = _COMPILED.setdefault(encoder, {})
        if (self.mesh, preprocess, rows) not in kept:

            def forward(state, pixels: UInt8[Array, "n h w 3"]) -> Float[Array, "n d"]:
                return function(state, normalize(pixels, preprocess)).astype(jnp.float32)

            over_rows = NamedSharding(self.mesh, PartitionSpec(meshes.DATA_AXIS))
            everywhere = NamedSharding(self.mesh, PartitionSpec())
            jitted = jax.jit(forward, in_shardings=(everywhere, over_rows), out_shardings=over_rows)
            shape = (rows, preprocess.size, preprocess.size, 3)
            lowered = jitted.lower(state, jax.ShapeDtypeStruct(shape, jnp.uint8))
            expected, given = (rows, encoder.spec.width), jax.tree.leaves(lowered.out_info)[0].shape
            if given != expected:
                raise ValueError(
                    f"encoder {name} gives {list(given)} for {rows} images; "
                    f"its spec says {list(expected)}"
                )
            kept[self.mesh, preprocess, rows] = lowered.compile()
        return kept[self.mesh, preprocess, rows], state

    def load(self, name: str, held: contextlib.ExitStack) -> Callable[[Array], Array]:
        """Pixels -> features, with the weights on the devices until `held` closes."""
        compiled, state = self.program(name)
        everywhere = NamedSharding(self.mesh, PartitionSpec())
        placed = [jax.device_put(state, everywhere)]
        held.callback(placed.clear)
        return lambda pixels: compiled(placed[0], pixels)

    def forward(self, pixels, programs, write: Callable) -> Iterator[Batch]:
        """Run a group of encoders over decoded batches; yields each batch when it is collected."""
        over_rows = NamedSharding(self.mesh, PartitionSpec(meshes.DATA_AXIS))
        in_flight = None
        for batch, arrays, unreadable in pixels:
            self.reasons.update(unreadable)
            self.bad[list(unreadable)] = True
            if self.bad.any() and not self.skip_bad:
                continue  # the run has failed; read on only to count
            names = [name for name in programs if name in self.missing[batch.chunk]]
            wanted = {self.encoders[name].spec.preprocess.pixels for name in names}
            placed = {key: jax.device_put(arrays[key], over_rows) for key in wanted}
            results = {
                name: programs[name](placed[self.encoders[name].spec.preprocess.pixels])
                for name in names
            }
            if in_flight:  # one batch behind, so that the devices never wait for the host
                self.collect(*in_flight, write)
                yield in_flight[0]
            in_flight = (batch, results)
        if in_flight:
            self.collect(*in_flight, write)
            yield in_flight[0]

    def collect(self, batch: Batch, results: Mapping[str, Array], write: Callable) -> None:
        """Take features from the devices, and have the chunk written when it is whole."""
        chunk, inside = self.rows(batch.chunk), slice(batch.start, batch.stop)
        for name, result in results.items():
            values = np.asarray(result)[: batch.stop - batch.start]
            bad = self.bad[inside]
            wrong = ~finite_rows(values) & ~bad
            if wrong.any():
                first = ", ".join(
                    self.source.ids[batch.start + row] for row in np.flatnonzero(wrong)[:3]
                )
                raise ValueError(
                    f"encoder {name} gives NaN or infinity in {wrong.sum()} of rows {batch.start} "
                    f"to {batch.stop - 1} of {self.source.name}, first {first}; "
                    "check its weights, or use a wider dtype"
                )
            if bad.any():
                values = np.where(bad[:, None], np.float32("nan"), values)
            if self.gather:
                self.arrays[name][inside] = values
            if self.store:
                place, shape = (batch.chunk, name), (chunk.stop - chunk.start, values.shape[1])
                whole = self.open.setdefault(place, np.empty(shape, np.float32))
                whole[batch.start - chunk.start : batch.stop - chunk.start] = values
                if batch.stop == chunk.stop:
                    write(self.keys[name], batch.chunk, self.open.pop(place))

    def features(self, keep: np.ndarray) -> Features:
        """What `extract` returns, of the rows that could be read."""
        source = self.source
        if not self.gather:
            arrays = {
                name: StoredRows(self.store, self.keys[name], len(source), e.spec.width, keep)
                for name, e in self.encoders.items()
            }
        else:
            shares = [self.rows(s[0]).start for s in self.shares if s] + [len(source)]
            arrays = {name: join_rows(a, shares) for name, a in self.arrays.items()}
            if len(keep) < len(source):
                arrays = {name: array[keep] for name, array in arrays.items()}
        return Features(
            ids=tuple(source.ids[row] for row in keep),
            labels=None if source.labels is None else source.labels[keep],
            arrays=arrays,
        )
