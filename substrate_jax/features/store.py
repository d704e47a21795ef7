"""Features on disk in checked chunks, so that a killed run goes on where it stopped.

    STORE/KEY/manifest.json      what determined KEY, to be read by people
    STORE/KEY/000042.npy         rows 42 c to 43 c - 1, float32 [c, d], then a sha256

KEY is a hash of everything that determines the rows: encoder weights and architecture, source
and row ids, preprocessing, dtype, version of this package, chunk length c and `FORMAT`. Change one
and other rows are read; there is nothing to invalidate. Files appear whole or not at all
(tensorstore writes under a lock and renames); a chunk's digest tells damage that came later, and a
damaged chunk is computed again. `numpy.load` reads a chunk as it is and ignores the digest. A row
of NaN stands for an image that could not be read: features that are not finite are never stored.

Two runs may share a store: each chunk is replaced in one step by one with the same meaning, and at
worst is computed twice. A path is a local folder, or a URL that tensorstore knows (gs://BUCKET/...,
s3://BUCKET/...).

Cost: 4 n d bytes per source and encoder, hashed once on writing and once on reading.

Not guaranteed: the batch size, the mesh, the backend and the version of jax are not in the key.
They change rows by rounding, so a run resumed under another of them is equal to an uninterrupted
one within rounding; resumed under the same it is equal bit for bit. A killed run may leave a
lock file beside a chunk; it is never read and stops nobody.
"""

import collections
import concurrent.futures
import contextlib
import functools
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorstore
from jaxtyping import Float32

FORMAT = 1
DEFAULT_CHUNK_ROWS = 512
CHUNKS_AHEAD = 4  # read at one time, or waiting to be written
_DIGEST_BYTES = 32


class FeatureStore:
    """Chunks of features by key and chunk number.

    Args:
      path: local folder or URL; made when first written to.
      chunk_rows: rows per chunk, at least 1. The most work that a kill can lose, and the largest
        batch.

    Raises:
      ValueError: `chunk_rows` is not positive.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     store = FeatureStore(folder, chunk_rows=2)
      ...     key = store.key({"encoder": "one"})
      ...     store.write(key, 0, np.ones((2, 3), np.float32))
      ...     store.read(key, 0, 2, 3).sum(), store.read(key, 1, 2, 3)
      (np.float32(6.0), None)
    """

    def __init__(self, path: str | os.PathLike, chunk_rows: int = DEFAULT_CHUNK_ROWS):
        if chunk_rows < 1:
            raise ValueError(f"chunk_rows={chunk_rows}: give at least 1")
        self.path = os.fspath(path)
        self.chunk_rows = chunk_rows

    @functools.cached_property
    def _files(self) -> tensorstore.KvStore:
        spec = self.path.rstrip("/") + "/"
        if "://" not in spec:
            spec = {"driver": "file", "path": os.path.abspath(self.path) + "/"}
        return self._try(lambda: tensorstore.KvStore.open(spec).result())

    def key(self, determinants: Mapping) -> str:
        """Hash of a JSON-like record, of `chunk_rows` and of the format."""
        return hashlib.sha256(self._record(determinants).encode()).hexdigest()[:32]

    def _record(self, determinants: Mapping) -> str:
        record = {**determinants, "chunk_rows": self.chunk_rows, "format": FORMAT}
        return json.dumps(record, sort_keys=True, indent=1)

    def describe(self, determinants: Mapping) -> None:
        """Write the manifest of a key, unless it is there."""
        manifest = f"{self.key(determinants)}/manifest.json"
        if self._try(lambda: self._files.read(manifest).result()).state != "value":
            self._write(manifest, self._record(determinants).encode())

    def read(
        self, key: str, chunk: int, rows: int, width: int
    ) -> Float32[np.ndarray, "c d"] | None:
        """One chunk, or None if it is absent, damaged or of another shape.

        Args:
          key: from `key`.
          chunk: number of the chunk, from 0.
          rows: rows expected; the last chunk of a source may be shorter.
          width: features per row expected.

        Returns:
          float32 [rows, width], or None.
        """
        answer = self._try(lambda: self._files.read(_name(key, chunk)).result())
        if answer.state != "value":
            return None
        data = answer.value
        body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        if _digest(key, chunk, body) != digest:
            return None
        try:
            values = np.load(io.BytesIO(body), allow_pickle=False)
        except ValueError:  # no array of numbers, though whole
            return None
        if values.shape != (rows, width) or values.dtype != np.float32:
            return None
        return values

    def write(self, key: str, chunk: int, values: Float32[np.ndarray, "c d"]) -> None:
        """Write one chunk in one step: a reader sees all of it or none."""
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(values, np.float32), allow_pickle=False)
        body = buffer.getvalue()
        self._write(_name(key, chunk), body + _digest(key, chunk, body))

    def _write(self, name: str, data: bytes) -> None:
        self._try(lambda: self._files.write(name, data).result())

    def _try(self, action):
        """tensorstore's errors as one line that says what is left to do."""
        try:
            return action()
        except (ValueError, OSError, RuntimeError) as error:
            reason = str(error).split(" [")[0]
            raise ValueError(
                f"store {self.path!r}: {reason}; make room or correct the path, and run again: "
                "finished chunks are kept"
            ) from error


@contextlib.contextmanager
def written_behind(store: FeatureStore | None) -> Iterator[Callable[..., None] | None]:
    """`store.write` in a thread of its own, in order, a few chunks behind; all of them at the end.

    A write that fails raises at a later call, or at the end. None without a store.
    """
    if store is None:
        yield None
        return
    waiting: collections.deque[concurrent.futures.Future] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(1, "store") as pool:

        def write(key: str, chunk: int, values: Float32[np.ndarray, "c d"]) -> None:
            waiting.append(pool.submit(store.write, key, chunk, values))
            if len(waiting) > CHUNKS_AHEAD:
                waiting.popleft().result()

        yield write
        for written in waiting:
            written.result()


def _name(key: str, chunk: int) -> str:
    return f"{key}/{chunk:06d}.npy"


def _digest(key: str, chunk: int, body: bytes) -> bytes:
    """Of the place as well as the bytes: a chunk copied to another place is damage too."""
    return hashlib.sha256(f"{key}/{chunk}\n".encode() + body).digest()
