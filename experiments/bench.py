"""Measure the kernels against this machine's own ceilings, and against peers where installed.

    python -m experiments.bench                                  # every kernel, within ten minutes
    python -m experiments.bench --what=cka --rows=13394 --budget_seconds=3600
    python -m experiments.bench --what=ceilings
    python -m experiments.bench --what=extract --encoders=all
    python -m experiments.bench --what=domains
    python -m experiments.bench --what=transferability --logme=LogME.py
    python -m experiments.bench --what=startup --budget_seconds=3600

Each kernel runs on random features at sizes of three ladders: more rows N, wider features D, more
encoders E, up to the rows and widths of the paper's panel. For each size: the median of repeats
after a warm-up (one call where it takes seconds), compilation apart; the rate of needed flops and
of least bytes, as shares of the largest matrix product and the largest copy of the same run;
memory; and the time of other libraries, where installed, with the largest difference of the
results. Then how times grow with size. `experiments/benchmarks/cases.py` is the table of all this,
`work.py` counts the flops.

`extract` is apart: images per second of the forward pass of each encoder of the paper's panel on
random weights, and of timm's network, where installed, with the same weights turn by turn.
`domains` is apart too: the analysis of experiments.domains at the paper's size, features given.
So is `transferability`: seconds per encoder of every score, beside the published LogME where its
file is given.
And `startup`: where the first minutes of each launcher go, and the first call of each kernel.

Steps run from the quickest to the slowest. What would pass --budget_seconds is named and left out:
the peers of a step first, then the step. Written to OUT at the end: result.json, figures and
report.html. A run that stops leaves nothing.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from .common import launch, networks, signals
from .common.stages import Stages, progress_bar

if TYPE_CHECKING:
    from .benchmarks.results import Ceilings, SkippedStep, SpaceChoice

PEERS = ", peers"  # of a step whose peers alone were left out
FLAGS = flags.FLAGS
flags.DEFINE_list(
    "what",
    ["all"],
    "Kernels (see --dry_run), or one of all, ceilings, extract, domains, transferability, startup.",
)
flags.DEFINE(
    launch.PathParser(),
    "logme",
    None,
    "LogME.py of github.com/thuml/LogME, to time beside --what=transferability; it is run.",
)
flags.DEFINE_list("rows", [], "Rows, instead of the table's; the ladders of D and E are left out.")
flags.DEFINE_integer("repeats", 3, "Timed repeats, of which the median counts.")
flags.DEFINE_float("budget_seconds", 570.0, "Leave out steps that would end later than this.")
flags.DEFINE_float("peer_seconds", 15.0, "Most seconds of a peer at one size; 0 runs no peers.")
flags.DEFINE_integer("shrink", 1, "Divide all widths, and the table's rows, for a quick look.")
flags.adopt_module_key_flags(launch)
flags.adopt_module_key_flags(networks)  # of --what=extract


def run() -> None:
    """Measure, print tables, and write result.json and the report."""
    from substrate_jax.encoders import select_encoders

    from .benchmarks import measure, score_times

    what = names_to_measure()
    for name, least in (("repeats", 1), ("shrink", 1), ("batch_size", 1)):
        if getattr(FLAGS, name) < least:
            raise ValueError(f"{name}={getattr(FLAGS, name)}: give {least} or more")
    for name, least in (("budget_seconds", 1), ("peer_seconds", 0)):
        if not getattr(FLAGS, name) >= least:
            raise ValueError(f"{name}={getattr(FLAGS, name):g}: give {least} or more seconds")
    steps = measure.plan(what, rows_to_measure(), FLAGS.shrink)
    encoders = select_encoders(FLAGS.encoders, "paper") if what == ["extract"] else []
    least = score_times.LEAST
    if what == ["transferability"] and any(n < least for n in rows_to_measure()):
        raise ValueError(
            f"rows={min(rows_to_measure())}: scores of {score_times.CLASSES} classes need {least} "
            "or more"
        )
    if FLAGS.logme is not None and what != ["transferability"]:
        raise ValueError(f"logme={FLAGS.logme!r} is timed with --what=transferability alone")
    if FLAGS.dry_run:
        print(describe_plan(steps, encoders))
        return
    out = Path(FLAGS.out or "runs/bench")
    try:
        with launch.claim(out):
            compute(what, steps, encoders, out)
    except KeyboardInterrupt as interrupt:
        sys.exit(signals.exit_code(interrupt, "nothing was written"))


def batch_size() -> int:
    """Images at once: 16 unless --batch_size says otherwise."""
    return FLAGS.batch_size if FLAGS["batch_size"].present else 16


def names_to_measure() -> list[str]:
    """Names of --what, checked; all kernels for "all"."""
    from .benchmarks.cases import NAMES

    whole = ("all", "ceilings", "extract", "domains", "transferability", "startup")
    for name in FLAGS.what or [""]:
        if name not in (*NAMES, *whole):
            raise ValueError(
                f"what={name!r}: give some of {', '.join(NAMES)}, or all, ceilings, "
                "extract, domains, transferability or startup"
            )
        if name in whole and len(FLAGS.what) > 1:
            raise ValueError(f"what={','.join(FLAGS.what)!r}: give {name} alone")
    return list(NAMES) if FLAGS.what == ["all"] else list(dict.fromkeys(FLAGS.what))


def rows_to_measure() -> list[int]:
    """Numbers of --rows, checked."""
    try:
        rows = [int(n.replace("_", "")) for n in FLAGS.rows]
    except ValueError:
        rows = [0]
    if any(n < 16 for n in rows):
        raise ValueError(f"rows={','.join(FLAGS.rows)!r}: give whole numbers of 16 or more")
    return sorted(set(rows))


def compute(what: list[str], steps: list, encoders: list[str], out: Path) -> None:
    """Everything after the plan; `out` is held by this run."""
    from substrate_jax.mesh import make_mesh

    from .benchmarks import (
        cases,
        domain_stages,
        forward,
        growth,
        measure,
        peers,
        score_times,
        startup,
        tables,
    )
    from .benchmarks.page import bench_page
    from .benchmarks.results import BenchResult, SkippedStep

    stages = Stages()
    published = None if FLAGS.logme is None else score_times.published_logme(FLAGS.logme)
    measured = {}

    def measure_ceilings(when: str) -> None:
        with stages("ceilings", alone=True):
            measured[when] = measure.ceilings(FLAGS.shrink)

    measure_ceilings("before")
    ceiling = measured["before"].flops_per_second
    seconds = [step.seconds(ceiling, FLAGS.repeats, FLAGS.peer_seconds) for step in steps]
    rows, skipped, done = [], [], 0.0
    with progress_bar("bench", len(steps), "size") as progress:
        for index, (step, estimate) in enumerate(zip(steps, seconds, strict=True)):
            if "middle" not in measured and done >= sum(seconds) / 2:
                measure_ceilings("middle")
            done += estimate
            alone = step.seconds(ceiling, FLAGS.repeats, 0.0)
            left = FLAGS.budget_seconds - stages.total()["total"]
            if estimate > left:
                label, seconds_left_out = step.benchmark.label, estimate
                if alone <= left:
                    label, seconds_left_out = f"{label}{PEERS}", estimate - alone
                skipped.append(SkippedStep(label, str(step.size), seconds_left_out))
            if alone <= left:
                affordable = FLAGS.peer_seconds if estimate <= left else 0.0
                with stages("measure"):
                    row = measure.measure(
                        step,
                        seed=FLAGS.seed,
                        repeats=FLAGS.repeats,
                        ceiling=ceiling,
                        peer_seconds=affordable,
                    )
                rows.append((step.place, row))
            progress(index + 1, len(steps))
    passes = []
    with stages("measure"), progress_bar("bench", len(encoders), "encoder") as progress:
        for row in forward.measure_encoders(
            encoders,
            batch_size=batch_size(),
            dtype=FLAGS.dtype,
            repeats=FLAGS.repeats,
            seed=FLAGS.seed,
        ):
            passes.append(row)
            print(tables.forward_line(row), flush=True)
            progress(len(passes), len(encoders))
    parts = []
    if what == ["domains"]:
        rows_of_domain = (rows_to_measure() or [1000])[0]
        with stages("measure"):
            for part in domain_stages.measure_stages(rows_of_domain, FLAGS.shrink, FLAGS.seed):
                parts.append(part)
                print(tables.domain_line(part), flush=True)
    scores = []
    if what == ["transferability"]:
        with stages("measure"):
            for found_score in score_times.measure_scores(
                tuple(rows_to_measure()) or score_times.ROWS,
                FLAGS.shrink,
                FLAGS.repeats,
                FLAGS.seed,
                published,
                lambda: FLAGS.budget_seconds - stages.total()["total"],
            ):
                if isinstance(found_score, SkippedStep):
                    skipped.append(found_score)
                    continue
                scores.append(found_score)
                print(tables.score_line(found_score), flush=True)
    starts, first_calls = [], []
    if what == ["startup"]:
        with stages("measure"):
            first_calls = startup.measure_kernels()
            print("\n".join(map(tables.call_line, first_calls)), flush=True)
            for start in startup.measure_launchers(
                startup.LAUNCHERS, lambda: FLAGS.budget_seconds - stages.total()["total"]
            ):
                if isinstance(start, SkippedStep):
                    skipped.append(start)
                    continue
                starts.append(start)
                print(tables.start_line(start), flush=True)
    measure_ceilings("after")
    found = growth.summary(measured)
    ordered = [row for _, row in sorted(rows, key=lambda item: item[0])]
    ordered = growth.with_fractions(ordered, found.best)
    used = {peer.package: peer.state for case in cases.BENCHMARKS for peer in case.peers}
    result = BenchResult(
        run=launch.describe_run(
            "bench", make_mesh(), notes=notes(found, skipped, growth.choices_of_space(ordered))
        ),
        what=what,
        ceilings=found,
        rows=ordered,
        growth=growth.growth(ordered),
        ratios=growth.ratios(ordered),
        skipped=skipped,
        peers=used | peers.UNUSED,
        threads=measure.threads(),
        forward=passes,
        domain_stages=parts,
        score_times=scores,
        starts=starts,
        first_calls=first_calls,
        peak_memory_bytes=measure.peak_memory_bytes(),
        batch_size=batch_size() if passes else None,
        dtype=FLAGS.dtype if passes else None,
        torch=forward.peer_versions() if passes else None,
    )
    launch.publish(result, bench_page, tables.text, out, stages)


def notes(
    ceilings: "Ceilings", skipped: "list[SkippedStep]", choices: "list[SpaceChoice]"
) -> list[str]:
    """What in this run changes how its numbers read."""
    found = []
    drift = max(ceilings.drift.flops_per_second, ceilings.drift.bytes_per_second)
    if drift > 0.1:
        found.append(
            f"A ceiling fell by {drift:.0%} during the run: other work shared the machine, and "
            "times are above those of an idle one."
        )
    if choices:
        faster = sum(choice.loss == 1 for choice in choices)
        found.append(
            f"CKA's cost model took the faster space at {faster} of {len(choices)} sizes; at worst "
            f"it took {max(choice.loss for choice in choices):.2f} times the faster's time."
        )
    if FLAGS.shrink > 1:
        found.append(f"Widths are divided by {FLAGS.shrink}: this is a quick look.")
    if skipped:
        peers_only = sum(step.label.endswith(PEERS) for step in skipped)
        found.append(
            f"{len(skipped) - peers_only} of the sizes were left out, and the peers of "
            f"{peers_only} more: --budget_seconds={FLAGS.budget_seconds:g} would have "
            "passed."
        )
    return found


def describe_plan(steps: list, encoders: list[str]) -> str:
    """What a run would do: sizes, flops and estimated seconds."""
    from .benchmarks import cases, measure, peers

    lines = []
    if encoders:
        lines = [
            f"forward pass of {len(encoders)} encoders, batch {batch_size()}, "
            f"{FLAGS.dtype}: {', '.join(encoders)}"
        ]
    if steps:
        ceiling = measure.ceilings(max(FLAGS.shrink, 4)).flops_per_second
        lines.append(f"{'case':30s} {'size':32s} ladders   needed flops   one call   step")
        total = 0.0
        for step in sorted(steps, key=lambda step: step.place):
            whole = step.seconds(ceiling, FLAGS.repeats, FLAGS.peer_seconds)
            total += whole
            lines.append(
                f"{step.benchmark.label:30s} {step.size!s:32s} {' '.join(step.axes):9s} "
                f"{step.benchmark.work(step.size).flops:12.2e} "
                f"{step.call_seconds(ceiling):8.2f} s {whole:5.0f} s"
            )
        lines.append(
            f"{len(steps)} sizes, {total:.0f} s estimated at {measure.EFFICIENCY:.0%} of a matrix "
            f"product's {ceiling / 1e9:.0f} GF/s; --budget_seconds={FLAGS.budget_seconds:g}"
        )
        lines += [
            f"peer {peer.package}: {peer.state}"
            for peer in {p.package: p for case in cases.BENCHMARKS for p in case.peers}.values()
        ]
        lines += [f"peer {name}: {state}" for name, state in peers.UNUSED.items()]
    return "\n".join(lines or ["ceilings: one matrix product and one copy"])


if __name__ == "__main__":
    FLAGS.set_default("compilation_cache", False)  # or compilation would not be timed
    launch.start(run)
