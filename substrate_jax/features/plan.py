"""What one call of `extract` computes, and which process computes which part.

n rows are cut into chunks of c, those of the store where there is one, and a chunk into batches of
b <= c rows; a batch never crosses a chunk's edge. With P processes, process p has the chunks

    p s <= chunk < (p + 1) s,    s = ceil(ceil(n / c) / P)

so the last process may have fewer, or none. Without a store a chunk is one batch.

Where encoders take turns on the devices, a process goes through its chunks in spans: the pixels of
a span are decoded once and kept on the host while one group of encoders after another passes over
them. A span has as many chunks as `HOST_PIXELS` holds.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import jax
from jax.sharding import Mesh

from substrate_jax.data.modality import check_modality, row_bytes
from substrate_jax.data.sources import Source, digest
from substrate_jax.features import processes
from substrate_jax.features.pixels import Batch
from substrate_jax.features.protocol import Extractor
from substrate_jax.features.store import FeatureStore
from substrate_jax.mesh import DATA_AXIS, local_mesh, make_mesh

HOST_PIXELS = 2**30  # bytes of decoded images kept for several passes of encoders

# Chunk -> the encoders whose features of it are to be computed.
Missing = Mapping[int, AbstractSet[str]]


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """One call of `extract`, before anything is computed; alike in all processes.

    Attributes:
        encoders: by name, in the order given.
        source: the images.
        store: where features are kept, if they are.
        gather: whether every process will hold all features.
        skip_bad: whether images that cannot be read are left out.
        mesh: this process's devices.
        batch_rows: rows this process computes at once, a multiple of the mesh's data axis.
        chunk_rows: rows per chunk; the last may have fewer.
        shares: the chunks of each process.
        determinants: encoder name -> what decides its rows, see `processes.determinants`.
        given: what this process was given, see `processes.given`.
    """

    encoders: Mapping[str, Extractor]
    source: Source
    store: FeatureStore | None
    gather: bool
    skip_bad: bool
    mesh: Mesh
    batch_rows: int
    chunk_rows: int
    shares: Sequence[range]
    determinants: Mapping[str, Mapping[str, Any]]
    given: Mapping[str, Any]

    @property
    def chunks(self) -> range:
        """This process's share."""
        return self.shares[jax.process_index()]

    def rows(self, chunk: int) -> slice:
        """The rows of a chunk."""
        return slice(chunk * self.chunk_rows, min((chunk + 1) * self.chunk_rows, len(self.source)))

    def batches(self, chunks: Sequence[int], missing: Missing) -> Iterator[Batch]:
        """What to decode of these chunks, for all encoders that lack them."""
        for chunk in chunks:
            specs = [self.encoders[name].spec for name in missing[chunk]]
            resizes = {spec.preprocess.pixels: spec.preprocess for spec in specs}
            rows = self.rows(chunk)
            for start in range(rows.start, rows.stop, self.batch_rows):
                stop = min(start + self.batch_rows, rows.stop)
                yield Batch(chunk, start, stop, tuple(resizes.values()))

    def spans(self, chunks: Sequence[int], passes: int) -> Iterator[Sequence[int]]:
        """These chunks at once, or for several passes as many as have their pixels kept."""
        if not chunks:
            return
        size = len(chunks)
        if passes > 1:
            resizes = {e.spec.preprocess.pixels: e.spec.preprocess for e in self.encoders.values()}
            row = sum(map(row_bytes, resizes.values()))
            size = max(1, HOST_PIXELS // (row * self.chunk_rows))
        for start in range(0, len(chunks), size):
            yield chunks[start : start + size]

    def with_fingerprint(self, fingerprint: str) -> "Plan":
        """The plan under the fingerprint of the source that all processes agreed on."""
        agreed = {
            name: {**known, "source_fingerprint": fingerprint}
            for name, known in self.determinants.items()
        }
        return dataclasses.replace(self, determinants=agreed)


def make_plan(
    encoders: Sequence[Extractor],
    source: Source,
    *,
    mesh: Mesh | None,
    store: FeatureStore | str | os.PathLike | None,
    batch_size: int,
    gather: bool,
    skip_bad: bool,
) -> Plan:
    """The plan of `extract`, whose arguments these are.

    Raises:
      ValueError: no encoder, two of one name, one of sounds for images or the reverse, a batch
        without rows, or no store to read from.
    """
    by_name = {encoder.spec.name: encoder for encoder in encoders}
    if not by_name or len(by_name) < len(encoders):
        names = [encoder.spec.name for encoder in encoders]
        raise ValueError(f"encoders={names}: give at least one, and none twice")
    for encoder in encoders:
        check_modality(encoder.spec, source)
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: give at least 1")
    if store is None and not gather:
        raise ValueError("gather=False needs a store to read rows from; give store=FOLDER")
    if store is not None and not isinstance(store, FeatureStore):
        store = FeatureStore(store)
    everywhere = mesh or make_mesh()
    here = local_mesh(everywhere)
    n, longest = len(source), store.chunk_rows if store else len(source)
    device_rows = -(-min(batch_size, n, longest) // everywhere.shape[DATA_AXIS])
    batch_rows = device_rows * here.shape[DATA_AXIS]
    chunk_rows = store.chunk_rows if store else batch_rows
    chunks, count = -(-n // chunk_rows), jax.process_count()
    share = -(-chunks // count)
    ids = digest(*source.ids)
    determinants = {
        name: processes.determinants(encoder, source, ids) for name, encoder in by_name.items()
    }
    options = [batch_rows, chunk_rows, gather, skip_bad, store is not None]
    return Plan(
        encoders=by_name,
        source=source,
        store=store,
        gather=gather,
        skip_bad=skip_bad,
        mesh=here,
        batch_rows=batch_rows,
        chunk_rows=chunk_rows,
        shares=[range(p * share, min((p + 1) * share, chunks)) for p in range(count)],
        determinants=determinants,
        given=processes.given(determinants, source, ids, options),
    )
