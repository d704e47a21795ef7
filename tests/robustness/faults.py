"""What can go wrong around a run, and what is lost by it: nothing.

    python -m tests.robustness.faults           each fault a few times, about two minutes
    python -m tests.robustness.faults --long    a hundred kills, and faults that need more room

Each fault is done to small runs of `experiments.cka`. After it, and after the same command has been
run again, features must be the bits, and numbers the values, of a run that nothing disturbed. What
differs is printed, and the exit code is then 1. SUBSTRATE_PATIENCE=5 gives every run five times as
long, for a machine where other work goes first.
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.robustness.runs import (
    OUT,
    PATIENCE,
    Ended,
    Moment,
    Reference,
    Steps,
    Timeline,
    environment,
    finish,
    start,
    whole,
)

MIB = 2**20
FUTURE, LONG_AGO = 4e9, 1.0  # seconds since 1970: in the year 2096, and in 1970
PROMPT = 10.0 * PATIENCE  # seconds that a run may take to end on a signal
SIGNALS: dict[signal.Signals, int] = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}
_LAST_WORDS: dict[signal.Signals, str] = {
    number: f"{word}; the same command goes on where this one stopped\n"
    for number, word in {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}.items()
}


@dataclasses.dataclass
class Tally:
    """Runs that suffered a fault, and what was lost.

    Attributes:
        fault: what was done.
        runs: how often.
        lost: what was not as it must be.
        note: what else was seen.
    """

    fault: str
    runs: int = 0
    lost: list[str] = dataclasses.field(default_factory=list)
    note: str = ""

    def check(self, good: bool, otherwise: object) -> None:
        """Note a loss unless all is good."""
        if not good:
            self.lose([str(otherwise)])

    def lose(self, losses: Sequence[str]) -> None:
        """Note losses, and say so at once."""
        self.lost += losses
        for loss in losses:
            print(f"LOST: {self.fault}: {loss}", file=sys.stderr, flush=True)


class Laboratory:
    """A folder for runs; of two that nothing disturbs only the first compiles programs.

    Args:
        folder: empty.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.cache = folder / "cache"  # of compiled programs
        self.undisturbed = folder / "undisturbed"
        self.cold = Timeline.record(self.undisturbed, self.cache)
        self.reference = Reference.of(self.undisturbed)
        self._made = 0

    @functools.cached_property
    def warm(self) -> Timeline:
        """Of a second run that nothing disturbs, which must not differ from the first."""
        again = self.place()
        timeline = Timeline.record(again, self.cache)
        if faults := self.reference.faults(again / "out", ended=True):
            raise RuntimeError(f"two undisturbed runs differ: {faults}")
        return timeline

    @property
    def store(self) -> str:
        """The flag for the features of the undisturbed run."""
        return f"--store={self.undisturbed / 'out' / 'features'}"

    def place(self) -> Path:
        """A new folder for a run."""
        self._made += 1
        path = self.folder / f"run{self._made}"
        path.mkdir()
        return path

    def check_ended(
        self, tally: Tally, folder: Path, ended: Ended, *, features: bool = True
    ) -> None:
        """Note what a run that ended well lacks."""
        tally.check(ended.good, ended)
        tally.lose(self.reference.faults(folder / "out", ended=True, features=features))


