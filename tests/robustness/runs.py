"""A small run of `experiments.cka` in a process of its own, and what it must leave behind.

    FOLDER/out/features    36 chunks: two encoders, two domains, 36 images in chunks of four
    FOLDER/out             result.json, report.html, figures

Runs are started in FOLDER with `--out=out`, so that all of them have the same command line.
"""

import dataclasses
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MODULE = "experiments.cka"
FLAGS = (
    "--encoders=mini_vit_base,mini_mae_base",
    "--domains=texture,writing",
    "--n=36",
    "--k=5",
    "--components=4",
    "--batch_size=4",
    "--chunk_rows=4",
    "--mesh=data=1",
    "--quiet",
)
OUT = "--out=out"
PATIENCE = float(os.environ.get("SUBSTRATE_PATIENCE", "1"))  # more where other work goes first
TIMEOUT = 300 * PATIENCE


def environment(cache: Path, **more: str) -> dict[str, str]:
    """Variables of a run that keeps compiled programs in `cache` and can import the checkout."""
    own = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return os.environ | own | {"XDG_CACHE_HOME": str(cache)} | more


def start(
    folder: Path,
    cache: Path,
    *flags: str,
    program: Sequence[str] = (MODULE,),
    before: Sequence[str] = (),
    **options: Any,
) -> subprocess.Popen:
    """The run in a folder, which is made; `flags` come after those of all runs.

    `before` is what executes the command, such as `nice`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options = {"cwd": folder, "env": environment(cache), "text": True} | options
    return subprocess.Popen(
        [*before, sys.executable, "-m", *program, *FLAGS, *(flags or (OUT,))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a run ended: exit code (less than 0 for the signal that killed it), and what it said."""

    code: int
    out: str
    err: str

    @property
    def good(self) -> bool:
        """Whether it ran through and had nothing to complain of."""
        return self.code == 0 and not self.err

    def refused(self, *words: str) -> bool:
        """Whether it ended with 2 and one line that holds the words."""
        one_line = self.err.startswith("error: ") and self.err.count("\n") == 1
        return self.code == 2 and one_line and all(word in self.err for word in words)

    def __str__(self) -> str:
        return f"exit {self.code}, {self.err.strip()[-300:] or 'no message'}"


# Words of XLA and Matplotlib where other work on the machine makes all take minutes.
_SLOW = re.compile(
    r"^.*slow_operation_alarm\.cc.*\n(?:\s*\n|\*+\n|\[Compiling module .*\n)*"
    r"|^.*Matplotlib is building the font cache.*\n",
    re.MULTILINE,
)


def finish(run: subprocess.Popen) -> Ended:
    """Wait for a run."""
    try:
        out, err = run.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        run.kill()
        out, err = run.communicate()
        err += f"\nno end within {TIMEOUT:g} s"
    return Ended(run.returncode, out, _SLOW.sub("", err))


def whole(folder: Path, cache: Path, *flags: str, **options) -> Ended:
    """A run from beginning to end."""
    return finish(start(folder, cache, *flags, **options))


class Steps:
    """A run that says when each of its steps begins."""

    def __init__(self, folder: Path, cache: Path):
        receive, send = os.pipe()
        program = ("tests.robustness.staged", str(send), MODULE)
        self.process = start(folder, cache, program=program, pass_fds=[send])
        os.close(send)
        self._receive = os.fdopen(receive)

    def __iter__(self) -> Iterator[str]:
        return (line.strip() for line in self._receive)

    def finish(self) -> Ended:
        """Wait for the end."""
        ended = finish(self.process)
        self._receive.close()
        return ended


