"""Programs that an unfinished run has compiled, a line of JSON each, so that the next goes on.

The file goes when the run is done: another compiles anew, for the programs may have changed.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from substrate_jax.report.values import plain

from .reading import Collective
from .results import CompiledProgram


class Unfinished:
    """What a run has compiled so far.

    Args:
        path: of the file; what it holds of a run before is `known`.
    """

    def __init__(self, path: Path):
        self._path = path
        self.known = {(row.topology, row.program): row for row in _read(path)}

    def keep(self, row: CompiledProgram) -> None:
        """Add a program."""
        self.known[row.topology, row.program] = row
        with self._path.open("a") as file:
            file.write(json.dumps(plain(row)) + "\n")

    def finish(self) -> None:
        """Forget all."""
        self._path.unlink(missing_ok=True)


def _read(path: Path) -> Iterator[CompiledProgram]:
    for line in path.read_text().splitlines() if path.is_file() else ():
        with contextlib.suppress(json.JSONDecodeError):  # a line that a kill cut short
            row = json.loads(line)
            row["collectives"] = [Collective(**one) for one in row["collectives"]]
            yield CompiledProgram(**row)