def killed(
    lab: Laboratory,
    signals: Sequence[signal.Signals],
    *,
    seed: int = 0,
    chain: int = 3,
    own_cache: float = 0.3,
) -> Tally:
    """Signals in the middle of runs, up to `chain` of them in one folder before a run may end.

    A step of the undisturbed run is drawn, one of the times it was taken, and a moment in it.

    Args:
        lab: where.
        signals: what to send, in this order.
        seed: of steps and moments.
        chain: most signals in one folder.
        own_cache: share of the folders in which programs are compiled, and kept, anew.
    """
    rng = random.Random(seed)
    waiting = collections.deque(signals)
    names = [number.name for number in dict.fromkeys(signals)]
    tally = Tally(f"{', '.join(names)} at a random moment")
    struck: collections.Counter[str] = collections.Counter()
    slowest = 0.0
    while waiting:
        folder = lab.place()
        cache, timeline = lab.cache, lab.warm
        if rng.random() < own_cache:
            cache, timeline = folder / "cache", lab.cold
        for moment in timeline.moments(rng, rng.randint(1, min(chain, len(waiting)))):
            number = waiting[0]
            waited, ended = _strike(folder, cache, number, moment)
            if waited is None:  # what the step would have made is there
                lab.check_ended(tally, folder, ended)
                continue
            waiting.popleft()
            tally.runs += 1
            struck[moment.step] += 1
            slowest = max(slowest, waited)
            where = f"{number.name} {tally.runs}, in {moment.step}"
            tally.check(ended.code in (SIGNALS[number], -number, 0), f"{where}: {ended}")
            if ended.code != SIGNALS[number]:  # in its last moments a run is through already
                tally.lose(lab.reference.faults(folder / "out", ended=True))
            elif ended.code > 0:
                said = ended.err == _LAST_WORDS[number]
                tally.check(said and waited < PROMPT, f"{where}: {ended} after {waited:.1f} s")
            tally.lose(lab.reference.faults(folder / "out", ended=False))
        lab.check_ended(tally, folder, whole(folder, cache))
        shutil.rmtree(folder)
        print(f"{tally.fault}: {tally.runs} of {len(signals)}", file=sys.stderr, flush=True)
    steps = ", ".join(f"{step} {times}" for step, times in sorted(struck.items()))
    tally.note = f"in {steps}; ended within {slowest:.1f} s"
    return tally


def _strike(
    folder: Path, cache: Path, number: signal.Signals, moment: Moment
) -> tuple[float | None, Ended]:
    """Seconds from the signal to the end (None if the run never got there), and the end."""
    run = Steps(folder, cache)
    left = moment.times
    for step in run:
        left -= step == moment.step
        if not left:
            break
    else:
        return None, run.finish()
    time.sleep(moment.seconds)
    sent = time.perf_counter()
    run.process.send_signal(number)
    ended = run.finish()
    return time.perf_counter() - sent, ended


def limited(lab: Laboratory, limits: Sequence[int]) -> Tally:
    """No file may grow beyond so many bytes, as if the disk were full from there on."""
    tally = Tally("file size limited, features")
    for limit in limits:
        folder = lab.place()
        ended = finish(_limited(start(folder, lab.cache), limit))
        _after_full_disk(tally, lab, folder, ended, "File too large")
    return tally


def limited_report(lab: Laboratory, limits: Sequence[int], *, again: bool = True) -> Tally:
    """The same where the features are there already: result, figures, report."""
    tally = Tally("file size limited, report")
    for limit in limits:
        folder = lab.place()
        ended = finish(_limited(start(folder, lab.cache, OUT, lab.store), limit))
        _after_full_disk(tally, lab, folder, ended, "File too large", lab.store, again=again)
    return tally


def _limited(run: subprocess.Popen, size: int) -> subprocess.Popen:
    """Limit what a run that has just started may write (Linux)."""
    resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (size, size))
    return run


def _after_full_disk(
    tally: Tally,
    lab: Laboratory,
    folder: Path,
    ended: Ended,
    words: str,
    *flags: str,
    again: bool = True,
) -> None:
    tally.runs += 1
    tally.check(ended.refused("make room", words), ended)
    tally.lose(lab.reference.faults(folder / "out", ended=False))
    if again:
        lab.check_ended(tally, folder, whole(folder, lab.cache, OUT, *flags), features=not flags)
    shutil.rmtree(folder)


def full(lab: Laboratory, sizes: Sequence[int]) -> Tally:
    """A file system of so many bytes under --out and the cache of programs; needs mount."""
    tally = Tally("file system full")
    for size in sizes:
        folder = lab.place()
        with _file_system(folder, size) as mounted:
            if not mounted:
                tally.note = "not run: mounting is not permitted here"
                return tally
            tally.runs += 1
            ended = whole(folder, folder / "cache")
            tally.check(
                ended.code == 2
                and _without_notes(ended).refused("make room", "No space left on device"),
                ended,
            )
            tally.lose(lab.reference.faults(folder / "out", ended=False))
            subprocess.run(
                ["mount", "-o", f"remount,size={64 * MIB}", str(folder)], check=True, timeout=60
            )
            lab.check_ended(tally, folder, whole(folder, folder / "cache"))
            # What was cut short in the cache was made anew: nothing is left to complain of.
            lab.check_ended(tally, folder, whole(folder, folder / "cache"))
    return tally


