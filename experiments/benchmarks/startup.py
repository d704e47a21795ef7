"""What one waits for at first: launchers from nothing and again, and the first call of a kernel.

Each launcher runs as a user starts it, by its name alone: first with an empty folder for compiled
programs, then once more with what that run left there, its features included. The process says how
long jax traced, lowered and compiled (reading a kept program is compiling), Python how long it
imported, and result.json how long figures were drawn; what is left is running and reading. Threads
that compile at once count each.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .results import FirstCall, LauncherStart, SkippedStep

LAUNCHERS = ("cka", "crossmodal", "detector", "domains", "layers", "probe", "transferability")
WORKER = "experiments.benchmarks.startup_worker"
ROOT = Path(__file__).parents[2]
_IMPORT = re.compile(r"^import time:\s+(\d+) \|", re.MULTILINE)


def measure_launchers(
    names: tuple[str, ...], seconds_left: Callable[[], float], flags: tuple[str, ...] = ()
) -> Iterator[LauncherStart | SkippedStep]:
    """Each launcher from nothing and again, as they are measured, or what did not fit.

    Args:
        names: of launchers.
        seconds_left: of the budget; a launcher is left out where the longest so far would pass it.
        flags: of each run, beside --out.

    Raises:
        ValueError: a launcher that fails.
    """
    longest = 0.0
    for name in names:
        if seconds_left() <= longest:
            yield SkippedStep(name, "startup", longest)
            continue
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            for again in (False, True):
                command = [name, f"--out={Path(folder) / 'out'}", "--quiet", *flags]
                seconds, found, said = _run(Path(folder), command, ("-X", "importtime"))
                stages = json.loads((Path(folder) / "out" / "result.json").read_text())["seconds"]
                yield LauncherStart(
                    launcher=name,
                    again=again,
                    seconds=seconds,
                    importing=sum(map(int, _IMPORT.findall(said))) / 1e6,
                    tracing=found.get("tracing", 0.0),
                    lowering=found.get("lowering", 0.0),
                    compiling=found.get("compiling", 0.0),
                    programs=found["programs"],
                    drawing=stages.get("report", 0.0),
                    peak_memory_bytes=found["peak"],
                )
        longest = max(longest, time.perf_counter() - begin)


def measure_kernels() -> list[FirstCall]:
    """The first and the second call of each measure, on a few rows."""
    with tempfile.TemporaryDirectory() as folder:
        _, found, _ = _run(Path(folder), ["kernels"])
    return [FirstCall(row["kernel"], *row["seconds"], *row["programs"]) for row in found["calls"]]


def _run(
    folder: Path, command: list[str], options: tuple[str, ...] = ()
) -> tuple[float, Mapping[str, Any], str]:
    """Seconds of a worker's process, what it left, and what it said."""
    left = folder / "heard.json"
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *options, "-m", WORKER, str(left), *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if not line.startswith("import time")]
        raise ValueError(f"{command[0]} ended with {done.returncode}: {(lines or ['?'])[-1]}")
    return seconds, json.loads(left.read_text()), done.stderr
