"""What every launcher shares: flags, errors in one line, the output folder's lock, stage times.

A launcher defines its flags, imports what is heavy inside its `run`, and ends with
`launch.start(run)`, so that `--help` answers at once.
"""

import contextlib
import dataclasses
import errno
import importlib.metadata
import json
import logging as python_logging
import os
import platform
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from absl import app, flags, logging

from . import compiled, flag_help, numbers, presets, program, redaction, signals, traces
from .stages import Stages, progress_bar

if TYPE_CHECKING:
    from substrate_jax.report.page import Page
    from substrate_jax.report.run import Result, Run

FLAGS = flags.FLAGS
_Result = TypeVar("_Result", bound="Result")
_Value = TypeVar("_Value")


class PathParser(flags.ArgumentParser):
    """A path or URL; a leading ~, which shells leave in --out=~/a, is the user's home folder."""

    syntactic_help = "a path"

    def parse(self, argument: str) -> str:
        """The path without ~."""
        return os.path.expanduser(argument)

    def flag_type(self) -> str:
        """How --help calls the type."""
        return "path"


flags.DEFINE(PathParser(), "out", None, "Folder for results; runs/NAME by default.")
flags.DEFINE_bool("quiet", False, "Neither bars nor lines of progress.")
flags.DEFINE_bool("dry_run", False, "Print what would be done, and stop.")
flags.DEFINE_bool("debug", False, "Print where an error arose above its line.")
flags.DEFINE_integer("seed", 0, "Seed of subsampling and permutations.", lower_bound=0)
flags.DEFINE_bool("compilation_cache", True, "Keep compiled programs in the user's cache folder.")
flags.DEFINE(PathParser(), "profile", None, "Write a jax.profiler trace into this folder.")

LONGEST = 2_000  # letters of a message; one that repeats a value may have a million

# What a write ends with where there is no room, and then without the name of the file.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def start(run: Callable[[], None], join: Callable[[], None] | None = None) -> None:
    """Parse flags and run; bad input or a file that fails is one line on stderr and exit code 2.

    SIGINT and SIGTERM end it too, see `signals`.

    Args:
        run: the launcher.
        join: called before anything touches a device, such as `devices.join_processes`.
    """

    def main(argv: list[str]) -> None:
        if len(argv) > 1:
            _fail(f"unexpected argument {argv[1]!r}; flags look like --name=value")
        logging.set_verbosity(logging.WARNING)
        python_logging.getLogger("jax").setLevel(python_logging.WARNING)
        # It warns where it cannot keep its list of fonts, and goes on without.
        python_logging.getLogger("matplotlib").setLevel(python_logging.ERROR)
        try:
            with signals.ending_on_signals(), compiled.repaired(_configure_jax()):
                if join:
                    join()
                run()
                signals.tell(signals.DONE)
        except ValueError as error:
            _fail(str(error))
        except OSError as error:
            which = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            _fail(f"{which}; make room or fix the path, and run again")
        except KeyboardInterrupt as interrupt:
            sys.exit(signals.exit_code(interrupt))
        except Exception:
            signals.tell(signals.FAILED)
            raise

    app.run(main, flags_parser=_parse)


def _parse(arguments: list[str]) -> list[str]:
    """Give flags their values; what is no flag, or no value of one, ends in one line."""
    flag_help.define()
    try:
        rest = FLAGS([arguments[0], *presets.with_presets(program.name(), arguments[1:])])
        numbers.check_numbers(FLAGS)
        return rest
    except (flags.Error, ValueError) as error:
        from substrate_jax.data.paths import one_line

        FLAGS.mark_as_parsed()
        _fail(one_line(error))


def _fail(message: str) -> NoReturn:
    if FLAGS.debug:
        print(redaction.redact(traceback.format_exc()), file=sys.stderr)
    from substrate_jax.data.paths import shown

    print("error: " + shown(redaction.redact(message), LONGEST), file=sys.stderr, flush=True)
    signals.tell(signals.FAILED)
    try:
        sys.stdout.flush()
    except OSError:  # on a full disk too: python would try again at its end, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(2)


