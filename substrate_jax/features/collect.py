"""Features as they come in: from the store, from the devices, at last from the other processes.

A chunk goes to the store when its last batch is in, whole; a row of NaN in it stands for an image
that cannot be read. Blocks are held in memory only where they are gathered; otherwise this holds
the chunks that are not whole yet, and the result reads rows from the store.
"""

import concurrent.futures
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from jaxtyping import Array, Bool, Float, Int64

from substrate_jax.features.features import Features, StoredRows
from substrate_jax.features.pixels import Batch, Pixels
from substrate_jax.features.plan import Plan
from substrate_jax.features.store import CHUNKS_AHEAD
from substrate_jax.processes import join_rows


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


class Collected:
    """The features of this process's chunks so far, and the rows that cannot be read.

    Args:
        plan: of the call, under the fingerprint that all processes agreed on.
    """

    def __init__(self, plan: Plan):
        self._plan = plan
        n = len(plan.source)
        self._bad = np.zeros(n, bool)
        self._reasons: dict[int, str] = {}
        self._keys: dict[str, str] = {}
        if plan.store is not None:
            known = plan.determinants.items()
            self._keys = {name: plan.store.key(record) for name, record in known}
        self._arrays = {
            name: np.zeros((n, encoder.spec.width), np.float32)
            for name, encoder in plan.encoders.items()
            if plan.gather
        }
        self._unfinished: dict[tuple[int, str], np.ndarray] = {}  # chunks, for the store

    def restore(self) -> dict[int, set[str]]:
        """Take from the store what it has; chunk -> the encoders that it lacks."""
        plan, store = self._plan, self._plan.store
        missing = {chunk: set(plan.encoders) for chunk in plan.chunks}
        if store is None:
            return missing
        for known in plan.determinants.values():
            store.describe(known)

        def read(place: tuple[str, int]) -> np.ndarray | None:
            (name, chunk), rows = place, plan.rows(place[1])
            width = plan.encoders[name].spec.width
            return store.read(self._keys[name], chunk, rows.stop - rows.start, width)

        places = [(name, chunk) for name in self._keys for chunk in plan.chunks]
        with concurrent.futures.ThreadPoolExecutor(CHUNKS_AHEAD, "store") as pool:
            for start in range(0, len(places), CHUNKS_AHEAD):
                some = places[start : start + CHUNKS_AHEAD]
                for (name, chunk), values in zip(some, pool.map(read, some), strict=True):
                    if values is not None:
                        rows = plan.rows(chunk)
                        missing[chunk].discard(name)
                        self._bad[rows] |= np.isnan(values).all(axis=1)
                        if plan.gather:
                            self._arrays[name][rows] = values
        return missing

    def readable(self, pixels: Iterable[Pixels]) -> Iterator[Pixels]:
        """The batches to compute; their unreadable rows are noted.

        Without `skip_bad` the first unreadable row fails the call: the rest is read only to count.
        """
        for decoded in pixels:
            self._reasons.update(decoded.unreadable)
            self._bad[list(decoded.unreadable)] = True
            if self._plan.skip_bad or not self._bad.any():
                yield decoded

    def add(
        self, batch: Batch, results: Mapping[str, Array], write: Callable[..., None] | None
    ) -> None:
        """Take a batch from the devices, and have its chunk written when that is whole.

        Args:
          batch: which rows.
          results: encoder name -> float32 [n, d], padded.
          write: of `store.written_behind`.

        Raises:
          ValueError: NaN or infinity in a row that could be read.
        """
        chunk, inside = self._plan.rows(batch.chunk), slice(batch.start, batch.stop)
        bad = self._bad[inside]
        for name, result in results.items():
            values = np.asarray(result)[: batch.stop - batch.start]
            self._check_finite(name, batch, values, bad)
            if bad.any():
                values = np.where(bad[:, None], np.float32("nan"), values)
            if self._plan.gather:
                self._arrays[name][inside] = values
            if write is not None:
                place, shape = (batch.chunk, name), (chunk.stop - chunk.start, values.shape[1])
                whole = self._unfinished.setdefault(place, np.empty(shape, np.float32))
                whole[batch.start - chunk.start : batch.stop - chunk.start] = values
                if batch.stop == chunk.stop:
                    write(self._keys[name], batch.chunk, self._unfinished.pop(place))

    def _check_finite(self, name: str, batch: Batch, values: np.ndarray, bad: np.ndarray) -> None:
        wrong = ~finite_rows(values) & ~bad
        if wrong.any():
            source, rows = self._plan.source, np.flatnonzero(wrong)
            first = ", ".join(source.ids[batch.start + row] for row in rows[:3])
            raise ValueError(
                f"encoder {name} gives NaN or infinity in {len(rows)} of rows {batch.start} "
                f"to {batch.stop - 1} of {source.name}, first {first}; "
                "check its weights, or use a wider dtype"
            )

    def unreadable(self) -> list[tuple[int, str | None]]:
        """Rows that cannot be read, and why where that is known."""
        return [(int(row), self._reasons.get(int(row))) for row in np.flatnonzero(self._bad)]

    def features(self, keep: Int64[np.ndarray, " m"]) -> Features:
        """What `extract` returns, of the rows to keep; all processes must call it."""
        plan, source = self._plan, self._plan.source
        if plan.gather or plan.store is None:
            starts = [plan.rows(share[0]).start for share in plan.shares if share] + [len(source)]
            arrays = {name: join_rows(block, starts) for name, block in self._arrays.items()}
            if len(keep) < len(source):
                arrays = {name: block[keep] for name, block in arrays.items()}
        else:
            arrays = {
                name: StoredRows(
                    plan.store, self._keys[name], len(source), encoder.spec.width, keep
                )
                for name, encoder in plan.encoders.items()
            }
        return Features(
            ids=tuple(source.ids[row] for row in keep),
            labels=None if source.labels is None else source.labels[keep],
            arrays=arrays,
            label_names=source.label_names,
        )