@dataclasses.dataclass(frozen=True)
class Moment:
    """So many seconds after a step has begun for the given time (1 for the first)."""

    step: str
    times: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Steps of a run that nothing disturbed, and how long each took until the next."""

    steps: tuple[tuple[str, float], ...]

    @classmethod
    def record(cls, folder: Path, cache: Path) -> "Timeline":
        """Run, and note the time of each step."""
        run = Steps(folder, cache)
        moments = [(step, time.perf_counter()) for step in run]
        ended = run.finish()
        if not ended.good:
            raise RuntimeError(f"the undisturbed run failed: {ended}")
        ends = [moment for _, moment in moments[1:]] + [time.perf_counter()]
        return cls(tuple((step, end - at) for (step, at), end in zip(moments, ends, strict=True)))

    def moments(self, rng: random.Random, count: int) -> Iterator[Moment]:
        """Moments for several runs in one folder, each further on: all steps are as likely.

        What one run has made of the features, the next does not make again.
        """
        names = [step for step, _ in self.steps]
        kinds = sorted(set(names))
        places = [
            rng.choice([i for i, name in enumerate(names) if name == kind])
            for kind in (rng.choice(kinds) for _ in range(count))
        ]
        made = 0
        for place in sorted(places):
            step, seconds = self.steps[place]
            times = names[: place + 1].count(step)
            if step == "chunk":
                times = max(1, times - made)
            yield Moment(step, times, rng.random() * seconds)
            made = names[:place].count("chunk")


_TEMPORARY = re.compile(r"\..+\.unfinished|.+\.__lock")  # of `write_file` and of tensorstore


@dataclasses.dataclass(frozen=True)
class Reference:
    """What a run that nothing disturbed has left in `out`.

    Attributes:
        files: path -> content of the features and figures, which do not vary.
        numbers: result.json without the times.
    """

    files: dict[str, bytes]
    numbers: Any

    @classmethod
    def of(cls, folder: Path) -> "Reference":
        """Read it."""
        out = folder / "out"
        found = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
        files = {name: data for name, data in found.items() if name not in _VARYING}
        return cls(files, numbers(out))

    def faults(self, out: Path, *, ended: bool, features: bool = True) -> list[str]:
        """What is wrong with an output folder.

        Args:
            out: the folder.
            ended: whether the run there has ended well: then all must be there, and no more.
            features: whether the store is in the folder.
        """
        found = [str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()]
        faults = []
        for name in found:
            data = (out / name).read_bytes()
            if name in self.files:
                if data != self.files[name]:
                    faults.append(f"{name} differs")
            elif name == "result.json":
                faults += [f"result.json: {which}" for which in differ(self.numbers, numbers(out))]
            elif name == "report.html":
                if not data.endswith(b"</html>\n") and not data.endswith(b"</html>"):
                    faults.append("report.html is not whole")
            elif ended or not _TEMPORARY.fullmatch(Path(name).name):
                faults.append(f"{name} should not be there")
        if ended:
            wanted = {*self.files, *_VARYING} - {".lock"}
            if not features:
                wanted = {name for name in wanted if not name.startswith("features/")}
            faults += [f"{name} is missing" for name in sorted(wanted - set(found))]
        return faults


def differ(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two values of JSON differ.

    Example:
        >>> differ({"a": [1, 2], "b": 3}, {"a": [1, 4]})
        ['/a/1 is 4 and not 2', '/b is missing']
    """
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        one, other = dict(enumerate(one)), dict(enumerate(other))
    if not isinstance(one, dict) or not isinstance(other, dict):
        return [] if one == other else [f"{where} is {other!r:.60} and not {one!r:.60}"]
    found = [f"{where}/{key} is new" for key in other.keys() - one.keys()]
    for key, value in one.items():
        place = f"{where}/{key}"
        found += differ(value, other[key], place) if key in other else [f"{place} is missing"]
    return found


_VARYING = ("result.json", "report.html")


def numbers(out: Path) -> Any:
    """result.json without what varies from run to run."""
    try:
        result = json.loads((out / "result.json").read_text())
    except ValueError as error:
        return f"not JSON: {error}"
    arguments = {k: v for k, v in result["arguments"].items() if k not in ("out", "store")}
    return {**result, "seconds": None, "command": None, "arguments": arguments}
