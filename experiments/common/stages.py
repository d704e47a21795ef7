"""Stages of a run: the seconds that each takes, and how far it is."""

import contextlib
import time
from collections.abc import Callable, Iterator

from absl import flags

FLAGS = flags.FLAGS


class Stages:
    """Seconds spent in named stages of a run."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    @contextlib.contextmanager
    def __call__(self, name: str, *, alone: bool = False) -> Iterator[None]:
        """Add the time of the block to a stage.

        Args:
            name: of the stage.
            alone: draw a bar of one step, where the block draws none of its own.
        """
        start = time.perf_counter()
        with progress_bar(name, 1, "step") if alone else contextlib.nullcontext() as progress:
            yield
            if progress:
                progress(1, 1)
        self.seconds[name] = round(self.seconds.get(name, 0) + time.perf_counter() - start, 3)

    def total(self) -> dict[str, float]:
        """All stages, and the time since the beginning."""
        return self.seconds | {"total": round(time.perf_counter() - self._start, 3)}


@contextlib.contextmanager
def progress_bar(label: str, total: int, unit: str) -> Iterator[Callable[[int, int], object]]:
    """A callback `(done, total)` that draws a bar or prints lines, unless --quiet.

    In a run of several processes all say how far they are, so that one that falls silent is seen.
    """
    import jax

    from substrate_jax import progress

    number, count = jax.process_index(), jax.process_count()
    before = f"process {number} of {count}: " if count > 1 else None
    with progress.progress_bar(None if FLAGS.quiet else label, total, unit, before=before) as bar:
        yield lambda done, total: bar.update(done - bar.n)