@contextlib.contextmanager
def _file_system(folder: Path, size: int) -> Iterator[bool]:
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = False
    with contextlib.suppress(OSError):
        mounted = subprocess.run(mount, capture_output=True, timeout=60).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True, timeout=60)


def _without_notes(ended: Ended) -> Ended:
    lines = ended.err.splitlines(keepends=True)
    return dataclasses.replace(
        ended, err="".join(line for line in lines if not line.startswith("note: "))
    )


def sharing_a_store(lab: Laboratory, count: int, *, own_cache: bool = False) -> Tally:
    """Runs at once, each with its own --out, on one store that is empty.

    With `own_cache` so is the cache of programs, and they share that too.
    """
    tally = Tally(f"{count} runs at once, one --store", runs=count)
    folder = lab.place()
    store = f"--store={folder / 'features'}"
    folders = [folder / str(number) for number in range(count)]
    cache = folder / "cache" if own_cache else lab.cache
    running = [start(each, cache, OUT, store) for each in folders]
    for each, run in zip(folders, running, strict=True):
        lab.check_ended(tally, each, finish(run), features=False)
    for name, data in lab.reference.files.items():
        if name.startswith("features/"):
            same = (folder / name).is_file() and (folder / name).read_bytes() == data
            tally.check(same, f"{name} differs or is missing")
    shutil.rmtree(folder)
    return tally


def sharing_an_out(lab: Laboratory, count: int) -> Tally:
    """Runs at once with one --out: one does the work, the others are refused."""
    tally = Tally(f"{count} runs at once, one --out", runs=count)
    folder = lab.place()
    ends = [finish(run) for run in [start(folder, lab.cache) for _ in range(count)]]
    refused = [end for end in ends if end.refused("is being written by another run")]
    # One that came when the work was done does it again.
    good = [end for end in ends if end.good]
    tally.check(len(refused) + len(good) == count and bool(good), [str(end) for end in ends])
    tally.lose(lab.reference.faults(folder / "out", ended=True))
    tally.note = f"{len(refused)} refused in one line"
    shutil.rmtree(folder)
    return tally


def no_home(lab: Laboratory) -> Tally:
    """A home folder that cannot hold anything: no cache of programs, none of fonts."""
    tally = Tally("home folder that cannot be written", runs=1)
    folder = lab.place()
    home = folder / "home"
    home.write_text("a file, so that nobody, not even root, writes below it")
    variables = environment(home, HOME=str(home))
    del variables["XDG_CACHE_HOME"]
    ended = whole(folder, lab.cache, OUT, lab.store, env=variables)
    tally.check("Traceback" not in ended.err, ended)
    told = ended.err.count("note: compiled programs are not kept") == 1
    tally.check(told and "UserWarning" not in ended.err, ended)
    lab.check_ended(tally, folder, dataclasses.replace(ended, err=""), features=False)
    shutil.rmtree(folder)
    return tally


def read_only_out(lab: Laboratory) -> Tally:
    """An --out where nothing can be made, and one that is there and cannot be written."""
    tally = Tally("--out that cannot be written", runs=2)
    folder = lab.place()
    for out in (Path("/proc/nothing/out"), _read_only(folder / "read_only")):
        ended = whole(folder, lab.cache, f"--out={out}", lab.store, before=_without_rights())
        tally.check(ended.refused(f"out={str(out)!r} cannot be written"), ended)
    shutil.rmtree(folder)
    return tally


def _read_only(folder: Path) -> Path:
    folder.mkdir()
    folder.chmod(0o555)
    return folder


def _without_rights() -> Sequence[str]:
    """What starts a process whose user may not do everything, where ours may (Linux)."""
    if os.geteuid():
        return ()
    # PR_CAPBSET_DROP of CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: what is executed then lacks them.
    drop = "[ctypes.CDLL(None).prctl(24, right, 0, 0, 0) for right in (1, 2)]"
    execute = "os.execv(sys.argv[1], sys.argv[1:])"
    return (sys.executable, "-c", f"import ctypes, os, sys; {drop}; {execute}")


