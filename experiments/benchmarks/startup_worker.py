"""One process of --what=startup: a launcher as a user starts it, or the first calls of the kernels.

    python -X importtime -m experiments.benchmarks.startup_worker OUT.json cka --out=...
    python -m experiments.benchmarks.startup_worker OUT.json kernels

Leaves what jax's monitoring heard: seconds of tracing, lowering and compiling, and programs.
"""

import collections
import json
import resource
import runpy
import sys
import time
from pathlib import Path

# Events of jax's monitoring, which are not nested in one another.
EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
    "/jax/core/compile/backend_compile_duration": "compiling",
}
ROWS, WIDTHS = 20, (5, 7, 6)


class Heard:
    """Seconds by what they were spent on, and how often."""

    def __init__(self):
        import jax.monitoring

        self.seconds: dict[str, float] = {}
        self.times: collections.Counter[str] = collections.Counter()
        jax.monitoring.register_event_duration_secs_listener(self._hear)

    def _hear(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        if name := EVENTS.get(event):
            self.seconds[name] = self.seconds.get(name, 0.0) + duration_secs
            self.times[name] += 1


def first_calls(heard: Heard) -> list[dict]:
    """Each measure of the table called twice, uncompiled, on a few rows."""
    import jax
    import numpy as np

    from substrate_jax.kernels import MEASURES, calibrate_cka

    rng = np.random.default_rng(0)
    blocks = [jax.numpy.asarray(rng.normal(size=(ROWS, d)), "float32") for d in WIDTHS]
    calls = {name: measure.compute for name, measure in MEASURES.items()}
    rows = []
    for name, call in {**calls, "calibrate_cka": calibrate_cka}.items():
        seconds, programs = [], []
        for _ in range(2):
            before, start = heard.times["compiling"], time.perf_counter()
            jax.block_until_ready(call(blocks))
            seconds.append(time.perf_counter() - start)
            programs.append(heard.times["compiling"] - before)
        rows.append({"kernel": name, "seconds": seconds, "programs": programs})
    return rows


def main() -> None:
    """Run, and leave what was heard, however the run ends."""
    path, what, *arguments = sys.argv[1:]
    heard, found = Heard(), {}
    try:
        if what == "kernels":
            found["calls"] = first_calls(heard)
        else:
            sys.argv = [what, *arguments]
            runpy.run_module(f"experiments.{what}", run_name="__main__", alter_sys=True)
    finally:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak *= 1 if sys.platform == "darwin" else 1024
        found |= heard.seconds | {"programs": heard.times["compiling"], "peak": peak}
        Path(path).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