def _configure_jax() -> Path | None:
    """Set what all launchers want of jax; where compiled programs are kept, if they are."""
    import jax

    from substrate_jax.processes import on_tpu, tell_libtpu_of_no_tpu

    if not on_tpu():
        tell_libtpu_of_no_tpu()
    # In runs of several processes jax would take SIGTERM for itself, and none would end by it.
    jax.config.update("jax_enable_preemption_service", False)
    return compiled.keep_programs() if FLAGS.compilation_cache else None


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[Path]:
    """Hold an output folder for one run; the first process of several holds it for all.

    What a killed run left half-written in it is removed. The block is traced if --profile says so.

    Raises:
        ValueError: another run holds it, it cannot be made, or it is a URL; the same of --profile.
        OSError: what the block raises, naming the folder where the disk is full.
    """
    from substrate_jax.processes import exchange

    if re.match(r"[A-Za-z]\w+:/", folder.as_posix()):
        raise ValueError(
            f"out={folder.as_posix().replace(':/', '://', 1)!r} is a URL: results are written to "
            "a local folder; give --store=gs://... for the features, and a local --out"
        )
    traces.check_profile(FLAGS.profile)
    with contextlib.ExitStack() as held:
        failure = None
        if is_first_process():
            try:
                held.enter_context(_lock(folder))
            except ValueError as error:
                failure = str(error)
        failure = exchange(failure)[0]
        if failure is not None:
            raise ValueError(failure)
        held.enter_context(traces.traced(FLAGS.profile))
        try:
            yield folder
        except OSError as error:
            if error.errno in _NO_ROOM and error.filename is None:
                error.filename = str(folder)
            raise


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    import fcntl

    from substrate_jax.report.writing import remove_unfinished

    with traces.writable("out", str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(
                f"out={str(folder)!r} is being written by another run; wait, or give another --out"
            ) from error
        remove_unfinished(folder)
        yield


def is_first_process() -> bool:
    """Whether this process writes and prints what is one for the whole run."""
    import jax

    return jax.process_index() == 0


def from_first_process(make: Callable[[], _Value]) -> _Value:
    """What the first process makes, in all of them, as JSON can hold it; all must call it.

    Raises:
        ValueError: what `make` raises in the first process, in all.
    """
    from substrate_jax.processes import exchange

    found: list[Any] = [None, None]
    if is_first_process():
        try:
            found[0] = make()
        except ValueError as error:
            found[1] = str(error)
    value, failure = exchange(found)[0]
    if failure is not None:
        raise ValueError(failure)
    return value


def is_quiet() -> bool:
    """Whether no progress is shown: as --quiet says, and of what one process does for all."""
    return FLAGS.quiet or not is_first_process()


def keep_arguments(path: Path, arguments: dict[str, Any]) -> None:
    """Note what decides an unfinished run, or check that it goes on as it was begun.

    Args:
        path: where the note is.
        arguments: name -> value, what JSON can hold.

    Raises:
        ValueError: the run was begun with other arguments.
    """
    from substrate_jax.report.writing import write_file

    if not path.is_file():
        write_file(path, json.dumps(arguments, indent=1) + "\n")
        return
    begun = json.loads(path.read_text())
    for name, value in arguments.items():
        if begun.get(name) != value:
            raise ValueError(
                f"{name}={value!r}: the run that {str(path.parent)!r} holds was begun with "
                f"{begun.get(name)!r}; give that, or another --out"
            )


def describe_run(experiment: str, mesh, encoders=(), notes=()) -> "Run":
    """What result.json begins with, without secrets; the seconds are filled in by `publish`."""
    import jax

    from substrate_jax.report.run import Run

    packages = ("substrate-jax", "jax", "jaxlib", "flax", "numpy")
    device = jax.devices()[0]
    run = Run(
        experiment=experiment,
        command=program.command_line(),
        versions={
            "python": platform.python_version(),
            **{name: _version(name) for name in packages},
        },
        devices={
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "processes": jax.process_count(),
            "mesh": ",".join(f"{axis}={size}" for axis, size in mesh.shape.items()),
        },
        seconds={},
        arguments={flag.name: flag.value for flag in FLAGS.get_key_flags_for_module(sys.argv[0])},
        encoders=list(encoders),
        notes=list(notes),
    )
    return redaction.redacted(run)


def publish(
    result: _Result,
    page: "Callable[[_Result], Page]",
    summary: Callable[[_Result], str],
    out: Path,
    stages: Stages,
) -> None:
    """Write a result and its page, print its summary and where the report is.

    Args:
        result: a dataclass with a field `run`.
        page: makes the page of the result; its seconds are those of all stages before.
        summary: text for the terminal.
        out: folder, held by this run.
        stages: seconds so far.
    """
    from substrate_jax.report.files import write_report

    def timed() -> _Result:
        found: Any = result
        return dataclasses.replace(
            found, run=dataclasses.replace(found.run, seconds=stages.total())
        )

    with progress_bar("report", 2, "step") as progress:
        with stages("report"):
            made = page(timed())
        progress(1, 2)
        path = write_report(timed(), made, out)
        progress(2, 2)
    print(f"{summary(result)}\nreport: {path}", flush=True)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
