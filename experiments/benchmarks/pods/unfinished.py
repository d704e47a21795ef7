"""Programs that an unfinished run has compiled, a line of JSON each, so that the next goes on.

The file goes when the run is done: another compiles anew, for the programs may have changed. It
stays where a run of fewer programs is done, for that of more to go on.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
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

    def finish(self, done: Sequence[CompiledProgram]) -> bool:
        """Forget all, if a run is done with these and no other knows more; whether that is so."""
        last = len(self.known) == len(done)
        if last:
            self._path.unlink(missing_ok=True)
        return last


def _read(path: Path) -> Iterator[CompiledProgram]:
    for line in path.read_text().splitlines() if path.is_file() else ():
        with contextlib.suppress(json.JSONDecodeError):  # a line that a kill cut short
            row = json.loads(line)
            row["collectives"] = [Collective(**one) for one in row["collectives"]]
            yield CompiledProgram(**row)