def other_clock(lab: Laboratory, moments: Sequence[float]) -> Tally:
    """The clock goes back between two runs: what the first left is of the future, or of 1970."""
    tally = Tally("clock set back or forth between runs")
    for moment in moments:
        tally.runs += 1
        folder = lab.place()
        shutil.copytree(lab.undisturbed / "out", folder / "out")
        features = sorted((folder / "out" / "features").rglob("*.npy"))
        for path in (folder / "out").rglob("*"):
            os.utime(path, (moment, moment))
        lab.check_ended(tally, folder, whole(folder, lab.cache))
        touched = [path.name for path in features if path.stat().st_mtime != moment]
        tally.check(not touched, f"written again: {touched}")
        shutil.rmtree(folder)
    return tally


def orphans(lab: Laboratory) -> Tally:
    """A run with processes that decode is killed: they end too."""
    tally = Tally("SIGKILL of a run with --workers=2", runs=1)
    folder = lab.place()
    run = start(folder, lab.cache, OUT, "--workers=2", "--n=512")
    deadline = time.time() + 60 * PATIENCE
    while time.time() < deadline and run.poll() is None and len(_descendants(run.pid)) < 3:
        time.sleep(0.05)
    children = _descendants(run.pid)
    run.kill()
    run.communicate()
    tally.check(len(children) >= 2, f"only {len(children)} processes were seen")
    deadline = time.time() + 30 * PATIENCE
    while time.time() < deadline and any(map(_lives, children)):
        time.sleep(0.2)
    left = [child for child in children if _lives(child)]
    tally.check(not left, f"{len(left)} of {len(children)} processes live on")
    for child in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    tally.note = f"{len(children)} processes"
    shutil.rmtree(folder)
    return tally


def _descendants(pid: int) -> list[int]:
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, children.read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def table(tallies: Sequence[Tally]) -> str:
    """Faults, runs and losses as a table for people and for docs/results.md."""
    head = ["| fault | runs | lost | note |", "|---|---|---|---|"]
    return "\n".join(head + [_row(tally) for tally in tallies])


def _row(tally: Tally) -> str:
    return f"| {tally.fault} | {tally.runs} | {len(tally.lost)} | {tally.note} |"


def main() -> None:
    """Do all faults, print the table."""
    parser = argparse.ArgumentParser(description="See the module's docstring.")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="faults whose function's name holds this")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lab = Laboratory(Path(folder))
        done = []
        for name, fault in plan(arguments.long, arguments.seed).items():
            if arguments.only not in name:
                continue
            start_of, tally = time.time(), fault(lab)
            done.append(tally)
            print(f"{_row(tally)} {time.time() - start_of:.0f} s", file=sys.stderr, flush=True)
    print(table(done))
    sys.exit(any(tally.lost for tally in done))


def plan(long: bool, seed: int = 0) -> dict[str, Callable[[Laboratory], Tally]]:
    """The faults, by name."""
    if not long:
        return {
            "signals": lambda lab: killed(lab, [signal.SIGKILL], seed=seed + 121, own_cache=0),
            "limited": lambda lab: limited(lab, [1_000]),
            "limited_report": lambda lab: limited_report(lab, [100_000], again=False),
            "sharing_a_store": lambda lab: sharing_a_store(lab, 2),
            "sharing_an_out": lambda lab: sharing_an_out(lab, 2),
            "no_home": no_home,
            "read_only_out": read_only_out,
            "other_clock": lambda lab: other_clock(lab, [FUTURE]),
        }
    return {
        "kill": lambda lab: killed(lab, 100 * [signal.SIGKILL], seed=seed),
        "terminate": lambda lab: killed(lab, 20 * [signal.SIGTERM], seed=seed + 1),
        "interrupt": lambda lab: killed(lab, 20 * [signal.SIGINT], seed=seed + 2),
        "limited": lambda lab: limited(lab, [100, 1_000]),
        "limited_report": lambda lab: limited_report(lab, [2_000, 10_000, 100_000]),
        "full": lambda lab: full(lab, [40_000, 100_000, 300_000, 600_000]),
        "sharing_a_store": lambda lab: sharing_a_store(lab, 2, own_cache=True),
        "sharing_a_store_by_four": lambda lab: sharing_a_store(lab, 4, own_cache=True),
        "sharing_an_out": lambda lab: sharing_an_out(lab, 2),
        "sharing_an_out_by_four": lambda lab: sharing_an_out(lab, 4),
        "no_home": no_home,
        "read_only_out": read_only_out,
        "other_clock": lambda lab: other_clock(lab, [FUTURE, LONG_AGO]),
        "orphans": orphans,
    }


if __name__ == "__main__":
    main()
