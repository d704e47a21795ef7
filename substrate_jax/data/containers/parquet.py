"""Images or texts in Parquet files: `parquet:PATH[?image=NAME&label=NAME&id=NAME&text=NAME]`.

PATH is a file, a folder of `.parquet` files, or a pattern. Without a column of ids a row is called
FILE/row, FILE being its path below the folder without its suffix. `tables` says which columns are
taken. Read by pyarrow (extra `files`).

Cost: a row is read with its row group, of which the last `MOST_HELD` bytes are kept. Hugging Face
writes groups of 100 images; groups of more than 2 GiB are refused.

Not guaranteed: ids without a column of them, if the set is spread over other files.

References: https://parquet.apache.org/docs/file-format/.
"""

import bisect
import collections
import itertools
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from substrate_jax.data.containers import tables
from substrate_jax.data.containers.files import find_shards, versions
from substrate_jax.data.decode import Orientation, UnreadableImage
from substrate_jax.data.optional import optional
from substrate_jax.data.paths import one_line, readable
from substrate_jax.data.sources import Source

MOST_HELD = 512 * 2**20  # bytes of row groups


def open_parquet(
    pattern: str, options: Mapping[str, str], orientation: Orientation = "ignore"
) -> Source:
    """Images in one or several Parquet files.

    Args:
      pattern: a file, a folder or a pattern; see `files.find_shards`.
      options: `image`, `label`, `id` and `text`: columns, `none` for no labels or ids.
      orientation: see `decode.decode_image`.

    Returns:
      A source in the order of the files.

    Raises:
      ValueError: pyarrow is not installed, nothing is there, a file is damaged or unlike the
        others, or it is not clear which columns are meant.
    """
    what = f"parquet:{readable(pattern)}"
    optional("pyarrow.parquet", what, tables.EXTRA)
    files, names = find_shards(pattern, (".parquet", ".pq"), what)
    table = ParquetTable(files, what)
    row_ids = [
        f"{name}/{row:06d}"
        for name, count in zip(names, table.counts, strict=True)
        for row in range(count)
    ]
    return tables.open_table(table, options, what, row_ids, versions(files), orientation)


class ParquetTable:
    """Rows of Parquet files; see `tables.Table`.

    Args:
      files: in order.
      what: the spec, for messages.

    Raises:
      ValueError: a file is damaged, or has other columns than the first.
    """

    def __init__(self, files: Sequence[Path], what: str):
        import pyarrow.parquet

        self._files, self._what = list(files), what
        self._metadata, self.counts = [], []
        groups: list[tuple[int, int]] = []
        sizes: list[int] = []
        for number, file in enumerate(files):
            name = f"{what}: {readable(str(file))}"
            try:
                metadata = pyarrow.parquet.read_metadata(file)
                schema = metadata.schema.to_arrow_schema()
            except Exception as error:  # whatever Arrow says of a damaged file
                raise self._damaged(number, error) from error
            tables.check_rows(metadata.num_rows, file.stat().st_size, name)
            if number == 0:
                self.schema = schema
            if not schema.equals(self.schema, check_metadata=False):
                raise ValueError(
                    f"{name} has columns {', '.join(schema.names)} of other kinds than "
                    f"{readable(str(files[0]))}; give files of one kind"
                )
            for group in range(metadata.num_row_groups):
                about = metadata.row_group(group)
                tables.check_group(about.total_byte_size, name)
                groups.append((number, group))
                sizes.append(about.num_rows)
            if sum(sizes) != metadata.num_rows + sum(self.counts) or min(sizes, default=0) < 0:
                raise ValueError(f"{name} contradicts itself on its rows; write it again")
            self.counts.append(metadata.num_rows)
            self._metadata.append(metadata)
        self._groups, self._ends = groups, list(itertools.accumulate(sizes))
        self.rows = sum(self.counts)
        self._hold()

    def _hold(self) -> None:
        self._held: collections.OrderedDict[int, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {key: of for key, of in self.__dict__.items() if key not in ("_held", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._hold()

    def column(self, name: str) -> list[Any]:
        """Every value of a column."""
        found: list[Any] = []
        for number in range(len(self._files)):
            try:
                with self._file(number) as file:
                    values = file.read(columns=[name]).column(name)
                    values.validate(full=True)
                    found += values.to_pylist()
            except Exception as error:  # of Arrow
                raise self._damaged(number, error) from error
        return found

    def image(self, row: int, name: str) -> Any:
        """One value of the column of images, which is always the same one."""
        group = bisect.bisect_right(self._ends, row)
        first = self._ends[group - 1] if group else 0
        with self._lock:  # reading a group is no faster from two threads
            values = self._held.pop(group, None)
            if values is None:
                values = self._read(group, name)
            self._held[group] = values  # as the latest
            while len(self._held) > 1 and sum(v.nbytes for v in self._held.values()) > MOST_HELD:
                self._held.popitem(last=False)
        return values[row - first].as_py()

    def _read(self, group: int, name: str) -> Any:
        number, inside = self._groups[group]
        try:
            with self._file(number) as file:
                values = file.read_row_group(inside, columns=[name]).column(name)
            values.validate(full=True)
        except Exception as error:  # of Arrow
            raise UnreadableImage(str(self._damaged(number, error))) from error
        return values

    def _file(self, number: int) -> Any:
        import pyarrow.parquet

        return pyarrow.parquet.ParquetFile(self._files[number], metadata=self._metadata[number])

    def _damaged(self, number: int, error: Exception) -> ValueError:
        return ValueError(
            f"{self._what}: {readable(str(self._files[number]))} is no whole Parquet file "
            f"({one_line(error, 200)}); write or fetch it again"
        )
