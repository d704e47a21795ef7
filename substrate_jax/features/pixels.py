"""Batches of pixels, or of sounds, decoded ahead of the devices in threads or in worker processes.

Every image is decoded once and brought to each distinct resize and crop that the encoders of its
batch ask for. Threads suit a few cores: Pillow lets go of Python's lock while it decodes and
resamples. On hosts with many cores that lock is the limit, and worker processes (grain) decode
whole batches and hand them over in shared memory. Both give the same bytes in the same order.

Cost: a batch of n images takes n s^2 3 bytes for each distinct resize to side s; `PREFETCH`
batches are held ahead, per worker where there are processes.
"""

import collections
import concurrent.futures
import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from substrate_jax.data.modality import AnyPreprocess
from substrate_jax.data.sources import Source
from substrate_jax.data.unreadable import Unreadable

PREFETCH = 2  # batches decoded ahead of the one being computed


class Batch(NamedTuple):
    """Rows start to stop - 1 of a source, all of one chunk, and how they are wanted."""

    chunk: int
    start: int
    stop: int
    resizes: tuple[AnyPreprocess, ...]  # one of each distinct `pixels` key


class Pixels(NamedTuple):
    """A decoded batch: an array for each resize, padded with zeros; why rows are unreadable."""

    batch: Batch
    arrays: Mapping[tuple, Shaped[np.ndarray, "n ..."]]  # of pixels uint8 [n, s, s, 3]
    unreadable: Mapping[int, str]


def decode_ahead(
    batches: Sequence[Batch], source: Source, rows: int, workers: int = 0
) -> Iterator[Pixels]:
    """Decode batches in order.

    Args:
      batches: what to decode.
      source: the images.
      rows: length of the arrays; shorter batches are padded.
      workers: processes; 0 for threads of this one.

    Yields:
      `Pixels` of each batch.
    """
    if workers:
        yield from _by_processes(batches, source, rows, workers)
    else:
        yield from _by_threads(batches, source, rows)


def _blank(batch: Batch, rows: int) -> dict[tuple, np.ndarray]:
    return {spec.pixels: np.zeros((rows, *spec.shape), spec.dtype) for spec in batch.resizes}


def _decode_row(source: Source, batch: Batch, row: int, arrays) -> str | None:
    """Fill one row of the arrays, or say why it cannot be."""
    try:
        found = source.read(row)
        for spec in batch.resizes:
            arrays[spec.pixels][row - batch.start] = spec.prepare(found)
    except Unreadable as error:
        return str(error)
    return None


def _by_threads(batches: Sequence[Batch], source: Source, rows: int) -> Iterator[Pixels]:
    pool = concurrent.futures.ThreadPoolExecutor(min(32, (os.cpu_count() or 1) + 2), "decode")

    def submit(batch: Batch):
        arrays = _blank(batch, rows)
        numbers = range(batch.start, batch.stop)
        jobs = {row: pool.submit(_decode_row, source, batch, row, arrays) for row in numbers}
        return batch, arrays, jobs

    try:
        ahead = collections.deque()
        for batch in [*batches, *[None] * PREFETCH]:
            if batch is not None:
                ahead.append(submit(batch))
            if len(ahead) > PREFETCH or (batch is None and ahead):
                ready, arrays, jobs = ahead.popleft()
                answers = {row: job.result() for row, job in jobs.items()}
                yield Pixels(ready, arrays, {r: a for r, a in answers.items() if a is not None})
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _DecodeBatch:
    """Number of a batch -> its arrays in order of `resizes`, and reasons; runs in a worker."""

    def __init__(self, batches: Sequence[Batch], source: Source, rows: int):
        self.batches, self.source, self.rows = batches, source, rows

    def __call__(self, number: int) -> tuple[list[np.ndarray], dict[str, str]]:
        batch = self.batches[number]
        arrays = _blank(batch, self.rows)
        reasons = {
            str(row): _decode_row(self.source, batch, row, arrays)
            for row in range(batch.start, batch.stop)
        }
        unreadable = {row: reason for row, reason in reasons.items() if reason is not None}
        return list(arrays.values()), unreadable


def _by_processes(
    batches: Sequence[Batch], source: Source, rows: int, workers: int
) -> Iterator[Pixels]:
    # Only runs that ask for processes pay for the import.
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():  # in a notebook; grain reads flags of its own
        flags.FLAGS.mark_as_parsed()
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=PREFETCH)
    decoded = (
        grain.MapDataset.range(len(batches))
        .map(_DecodeBatch(batches, source, rows))
        # Each worker decodes one batch at a time: there are as many workers as wanted.
        .to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        .mp_prefetch(options)
    )
    with contextlib.closing(iter(decoded)) as results:
        for batch, (arrays, reasons) in zip(batches, results, strict=True):
            keys = _blank(batch, 0)
            by_key = {key: np.array(array) for key, array in zip(keys, arrays, strict=True)}
            yield Pixels(batch, by_key, {int(row): reason for row, reason in reasons.items()})
